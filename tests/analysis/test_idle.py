"""Why devices were idle: drawn steps, one cause at a time, and what holds for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lumos
from lumos import predict
from lumos.analysis.idle import Cause
from lumos.analysis.step_breakdown import RankBreakdown, breakdowns, step_breakdown
from lumos.graph.job import CollectiveKind, Job
from lumos.graph.timeline import RankTimeline, Timeline
from lumos.lower import lower
from lumos.settle import settle
from lumos.simulate import simulate, to_timeline
from tests.analysis.arrivals import computing, met, moments
from tests.drawing import Drawing
from tests.simulate.jobs import TALKATIVE, jobs

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data" / "kineto"
steadily = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
needs_data = pytest.mark.skipif(not DATA.exists(), reason="the real traces are not here")


def broken_down(job: Job, rank: int = 0) -> RankBreakdown:
    """One rank of a job's own run."""
    settled = settle(job)
    found = breakdowns(settled.job, settled.graph, to_timeline(settled.graph, settled.times))[rank]
    assert found is not None
    return found


def causes(one: RankBreakdown) -> Mapping[Cause, int]:
    """Causes that took any time."""
    assert sum(one.idle_ns.values()) == one.parts.other_ns
    return {cause: time for cause, time in one.idle_ns.items() if time}


def test_a_host_that_works_longer_than_the_device_is_host_bound() -> None:
    """
    main   | l |  op ....... | l |
    stream   |= k1 =|          |= k2 =|      from k1's end to k2's begin: 1 + 50 + 1 + 5 - 1 - 5 - 20
    """
    drawn = Drawing(launch=5)
    rank = drawn.rank()
    main, stream = rank.thread(), rank.stream(1)
    main.launch(stream, "k1", 20)
    main.work("op", 50)
    main.launch(stream, "k2", 20)
    one = broken_down(drawn.job())
    assert one.parts.other_ns == 5 + (51 - 20)
    assert causes(one) == {Cause.HOST_BOUND: 31, Cause.LAUNCH_QUEUE: 5}  # the first launch's way


def test_between_tasks_launched_long_before_it_is_the_queue() -> None:
    """
    main   | l | l |
    stream     |= k1 =|..|= k2 =|
    """
    drawn = Drawing(stream_order=3)
    rank = drawn.rank()
    main, stream = rank.thread(), rank.stream(1)
    main.launch(stream, "k1", 20)
    main.launch(stream, "k2", 20)
    assert causes(broken_down(drawn.job())) == {Cause.LAUNCH_QUEUE: 3}


def test_behind_a_call_that_waited_it_is_the_call_until_it_returns_and_then_the_host() -> None:
    """
    main   | l | synchronize ....|x| op | l |
    stream   |= k1 ============|            |= k2 =|
    """
    drawn = Drawing(synchronize=4)
    rank = drawn.rank()
    main, stream = rank.thread(), rank.stream(1)
    main.launch(stream, "k1", 30)
    main.synchronize(stream, duration=2)
    main.work("op", 10)
    main.launch(stream, "k2", 20)
    assert causes(broken_down(drawn.job())) == {Cause.SYNCHRONIZING_CALL: 6, Cause.HOST_BOUND: 10}


def test_the_way_of_a_launch_behind_a_waiting_call_is_the_calls() -> None:
    """Had the host not waited, k2 would have been launched early enough.

    main   | l | synchronize ....| l |
    stream   |= k1 ============|    ......|= k2 =|
    """
    drawn = Drawing(launch=7)
    rank = drawn.rank()
    main, stream = rank.thread(), rank.stream(1)
    main.launch(stream, "k1", 30)
    main.synchronize(stream, duration=0)
    main.launch(stream, "k2", 20)
    found = causes(broken_down(drawn.job()))
    assert found == {Cause.LAUNCH_QUEUE: 7, Cause.SYNCHRONIZING_CALL: 7}


def test_the_data_loader_is_told_apart_from_other_host_time() -> None:
    drawn = Drawing()
    rank = drawn.rank()
    main, stream = rank.thread(), rank.stream(1)
    main.launch(stream, "k1", 5)
    main.work("enumerate(DataLoader)#__next__", 40)
    main.gap(10)
    main.launch(stream, "k2", 5)
    assert causes(broken_down(drawn.job())) == {
        Cause.DATA_LOADING: 1 + 40 - 5,
        Cause.HOST_BOUND: 10,
    }


def test_a_thread_that_waits_for_another_hands_its_idle_time_on() -> None:
    """
    main      | l |                  | l |
    autograd      | DataLoader ......|
    stream      |= k1 =|               |= k2 =|
    """
    drawn = Drawing()
    rank = drawn.rank()
    main, other, stream = rank.thread(), rank.thread("autograd"), rank.stream(1)
    main.launch(stream, "k1", 5)
    other.work("DataLoader", 60)
    other.signal("done")
    main.gap(0, awaits="done")
    main.launch(stream, "k2", 5)
    assert causes(broken_down(drawn.job())) == {Cause.DATA_LOADING: 60 - 5}


def test_what_the_device_did_for_earlier_steps_is_theirs() -> None:
    drawn = Drawing()
    rank = drawn.rank()
    main, stream = rank.thread(), rank.stream(1)
    main.launch(stream, "k1", 5)
    rank.starts(free={1: 100})
    assert causes(broken_down(drawn.job())) == {Cause.EARLIER_STEP: 100}


def test_behind_the_last_task_it_is_the_host_that_goes_on() -> None:
    drawn = Drawing()
    rank = drawn.rank()
    main, stream = rank.thread(), rank.stream(1)
    main.launch(stream, "k1", 5)
    main.work("op", 50)
    assert causes(broken_down(drawn.job())) == {Cause.HOST_BOUND: 51 - 5}


def test_a_task_that_came_later_than_all_allowed_is_unexplained() -> None:
    drawn = Drawing()
    rank = drawn.rank()
    main, stream = rank.thread(), rank.stream(1)
    main.launch(stream, "k1", 5)
    main.launch(stream, "k2", 5)
    assert measured_causes(drawn, [0, 0, 0, 60_000]) == {Cause.UNEXPLAINED: 60_000}


def measured_causes(drawn: Drawing, late: list[int]) -> Mapping[Cause, int]:
    """Of a run in which each row begins and ends later than the rules say."""
    job = drawn.job()
    settled = settle(job)
    ran = to_timeline(settled.graph, settled.times).ranks[0]
    by = np.array(late)
    measured = Timeline((RankTimeline(ran.start_ns + by, ran.end_ns + by, ran.wait_ns),))
    (one,) = breakdowns(job, settled.graph, measured)
    assert one is not None
    return causes(one)


def test_a_launching_call_that_takes_long_is_the_hosts() -> None:
    """
    main   | l |  launch ...................... |
    stream     |= k1 =|                         |= k2 =|
    """
    drawn = Drawing(launch=5)
    rank = drawn.rank()
    main, stream = rank.thread(), rank.stream(1)
    main.launch(stream, "k1", 5, call=10)
    main.launch(stream, "k2", 5, call=50_000)
    found = measured_causes(drawn, [0, 0, 0, 50_000])
    assert found == {Cause.LAUNCH_QUEUE: 5, Cause.HOST_BOUND: 50_015 - 10}


def test_what_a_task_is_late_behind_a_long_call_is_unexplained() -> None:
    drawn = Drawing(launch=5)
    rank = drawn.rank()
    main, stream = rank.thread(), rank.stream(1)
    main.launch(stream, "k1", 5, call=10)
    main.launch(stream, "k2", 5, call=50_000)
    assert measured_causes(drawn, [0, 0, 0, 80_000]) == {
        Cause.LAUNCH_QUEUE: 5,
        Cause.HOST_BOUND: 50_010 - 15 + 5,
        Cause.UNEXPLAINED: 80_015 - 50_010,
    }


def test_whether_a_task_is_late_does_not_depend_on_how_long_its_device_was_idle() -> None:
    """
    main     | l | l | l |
    stream 1    |====== k1 ======|
    stream 2    |= k2 =|            |= k3 =|      60 us late, but idle for 8 us only
    """
    drawn = Drawing()
    rank = drawn.rank()
    main, first, second = rank.thread(), rank.stream(1), rank.stream(2)
    main.launch(first, "k1", 52_000)
    main.launch(second, "k2", 5)
    main.launch(second, "k3", 5)
    found = measured_causes(drawn, [0, 0, 0, 0, 0, 60_000])
    assert found == {Cause.UNEXPLAINED: 6 + 60_000 - 52_000}


def test_time_between_the_rows_of_a_thread_is_the_hosts() -> None:
    """
    main   | l | op |   no trace   | op | l |
    stream     |= k1 =|                     |= k2 =|
    """
    drawn = Drawing()
    rank = drawn.rank()
    main, stream = rank.thread(), rank.stream(1)
    main.launch(stream, "k1", 5)
    main.work("op", 10)
    main.work("op", 10)
    main.launch(stream, "k2", 5)
    late = [0, 0, 0, 90_000, 90_000, 90_000]
    assert measured_causes(drawn, late) == {Cause.HOST_BOUND: 90_000 + 21 - 5}


def test_a_gpu_that_does_nothing_in_a_step_is_idle_whatever_its_host_does() -> None:
    drawn = Drawing()
    drawn.group("all", 0, 1)
    for _ in range(2):
        rank = drawn.rank()
        main, stream = rank.thread(), rank.stream(1)
        main.work("op", 50)
        main.collective(stream, "all_reduce", 30, "all", call=10)
    quiet = drawn.rank()
    quiet.stream(1)
    quiet.thread().work("op", 50)
    job = drawn.job()
    one, without = broken_down(job), broken_down(job, 2)
    assert (one.parts.exposed_compute_ns, one.parts.exposed_communication_ns) == (0, 30)
    assert causes(one) == {Cause.HOST_BOUND: 50}
    assert (without.parts.exposed_compute_ns, without.utilization.tolist()) == (0, [0])
    assert causes(without) == {Cause.HOST_BOUND: 50}


def test_where_there_is_no_gpu_the_operators_are_the_compute() -> None:
    drawn = Drawing()
    drawn.group("all", 0)
    rank = drawn.rank()
    main, worker = rank.thread(), rank.worker(1)
    main.work("op", 50)
    main.collective(worker, "gloo:all_reduce", 30, "all", call=10)
    one = broken_down(drawn.job())
    assert (one.parts.exposed_compute_ns, one.parts.exposed_communication_ns) == (50, 30)


def test_waiting_for_peers_is_in_the_exposed_communication() -> None:
    """
    rank 0 | l |........ all-reduce waits ........|= transfer =|
    rank 1 | op ...............................| l |= transfer =|
    """
    drawn = Drawing()
    group = drawn.group("all", 0, 1)
    first, second = drawn.rank(), drawn.rank()
    for rank, busy in ((first, 10), (second, 100)):
        main, stream = rank.thread(), rank.stream(1)
        main.work("op", busy)
        main.collective(stream, "all_reduce", 30, group)
    waits = broken_down(drawn.job())
    assert waits.parts.exposed_communication_ns == 90 + 30
    assert (waits.waiting_for_peers_ns, waits.bubble_ns) == (90, 0)
    last = broken_down(drawn.job(), 1)
    assert (last.waiting_for_peers_ns, last.bubble_ns) == (0, 0)


def test_waiting_beside_compute_is_no_exposed_waiting() -> None:
    drawn = Drawing()
    group = drawn.group("all", 0, 1)
    for busy in (0, 100):
        rank = drawn.rank()
        main, stream, other = rank.thread(), rank.stream(1), rank.stream(2)
        main.launch(other, "k", 60, call=0)
        main.work("op", busy)
        main.collective(stream, "all_reduce", 30, group, call=0)
    assert broken_down(drawn.job()).waiting_for_peers_ns == 40


def test_waiting_for_a_message_is_the_bubble_of_the_pipeline() -> None:
    drawn = Drawing()
    group = drawn.group("all", 0, 1)
    sender, receiver = drawn.rank(), drawn.rank()
    main, stream = sender.thread(), sender.stream(1)
    main.work("op", 100)
    main.collective(stream, "send", 10, group, CollectiveKind.SEND, peer=1)
    main, stream = receiver.thread(), receiver.stream(1)
    main.collective(stream, "recv", 10, group, CollectiveKind.RECEIVE, peer=0)
    waits = broken_down(drawn.job(), 1)
    assert (waits.waiting_for_peers_ns, waits.bubble_ns) == (0, 100)


def test_of_one_rank_alone_waiting_is_unknown() -> None:
    drawn = Drawing()
    group = drawn.group("all", 0, 1)
    rank = drawn.rank()
    rank.thread().collective(rank.stream(1), "all_reduce", 30, group)
    one = broken_down(drawn.job())
    assert one.waiting_for_peers_ns is None
    assert one.bubble_ns is None


@given(jobs(most_ranks=3))
@steadily
def test_the_causes_sum_to_the_idle_time_and_the_parts_to_the_span(job: Job) -> None:
    settled = settle(job)
    run = to_timeline(settled.graph, settled.times)
    for one in breakdowns(settled.job, settled.graph, run):
        if one is None:
            continue
        parts = one.parts
        assert sum(one.idle_ns.values()) == parts.other_ns
        assert min(one.idle_ns.values()) >= 0
        assert one.span_ns == (
            parts.exposed_compute_ns + parts.overlapped_ns + parts.exposed_communication_ns + parts.other_ns
        )  # fmt: skip
        waits = (one.waiting_for_peers_ns or 0), (one.bubble_ns or 0)
        assert min(waits) >= 0
        assert sum(waits) <= parts.exposed_communication_ns


@given(jobs(most_ranks=3, kinds=TALKATIVE))
@steadily
def test_exposed_waiting_is_that_of_a_count_nanosecond_by_nanosecond(job: Job) -> None:
    settled = settle(job)
    job, run = settled.job, to_timeline(settled.graph, settled.times)
    found = breakdowns(job, settled.graph, run)
    for place, role in enumerate(job.placement.role):
        one, program, ran = found[place], job.programs[role], run.ranks[place]
        if one is None:
            continue
        compute = computing(program, ran)
        waits: dict[bool, set[int]] = {True: set(), False: set()}  # for a message or a collective
        arrived = [
            (row, each.message, range(start, start + wait))
            for each in met(job, run)
            for (at, row), start, wait in zip(each.rows, each.start_ns, each.waited_ns, strict=True)
            if at == place
        ]
        alone = set(np.flatnonzero(program.rows.collective >= 0).tolist())
        moving = moments(ran, alone.difference(row for row, _, _ in arrived))
        for row, message, waiting in arrived:
            waits[message] |= set(waiting)
            moving |= set(range(waiting.stop, int(ran.end_ns[row])))
        peers = waits[False] - moving - compute
        bubble = waits[True] - moving - compute - peers
        if one.waiting_for_peers_ns is not None:
            assert (one.waiting_for_peers_ns, one.bubble_ns) == (len(peers), len(bubble))
        else:
            assert not peers | bubble


@given(jobs(most_ranks=3, calls=15), st.integers(0, 2**32 - 1))
@steadily
def test_of_a_run_with_delays_the_causes_sum_to_the_idle_time_too(job: Job, seed: int) -> None:
    draw = np.random.default_rng(seed)
    programs = []
    for program in settle(job).job.programs:
        late = np.where(draw.random(len(program.rows)) < 0.2, draw.integers(0, 10**6), 0)
        programs.append(replace(program, rows=program.rows.with_columns(delay_ns=late)))
    delayed = replace(job, programs=tuple(programs))
    graph = lower(delayed)
    run = simulate(graph, delays=True)
    total = sum(int(program.rows.delay_ns.sum()) for program in programs)
    for one in breakdowns(delayed, graph, run):
        if one is not None:
            assert sum(one.idle_ns.values()) == one.parts.other_ns
            assert min(one.idle_ns.values()) >= 0
            assert one.idle_ns[Cause.UNEXPLAINED] <= total


@given(jobs(most_ranks=3))
@steadily
def test_a_run_by_rules_leaves_nothing_unexplained(job: Job) -> None:
    settled = settle(job)
    for one in breakdowns(settled.job, settled.graph, to_timeline(settled.graph, settled.times)):
        assert one is None or not one.idle_ns[Cause.UNEXPLAINED]


REAL = ("dlrm-8xV100", "recsys-8xA100", "recsys-2xV100", "resnet-ddp-2xA100", "resnet50-V100",
        "vgg13-H100", "amd/resnet18-ddp-MI300X.json.gz")  # fmt: skip


@needs_data
@pytest.mark.parametrize("name", REAL)
def test_real_steps_are_idle_for_a_reason(name: str) -> None:
    recording = lumos.load(DATA / name).recording
    (run,) = predict.replay_steps(recording, [predict.median_step(recording)])
    found = step_breakdown(run.step, run.job, run.graph, run.measured, run.replayed)
    for rank in found.ranks:
        for one in (rank.measured, rank.replayed):
            parts = one.parts
            assert sum(one.idle_ns.values()) == parts.other_ns
            assert one.span_ns == (
                parts.exposed_compute_ns + parts.overlapped_ns + parts.exposed_communication_ns
                + parts.other_ns
            )  # fmt: skip
            assert 0 <= one.transfer_ns <= parts.exposed_communication_ns
        # 8.6 ms of recsys-2xV100 follow from nothing recorded
        share = rank.measured.idle_ns[Cause.UNEXPLAINED] / rank.measured.span_ns
        assert share < (0.07 if name == "recsys-2xV100" else 0.005)
        assert rank.replayed.idle_ns[Cause.UNEXPLAINED] == 0


@needs_data
def test_a_real_step_that_waits_for_its_data_says_so() -> None:
    recording = lumos.load(DATA / "resnet50-V100").recording
    (run,) = predict.replay_steps(recording, [predict.median_step(recording)])
    (rank,) = step_breakdown(run.step, run.job, run.graph, run.measured, run.replayed).ranks
    loading = rank.measured.idle_ns[Cause.DATA_LOADING]
    assert loading > 0.75 * rank.measured.parts.other_ns
    assert loading == pytest.approx(rank.replayed.idle_ns[Cause.DATA_LOADING], rel=0.01)
