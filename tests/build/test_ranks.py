"""Across ranks: clocks from collective ends, which collectives are one, whose group they are."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lumos.build import build
from lumos.build.clocks import align_clocks
from lumos.errors import UnusableInputError
from lumos.fit import fit
from lumos.graph.job import NONE, CollectiveKind, Job, TaskKind
from lumos.graph.timeline import Timeline
from lumos.graph.trace import Trace
from lumos.ingest.read import read
from lumos.lower import lower
from lumos.simulate import simulate
from tests.build.drawn_trace import DrawnTrace, build_all

ROOT = Path(__file__).parents[2]
DLRM = ROOT.parent / "shared" / "data" / "kineto" / "dlrm-8xV100"
ALL_REDUCE = "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevComm*)"
MS = 1_000_000


# --- clocks


@settings(deadline=None, max_examples=150, derandomize=True)
@given(
    st.lists(st.floats(-50, 50), min_size=1, max_size=5),
    st.lists(st.floats(-50, 50), min_size=5, max_size=5),
    st.integers(0, 1000),
)
def test_offsets_and_drifts_are_recovered(
    offsets: list[float], drifts: list[float], seed: int
) -> None:
    """Forty collectives over two seconds whose ends agree within 5 us; offsets in ms, drifts in ppm."""
    random = np.random.default_rng(seed)
    true = np.sort(random.integers(0, 2000 * MS, 40)) + 10**15
    true[0], true[-1] = 10**15, 10**15 + 2000 * MS
    ends = [dict(zip([("c", n) for n in range(40)], true.tolist(), strict=True))]
    for offset, drift in zip(offsets, drifts, strict=False):
        noise = random.integers(-5000, 5001, 40)
        seen = (
            true + np.rint(offset * MS + drift * 1e-6 * (true - true[0])).astype(np.int64) + noise
        )
        ends.append({("c", n): int(time) for n, time in enumerate(seen)})
    clocks = align_clocks(ends)
    for clock, seen_ends in zip(clocks, ends, strict=True):
        assert clock is not None
        corrected = clock.correct(np.array(list(seen_ends.values()), np.int64))
        assert np.abs(corrected - true).max() <= 20_000


def test_ranks_are_aligned_through_others_where_they_share_nothing() -> None:
    """Rank 0 meets rank 1, rank 1 meets rank 2."""
    times = [10**12 + n * MS for n in range(6)]
    ends = [
        {("a", n): time for n, time in enumerate(times)},
        {
            **{("a", n): time + 7 * MS for n, time in enumerate(times)},
            **{("b", n): time + 7 * MS for n, time in enumerate(times)},
        },
        {("b", n): time - 3 * MS for n, time in enumerate(times)},
    ]
    clocks = align_clocks(ends)
    for clock, mine in zip(clocks, ends, strict=True):
        assert clock is not None
        assert set(clock.correct(np.array(list(mine.values()))).tolist()) == set(times)


def test_a_rank_that_shares_nothing_has_no_clock() -> None:
    assert align_clocks([{("a", 0): 5}, {("b", 0): 9}])[1] is None
    assert align_clocks([]) == []


def lone_rank(rank: int, begin_us: float) -> DrawnTrace:
    """One kernel, no communication."""
    drawn = DrawnTrace(rank, 2)
    drawn.op("aten::mm", begin_us, begin_us + 10)
    return drawn


def test_ranks_that_nothing_links_are_refused_where_they_ran_at_other_times() -> None:
    """Nine minutes apart may be two clocks, two hours apart are two runs."""
    build_all([lone_rank(0, 0), lone_rank(1, 9 * 60e6)])
    with pytest.raises(UnusableInputError, match=r"recorded 2\.0 hours apart: give traces of one"):
        build_all([lone_rank(0, 0), lone_rank(1, 2 * 3600e6)])


@cache
def dlrm() -> list[Trace]:
    if not DLRM.exists():
        pytest.skip(f"the traces of ../shared/data are not here: {DLRM}")
    return read([DLRM])


def shifted(trace: Trace, offset_ns: int, drift: float, origin: int) -> Trace:
    """The trace as another clock would have written it."""
    columns = dict(trace.columns)
    start = columns["start_ns"]
    end = start + columns["duration_ns"]
    new_start, new_end = (
        time + offset_ns + np.rint(drift * (time - origin)).astype(np.int64)
        for time in (start, end)
    )
    columns["start_ns"], columns["duration_ns"] = new_start, np.maximum(new_end - new_start, 0)
    fields = {name: getattr(trace, name) for name in trace.__dataclass_fields__}
    return Trace(**{**fields, "columns": columns})


@pytest.mark.parametrize("seed", range(4))
def test_injected_offsets_of_dlrm_are_recovered(seed: int) -> None:
    """Up to +-50 ms and 50 ppm on seven of eight ranks: every device task is back within 20 us.

    One short step: over its length a drift of 50 ppm is a few us.
    """
    traces = dlrm()
    random = np.random.default_rng(seed)
    origin = int(min(trace.start_ns.min() for trace in traces))
    moved = [
        trace
        if number == 0
        else shifted(
            trace,
            int(random.integers(-50 * MS, 50 * MS)),
            float(random.uniform(-50e-6, 50e-6)),
            origin,
        )
        for number, trace in enumerate(traces)
    ]
    plain, recovered = (
        [tasks_by_event(*built, rank) for rank in range(8)]
        for built in (build(traces), build(moved))
    )
    # both count from their first row, whichever rank that is on; rank 0's clock was not touched
    event = next(iter(plain[0]))
    zero = plain[0][event] - recovered[0][event]
    for mine, theirs in zip(recovered, plain, strict=True):
        assert mine.keys() == theirs.keys()
        assert max(abs(mine[event] + zero - theirs[event]) for event in mine) <= 20_000


def tasks_by_event(job: Job, run: Timeline, rank: int) -> dict[int, int]:
    """Start of each device task of a rank by its row in the trace."""
    rows = job.programs[job.placement.role[rank]].rows
    device = np.flatnonzero(rows.launch != NONE)
    starts = run.ranks[rank].start_ns[device]
    return dict(zip(rows.event[device].tolist(), starts.tolist(), strict=True))


def test_misaligned_ranks_replay_as_aligned_ones() -> None:
    """The replayed span of the coupled job moves by less than 0.1 %."""
    traces = dlrm()
    moved = [shifted(trace, (-1) ** n * 11 * n * MS, 0.0, 0) for n, trace in enumerate(traces)]
    spans = []
    for some in (traces, moved):
        job, measured = build(some)
        spans.append(simulate(lower(fit(job, measured))).span_ns)
    assert spans[1] == pytest.approx(spans[0], rel=0.001)


# --- groups


def reducing(
    rank: int, world: int, clock: float = 0, late: float = 0, **arguments: object
) -> DrawnTrace:
    """Three all-reduces at 100, 300 and 500 us that end together; the clock is `clock` us ahead."""
    drawn = DrawnTrace(rank, world).op("a", clock, clock + 50)
    for number in range(3):
        at = 100 + 200 * number
        drawn.kernel(
            ALL_REDUCE, clock + at + late, clock + at + 100, stream=20,
            call=(clock + at - 20, clock + at - 15), **arguments,
        )  # fmt: skip
    return drawn.op("b", clock + 700, clock + 750)


def test_ranks_without_metadata_that_read_the_same_are_one_group() -> None:
    built = build_all([reducing(0, 2), reducing(1, 2, late=50)])
    assert [group.ranks for group in built.job.placement.groups] == [(0, 1)]
    assert "group-assumed" in {finding.code for finding in built.job.findings}
    for rank in (0, 1):
        assert {one.group for one in built.program(rank).collectives} == {0}


def test_groups_come_from_metadata_where_it_is() -> None:
    """Two pairs of one world of four."""
    built = build_all(
        [
            reducing(
                rank, 4, **{"Collective name": "allreduce", "Process Group Name": str(rank // 2),
                            "Process Group Ranks": str([rank // 2 * 2, rank // 2 * 2 + 1]), "Group size": 2,
                            "In msg nelems": 10, "dtype": "Float"},
            )
            for rank in range(4)
        ]
    )  # fmt: skip
    groups = built.job.placement.groups
    assert sorted(group.ranks for group in groups) == [(0, 1), (2, 3)]
    for rank in range(4):
        (number,) = {one.group for one in built.program(rank).collectives}
        assert rank in groups[number].ranks
        assert {one.in_bytes for one in built.program(rank).collectives} == {40}


def test_clocks_are_aligned_by_the_ends_of_drawn_collectives() -> None:
    """Rank 1's clock is 30 ms ahead: its rows are moved back, and it says so."""
    built = build_all([reducing(0, 2), reducing(1, 2, clock=30_000, late=40)])
    ends = [
        run.end_ns[built.program(n).rows.kind == TaskKind.COLLECTIVE].tolist()
        for n, run in enumerate(built.measured.ranks)
    ]
    assert ends[0] == ends[1]
    assert "clock-aligned" in {finding.code for finding in built.job.findings}


def test_waiting_is_what_the_early_rank_saw_and_transfer_what_the_late_one_saw() -> None:
    """Rank 1 is ready 50 us later: the transfer takes 50 us on both."""
    built = build_all([reducing(0, 2), reducing(1, 2, late=50)])
    fitted = fit(built.job, built.measured)
    for rank in (0, 1):
        rows = fitted.programs[rank].rows
        assert rows.duration_ns[rows.kind == TaskKind.COLLECTIVE].tolist() == [50_000] * 3


def test_members_that_ran_different_collectives_are_left_uncoupled_and_said_so() -> None:
    shorter = DrawnTrace(1, 2).op("a", 0, 50)
    shorter.kernel(
        ALL_REDUCE,
        100,
        200,
        stream=20,
        call=(80, 85),
        **{"Process Group Name": "0", "Process Group Ranks": "[0, 1]"},
    )
    full = reducing(0, 2, **{"Process Group Name": "0", "Process Group Ranks": "[0, 1]"})
    built = build_all([full, shorter])
    assert "collectives-unmatched" in {finding.code for finding in built.job.findings}
    assert all(one.group == NONE for n in (0, 1) for one in built.program(n).collectives)


def test_one_rank_alone_says_that_waiting_cannot_be_told_from_transfer() -> None:
    assert "one-rank" in {finding.code for finding in reducing(0, 2).build().job.findings}


# --- gloo


@cache
def recorded(name: str) -> tuple[Job, Timeline]:
    return build(read([ROOT / "recordings" / name]))


def groups_of(job: Job, rank: int) -> Counter[tuple[CollectiveKind, tuple[int, ...]]]:
    """How many collectives of each kind a rank runs with which members."""
    program = job.programs[job.placement.role[rank]]
    found: Counter[tuple[CollectiveKind, tuple[int, ...]]] = Counter()
    for entry in program.rows.collective[program.rows.collective != NONE]:
        one = program.collectives[entry]
        members = job.placement.groups[one.group].ranks if one.group != NONE else ()
        found[one.kind, members] += 1
    return found


def test_every_collective_of_the_gloo_job_finds_its_group() -> None:
    """dp 2 x tp 2: all-reduces of activations between (0, 1) and (2, 3), of gradients (0, 2), (1, 3)."""
    job, _ = recorded("gpt-dp2-tp2")
    for rank in range(4):
        tensor = (rank // 2 * 2, rank // 2 * 2 + 1)
        data = (rank % 2, rank % 2 + 2)
        members = {ranks for _, ranks in groups_of(job, rank)}
        assert members == {tensor, data}, rank


@pytest.mark.parametrize("name", ["gpt-dp2", "gpt-tp2", "gpt-pp2", "gpt-dp2-tp2"])
def test_members_of_a_gloo_group_run_the_same_collectives(name: str) -> None:
    job, _ = recorded(name)
    for group in {ranks for rank in job.placement.ranks for _, ranks in groups_of(job, rank)}:
        assert group, "no collective is without a group"
        counts = [
            {kind: n for (kind, ranks), n in groups_of(job, rank).items() if ranks == group}
            for rank in group
        ]
        swapped = [
            {
                {
                    CollectiveKind.SEND: CollectiveKind.RECEIVE,
                    CollectiveKind.RECEIVE: CollectiveKind.SEND,
                }.get(kind, kind): n
                for kind, n in one.items()
            }
            for one in counts
        ]
        assert all(one == counts[0] or one == swapped[0] for one in counts)


def test_pipeline_stages_send_to_and_receive_from_each_other() -> None:
    job, _ = recorded("gpt-pp2")
    for rank in (0, 1):
        program = job.programs[job.placement.role[rank]]
        messages = [
            one
            for one in program.collectives
            if one.kind in (CollectiveKind.SEND, CollectiveKind.RECEIVE)
        ]
        assert messages
        assert {one.peer for one in messages} == {1 - rank}
