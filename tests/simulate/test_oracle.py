"""Lowering and simulation against the slow oracle, and the compiled kernels against plain Python."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lumos.errors import UnfinishableScheduleError
from lumos.graph.execution import SATURATING_WAVES, ExecutionGraph, Rule
from lumos.graph.job import Job
from lumos.lower import lower
from lumos.simulate import plain, run, simulate
from lumos.simulate.contention import run_with_contention
from lumos.simulate.sweep import run_in_order
from tests.drawing import Drawing
from tests.oracle import NeverFinishes, oracle_times
from tests.simulate.jobs import jobs

thorough = settings(
    deadline=None, max_examples=250, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


def assert_equal_to_oracle(job: Job, *, contention: bool) -> None:
    """Every row of every rank begins, ends and waits as in the oracle, to the nanosecond."""
    timeline = simulate(lower(job, () if contention else (Rule.CONTENTION,)))
    for place, expected in enumerate(oracle_times(job, contention=contention)):
        ran = timeline.ranks[place]
        got = list(
            zip(ran.start_ns.tolist(), ran.end_ns.tolist(), ran.wait_ns.tolist(), strict=True)
        )
        names = job.programs[job.placement.role[place]].names
        rows = job.programs[job.placement.role[place]].rows
        for row, (mine, theirs) in enumerate(zip(got, expected, strict=True)):
            assert mine == theirs, f"rank {place}, row {row} ({names[rows.name[row]]})"


@thorough
@given(jobs())
def test_a_job_of_one_rank_runs_as_in_the_oracle(job: Job) -> None:
    assert_equal_to_oracle(job, contention=False)


@thorough
@given(jobs(most_ranks=3))
def test_a_job_of_several_ranks_runs_as_in_the_oracle(job: Job) -> None:
    assert_equal_to_oracle(job, contention=False)


@thorough
@given(jobs(most_ranks=2, waves=True))
def test_kernels_that_fill_their_gpu_run_as_in_the_oracle(job: Job) -> None:
    assert_equal_to_oracle(job, contention=True)


def test_ranks_of_one_role_each_run_its_program() -> None:
    """Two ranks, one program.

    rank 0, 1 | launch |        |== all-reduce ==|
    """
    drawn = Drawing(launch=3)
    drawn.group("all", 0, 1)
    for _ in range(2):
        rank = drawn.rank()
        main, stream = rank.thread(), rank.stream(1)
        main.collective(stream, "all-reduce", 50, "all")
    job = drawn.job()
    shared = Job(
        job.programs[:1], job.placement.__class__((0, 1), (0, 0), 2, job.placement.groups), job.lags
    )
    assert_equal_to_oracle(shared, contention=True)
    assert simulate(lower(shared)).end_ns == simulate(lower(job)).end_ns == 53


# --- the compiled kernels and their plain twins


def arguments(graph: ExecutionGraph, *, delays: bool = False) -> tuple[object, ...]:
    delay = graph.delay_ns if delays else np.zeros(len(graph), np.int64)
    return (
        graph.order, graph.first, graph.before, graph.lag_ns, graph.from_start, graph.release_ns,
        graph.duration_ns, delay,
    )  # fmt: skip


@thorough
@given(jobs(most_ranks=2), st.data())
def test_the_sweep_equals_its_plain_twin(job: Job, data: st.DataObject) -> None:
    graph = lower(job, data.draw(st.lists(st.sampled_from(list(Rule)), unique=True)))
    for fast, slow in zip(
        run_in_order(*arguments(graph)), plain.run_in_order(*arguments(graph)), strict=True
    ):
        assert (fast == slow).all()


@thorough
@given(jobs(most_ranks=2, waves=True))
def test_the_simulator_in_order_of_time_equals_its_plain_twin(job: Job) -> None:
    graph = lower(job)
    more = (*arguments(graph), graph.processor, graph.device, graph.waves, SATURATING_WAVES)
    for fast, slow in zip(
        run_with_contention(*more), plain.run_with_contention(*more), strict=True
    ):
        assert (fast == slow).all()


@thorough
@given(jobs(most_ranks=3))
def test_both_simulators_agree_where_nothing_contends(job: Job) -> None:
    graph = lower(job)
    device = np.full(len(graph), -1, np.int32)
    start, end = run_in_order(*arguments(graph))
    other_start, other_end, held = run_with_contention(
        *arguments(graph), graph.processor, device, graph.waves, SATURATING_WAVES
    )
    assert (start == other_start).all()
    assert (end == other_end).all()
    assert (held == -1).all()


# --- what holds for every run


@thorough
@given(jobs(most_ranks=2, waves=True))
def test_no_task_starts_before_what_it_awaits(job: Job) -> None:
    graph = lower(job)
    graph.self_check()
    times = run(graph)
    for task in range(len(graph)):
        for edge in range(graph.first[task], graph.first[task + 1]):
            before = graph.before[edge]
            point = times.start_ns[before] if graph.from_start[edge] else times.end_ns[before]
            assert times.start_ns[task] >= point + graph.lag_ns[edge]
    assert (times.start_ns >= graph.release_ns).all()
    assert (times.end_ns - times.start_ns == graph.duration_ns).all()


@thorough
@given(jobs(most_ranks=2), st.data())
def test_a_longer_task_makes_nothing_end_earlier(job: Job, data: st.DataObject) -> None:
    graph = lower(job)
    longer = graph.duration_ns.copy()
    longer[data.draw(st.integers(0, graph.rows - 1))] += data.draw(st.integers(1, 100))
    assert (run(graph, longer).end_ns >= run(graph).end_ns).all()


@thorough
@given(jobs(most_ranks=2, waves=True))
def test_a_dropped_rule_makes_nothing_later_where_nothing_contends(job: Job) -> None:
    whole = run(lower(job, [Rule.CONTENTION]))
    for rule in Rule:
        graph = lower(job, [Rule.CONTENTION, rule])
        rows = graph.rows
        assert (run(graph).end_ns[:rows] <= whole.end_ns[:rows]).all(), rule
        assert not (graph.rule == rule).any()


@thorough
@given(jobs(most_ranks=3, waves=True))
def test_the_same_job_gives_the_same_graph_and_run(job: Job) -> None:
    first, second = lower(job), lower(pickle.loads(pickle.dumps(job)))
    for name in ExecutionGraph.__dataclass_fields__:
        assert np.array_equal(getattr(first, name), getattr(second, name)), name
    assert (run(first).end_ns == run(second).end_ns).all()


# --- schedules that never finish


def two_orders() -> Job:
    """Two collectives on one stream, the other way round on the other rank.

    rank 0 |== sum ==||== gather ==|
    rank 1 |== gather ==||== sum ==|
    """
    drawn = Drawing()
    drawn.group("data", 0, 1)
    drawn.group("model", 0, 1)
    for order in (("data", "model"), ("model", "data")):
        rank = drawn.rank()
        main, stream = rank.thread(), rank.stream(1)
        for group in order:
            main.collective(stream, f"all-reduce of {group}", 10, group)
    return drawn.job()


def test_collectives_in_different_orders_can_never_finish() -> None:
    job = two_orders()
    with pytest.raises(NeverFinishes):
        oracle_times(job)
    with pytest.raises(UnfinishableScheduleError) as error:
        lower(job)
    message = str(error.value)
    for part in ("rank 0", "rank 1", "all-reduce of data", "all-reduce of model"):
        assert part in message, message


def test_the_same_two_collectives_on_streams_of_their_own_finish() -> None:
    """rank 0 s1 |== sum ==|   s2 |== gather ==|   and rank 1 issues them the other way round."""
    drawn = Drawing()
    drawn.group("data", 0, 1)
    drawn.group("model", 0, 1)
    for order in (("data", "model"), ("model", "data")):
        rank = drawn.rank()
        main = rank.thread()
        streams = {"data": rank.stream(1), "model": rank.stream(2)}
        for group in order:
            main.collective(streams[group], f"all-reduce of {group}", 10, group)
    assert_equal_to_oracle(drawn.job(), contention=True)


def test_a_host_that_waits_for_what_it_has_yet_to_signal_can_never_finish() -> None:
    """main | gap awaits x |, then | signal x |."""
    drawn = Drawing()
    main = drawn.rank().thread()
    main.gap(5, awaits="x", name="pause")
    main.signal("x")
    with pytest.raises(UnfinishableScheduleError, match="rank 0: pause"):
        lower(drawn.job())
    with pytest.raises(NeverFinishes):
        oracle_times(drawn.job())


def test_a_record_on_a_stream_given_nothing_yet_captures_its_backlog() -> None:
    """The stream was busy when the step began.

    main     | record | wait |
    stream 1 |== from before ==|
    stream 2                   |= k =|
    """
    drawn = Drawing()
    rank = drawn.rank()
    main, s1, s2 = rank.thread(), rank.stream(1), rank.stream(2)
    main.record(s1, "e", 1)
    main.wait(s2, "e")
    main.launch(s2, "k", 10)
    main.synchronize(event="e", duration=2)
    rank.starts({s1: 100})
    assert drawn.run()["k"] == (100, 110)
    assert drawn.run()["cudaStreamSynchronize"][1] == 102
    assert_equal_to_oracle(drawn.job(), contention=True)


def test_a_step_that_gives_the_device_nothing_can_still_synchronize() -> None:
    """main | a | synchronize |, nothing on any stream."""
    drawn = Drawing()
    rank = drawn.rank()
    main = rank.thread()
    stream = rank.stream(1)
    main.work("a", 5)
    main.synchronize(stream, 3)
    main.synchronize(duration=4, name="cudaDeviceSynchronize")
    assert drawn.run()["cudaDeviceSynchronize"] == (8, 12)
    assert_equal_to_oracle(drawn.job(), contention=True)
