"""Stream order: a stream runs what it is given in the order in which the host gave it."""

from __future__ import annotations

from lumos.graph.execution import Rule
from lumos.graph.job import TaskKind
from tests.drawing import Drawing


def test_a_stream_runs_in_launch_order() -> None:
    """k2 was launched while k1 runs: it follows after the stream's lag of 3.

    main   | l1 | l2 |
    stream |== k1 100 ==|3|= k2 10 =|
    """
    drawn = Drawing(stream_order=3)
    rank = drawn.rank()
    main, stream = rank.thread(), rank.stream(1)
    main.launch(stream, "k1", 100)
    main.launch(stream, "k2", 10)
    run = drawn.run()
    assert run["k1"] == (0, 100)
    assert run["k2"] == (103, 113)


def test_two_streams_run_side_by_side() -> None:
    """s1 |== k1 100 ==|, s2 |= k2 10 =|."""
    drawn = Drawing(stream_order=3)
    rank = drawn.rank()
    main = rank.thread()
    main.launch(rank.stream(1), "k1", 100)
    main.launch(rank.stream(2), "k2", 10)
    assert drawn.run()["k2"] == (1, 11)


def test_an_idle_stream_adds_no_lag() -> None:
    """k1 ended long ago: k2 starts with its launch."""
    drawn = Drawing(launch=2, stream_order=3)
    rank = drawn.rank()
    main, stream = rank.thread(), rank.stream(1)
    main.launch(stream, "k1", 10)
    main.work("a", 100)
    main.launch(stream, "k2", 10)
    assert drawn.run()["k2"] == (103, 113)


def test_the_lag_depends_on_the_kind_of_the_later_task() -> None:
    """|= k =|5|= copy =|1|= k2 =|."""
    drawn = Drawing(stream_order={"COPY": 5, "KERNEL": 1})
    rank = drawn.rank()
    main, stream = rank.thread(), rank.stream(1)
    main.launch(stream, "k", 10)
    main.launch(stream, "copy", 10, kind=TaskKind.COPY)
    main.launch(stream, "k2", 10)
    run = drawn.run()
    assert run["copy"] == (15, 25)
    assert run["k2"] == (26, 36)


def test_launches_of_two_threads_run_in_host_order() -> None:
    """Thread two's call stands between one's calls.

    one    | l1 |      | l3 |
    two         | l2 |
    stream |= k1 =|= k2 =|= k3 =|
    """
    drawn = Drawing()
    rank = drawn.rank()
    one, two, stream = rank.thread("one"), rank.thread("two"), rank.stream(1)
    one.launch(stream, "k1", 10)
    two.launch(stream, "k2", 20)
    one.launch(stream, "k3", 30)
    run = drawn.run()
    assert [run[k] for k in ("k1", "k2", "k3")] == [(0, 10), (10, 30), (30, 60)]


def test_a_stream_that_was_busy_starts_late() -> None:
    """The recorded start: the stream was busy until 40."""
    drawn = Drawing(launch=2, stream_order=3)
    rank = drawn.rank()
    main, stream = rank.thread(), rank.stream(1)
    main.launch(stream, "k1", 10)
    rank.starts({stream: 40})
    assert drawn.run()["k1"] == (40, 50)


def test_without_stream_order_kernels_start_with_their_launch() -> None:
    """--drop stream_order: k2 runs beside k1."""
    drawn = Drawing(launch=2, stream_order=3)
    rank = drawn.rank()
    main, stream = rank.thread(), rank.stream(1)
    main.launch(stream, "k1", 100)
    main.launch(stream, "k2", 10)
    assert drawn.run([Rule.STREAM_ORDER])["k2"] == (3, 13)
