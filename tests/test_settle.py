"""Streams fed by several threads run in the order in which the threads arrive."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings

from lumos.graph.execution import Rule
from lumos.graph.job import NONE, Job, TaskKind
from lumos.settle import Settled, settle
from lumos.simulate import to_timeline
from tests.drawing import Drawing
from tests.simulate.jobs import jobs


def times(settled: Settled, name: str) -> tuple[int, int]:
    """Start and end of the only row called `name` of the first rank."""
    program = settled.job.programs[0]
    (row,) = np.flatnonzero(program.rows.name == program.names.index(name))
    run = to_timeline(settled.graph, settled.times).ranks[0]
    return int(run.start_ns[row]), int(run.end_ns[row])


def two_threads() -> Drawing:
    """Recorded with k1 in front; thread one is slow now.

    one    | work 100 ......... | l1 |
    two    | l2 |
    stream |= k2 20 =|          |= k1 10 =|
    """
    drawn = Drawing()
    rank = drawn.rank()
    one, two, stream = rank.thread("one"), rank.thread("two"), rank.stream(1)
    one.work("slow", 100)
    one.launch(stream, "k1", 10)
    two.launch(stream, "k2", 20)
    return drawn


def test_the_thread_that_arrives_first_feeds_the_stream_first() -> None:
    settled = settle(two_threads().job())
    assert times(settled, "k2") == (0, 20)
    assert times(settled, "k1") == (100, 110)


def test_the_rows_of_the_drawn_order_alone_would_make_it_wait() -> None:
    assert two_threads().run()["k2"] == (110, 130)


def test_a_dropped_rule_leaves_the_order_as_it_was() -> None:
    settled = settle(two_threads().job(), [Rule.HAND_OFF])
    assert settled.order == (None,)
    assert times(settled, "k2") == (110, 130)


def test_a_synchronising_call_awaits_what_had_been_given_when_it_was_reached() -> None:
    """Drawn behind the launch, reached before it: it waits for nothing.

    one    | work 50 .... | launch |
    two    | a | sync |
    stream                |= k 100 =|
    """
    drawn = Drawing()
    rank = drawn.rank()
    one, two, stream = rank.thread("one"), rank.thread("two"), rank.stream(1)
    one.work("work", 50)
    one.launch(stream, "k", 100)
    two.work("a", 1)
    two.synchronize(stream, duration=1, name="sync")
    settled = settle(drawn.job())
    assert times(settled, "sync") == (1, 2)
    assert times(settled, "k") == (50, 150)


def test_a_run_of_the_old_rows_can_be_read_by_the_new_ones() -> None:
    drawn = two_threads()
    before = drawn.run()
    settled = settle(drawn.job())
    moved = settled.reorder(to_timeline(before.graph, settle(drawn.job(), [Rule.HAND_OFF]).times))
    program = settled.job.programs[0]
    (row,) = np.flatnonzero(program.rows.name == program.names.index("k2"))
    assert (int(moved.ranks[0].start_ns[row]), int(moved.ranks[0].end_ns[row])) == before["k2"]


def test_threads_that_keep_their_turns_change_nothing() -> None:
    drawn = Drawing()
    rank = drawn.rank()
    one, two, stream = rank.thread("one"), rank.thread("two"), rank.stream(1)
    one.launch(stream, "k1", 10)
    one.signal("turn")
    two.gap(0, awaits="turn")
    two.launch(stream, "k2", 20)
    job = drawn.job()
    settled = settle(job)
    assert settled.order == (None,)
    assert settled.job is job


@settings(max_examples=60, deadline=None, derandomize=True)
@given(jobs(most_ranks=2, most_threads=3))
def test_settling_keeps_every_row_its_thread_order_and_its_launches(job: Job) -> None:
    settled = settle(job)
    settled.job.self_check()
    settled.graph.self_check()
    for place, role in enumerate(job.placement.role):
        order = settled.order[place]
        old, new = job.programs[role].rows, settled.job.programs[role].rows
        order = np.arange(len(old)) if order is None else order
        assert sorted(order.tolist()) == list(range(len(old)))
        assert (new.kind == old.kind[order]).all()
        launched = np.flatnonzero(new.launch != NONE)
        assert (order[new.launch[launched]] == old.launch[order[launched]]).all()
        for processor in np.unique(old.processor):
            host = (old.processor == processor) & (old.launch == NONE)
            kept = order[(new.processor == processor) & (new.launch == NONE)]
            assert (kept == np.flatnonzero(host)).all(), "a thread keeps its program order"


@settings(max_examples=60, deadline=None, derandomize=True)
@given(jobs(most_threads=3, calls=15))
def test_a_settled_job_is_settled(job: Job) -> None:
    """Where settling came to rest, settling again changes nothing."""
    once = settle(job)
    twice = settle(once.job)
    if all(order is None for order in twice.order):
        calls = np.isin(once.job.programs[0].rows.kind, (TaskKind.LAUNCH, TaskKind.RECORD))
        run = to_timeline(once.graph, once.times).ranks[0]
        reached = (run.start_ns + run.wait_ns)[calls]
        blocks = once.job.programs[0].rows.block[calls]
        behind = (np.diff(reached) < 0) & (np.diff(blocks) == 0)
        kinds = once.job.programs[0].rows.kind[calls]
        assert not (behind & (kinds[1:] == TaskKind.LAUNCH) & (kinds[:-1] == TaskKind.LAUNCH)).any()
