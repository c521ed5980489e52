"""What the replay must reach on the traces of ../shared/data, and on the bundled gloo recordings.

The bars are those of the project's accuracy table; where one is missed, the measured worst stands
in the reason of a strict xfail.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from lumos import predict
from lumos.analysis.prediction import host_ns, periods_ns
from lumos.analysis.replay import span_of
from lumos.graph.execution import Rule
from lumos.graph.job import NONE, Job, Program, TaskKind
from lumos.graph.step import steps_of
from lumos.ingest.read import read
from lumos.lower import lower
from lumos.predict import Recording
from lumos.simulate import simulate
from tests.oracle import oracle_times

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data" / "kineto"
RECORDINGS = ROOT / "recordings"
MI300X = "amd/resnet18-ddp-MI300X.json.gz"

# worst step: span error [%], and p95 of device task starts [% of the span]
BARS = {
    "resnet-ddp-2xA100": (0.5, 0.5),
    "resnet50-V100": (0.5, 0.5),
    "resnet50-V100-13streams": (0.5, 0.5),
    "linear-RTX2080Ti": (0.5, 0.5),
    "vgg13-H100": (0.5, 0.5),
    MI300X: (0.5, 0.5),
    "recsys-8xA100": (2.5, 3.0),
    "recsys-2xV100": (2.5, 3.0),
    "dlrm-8xV100": (0.5, 0.5),
    "inference/qwen1.5-0.5b-H100.json.gz": (0.5, 0.5),
    "inference/bert-small-H100.json.gz": (0.5, 0.5),
    "inference/vllm-eager-B200-rank0-of-8.json.gz": (0.5, 0.5),
    "event-sync/one-stream.json.gz": (0.5, 1.0),
    "event-sync/multi-stream.json.gz": (0.5, 0.5),
}
MULTI_STEP = [
    name
    for name in BARS
    if name not in ("vgg13-H100", "dlrm-8xV100")
    and not name.startswith(("inference", "event-sync"))
]


@cache
def recording(name: str) -> Recording:
    if not (DATA / name).exists():
        pytest.skip(f"the traces of ../shared/data are not here: {DATA / name}")
    return predict.record(read([DATA / name]))


@pytest.mark.parametrize("name", BARS)
def test_each_step_replays_within_its_bar(name: str) -> None:
    span_bar, start_bar = BARS[name]
    for one in predict.replay_steps(recording(name)):
        for rank in one.figures.ranks:
            assert abs(rank.error_pct) <= span_bar, f"{one.step} of rank {rank.rank}"
            p95 = rank.task_start_error.p95_ns
            assert p95 is not None
            assert 100 * p95 / rank.measured_ns <= start_bar, f"{one.step} of rank {rank.rank}"


@pytest.mark.parametrize("name", BARS)
def test_all_steps_in_one_run_stay_within_three_percent(name: str) -> None:
    figures = predict.replay_whole(recording(name)).figures
    assert abs(figures.error_pct) <= 3
    assert all(abs(rank.error_pct) <= 3 for rank in figures.ranks)


def test_the_eight_ranks_of_dlrm_are_coupled() -> None:
    """Its eight collectives meet: each waits on seven ranks for the last one."""
    run = predict.replay_steps(recording("dlrm-8xV100"))[0]
    assert len(run.figures.ranks) == 8
    for place, role in enumerate(run.job.placement.role):
        coupled = run.job.programs[role].rows.kind == TaskKind.COLLECTIVE
        assert coupled.sum() == 8, place
    waits = np.array(
        [
            rank.wait_ns[run.job.programs[role].rows.kind == TaskKind.COLLECTIVE]
            for role, rank in zip(run.job.placement.role, run.replayed.ranks, strict=True)
        ]
    )
    assert (waits.min(axis=0) == 0).all(), "somebody is the last"
    assert (np.sort(waits, axis=0)[1:].max(axis=0) > 0).all(), "and others wait for it"


# --- dropped rules


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("dlrm-8xV100", Rule.EVENT_WAIT),
        ("dlrm-8xV100", Rule.SYNCHRONIZE),
        ("recsys-8xA100", Rule.EVENT_WAIT),
        ("recsys-8xA100", Rule.SYNCHRONIZE),
        ("resnet-ddp-2xA100", Rule.HAND_OFF),
    ],
)
def test_a_replay_without_the_rule_is_wrong(name: str, rule: Rule) -> None:
    """Worst rank and step: 5 % or more, and three times our own error where that is below 2 %."""
    own = worst_error(name, ())
    without = worst_error(name, (rule,))
    assert without >= 5
    assert own >= 2 or without >= 3 * own


def worst_error(name: str, drop: tuple[Rule, ...]) -> float:
    runs = predict.replay_steps(recording(name), drop=drop)
    return max(abs(rank.error_pct or 0) for one in runs for rank in one.figures.ranks)


# --- what a self-replay cannot test


def steady_error(step: int) -> float:
    one = recording("recsys-2xV100")
    measured = [period for period in periods_ns(one.job, one.measured)[1:] if period is not None]
    predicted = predict.predict_steps(one, one.steps[step])[0].period.predicted_ns
    assert predicted is not None
    return 100 * (predicted / float(np.median(measured)) - 1)


@pytest.mark.parametrize(
    "step",
    [
        1,
        2,
        3,
        4,
        pytest.param(
            5,
            marks=pytest.mark.xfail(strict=True, reason="measured +2.56 % from ProfilerStep#1014"),
        ),
    ],
)
def test_the_steady_period_follows_from_one_step_alone(step: int) -> None:
    """Host running ahead: within 2 % of the median measured period, from every step but the first."""
    assert abs(steady_error(step)) <= 2


@cache
def pair_errors(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """|period error| over all ordered pairs of steps: predicted, and naive."""
    one, mine, naive = recording(name), [], []
    for step in one.steps:
        for prediction in predict.predict_steps(one, step):
            ours, theirs = prediction.period.error_pct, prediction.period.naive_error_pct
            if ours is not None and theirs is not None:
                mine.append(abs(ours))
                naive.append(abs(theirs))
    return tuple(mine), tuple(naive)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            one,
            marks=pytest.mark.xfail(
                strict=True, reason="measured median 2.28 %, naive 1.82 %: 0.47 points above"
            ),
        )
        if one == "recsys-2xV100"
        else one
        for one in MULTI_STEP
    ],
)
def test_other_steps_are_predicted_nearly_as_well_as_naively(name: str) -> None:
    mine, naive = pair_errors(name)
    assert np.median(mine) <= np.median(naive) + 0.3


def test_over_all_pairs_of_all_traces_predictions_are_as_good_as_naive_ones() -> None:
    pairs = [pair_errors(name) for name in MULTI_STEP]
    mine, naive = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
    assert np.median(mine) <= np.median(naive) + 0.3


def durations_in(program: Program, other: Program) -> np.ndarray | None:
    """Own durations of `other` in the rows of `program`; None where the launches do not match.

    Device tasks take theirs one by one; the host rows between two launches of a thread are
    stretched to the total that the other step has there (polling calls differ in number).
    """
    mine, theirs = program.rows, other.rows
    tasks, others = (np.flatnonzero(rows.launch != NONE) for rows in (mine, theirs))
    if len(tasks) != len(others) or (mine.name[tasks] != theirs.name[others]).any():
        return None
    duration = mine.duration_ns.copy()
    duration[tasks] = theirs.duration_ns[others]
    for thread, processor in enumerate(program.processors):
        if processor.is_stream:
            continue
        totals = []
        for rows in (mine, theirs):
            host = np.flatnonzero((rows.processor == thread) & (rows.launch == NONE))
            part = np.cumsum(rows.kind[host] == TaskKind.LAUNCH)
            totals.append((host, part, np.bincount(part, weights=rows.duration_ns[host])))
        (host, part, own), (_, _, new) = totals
        if len(own) != len(new):
            return None
        factor = np.where(own > 0, new / np.maximum(own, 1), 1)
        duration[host] = np.round(mine.duration_ns[host] * factor[part])
    return duration


@pytest.mark.parametrize("name", ["recsys-2xV100", "recsys-8xA100", "resnet50-V100"])
def test_durations_of_one_step_in_the_program_of_another_beat_the_naive_prediction(
    name: str,
) -> None:
    """Program of step B, durations and backlog of step A, against measured A; naive: B's span."""
    one = recording(name)
    steps = [steps_of(one.job, one.measured, n, n + 1) for n in range(len(one.steps))]
    spans = [high - low for low, high in (span_of(*step) for step in steps)]
    mine, naive = [], []
    for b, (job, _) in enumerate(steps):
        for a, (source, _) in enumerate(steps):
            (program,), (other,) = job.programs, source.programs
            duration = durations_in(program, other) if a != b else None
            if duration is None:
                continue
            rows = program.rows.with_columns(duration_ns=duration)
            assert program.start is not None
            assert other.start is not None
            start = replace(program.start, free_ns=other.start.free_ns)
            moved = replace(job, programs=(replace(program, rows=rows, start=start),))
            low, high = span_of(moved, simulate(lower(moved)))
            mine.append(abs(100 * ((high - low) / spans[a] - 1)))
            naive.append(abs(100 * (spans[b] / spans[a] - 1)))
    assert len(mine) >= len(steps), "the programs of some steps match"
    assert np.median(mine) < np.median(naive) / 2
    assert np.mean(mine) < np.mean(naive)


def with_kernels(job: Job, factor: float) -> Job:
    programs = []
    for program in job.programs:
        rows = program.rows
        scaled = np.where(
            rows.kind == TaskKind.KERNEL, np.round(rows.duration_ns * factor), rows.duration_ns
        ).astype(np.int64)
        programs.append(replace(program, rows=rows.with_columns(duration_ns=scaled)))
    return replace(job, programs=tuple(programs))


def main_thread_ends(job: Job, drop: tuple[Rule, ...]) -> int:
    """When the host thread that runs the steps is through."""
    (program,) = job.programs
    mine = program.rows.processor == program.main_thread
    return int(simulate(lower(job, drop)).ranks[0].end_ns[mine].max())


@pytest.mark.parametrize(("name", "least"), [("recsys-2xV100", 0.2), ("recsys-8xA100", 0.05)])
def test_kernels_twice_as_fast_make_the_synchronising_host_faster(name: str, least: float) -> None:
    """The host waits for the device; a copy of the waits in its durations would not move."""
    job = steps_of(recording(name).job, recording(name).measured, 1, len(recording(name).steps))[0]
    fast = with_kernels(job, 0.5)
    before, after = main_thread_ends(job, ()), main_thread_ends(fast, ())
    assert after <= (1 - least) * before
    without = (Rule.SYNCHRONIZE, Rule.BACK_PRESSURE)
    freed = 1 - main_thread_ends(fast, without) / main_thread_ends(job, without)
    assert freed < least / 5, "nothing else ties the host to the device"


# --- ranks


def complete_lags(job: Job) -> Job:
    """The same lags with every class spelled out, as the oracle reads them.

    A class that was never measured has the median of the others.
    """
    kinds = [kind.name for kind in TaskKind if kind >= TaskKind.KERNEL]
    calls = sorted({name for program in job.programs for name in program.names})

    def table(known: Mapping[str, int], names: list[str]) -> dict[str, int]:
        usual = int(np.median(list(known.values()))) if known else 0
        return {name: known.get(name, usual) for name in names}

    launches = [f"{call}|{kind}" for call in calls for kind in kinds]
    lags = replace(
        job.lags,
        launch=table(job.lags.launch, launches),
        stream_order=table(job.lags.stream_order, kinds),
        synchronize=table(job.lags.synchronize, calls),
    )
    return replace(job, lags=lags)


@pytest.mark.parametrize(("rank", "delay_ms"), [(3, 0), (3, 5), (6, 40)])
def test_a_delayed_rank_of_dlrm_delays_the_others_as_in_the_oracle(
    rank: int, delay_ms: int
) -> None:
    """`delay_ms` of sleep on one rank in the middle of the step; every row of all eight ranks."""
    one = recording("dlrm-8xV100")
    job = complete_lags(steps_of(one.job, one.measured, 0, 1)[0])
    graph = lower(job)
    program = job.programs[job.placement.role[rank]]
    main = np.flatnonzero(program.rows.processor == program.main_thread)
    slept = int(main[len(main) // 2])
    durations = graph.duration_ns.copy()
    durations[graph.row_offset[rank] + slept] += delay_ms * 1_000_000
    run = simulate(graph, durations)

    longer = program.rows.duration_ns.copy()
    longer[slept] += delay_ms * 1_000_000
    programs = list(job.programs)
    programs[job.placement.role[rank]] = replace(
        program, rows=program.rows.with_columns(duration_ns=longer)
    )
    expected = oracle_times(replace(job, programs=tuple(programs)))
    for place, times in enumerate(expected):
        ends = np.array([end for _, end, _ in times])
        assert (run.ranks[place].end_ns == ends).all(), f"rank {place}"
    undelayed = simulate(graph)
    later = [int(run.ranks[n].end_ns.max() - undelayed.ranks[n].end_ns.max()) for n in range(8)]
    assert max(later) <= delay_ms * 1_000_000
    if delay_ms == 40:
        assert min(later) > 0.5 * delay_ms * 1_000_000, "everybody waits for the late rank"


# --- recordings of a job that really slept


def step_times(name: str) -> tuple[list[float], dict[str, float]]:
    """Traced steps [ms], and the distribution of the steps without a profiler (over both ranks)."""
    recorded = json.loads((RECORDINGS / name / "recording.json").read_text())
    ranks = recorded["unprofiled_step_ms_of_rank"].values()
    spread = {
        key: float(np.mean([rank[key] for rank in ranks])) for key in ("p10", "median", "p90")
    }
    one = predict.record(read([RECORDINGS / name]))
    return [ns / 1e6 for ns in host_ns(one.job, one.measured)], spread


def slowed(job: Job, rank: int, delay_ns: int) -> Job:
    """`rank` sleeps in the first pause of each step."""
    program = job.programs[job.placement.role[rank]]
    rows = program.rows
    duration = rows.duration_ns.copy()
    for block in range(len(program.blocks)):
        pauses = np.flatnonzero(
            (rows.block == block)
            & (rows.processor == program.main_thread)
            & (rows.kind == TaskKind.GAP)
        )
        duration[pauses[0]] += delay_ns
    programs = list(job.programs)
    programs[job.placement.role[rank]] = replace(
        program, rows=rows.with_columns(duration_ns=duration)
    )
    return replace(job, programs=tuple(programs))


@pytest.mark.parametrize("base", ["gpt-dp2", "gpt-pp2"])
def test_a_sleeping_rank_costs_what_the_prediction_says(base: str) -> None:
    """Predicted from the recording without the sleep; the noise is what the steps spread by."""
    delayed = f"{base}-delayed"
    flags = json.loads((RECORDINGS / delayed / "recording.json").read_text())["flags"]
    one = predict.record(read([RECORDINGS / base]))
    costs = []
    for step in range(len(one.steps)):
        job, _ = steps_of(one.job, one.measured, step, step + 1)
        _, before = predict.steady(job)
        _, after = predict.steady(slowed(job, flags["delay-rank"], int(flags["delay-ms"] * 1e6)))
        costs.append((after - before) / 1e6)
    _, plain = step_times(base)
    _, slept = step_times(delayed)
    predicted = plain["median"] + float(np.mean(costs))
    noise = (plain["p90"] - plain["p10"]) / 2 + (slept["p90"] - slept["p10"]) / 2
    assert abs(predicted - slept["median"]) <= noise, f"{predicted:.1f} ms, {slept}, +-{noise:.1f}"


@pytest.mark.parametrize(
    "name", ["gpt-dp2", "gpt-dp2-tp2", "gpt-pp2", "gpt-tp2", "gpt-dp2-delayed", "gpt-pp2-delayed"]
)
def test_the_bundled_recordings_replay(name: str) -> None:
    """The mechanics of gloo; accuracy is claimed on GPU traces only."""
    for one in predict.replay_steps(predict.record(read([RECORDINGS / name]))):
        assert abs(one.figures.error_pct) <= 5
