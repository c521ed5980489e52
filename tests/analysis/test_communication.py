"""Communication by kind and group, against drawn steps and a slow count of every collective."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import lumos
from lumos import predict
from lumos.analysis.communication import (
    GroupCommunication,
    bus_factor,
    communication,
    size_of,
    step_communication,
)
from lumos.graph.job import NONE, Collective, CollectiveKind, Job
from lumos.graph.timeline import Timeline
from lumos.settle import settle
from lumos.simulate import to_timeline
from tests.analysis.arrivals import Met, computing, met, moments
from tests.drawing import Drawing
from tests.simulate.jobs import TALKATIVE, jobs

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data" / "kineto"
steadily = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
needs_data = pytest.mark.skipif(not DATA.exists(), reason="the real traces are not here")
KIND = CollectiveKind


def run_of(job: Job) -> tuple[Job, Timeline]:
    settled = settle(job)
    return settled.job, to_timeline(settled.graph, settled.times)


def with_bytes(job: Job, in_bytes: int, gpu: str = "") -> Job:
    """Every collective of this size."""
    programs = tuple(
        replace(p, collectives=tuple(replace(c, in_bytes=in_bytes) for c in p.collectives))
        for p in job.programs
    )
    return replace(job, programs=programs, placement=replace(job.placement, gpu=gpu))


def meeting_of(*busy: int, kind: CollectiveKind = KIND.ALL_REDUCE) -> Job:
    """Ranks that are busy so long, then meet in a collective of 50 ns."""
    drawn = Drawing()
    group = drawn.group("all", *range(len(busy)))
    for time in busy:
        rank = drawn.rank()
        main, stream = rank.thread(), rank.stream(1)
        main.work("op", time)
        main.collective(stream, "nccl", 50, group, kind, call=0)
    return drawn.job()


def only(job: Job) -> GroupCommunication:
    (one,) = communication(*run_of(job))
    return one


def test_transfer_and_waiting_divide_the_time_and_the_last_is_named() -> None:
    """
    rank 0 |op|..... waits .....|= 50 =|
    rank 1 | op ......|. waits .|= 50 =|
    rank 2 | op ................|= 50 =|
    """
    one = only(meeting_of(10, 60, 100))
    assert one.group is not None
    assert (one.kind, one.group.name, one.count, one.tasks) == (KIND.ALL_REDUCE, "all", 1, 3)
    assert (one.transfer_ns, one.wait_ns, one.unmatched_ns) == (150, 90 + 40, 0)
    assert one.time_ns == 280
    assert one.skew is not None
    assert (one.skew.p50_ns, one.skew.max_ns) == (90, 90)
    (last,) = one.latecomers
    assert (last.rank, last.times, last.waited_ns, last.behind_ns) == (2, 1, 130, 40)


def test_bandwidth_is_over_the_transfer_alone() -> None:
    one = only(with_bytes(meeting_of(0, 100, 20, 30), 1000))
    assert one.bytes == 1000
    assert one.algorithm_bytes_per_s == pytest.approx(1000 / 50e-9)
    assert one.bus_bytes_per_s == pytest.approx(2 * 3 / 4 * 1000 / 50e-9)


def test_of_one_rank_alone_transfer_and_waiting_are_unknown() -> None:
    drawn = Drawing()
    group = drawn.group("all", 0, 1)
    rank = drawn.rank()
    rank.thread().collective(rank.stream(1), "nccl", 50, group)
    one = only(with_bytes(drawn.job(), 1000))
    assert (one.transfer_ns, one.wait_ns, one.unmatched_ns) == (None, None, 50)
    assert (one.skew, one.latecomers) == (None, ())
    assert one.algorithm_bytes_per_s == pytest.approx(1000 / 50e-9)  # at least


def test_a_group_that_the_trace_does_not_tell_has_no_bus_bandwidth() -> None:
    drawn = Drawing()
    group = drawn.group("all", 0)
    rank = drawn.rank()
    rank.thread().collective(rank.stream(1), "nccl", 50, group)
    job = with_bytes(drawn.job(), 1000)
    (program,) = job.programs
    untold = tuple(replace(one, group=NONE) for one in program.collectives)
    one = only(replace(job, programs=(replace(program, collectives=untold),)))
    assert one.group is None
    assert one.algorithm_bytes_per_s is not None
    assert one.bus_bytes_per_s is None


def test_a_receiver_waits_for_its_sender_and_a_buffered_send_for_nobody() -> None:
    drawn = Drawing()
    group = drawn.group("pair", 0, 1)
    sender, receiver = drawn.rank(), drawn.rank()
    main, stream = sender.thread(), sender.stream(1)
    main.work("op", 100)
    main.collective(stream, "send", 10, group, KIND.SEND, peer=1, call=0)
    main, stream = receiver.thread(), receiver.stream(1)
    main.collective(stream, "recv", 30, group, KIND.RECEIVE, peer=0, call=0)
    by_kind = {one.kind: one for one in communication(*run_of(with_bytes(drawn.job(), 60)))}
    receive, send = by_kind[KIND.RECEIVE], by_kind[KIND.SEND]
    assert (receive.transfer_ns, receive.wait_ns) == (30, 100)
    assert [(one.rank, one.times, one.waited_ns) for one in receive.latecomers] == [(0, 1, 100)]
    assert receive.bus_bytes_per_s == pytest.approx(60 / 30e-9)
    assert (send.transfer_ns, send.wait_ns, send.skew) == (10, 0, None)
    assert send.algorithm_bytes_per_s is None  # how long it lasts says nothing of the link


def test_overlap_is_the_share_in_which_the_same_rank_computes() -> None:
    drawn = Drawing()
    group = drawn.group("all", 0)
    rank = drawn.rank()
    main, stream, other = rank.thread(), rank.stream(1), rank.stream(2)
    main.launch(other, "k", 30, call=0)
    main.collective(stream, "nccl", 40, group, call=0)
    one = only(drawn.job())
    assert (one.time_ns, one.exposed_ns, one.overlapped_pct) == (40, 10, 75)


@pytest.mark.parametrize(
    ("kind", "factor"),
    [
        (KIND.ALL_REDUCE, 2 * 7 / 8),
        (KIND.ALL_GATHER, 7 / 8),
        (KIND.REDUCE_SCATTER, 7 / 8),
        (KIND.ALL_TO_ALL, 7 / 8),
        (KIND.BROADCAST, 1),
        (KIND.REDUCE, 1),
        (KIND.SEND, 1),
        (KIND.RECEIVE, 1),
        (KIND.BARRIER, None),
        (KIND.UNKNOWN, None),
    ],
)
def test_the_factors_of_bus_bandwidth_are_those_of_nccl_tests(
    kind: CollectiveKind, factor: float | None
) -> None:
    assert bus_factor(kind, 8) == factor
    assert bus_factor(kind, None) is None


@pytest.mark.parametrize(
    ("kind", "in_bytes", "out_bytes", "members", "size"),
    [
        (KIND.ALL_REDUCE, 80, 80, 8, 80),
        (KIND.ALL_GATHER, 10, 80, 8, 80),
        (KIND.ALL_GATHER, 10, None, 8, 80),
        (KIND.ALL_GATHER, 10, None, None, None),
        (KIND.REDUCE_SCATTER, 80, 10, 8, 80),
        (KIND.REDUCE_SCATTER, None, 10, 8, 80),
        (KIND.ALL_TO_ALL, 80, 40, 8, 80),
        (KIND.RECEIVE, None, 30, 2, 30),
        (KIND.SEND, 30, None, 2, 30),
        (KIND.BARRIER, 4, 4, 8, None),
        (KIND.ALL_REDUCE, None, None, 8, None),
    ],
)
def test_sizes_are_those_of_nccl_tests(
    kind: CollectiveKind, in_bytes: int | None, out_bytes: int | None, members: int | None,
    size: int | None,
) -> None:  # fmt: skip
    assert size_of(Collective(kind, 0, in_bytes, out_bytes), members) == size


def counted(job: Job, run: Timeline) -> dict[tuple[int, int], list[Met]]:
    """What met by kind and group; messages stand with their receives."""
    found = defaultdict(list)
    for one in met(job, run):
        place, row = one.rows[0]
        program = job.programs[job.placement.role[place]]
        first = program.collectives[program.rows.collective[row]]
        kind = KIND.RECEIVE if one.message else first.kind
        found[int(kind), first.group].append(one)
    return found


def waited(one: Met, job: Job, kind: CollectiveKind) -> int:
    """How long the members of this kind waited."""
    total = 0
    for (place, row), time in zip(one.rows, one.waited_ns, strict=True):
        program = job.programs[job.placement.role[place]]
        if program.collectives[program.rows.collective[row]].kind == kind:
            total += time
    return total


@given(jobs(most_ranks=3, kinds=TALKATIVE))
@steadily
def test_waiting_skew_and_latecomers_are_those_of_a_slow_count(job: Job) -> None:
    job, run = run_of(job)
    expected = counted(job, run)
    for one in communication(job, run):
        assert one.time_ns == (one.transfer_ns or 0) + (one.wait_ns or 0) + one.unmatched_ns
        assert one.group is not None
        group = job.placement.groups.index(one.group)
        of_kind = KIND.RECEIVE if one.kind == KIND.SEND else one.kind
        slow = expected[int(of_kind), group]
        assert (one.wait_ns or 0) == sum(waited(each, job, one.kind) for each in slow)
        if one.kind == KIND.SEND:
            assert (one.skew, one.latecomers) == (None, ())
            continue
        assert (one.wait_ns is None) == (not slow) == (one.skew is None)
        for rank in one.latecomers:
            place = job.placement.ranks.index(rank.rank)
            behind = [each for each in slow if arrived(each, place) == each.last_ns]
            assert 0 < rank.times <= len(behind)
            assert rank.waited_ns <= sum(sum(each.waited_ns) for each in behind)
            assert 0 <= rank.behind_ns <= rank.waited_ns
        assert sum(rank.times for rank in one.latecomers) == len(slow)
        assert sum(rank.waited_ns for rank in one.latecomers) == sum(
            sum(each.waited_ns) for each in slow
        )
        if one.skew is not None:
            apart = [each.last_ns - min(each.start_ns) for each in slow]
            assert one.skew.max_ns == max(apart)
            assert one.skew.p50_ns == np.median(apart)


def arrived(one: Met, place: int) -> int | None:
    """When a rank came to it."""
    return next(
        (start for (at, _), start in zip(one.rows, one.start_ns, strict=True) if at == place), None
    )


@given(jobs(most_ranks=3, kinds=TALKATIVE))
@steadily
def test_exposed_time_is_that_of_a_count_nanosecond_by_nanosecond(job: Job) -> None:
    job, run = run_of(job)
    expected: dict[tuple[int, int], int] = defaultdict(int)
    for place, role in enumerate(job.placement.role):
        program, ran = job.programs[role], run.ranks[place]
        rows: dict[tuple[int, int], list[int]] = defaultdict(list)
        for row, entry in enumerate(program.rows.collective.tolist()):
            if entry != NONE:
                one = program.collectives[entry]
                rows[int(one.kind), one.group].append(row)
        for key, own in rows.items():
            expected[key] += len(moments(ran, own) - computing(program, ran))
    for found in communication(job, run):
        assert found.group is not None
        group = job.placement.groups.index(found.group)
        assert found.exposed_ns == expected[int(found.kind), group]


@needs_data
def test_in_a_real_job_one_rank_keeps_the_others_waiting() -> None:
    recording = lumos.load(DATA / "dlrm-8xV100").recording
    (run,) = predict.replay_steps(recording, [recording.steps[0]])
    found = step_communication(run.step, run.job, run.measured, run.replayed)
    exchanged = found.measured[0]
    assert exchanged.kind == KIND.ALL_TO_ALL
    late = exchanged.latecomers[0]
    assert (late.rank, late.times) == (7, 4)
    assert late.waited_ns > 0.9 * (exchanged.wait_ns or 0)
    for measured in found.measured:
        assert measured.time_ns == (
            (measured.transfer_ns or 0) + (measured.wait_ns or 0) + measured.unmatched_ns
        )
        (replayed,) = [one for one in found.replayed if one.kind == measured.kind]
        assert replayed.wait_ns == pytest.approx(measured.wait_ns, rel=0.02)
        assert replayed.transfer_ns == measured.transfer_ns
        assert (found.link_pct(measured) or 0) < 100


@pytest.mark.parametrize(("name", "rank"), [("gpt-dp2-delayed", 1), ("gpt-pp2-delayed", 1)])
def test_a_rank_that_was_held_up_comes_last(name: str, rank: int) -> None:
    recording = lumos.load(ROOT / "recordings" / name).recording
    (run,) = predict.replay_steps(recording, [predict.median_step(recording)])
    found = step_communication(run.step, run.job, run.measured, run.replayed)
    for one in (*found.measured, *found.replayed):
        if one.kind != KIND.SEND:
            assert one.latecomers[0].rank == rank
            assert (one.wait_ns or 0) > 0.4 * one.time_ns
