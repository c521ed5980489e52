"""Stragglers: the published slow-downs, a slow oracle, causes that were put in."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lumos
from lumos.analysis.straggler_causes import Cause
from lumos.analysis.stragglers import Stragglers, stragglers
from lumos.analysis.typical import with_typical_durations
from lumos.fit import fit
from lumos.graph.job import Job
from lumos.graph.step import steps_of
from lumos.graph.timeline import RankTimeline, Timeline
from lumos.ingest.op_level import read_job
from lumos.lower import lower
from lumos.simulate import simulate
from tests.cli.conftest import DATA as KINETO
from tests.cli.conftest import RECORDINGS
from tests.drawing import Drawing, Rank, Thread
from tests.operations import COMPUTES, Layout, Operation, Step, drawn_times, write_steps

DATA = KINETO.parent / "straggler"
published = pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is absent")


def close(value: float | None, expected: float) -> bool:
    """Within 0.001 %; asked for are 0.5 %."""
    return value == pytest.approx(expected, rel=1e-5)


# --- the published traces


@published
@pytest.mark.parametrize("name", ["ST", "SE"])
def test_slow_downs_are_those_published(name: str) -> None:
    truth = json.loads((DATA / f"result-{name}.json").read_text())
    job, measured = read_job(DATA / f"trace-{name}.parquet")
    found = stragglers(fit(job, measured), measured)
    assert [step.step for step in found.steps] == list(truth["step_t_base"])
    for step in found.steps:
        assert close(step.measured_ns / 1e9, truth["step_t_base"][step.step])
        assert close(step.without_delay_ns / 1e9, truth["step_t_nodelay"][step.step])
        assert close(step.without_stragglers_ns / 1e9, truth["step_t_noblk"][step.step])
        assert close(step.slowdown, truth["blocking_step_slowdown"][step.step])
        compare(step, {k: v[step.step] for k, v in decomposed(truth, "_per_step").items()})
    overall = found.overall()
    assert close(overall.slowdown, truth["blocking_slowdown"])
    compare(overall, decomposed(truth, ""))


def decomposed(truth: dict[str, Any], ending: str) -> dict[str, dict[str, Any]]:
    """The slow-downs of a result file by what they are of."""
    kinds = ("dp_rank", "stage", "optype")
    return {kind: truth[f"blocking_decompose_by_{kind}{ending}"] for kind in kinds}


def compare(step: Any, truth: dict[str, dict[str, float]]) -> None:
    """The slow-downs of a step by data-parallel rank, stage and type of operation."""
    for groups, kind in (
        (step.dp_ranks, "dp_rank"),
        (step.stages, "stage"),
        (step.operations, "optype"),
    ):
        for key, slowdown in truth[kind].items():
            group = groups[key if kind == "optype" else int(key)]
            assert close(step.slowdown_of(group), slowdown), (step.step, kind, key)


@published
def test_the_ideal_timeline_is_the_published_one() -> None:
    """ST without stragglers, operation by operation: where each starts and how long it takes."""
    job, measured = read_job(DATA / "trace-ST.parquet")
    job = with_typical_durations(fit(job, measured))
    one, _ = steps_of(job, measured, 0, 1)
    graph = lower(one)
    run = simulate(graph)
    found = {}
    for place, rank in enumerate(one.placement.ranks):
        program = one.programs[place]
        seen: dict[str, int] = {}
        for row in np.flatnonzero(program.rows.on_device).tolist():
            name = program.names[program.rows.name[row]]
            seen[name] = seen.get(name, -1) + 1
            begin = run.ranks[place].start_ns[row] + run.ranks[place].wait_ns[row]
            key = (rank % 2, rank // 2, name, seen[name])
            found[key] = begin / 1e3, (run.ranks[place].end_ns[row] - begin) / 1e3
    with gzip.open(DATA / "ideal-timeline-ST.json.gz") as file:
        events = json.load(file)
    named = [event["args"]["name"] for event in events if event["name"] == "thread_name"]
    stage_of = [int(name.split(",")[0].removeprefix("PP rank ")) for name in named]
    compared = 0
    for event in events:
        if event["ph"] == "X" and event["args"]["step"] == 23:
            key = (event["pid"], stage_of[event["tid"]], event["name"], event["args"]["seq_id"])
            assert found[key] == pytest.approx((event["ts"], event["dur"]), abs=2), key
            compared += 1
    assert compared == len(found) == 212


# --- an oracle


@given(
    st.builds(
        Layout,
        data=st.integers(1, 2),
        pipeline=st.integers(2, 3),
        chunks=st.integers(1, 2),
        micro_batches=st.integers(1, 3),
        in_turns=st.booleans(),
    ),
    st.integers(1, 10**6),
)
@settings(max_examples=12, deadline=None)
def test_both_experiments_are_those_of_the_oracle(
    tmp_path_factory: pytest.TempPathFactory, layout: Layout, seed: int
) -> None:
    """Two steps whose own times are drawn; the oracle runs each experiment operation by operation."""
    real = [drawn_times(seed), drawn_times(seed + 1)]
    steps = {n: Step(layout, own) for n, own in enumerate(real)}
    usual = pooled(steps)
    job, measured = read_job(write_steps(tmp_path_factory.mktemp("job"), steps))
    found = stragglers(fit(job, measured), measured)
    for step, own in zip(found.steps, real, strict=True):

        def length(is_real: Callable[[Operation], bool], own: Times = own) -> Any:
            made = Step(layout, lambda one: own(one) if is_real(one) else usual(one))
            return pytest.approx(made.makespan, abs=200)

        assert step.without_stragglers_ns == length(lambda _: False)
        for groups, keys_of in (
            (step.ranks, lambda one: (one.stage * layout.data + one.data,)),
            (step.dp_ranks, lambda one: (one.data,)),
            (step.stages, lambda one: (one.stage,)),
            (step.operations, types_of),
        ):
            for key, group in groups.items():
                assert group.only_ns == length(lambda one, k=key, of=keys_of: k in of(one))
                assert group.without_ns == length(lambda one, k=key, of=keys_of: k not in of(one))


Times = Callable[[Operation], int]


def types_of(one: Operation) -> tuple[str, ...]:
    """What an operation counts as: its type, and both ends of a message as one."""
    way, _, what = one.type.partition("-")
    return (one.type, f"{way}-pp-comm") if what in ("send", "recv") else (one.type,)


def pooled(steps: dict[int, Step]) -> Times:
    """The mean of computes and the median of transfers over all steps, by type."""
    drawn: dict[str, list[int]] = {}
    for step in steps.values():
        for one in step.operations:
            drawn.setdefault(one.type, []).append(step.own(one))
    usual = {
        name: int(np.mean(each) if name in COMPUTES else np.median(each))
        for name, each in drawn.items()
    }
    return lambda one: usual[one.type]


# --- whole operations whose causes are known


def made_slow(
    folder: Path, slow: Callable[[Operation], float], layout: Layout | None = None, step: int = 2
) -> tuple[dict[int, Cause], dict[int, float]]:
    """Causes and slow-downs by rank of the second of three steps, in which some operations are slow."""
    layout = layout or Layout(data=4, pipeline=2, micro_batches=4, in_turns=True)
    usual = {"forward-compute": 100_000, "backward-compute": 200_000, "gc": 0}

    def own(number: int) -> Times:
        return lambda one: int(usual.get(one.type, 5_000) * (slow(one) if number == step else 1))

    steps = {n: Step(layout, own(n)) for n in (1, 2, 3)}
    job, measured = read_job(write_steps(folder, steps))
    found = stragglers(fit(job, measured), measured).steps[step - 1]
    return dict(found.causes), {r: found.slowdown_of(g) or 0 for r, g in found.ranks.items()}


SLOW_RANK = Operation(2, 1, "")  # rank 6 of a job of 4 x 2


def on_rank(one: Operation) -> bool:
    return (one.data, one.stage) == (SLOW_RANK.data, SLOW_RANK.stage)


@pytest.mark.parametrize(
    ("slow", "cause"),
    [
        (lambda one: 1.5 if on_rank(one) and one.type in COMPUTES else 1, Cause.SLOW_COMPUTE),
        (lambda one: 3 if on_rank(one) and one.micro_batch == 1 else 1, Cause.IMBALANCE),
        (lambda one: 5 if on_rank(one) and one.type == "forward-compute" and one.micro_batch == 1 else 1, Cause.SLOW_COMPUTE),
        (lambda one: 100 if on_rank(one) and one.type.endswith(("send", "recv")) else 1, Cause.SLOW_LINK),
    ],
    ids=["a slow device", "a long micro-batch", "a stall in one forward", "a slow link"],
)  # fmt: skip
def test_the_cause_of_a_slow_rank(
    tmp_path: Path, slow: Callable[[Operation], float], cause: Cause
) -> None:
    causes, slowdowns = made_slow(tmp_path, slow)
    assert causes[6] is cause
    assert slowdowns[6] > 1.05
    others = {rank: one for rank, one in causes.items() if rank != 6}
    assert set(others.values()) == {Cause.NONE}


def test_a_stage_that_has_more_to_do_is_an_imbalance(tmp_path: Path) -> None:
    """One rank a stage, in every step: the last stage computes half as long again."""
    layout = Layout(data=1, pipeline=4, micro_batches=4, in_turns=True)
    usual = {"forward-compute": 100_000, "backward-compute": 200_000, "gc": 0}

    def own(one: Operation) -> int:
        return int(usual.get(one.type, 5_000) * (1.5 if one.stage == 3 else 1))

    job, measured = read_job(write_steps(tmp_path, {n: Step(layout, own) for n in (1, 2)}))
    for step in stragglers(fit(job, measured), measured).steps:
        assert step.causes == {0: Cause.NONE, 1: Cause.NONE, 2: Cause.NONE, 3: Cause.IMBALANCE}
        assert (step.slowdown_of(step.stages[3]) or 0) > 1.15


def test_ranks_that_are_equally_slow_cost_nothing_one_by_one(tmp_path: Path) -> None:
    """Each alone slows an even job; made typical alone it gains nothing, for the other is as slow."""
    causes, slowdowns = made_slow(tmp_path, lambda one: 2 if one.stage == 1 and one.data > 1 else 1)
    assert set(causes.values()) == {Cause.NONE}
    assert slowdowns[6] == slowdowns[7] > 1.3


# --- kernels whose causes are known


def data_parallel(change: Callable[[Rank, Thread, int, int], int | None]) -> Stragglers:
    """Four ranks of kernels of 100 us and an all-reduce of 50 us; rank 2 is changed row by row.

    `change(rank, thread, stream, place)` may add rows, and may give the place-th kernel a length.
    """
    drawn = Drawing()
    drawn.group("all", *range(4))
    for number in range(4):
        rank = drawn.rank()
        main, stream = rank.thread(), rank.stream(1)
        for place in range(40):
            main.work("aten::mm", 5_000)
            main.gap(2_000)
            length = change(rank, main, stream, place) if number == 2 else None
            main.launch(stream, "gemm", length or 100_000)
        main.collective(stream, "all-reduce", 50_000, "all")
        main.synchronize(stream)
    return studied(drawn.job())


def studied(job: Job) -> Stragglers:
    """The stragglers of a drawn job of one step, measured as it simulates."""
    measured = simulate(lower(job))
    zero = tuple(RankTimeline(r.start_ns, r.end_ns, 0 * r.wait_ns) for r in measured.ranks)
    return stragglers(job, Timeline(zero))


def stall(rank: Rank, main: Thread, stream: int, place: int) -> None:
    if place == 20:
        main.synchronize(stream)  # only then does the pause hold the device up
        main.gap(2_000_000)


def more_work(rank: Rank, main: Thread, stream: int, place: int) -> None:
    if place in (10, 11):
        main.work("aten::save", 5_000)
        main.launch(stream, "save", 900_000)


def slow_device(rank: Rank, main: Thread, stream: int, place: int) -> int:
    return 130_000


@pytest.mark.parametrize(
    ("change", "cause", "cost_ns"),
    [
        (stall, Cause.HOST_STALL, 2_000_000),
        (more_work, Cause.IMBALANCE, 1_800_000),
        (slow_device, Cause.SLOW_COMPUTE, 40 * 30_000),
    ],
)
def test_the_cost_and_the_cause_of_a_changed_rank(
    change: Callable[[Rank, Thread, int, int], int | None], cause: Cause, cost_ns: int
) -> None:
    found = data_parallel(change)
    (step,) = found.steps
    assert step.causes == {0: Cause.NONE, 1: Cause.NONE, 2: cause, 3: Cause.NONE}
    costs = {rank: step.cost_ns(group) for rank, group in step.ranks.items()}
    assert costs == {0: 0, 1: 0, 2: pytest.approx(cost_ns, rel=0.05), 3: 0}
    assert found.compared_pct == 100
    assert step.dp_ranks is None
    assert step.stages is None


def test_a_slow_link_is_told_by_its_transfers() -> None:
    """A ring of four among which one moves its data ten times as long."""
    drawn = Drawing()
    drawn.group("all", *range(4))
    for number in range(4):
        rank = drawn.rank()
        main, stream = rank.thread(), rank.stream(1)
        for _ in range(10):
            main.launch(stream, "gemm", 100_000)
            main.collective(stream, "all-reduce", 500_000 if number == 1 else 50_000, "all")
    (step,) = studied(drawn.job()).steps
    assert step.causes == {0: Cause.NONE, 1: Cause.SLOW_LINK, 2: Cause.NONE, 3: Cause.NONE}
    assert step.cost_ns(step.ranks[1]) == 10 * 450_000
    assert step.cost_ns(step.operations["all_reduce"]) == 10 * 450_000


def test_equal_ranks_have_no_straggler() -> None:
    found = data_parallel(lambda *_: None)
    (step,) = found.steps
    assert step.slowdown == 1
    assert all(step.slowdown_of(group) == 1 for group in step.ranks.values())
    assert all(step.cost_ns(group) == 0 for group in step.operations.values())


def test_overall_is_the_ratio_of_the_means(tmp_path: Path) -> None:
    steps = {n: Step(Layout(), drawn_times(n)) for n in (1, 2, 3)}
    job, measured = read_job(write_steps(tmp_path, steps))
    found = stragglers(fit(job, measured), measured)
    overall = found.overall()
    real = [step.without_delay_ns for step in found.steps]
    even = [step.without_stragglers_ns for step in found.steps]
    assert overall.slowdown == pytest.approx(np.mean(real) / np.mean(even))
    alone = [step.stages[1].only_ns for step in found.steps]
    assert overall.slowdown_of(overall.stages[1]) == pytest.approx(np.mean(alone) / np.mean(even))


# --- recordings


@pytest.mark.parametrize(
    ("name", "unchanged", "within_ms"),
    [
        ("recordings/gpt-dp2-delayed", "recordings/gpt-dp2", 3.5),
        ("recordings/gpt-pp2-delayed", "recordings/gpt-pp2", 1.5),
        ("validation/cpu/delay-20ms", "validation/cpu/base", 3.5),
    ],
)
def test_the_rank_that_sleeps_costs_what_the_step_takes_longer(
    name: str, unchanged: str, within_ms: float
) -> None:
    """Rank 1 sleeps in every step; the truth is how much longer steps are than without.

    While it sleeps the other data-parallel rank and the transfers have its cores: they would take
    up to 3 ms longer without the sleep, which the model does not know.
    """
    traces, before = (lumos.load(RECORDINGS.parent / one) for one in (name, unchanged))
    found = traces.stragglers().figures
    truth = median_span_ms(traces) - median_span_ms(before)
    costs = {r: np.median([s.cost_ns(s.ranks[r]) for s in found.steps]) / 1e6 for r in (0, 1)}
    assert costs[1] == pytest.approx(truth, abs=within_ms)
    assert costs[0] == pytest.approx(0, abs=1)
    assert {step.causes[1] for step in found.steps} == {Cause.HOST_STALL}
    assert {step.causes[0] for step in found.steps} == {Cause.NONE}
    assert found.overall().causes == {0: Cause.NONE, 1: Cause.HOST_STALL}


def median_span_ms(traces: lumos.JobTraces) -> float:
    return float(np.median([run.figures.measured_ns for run in traces.replays()])) / 1e6


@pytest.mark.skipif(not KINETO.is_dir(), reason=f"{KINETO} is absent")
def test_eight_gpus_of_one_step_are_held_against_each_other() -> None:
    """dlrm-8xV100: hosts of different speed, kernels alike; what waits for peers is nobody's cost."""
    found = lumos.load(KINETO / "dlrm-8xV100").stragglers().figures
    (step,) = found.steps
    assert found.compared_pct == 100
    assert step.without_delay_ns == pytest.approx(step.measured_ns, rel=1e-3)
    assert step.without_stragglers_ns < step.without_delay_ns
    gains = {name: step.cost_ns(group) for name, group in step.operations.items()}
    assert max(gains, key=lambda name: gains[name]) == "host"
    assert gains["host"] > 0.9 * (step.without_delay_ns - step.without_stragglers_ns)
    assert all(step.cost_ns(group) < 0.01 * step.without_delay_ns for group in step.ranks.values())
    late = [rank for rank, group in step.ranks.items() if (step.slowdown_of(group) or 0) > 1.03]
    assert late == [4, 5], "two are as slow: neither costs anything, both slow an even job"
