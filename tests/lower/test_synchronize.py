"""Synchronize: the host goes on when the device has done what the call waits for."""

from __future__ import annotations

from lumos.graph.execution import Rule
from lumos.graph.job import TaskKind
from tests.drawing import Drawing, Rank, Thread


def two_streams(**lags: int) -> tuple[Drawing, Rank, Thread, int, int]:
    drawn = Drawing(**lags)
    rank = drawn.rank()
    return drawn, rank, rank.thread(), rank.stream(1), rank.stream(2)


def test_a_stream_synchronize_waits_for_its_stream_alone() -> None:
    """Own time of the call: 2, behind the lag of 4.

    main | l1 | l2 | synchronize s1 ......|4|2| a |
    s1   |==== k1 100 ================|
    s2     |==== k2 1000 ===================================|
    """
    drawn, _, main, s1, s2 = two_streams(synchronize=4)
    main.launch(s1, "k1", 100)
    main.launch(s2, "k2", 1000)
    main.synchronize(s1, 2)
    main.work("a", 1)
    run = drawn.run()
    assert run["cudaStreamSynchronize"] == (2, 106)
    assert run.wait("cudaStreamSynchronize") == 102
    assert run["a"] == (106, 107)


def test_a_device_synchronize_waits_for_every_stream() -> None:
    """k1 ends at 100, k2 at 1001."""
    drawn, _, main, s1, s2 = two_streams()
    main.launch(s1, "k1", 100)
    main.launch(s2, "k2", 1000)
    main.synchronize(duration=2)
    assert drawn.run()["cudaStreamSynchronize"] == (2, 1003)


def test_an_event_synchronize_waits_for_what_the_record_captured() -> None:
    """k2 comes behind the record.

    main | l1 | record | l2 | synchronize e .|2|
    s1   |==== k1 100 ====|==== k2 1000 ====|
    """
    drawn, _, main, s1, _ = two_streams()
    main.launch(s1, "k1", 100)
    main.record(s1, "e")
    main.launch(s1, "k2", 1000)
    main.synchronize(event="e", duration=2)
    assert drawn.run()["cudaStreamSynchronize"] == (2, 102)


def test_a_synchronize_awaits_nothing_that_is_launched_later() -> None:
    """The stream is idle when the call is made."""
    drawn, _, main, s1, _ = two_streams(synchronize=4)
    main.synchronize(s1, 2)
    main.launch(s1, "k1", 100)
    assert drawn.run()["cudaStreamSynchronize"] == (0, 2)


def test_a_synchronize_that_finds_its_stream_done_costs_its_own_time() -> None:
    """k1 ended at 10, the call comes at 501."""
    drawn, _, main, s1, _ = two_streams(synchronize=4)
    main.launch(s1, "k1", 10)
    main.work("a", 500)
    main.synchronize(s1, 2)
    assert drawn.run()["cudaStreamSynchronize"] == (501, 503)


def test_a_synchronize_waits_through_a_stream_wait() -> None:
    """s2 runs nothing but waits for k1; synchronising s2 means waiting for k1."""
    drawn, _, main, s1, s2 = two_streams()
    main.launch(s1, "k1", 100)
    main.record(s1, "e")
    main.wait(s2, "e")
    main.synchronize(s2, 2)
    assert drawn.run()["cudaStreamSynchronize"][1] == 102


def test_a_blocking_copy_returns_when_the_copy_is_done() -> None:
    """The call launches, then waits for its own copy, which waits for k1.

    main | l1 | copy call .............|3| a |
    s1   |==== k1 100 ====|= copy 20 =|
    """
    drawn, _, main, s1, _ = two_streams()
    main.launch(s1, "k1", 100)
    main.launch(s1, "copy", 20, kind=TaskKind.COPY, by="cudaMemcpyAsync")
    main.synchronize(s1, 3, name="cudaMemcpyAsync return")
    main.work("a", 1)
    run = drawn.run()
    assert run["copy"] == (100, 120)
    assert run["a"] == (123, 124)


def test_another_thread_goes_on() -> None:
    """Only the thread that calls waits."""
    drawn, rank, main, s1, _ = two_streams()
    other = rank.thread("other")
    main.launch(s1, "k1", 100)
    main.synchronize(s1, 2)
    other.work("b", 5)
    assert drawn.run()["b"] == (0, 5)


def test_a_thread_waits_for_what_another_one_launched() -> None:
    """The stream's last task stands before the call in host order, whoever launched it."""
    drawn, rank, main, s1, _ = two_streams()
    other = rank.thread("other")
    other.launch(s1, "k1", 100)
    main.synchronize(s1, 2)
    assert drawn.run()["cudaStreamSynchronize"][1] == 102


def test_a_synchronize_waits_for_the_recorded_backlog() -> None:
    """The stream was busy until 50 when the step began; nothing new was given to it."""
    drawn, rank, main, s1, s2 = two_streams()
    main.synchronize(s1, 2)
    main.synchronize(s2, 2, name="other")
    rank.starts({s1: 50})
    run = drawn.run()
    assert run["cudaStreamSynchronize"][1] == 52
    assert run["other"] == (52, 54)


def test_a_faster_kernel_makes_the_waiting_host_faster() -> None:
    """Halving k1 moves what the host does behind the call by 50."""
    ends = []
    for length in (100, 50):
        drawn, _, main, s1, _ = two_streams(synchronize=4)
        main.launch(s1, "k1", length)
        main.synchronize(s1, 2)
        main.work("a", 1)
        ends.append(drawn.run()["a"][1])
    assert ends[0] - ends[1] == 50


def test_without_synchronize_the_host_runs_on() -> None:
    """--drop synchronize: the call costs its own time."""
    drawn, _, main, s1, _ = two_streams(synchronize=4)
    main.launch(s1, "k1", 100)
    main.synchronize(s1, 2)
    main.synchronize(duration=2, name="device")
    run = drawn.run([Rule.SYNCHRONIZE])
    assert run["cudaStreamSynchronize"] == (1, 3)
    assert run["device"] == (3, 5)
