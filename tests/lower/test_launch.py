"""Launch: a device task starts some time after the call that launches it has begun."""

from __future__ import annotations

from lumos.graph.execution import Rule
from lumos.graph.job import TaskKind
from tests.drawing import Drawing


def test_a_kernel_starts_one_lag_after_its_call_has_begun() -> None:
    """The call begins at 10 and takes 6; the kernel starts at 10 + 4, before the call ends.

    main   | a 10 | launch 6 |
    stream           |= k 100 =|
    """
    drawn = Drawing(launch=4)
    rank = drawn.rank()
    main, stream = rank.thread(), rank.stream(1)
    main.work("a", 10)
    main.launch(stream, "k", 100, call=6)
    run = drawn.run()
    assert run.call("k") == (10, 16)
    assert run["k"] == (14, 114)


def test_the_host_does_not_wait_for_what_it_launched() -> None:
    """main | launch 5 | b | while k runs."""
    drawn = Drawing()
    rank = drawn.rank()
    main, stream = rank.thread(), rank.stream(1)
    main.launch(stream, "k", 100, call=5)
    main.work("b", 1)
    assert drawn.run()["b"] == (5, 6)


def test_the_lag_is_one_value_for_each_call_and_kind() -> None:
    """Two calls, two kinds of task, four lags."""
    drawn = Drawing(launch={"cudaLaunchKernel|KERNEL": 4, "cudaMemcpyAsync|COPY": 9})
    rank = drawn.rank()
    main = rank.thread()
    main.launch(rank.stream(1), "k", 1, call=10)
    main.launch(rank.stream(2), "c", 1, call=10, kind=TaskKind.COPY, by="cudaMemcpyAsync")
    run = drawn.run()
    assert run["k"][0] == 4
    assert run["c"][0] == 10 + 9


def test_a_class_that_was_never_measured_gets_the_median_lag() -> None:
    """Lags of 4, 9 and 100 are known; a memset's is not."""
    drawn = Drawing(launch={"a|KERNEL": 4, "b|KERNEL": 9, "c|KERNEL": 100})
    rank = drawn.rank()
    rank.thread().launch(rank.stream(1), "set", 1, kind=TaskKind.SET, by="cudaMemsetAsync")
    assert drawn.run()["set"][0] == 9


def test_one_graph_launch_starts_all_its_kernels() -> None:
    """One call, three nodes on two streams.

    main | graph |
    s1   |= n1 10 =|= n2 5 =|
    s2   |= n3 20 ====|
    """
    drawn = Drawing(launch=2)
    rank = drawn.rank()
    main, s1, s2 = rank.thread(), rank.stream(1), rank.stream(2)
    main.graph([(s1, "n1", 10), (s1, "n2", 5), (s2, "n3", 20)])
    run = drawn.run()
    assert run["n1"] == (2, 12)
    assert run["n2"] == (12, 17)
    assert run["n3"] == (2, 22)


def test_a_late_call_makes_its_kernel_late_not_the_ones_before() -> None:
    """k2's call comes 50 later: k1 stays."""
    starts = []
    for pause in (0, 50):
        drawn = Drawing(launch=2)
        rank = drawn.rank()
        main, stream = rank.thread(), rank.stream(1)
        main.launch(stream, "k1", 10)
        main.gap(pause)
        main.launch(stream, "k2", 10)
        run = drawn.run()
        starts.append((run["k1"][0], run["k2"][0]))
    assert starts == [(2, 12), (2, 1 + 50 + 2)]


def test_without_launch_kernels_start_as_their_stream_allows() -> None:
    """--drop launch: k starts at 0, long before its call."""
    drawn = Drawing(launch=4)
    rank = drawn.rank()
    main, stream = rank.thread(), rank.stream(1)
    main.work("a", 1000)
    main.launch(stream, "k1", 100)
    main.launch(stream, "k2", 100)
    run = drawn.run([Rule.LAUNCH])
    assert run["k1"] == (0, 100)
    assert run["k2"] == (100, 200)
