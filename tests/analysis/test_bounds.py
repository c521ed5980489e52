"""The bounds ladder on drawn steps: one limit after another taken away."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lumos.analysis.baseline import Basis
from lumos.analysis.bounds import Bound, Rung, StepBounds, bounds
from lumos.graph.job import CollectiveKind, Job, TaskKind
from lumos.graph.work import Gemm, Work, WorkKind
from lumos.whatif.scale import with_durations
from tests.analysis.steps import baseline_of
from tests.drawing import Drawing
from tests.simulate.jobs import jobs

thorough = settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


def rungs(job: Job, basis: Basis = Basis.BACK_TO_BACK) -> tuple[StepBounds, dict[Rung, Bound]]:
    ladder = bounds(baseline_of(job, basis))
    return ladder, {one.rung: one for one in ladder.bounds}


def lengths(job: Job, basis: Basis = Basis.BACK_TO_BACK) -> dict[Rung, tuple[int | None, int]]:
    return {rung: (one.alone_ns, one.together_ns) for rung, one in rungs(job, basis)[1].items()}


def data_parallel() -> Drawing:
    """Rank 1 computes 60, rank 0 40; both reduce for 30 and end with a kernel of 10.

    rank 0 | host 5 |== 40 ==|..........|= reduce 30 =|= 10 =|
    rank 1 | host 5 |====== 60 =========|= reduce 30 =|= 10 =|
    """
    drawn = Drawing()
    drawn.group("all", 0, 1)
    for length in (40, 60):
        rank = drawn.rank()
        main, compute, network = rank.thread(), rank.stream(1), rank.stream(2)
        main.work("python", 5)
        main.launch(compute, "gemm", length, 5)
        main.record(compute, "gradients")
        main.wait(network, "gradients")
        main.collective(network, "all-reduce", 30, "all", call=5)
        main.record(network, "reduced")
        main.wait(compute, "reduced")
        main.launch(compute, "optimizer", 10, 5)
        main.synchronize(duration=0)
    return drawn


def test_the_slowest_rank_waits_for_nobody() -> None:
    """Without waiting rank 0 takes 85, rank 1 still 105."""
    found = lengths(data_parallel().job())
    assert found[Rung.NO_COMMUNICATION_WAIT] == (105, 105)


def test_communication_that_overlaps_perfectly_leaves_the_computation() -> None:
    """Rank 1: 5 + 60 + 10; a transfer of 30 hides behind it."""
    assert lengths(data_parallel().job())[Rung.PERFECT_OVERLAP] == (75, 75)


def test_where_the_transfers_take_longer_they_are_the_step() -> None:
    drawn = Drawing()
    drawn.group("all", 0)
    rank = drawn.rank()
    main, compute, network = rank.thread(), rank.stream(1), rank.stream(2)
    main.launch(compute, "gemm", 10, 1)
    for _ in range(3):
        main.collective(network, "all-reduce", 100, "all")
    main.synchronize(duration=0)
    found = lengths(drawn.job())
    assert found[Rung.PERFECT_OVERLAP] == (300, 300)


def test_a_host_without_overhead_leaves_the_device() -> None:
    """Back to back the kernel of 20 hides behind the host's 55; a free host leaves the kernels."""
    drawn = Drawing()
    rank = drawn.rank()
    main, stream = rank.thread(), rank.stream(1)
    main.work("python", 50)
    main.launch(stream, "k", 20, 5)
    job = drawn.job()
    assert rungs(job)[0].unchanged.length_ns == 55
    assert lengths(job)[Rung.FAST_HOST] == (20, 20)


def test_a_straggler_takes_what_its_peers_typically_take() -> None:
    """Of rank 1's 60 and rank 0's 40 the lower is typical; without a host that is 40 + 10 besides."""
    found = lengths(data_parallel().job())
    assert found[Rung.NO_STRAGGLER] == (85, 55)
    assert found[Rung.FAST_HOST] == (100, 50)


def gemm_of_a_millisecond() -> Drawing:
    """A GEMM of 1024 x 1024 x 1024 that took 1 ms, and a kernel of unknown work of 3 ms."""
    drawn = Drawing()
    rank = drawn.rank()
    main, stream = rank.thread(), rank.stream(1)
    main.launch(stream, "gemm", 1_000_000)
    main.launch(stream, "other", 3_000_000)
    rank.rows[1]["work"] = 0
    return drawn


def with_gpu(job: Job, gpu: str) -> Job:
    (program,) = job.programs
    work = Work(
        WorkKind.GEMM, "aten::mm", ((1024, 1024), (1024, 1024)), ("c10::Half",) * 2,
        Gemm(1, 1024, 1024, 1024),
    )  # fmt: skip
    return replace(
        job,
        programs=(replace(program, works=(work,)),),
        placement=replace(job.placement, gpu=gpu),
    )


def test_kernels_at_roofline_take_what_their_operations_need() -> None:
    """2 * 1024^3 operations at 312 TFLOP/s (A100, dense) are 6.88 us; what is unknown stays."""
    _, found = rungs(with_gpu(gemm_of_a_millisecond().job(), "NVIDIA A100-SXM4-80GB"))
    rung = found[Rung.ROOFLINE]
    assert rung.alone_ns == pytest.approx(3_000_000 + 2 * 1024**3 / 312e12 * 1e9, abs=1)
    assert rung.unknown_pct == pytest.approx(75)


def test_a_gpu_that_is_not_known_has_no_roofline() -> None:
    _, found = rungs(with_gpu(gemm_of_a_millisecond().job(), "NVIDIA X1"))
    assert found[Rung.ROOFLINE].reason == "'NVIDIA X1' is not in the catalogue of hardware"
    _, found = rungs(with_gpu(gemm_of_a_millisecond().job(), ""))
    assert found[Rung.ROOFLINE].reason == "the GPU is not named"


def test_a_kernel_that_beats_its_roofline_keeps_its_time() -> None:
    drawn = gemm_of_a_millisecond()
    drawn.ranks[0].rows[1]["duration_ns"] = 1000
    ladder, found = rungs(with_gpu(drawn.job(), "NVIDIA A100-SXM4-80GB"))
    assert found[Rung.ROOFLINE].alone_ns == ladder.unchanged.length_ns


def test_limits_are_taken_away_one_after_another() -> None:
    ladder, found = rungs(data_parallel().job())
    together = [found[rung].together_ns for rung in found]
    assert ladder.unchanged.length_ns == 105
    assert together == [105, 75, 75, 55, 50, 50]


def pipeline(*, synchronous: bool = False) -> Drawing:
    """Stage 0 sends what it computed in 50 to stage 1, which computes for 20 then.

    stage 0 | F 50 | send |                     message 5
    stage 1 |.............|= receive 5 =| F 20 |
    """
    drawn = Drawing()
    drawn.group("stages", 0, 1)
    for place, length in enumerate((50, 20)):
        rank = drawn.rank()
        main, compute, network = rank.thread(), rank.stream(1), rank.stream(2)
        if place:
            main.collective(network, "recv", 5, "stages", CollectiveKind.RECEIVE, peer=0)
            main.record(network, "there")
            main.wait(compute, "there")
        main.launch(compute, "F", length)
        if not place:
            main.record(compute, "computed")
            main.wait(network, "computed")
            main.collective(
                network, "send", 5, "stages", CollectiveKind.SEND, peer=1, synchronous=synchronous
            )
        main.synchronize(duration=0)
    return drawn


@pytest.mark.parametrize("synchronous", [False, True])
def test_no_bubble_lets_every_stage_run_at_once(synchronous: bool) -> None:
    """Once: 50 for stage 0, 5 for the message, 20 for stage 1; then stage 0 and its message."""
    ladder, found = rungs(pipeline(synchronous=synchronous).job(), Basis.ONCE)
    unchanged = ladder.unchanged.length_ns
    assert unchanged == 50 + 5 + 20
    assert found[Rung.NO_BUBBLE].alone_ns == 50 + 5
    assert found[Rung.PERFECT_OVERLAP].alone_ns == 50 + 20
    assert found[Rung.NO_BUBBLE].together_ns == 50


def test_back_to_back_the_slowest_stage_is_the_period() -> None:
    assert lengths(pipeline().job())[Rung.NO_BUBBLE][0] == 50 + 5


def one_rank(kind: CollectiveKind | None) -> Job:
    drawn = Drawing()
    drawn.group("all", 0)
    rank = drawn.rank()
    main, stream = rank.thread(), rank.stream(1)
    main.work("python", 5)
    if kind is not None:
        main.collective(stream, "communication", 10, "all", kind)
    main.launch(stream, "k", 10)
    return drawn.job()


@pytest.mark.parametrize(
    ("kind", "rung", "words"),
    [
        (None, Rung.NO_COMMUNICATION_WAIT, "no communication was recorded"),
        (None, Rung.PERFECT_OVERLAP, "no communication was recorded"),
        (None, Rung.NO_BUBBLE, "no pipeline"),
        (CollectiveKind.ALL_REDUCE, Rung.NO_COMMUNICATION_WAIT, "one rank was traced"),
        (CollectiveKind.SEND_RECEIVE, Rung.NO_BUBBLE, "inside the recorded sends and receives"),
    ],
)
def test_a_limit_that_a_step_does_not_have_says_why(
    kind: CollectiveKind | None, rung: Rung, words: str
) -> None:
    ladder, found = rungs(one_rank(kind))
    assert found[rung].alone_ns is None
    assert words in found[rung].reason
    assert ladder.gain_pct(found[rung]) is None


def test_where_the_host_computes_it_is_no_overhead() -> None:
    drawn = Drawing()
    drawn.group("all", 0)
    rank = drawn.rank()
    main, queue = rank.thread(), rank.worker(1)
    main.work("aten::mm", 50)
    main.collective(queue, "gloo:all_reduce", 10, "all")
    _, found = rungs(drawn.job())
    assert "the host computes" in found[Rung.FAST_HOST].reason


def test_a_step_without_any_task_has_a_ladder_too() -> None:
    drawn = Drawing()
    drawn.rank().thread().gap(5)
    ladder, found = rungs(drawn.job())
    assert ladder.unchanged.length_ns == 0
    assert ladder.gain_pct(found[Rung.FAST_HOST]) in (None, 0.0)


@thorough
@given(jobs(most_ranks=3))
def test_no_bound_is_longer_than_the_step_where_the_order_is_fixed(job: Job) -> None:
    """Once: but for transfers, which overlapped with nothing can be longer than what was exposed."""
    ladder, found = rungs(job, Basis.ONCE)
    length = ladder.unchanged.length_ns
    for rung in (Rung.NO_COMMUNICATION_WAIT, Rung.NO_BUBBLE, Rung.FAST_HOST):
        assert (found[rung].alone_ns or 0) <= length
    for before, after in (
        (Rung.PERFECT_OVERLAP, Rung.NO_BUBBLE),
        (Rung.NO_STRAGGLER, Rung.FAST_HOST),
    ):
        assert found[after].together_ns <= found[before].together_ns


@thorough
@given(jobs(most_ranks=2, most_threads=3, calls=60), st.data())
def test_durations_of_the_step_are_those_of_its_copies_in_whatever_order(
    job: Job, data: st.DataObject
) -> None:
    for basis in Basis:
        base = baseline_of(job, basis)
        assert (base.durations_of(base.step) == base.graph.duration_ns).all()
        rows = base.step.programs[0].rows
        longer = rows.duration_ns + data.draw(st.integers(1, 9)) * (rows.kind == TaskKind.KERNEL)
        changed = with_durations(
            base.step, [longer, *(p.rows.duration_ns for p in base.step.programs[1:])]
        )
        kernels = base.job.programs[0].rows.kind == TaskKind.KERNEL
        difference = base.durations_of(changed) - base.graph.duration_ns
        assert (difference[: len(kernels)] > 0).tolist() == kernels.tolist()


@thorough
@given(jobs(most_ranks=2, most_threads=1))
def test_a_rung_that_does_not_apply_leaves_the_ladder_where_it_is(job: Job) -> None:
    ladder = bounds(baseline_of(job))
    before = ladder.unchanged.length_ns
    for one in ladder.bounds:
        if one.alone_ns is None:
            assert one.together_ns == before
        before = one.together_ns
