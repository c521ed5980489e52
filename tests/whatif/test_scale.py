"""Changes of durations: scaled rows, the host, lags, added host work, a stalled rank."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lumos.errors import UsageError
from lumos.graph.job import CollectiveKind, Job
from lumos.graph.labels import By
from lumos.lower import lower
from lumos.simulate import run, simulate
from lumos.whatif.delay import add_host_work, stall
from lumos.whatif.host import scale_host
from lumos.whatif.link import scale_lags
from lumos.whatif.scale import durations_of, scale, with_durations
from lumos.whatif.selection import (
    Selection,
    communication,
    data_loading,
    everything,
    host_overhead,
    inside,
    labelled,
    of_ranks,
)
from tests.drawing import Drawing
from tests.drawing import run as run_job
from tests.graph.test_segments import piece
from tests.oracle import oracle_times
from tests.simulate.jobs import jobs

thorough = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


def training() -> Drawing:
    """Two ranks of one launch, one all-reduce and one pause each; rank 1 is slower.

    rank 0 | mm | launch | gap |          stream |= gemm 40 =|        |= all-reduce 30 =|
    rank 1 | mm | launch | gap |          stream |=== gemm 60 ===|    |= all-reduce 30 =|
    """
    drawn = Drawing(launch=2)
    drawn.group("all", 0, 1)
    for length in (40, 60):
        rank = drawn.rank()
        main, stream = rank.thread(), rank.stream(1)
        main.work("aten::mm", 10)
        main.launch(stream, "gemm", length)
        main.collective(stream, "all-reduce", 30, "all")
        main.gap(100)
    return drawn


def durations(job: Job, role: int = 0) -> list[int]:
    return job.programs[role].rows.duration_ns.tolist()  # type: ignore[no-any-return]


# --- which rows


def test_rows_are_chosen_by_the_names_tables_give_them() -> None:
    job = training().job()
    assert [m.tolist() for m in labelled(job, By.KERNEL, "gemm").masks] == [
        [False, False, True, False, False, False]
    ] * 2
    assert len(labelled(job, By.CLASS, "all_reduce")) == 2
    assert len(labelled(job, By.KERNEL, "gemm", "all-reduce")) == 4
    assert len(labelled(job, By.KERNEL, "no such kernel")) == len(labelled(job, By.KERNEL)) == 0


def test_choices_combine() -> None:
    job = training().job()
    gemm, second = labelled(job, By.KERNEL, "gemm"), of_ranks(job, 1)
    assert len(gemm & second) == 1
    assert len(gemm | second) == 7
    assert len(~gemm) == len(everything(job)) - 2 == 10


def test_communication_is_chosen_by_kind() -> None:
    job = training().job()
    assert len(communication(job)) == len(communication(job, {CollectiveKind.ALL_REDUCE})) == 2
    assert len(communication(job, {CollectiveKind.SEND})) == 0


def test_a_rank_that_shares_its_program_cannot_be_chosen_alone() -> None:
    job = training().job()
    shared = replace(job, placement=replace(job.placement, role=(0, 0)))
    with pytest.raises(UsageError, match="ranks 0 run the program of rank 1"):
        of_ranks(shared, 0)
    assert len(of_ranks(shared, 0, 1)) == 6
    with pytest.raises(UsageError, match="no rank 7 was traced"):
        of_ranks(job, 7)


def test_host_overhead_is_all_of_the_host_but_data_loading() -> None:
    """main | loader [ stack ] | mm | launch | gap |: the first two load data."""
    drawn = Drawing()
    rank = drawn.rank()
    main, stream = rank.thread(), rank.stream(1)
    piece(main, "enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", 100)
    main.work("aten::stack", 5)
    piece(main, "enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", 100)
    main.work("aten::mm", 10)
    main.launch(stream, "gemm", 20)
    main.gap(7)
    job = drawn.job()
    assert data_loading(job).masks[0].tolist() == [True] * 3 + [False] * 4
    assert host_overhead(job).masks[0].tolist() == [False] * 3 + [True, True, False, True]


def test_where_the_host_computes_its_operators_are_no_overhead() -> None:
    """A CPU job: | mm | gap |, and communication beside it."""
    drawn = Drawing()
    drawn.group("all", 0)
    rank = drawn.rank()
    main, queue = rank.thread(), rank.worker(1)
    main.work("aten::mm", 10)
    main.gap(7)
    main.collective(queue, "gloo:all_reduce", 20, "all")
    assert host_overhead(drawn.job()).masks[0].tolist() == [False, True, True, False]


def test_rows_inside_an_operator_are_chosen_with_it() -> None:
    drawn = Drawing()
    main = drawn.rank().thread()
    piece(main, "linear", 1)
    main.work("addmm", 5)
    piece(main, "linear", 1)
    main.work("gelu", 5)
    assert inside(drawn.job(), ["linear"]).masks[0].tolist() == [True, True, True, False]


# --- durations


def test_chosen_rows_take_the_factor_and_waiting_follows() -> None:
    """Rank 1's gemm twice as fast: both all-reduces begin when rank 0's gemm has ended."""
    job = training().job()
    gemm = labelled(job, By.KERNEL, "gemm")
    assert run_job(job)["all-reduce", 0][1] == 12 + 60 + 30
    faster = scale(job, gemm & of_ranks(job, 1), 0.5)
    assert run_job(faster)["all-reduce", 0][1] == 12 + 40 + 30
    assert run_job(faster).wait("all-reduce", 0) == 0
    assert run_job(faster).wait("all-reduce", 1) == 10


def test_a_collective_that_is_free_still_waits_for_its_members() -> None:
    job = training().job()
    free = run_job(scale(job, communication(job), 0))
    assert free["all-reduce", 0] == (52, 72)
    assert free.wait("all-reduce", 0) == 20


@pytest.mark.parametrize("factor", [-1, float("nan"), float("inf")])
def test_a_factor_is_a_number_of_0_or_more(factor: float) -> None:
    job = training().job()
    with pytest.raises(UsageError, match="factor of 0 or more"):
        scale(job, everything(job), factor)
    with pytest.raises(UsageError, match="factor of 0 or more"):
        scale_lags(job, factor)


def test_a_free_host_launches_everything_at_once() -> None:
    """The gemm starts at the launch lag, behind no host time; the data stays where it was."""
    job = training().job()
    free = run_job(scale_host(job, 0))
    assert free["gemm", 0] == (2, 42)
    assert durations(scale_host(job, 0)) == [0, 0, 40, 0, 30, 0]


def test_lags_are_scaled_all_alike() -> None:
    drawn = Drawing(launch=4, stream_order=6, event_wait=8, synchronize=10, hand_off=12, depth=3)
    main = drawn.rank().thread()
    main.work("a", 10)
    lags = scale_lags(drawn.job(), 0.5).lags
    assert set(lags.launch.values()) == {2}
    assert set(lags.stream_order.values()) == {3}
    assert (lags.event_wait, lags.hand_off, lags.back_pressure_depth) == (4, 6, 3)
    assert set(lags.synchronize.values()) == {5}


def test_host_work_is_added_once_to_each_run_of_an_operator() -> None:
    """main | mm 5 | add 5 | mm 5 |: one run of mm around one of add."""
    drawn = Drawing()
    main = drawn.rank().thread()
    piece(main, "mm", 1)
    piece(main, "add", 2)
    piece(main, "mm", 1)
    main.gap(3)
    job = drawn.job()
    assert durations(add_host_work(job, everything(job), 20)) == [25, 25, 5, 3]
    assert durations(add_host_work(job, labelled(job, By.OPERATOR, "add"), 20)) == [5, 25, 5, 3]
    with pytest.raises(UsageError, match="not taken away"):
        add_host_work(job, everything(job), -1)


def test_a_stalled_rank_does_nothing_at_the_begin_of_each_step() -> None:
    """Rank 0 stalls for 50: rank 1's all-reduce waits for it."""
    job = training().job()
    stalled = stall(job, 0, 50)
    assert durations(stalled) == [60, 1, 40, 1, 30, 100]
    assert durations(stalled, 1) == durations(job, 1)
    assert run_job(stalled)["all-reduce", 1] == (72, 132)


def test_a_stalled_rank_gets_a_role_of_its_own() -> None:
    job = training().job()
    shared = replace(job, programs=job.programs[:1], placement=replace(job.placement, role=(0, 0)))
    stalled = stall(shared, 1, 50)
    assert stalled.placement.role == (0, 1)
    assert durations(stalled, 0) == durations(shared, 0)
    assert durations(stalled, 1)[0] == 60
    with pytest.raises(UsageError, match="no rank 2"):
        stall(shared, 2, 50)


# --- what holds for every job


def masks(draw: Callable[..., bool], job: Job) -> Selection:
    """Any rows."""
    return Selection(
        tuple(
            np.array([draw(st.booleans()) for _ in range(len(p.rows))], bool) for p in job.programs
        )
    )


@thorough
@given(jobs(most_ranks=2), st.data(), st.floats(0, 3))
def test_a_column_of_durations_runs_as_the_changed_job(
    job: Job, data: st.DataObject, factor: float
) -> None:
    changed = scale(job, masks(data.draw, job), factor)
    graph = lower(job)
    column = durations_of(graph, changed)
    fresh = lower(changed)
    assert (run(graph, column).end_ns == run(fresh).end_ns).all()
    assert (column == fresh.duration_ns).all()


@thorough
@given(jobs(most_ranks=2), st.data(), st.floats(0, 3))
def test_a_scaled_job_runs_as_in_the_oracle(job: Job, data: st.DataObject, factor: float) -> None:
    chosen = masks(data.draw, job)
    by_hand = with_durations(
        job,
        [
            np.array([round(d * factor) if m else d for d, m in zip(p.rows.duration_ns.tolist(), mask.tolist(), strict=True)])
            for p, mask in zip(job.programs, chosen.masks, strict=True)
        ],
    )  # fmt: skip
    ran = simulate(lower(job), durations_of(lower(job), scale(job, chosen, factor)))
    for place, expected in enumerate(oracle_times(by_hand, contention=False)):
        assert ran.ranks[place].end_ns.tolist() == [end for _, end, _ in expected]


@thorough
@given(jobs(most_ranks=2), st.data())
def test_a_factor_of_one_changes_nothing(job: Job, data: st.DataObject) -> None:
    same = scale(scale_host(job, 1), masks(data.draw, job), 1)
    for before, after in zip(job.programs, same.programs, strict=True):
        assert (before.rows.duration_ns == after.rows.duration_ns).all()
    assert scale_lags(job, 1) == job


@thorough
@given(jobs(), st.data(), st.floats(0, 3), st.floats(0, 3))
def test_two_factors_are_their_product_but_for_rounding(
    job: Job, data: st.DataObject, first: float, second: float
) -> None:
    chosen = masks(data.draw, job)
    twice = durations(scale(scale(job, chosen, first), chosen, second))
    once = durations(scale(job, chosen, first * second))
    assert all(abs(a - b) <= 1 + second / 2 + 1e-9 for a, b in zip(twice, once, strict=True))


@thorough
@given(jobs(most_ranks=2), st.data(), st.floats(0, 1))
def test_faster_rows_never_make_a_job_of_fixed_order_slower(
    job: Job, data: st.DataObject, factor: float
) -> None:
    graph = lower(job)
    faster = run(graph, durations_of(graph, scale(job, masks(data.draw, job), factor)))
    assert (faster.end_ns <= run(graph).end_ns).all()
