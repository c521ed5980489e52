"""Back-pressure: a launch blocks while too many launches of its stream are outstanding."""

from __future__ import annotations

from lumos.graph.execution import Rule
from tests.drawing import Drawing


def five_launches(depth: int) -> Drawing:
    drawn = Drawing(depth=depth)
    rank = drawn.rank()
    main, stream = rank.thread(), rank.stream(1)
    for number in range(5):
        main.launch(stream, f"k{number}", 100)
    main.work("a", 1)
    return drawn


def test_a_launch_waits_for_the_start_of_the_one_depth_before() -> None:
    """Depth 2: l2 waits for the start of k0 (0), l3 for that of k1 (100), l4 for that of k2 (200).

    main | l0 | l1 | l2 | l3 .........| l4 .........| a |
    s1   |== k0 100 ==|== k1 100 ==|== k2 100 ==|== k3 ...
    """
    run = five_launches(2).run()
    assert [run.call(f"k{n}")[1] for n in range(5)] == [1, 2, 3, 101, 201]
    assert run["a"] == (201, 202)
    assert run["k4"] == (400, 500)


def test_without_a_depth_launches_never_block() -> None:
    """Depth 0: the host is through at 5."""
    assert five_launches(0).run()["a"] == (5, 6)


def test_fewer_launches_than_the_depth_never_block() -> None:
    """Five launches, depth 5."""
    assert five_launches(5).run()["a"] == (5, 6)


def test_each_stream_has_a_queue_of_its_own() -> None:
    """Depth 1, launches in turn on two streams: l2 waits for k0's start only."""
    drawn = Drawing(depth=1)
    rank = drawn.rank()
    main, s1, s2 = rank.thread(), rank.stream(1), rank.stream(2)
    main.launch(s1, "k0", 1000)
    main.launch(s2, "k1", 1000)
    main.launch(s1, "k2", 1000)
    main.launch(s2, "k3", 1000)
    main.work("a", 1)
    assert drawn.run()["a"] == (4, 5)


def test_a_graph_launch_counts_once() -> None:
    """Depth 2: two graphs of three kernels each and a launch; the launch waits for the first
    kernel of the first graph alone.

    main | graph | graph | l | a |
    s1   |n0|n1|n2|n3|n4|n5| k |
    """
    drawn = Drawing(depth=2)
    rank = drawn.rank()
    main, stream = rank.thread(), rank.stream(1)
    main.graph([(stream, f"n{n}", 100) for n in range(3)])
    main.graph([(stream, f"n{n}", 100) for n in range(3, 6)])
    main.launch(stream, "k", 100)
    main.work("a", 1)
    assert drawn.run()["a"] == (3, 4)


def test_a_launch_behind_a_full_queue_makes_the_thread_late() -> None:
    """Depth 1: each call returns when the kernel before has started; the last one runs at 300."""
    run = five_launches(1).run()
    assert run.call("k4") == (201, 301)
    assert run["a"][0] == 301


def test_without_back_pressure_launches_never_block() -> None:
    """--drop back_pressure."""
    assert five_launches(2).run([Rule.BACK_PRESSURE])["a"] == (5, 6)
