"""Event wait: a stream goes on when what another stream had been given at the record is done."""

from __future__ import annotations

import pytest

from lumos.errors import UnusableInputError
from lumos.graph.blocks import repeat
from lumos.graph.execution import Rule
from tests.drawing import Drawing, Rank, Thread, job_of, run


def two_streams(**lags: int) -> tuple[Drawing, Rank, Thread, int, int]:
    drawn = Drawing(**lags)
    rank = drawn.rank()
    return drawn, rank, rank.thread(), rank.stream(1), rank.stream(2)


def test_a_stream_waits_for_what_the_record_captured() -> None:
    """The lag of the wait (5) and of the stream behind it (3) follow the end of k1.

    main | l1 | record | wait | l2 |
    s1   |==== k1 100 ====|
    s2                    |5+3|= k2 =|
    """
    drawn, _, main, s1, s2 = two_streams(event_wait=5, stream_order=3)
    main.launch(s1, "k1", 100)
    main.record(s1, "e")
    main.wait(s2, "e")
    main.launch(s2, "k2", 10)
    assert drawn.run()["k2"] == (108, 118)


def test_the_host_does_not_wait() -> None:
    """main | l1 | record | wait | a |: a runs while k1 does."""
    drawn, _, main, s1, s2 = two_streams()
    main.launch(s1, "k1", 100)
    main.record(s1, "e", 2)
    main.wait(s2, "e", duration=3)
    main.work("a", 1)
    assert drawn.run()["a"] == (6, 7)


def test_a_record_captures_what_came_before_it_only() -> None:
    """k2 is given to s1 behind the record: s2 does not wait for it.

    main | l1 | record | l2 | wait | l3 |
    s1   |= k1 =|========== k2 1000 ==========|
    s2          |= k3 =|
    """
    drawn, _, main, s1, s2 = two_streams()
    main.launch(s1, "k1", 10)
    main.record(s1, "e")
    main.launch(s1, "k2", 1000)
    main.wait(s2, "e")
    main.launch(s2, "k3", 5)
    assert drawn.run()["k3"] == (10, 15)


def test_only_what_is_given_behind_the_wait_waits() -> None:
    """k2 was given to s2 before the wait, k3 behind it."""
    drawn, _, main, s1, s2 = two_streams()
    main.launch(s1, "k1", 100)
    main.launch(s2, "k2", 5)
    main.record(s1, "e")
    main.wait(s2, "e")
    main.launch(s2, "k3", 5)
    run = drawn.run()
    assert run["k2"] == (1, 6)
    assert run["k3"] == (100, 105)


def test_a_wait_for_what_is_done_costs_nothing_but_its_place() -> None:
    """k1 ended long before: k2 starts with its launch."""
    drawn, _, main, s1, s2 = two_streams(launch=2, event_wait=5)
    main.launch(s1, "k1", 10)
    main.record(s1, "e")
    main.work("a", 1000)
    main.wait(s2, "e")
    main.launch(s2, "k2", 5)
    assert drawn.run()["k2"] == (1003, 1008)


def test_a_record_on_an_idle_stream_captures_nothing() -> None:
    """s1 was given nothing before the record."""
    drawn, _, main, s1, s2 = two_streams()
    main.record(s1, "e")
    main.launch(s1, "k1", 100)
    main.wait(s2, "e")
    main.launch(s2, "k2", 5)
    assert drawn.run()["k2"] == (1, 6)


def test_waits_pass_through_a_stream_that_runs_nothing_in_between() -> None:
    """s2 waits for s1 and is recorded before any kernel; s3 waits for s2, hence for k1.

    main | l1 | record s1 | wait s2 | record s2 | wait s3 | l3 |
    s1   |==== k1 100 ====|
    s2                    .
    s3                    |= k3 =|
    """
    drawn, rank, main, s1, s2 = two_streams()
    s3 = rank.stream(3)
    main.launch(s1, "k1", 100)
    main.record(s1, "e1")
    main.wait(s2, "e1")
    main.record(s2, "e2")
    main.wait(s3, "e2")
    main.launch(s3, "k3", 5)
    assert drawn.run()["k3"] == (100, 105)


def test_one_wait_holds_back_everything_behind_it() -> None:
    """s2 |...wait...|= k2 =|= k3 =|: k3 comes after k2, though its own stream has no other wait."""
    drawn, _, main, s1, s2 = two_streams()
    main.launch(s1, "k1", 100)
    main.record(s1, "e")
    main.wait(s2, "e")
    main.launch(s2, "k2", 5)
    main.launch(s2, "k3", 5)
    assert drawn.run()["k3"] == (105, 110)


def test_a_stream_waits_for_several_others() -> None:
    """Fan-in: s3 waits for k1 (100) and k2 (150)."""
    drawn, rank, main, s1, s2 = two_streams()
    s3 = rank.stream(3)
    main.launch(s1, "k1", 100, call=0)
    main.launch(s2, "k2", 150, call=0)
    for stream, slot in ((s1, "e1"), (s2, "e2")):
        main.record(stream, slot)
        main.wait(s3, slot)
    main.launch(s3, "k3", 5)
    assert drawn.run()["k3"] == (150, 155)


def test_a_stream_that_waits_for_itself_waits_for_nothing_new() -> None:
    """Record and wait on one stream."""
    drawn, _, main, s1, _ = two_streams()
    main.launch(s1, "k1", 100)
    main.record(s1, "e")
    main.wait(s1, "e")
    main.launch(s1, "k2", 5)
    assert drawn.run()["k2"] == (100, 105)


def test_record_and_wait_may_be_made_by_different_threads() -> None:
    """One thread records, the other one waits."""
    drawn, rank, main, s1, s2 = two_streams()
    other = rank.thread("other")
    main.launch(s1, "k1", 100)
    main.record(s1, "e")
    other.wait(s2, "e")
    other.launch(s2, "k2", 5)
    assert drawn.run()["k2"] == (100, 105)


def test_a_wait_reaches_back_into_an_earlier_block_by_distance() -> None:
    """Each step waits for what the step before recorded; what the first one awaits was done at 70.

    step   |      0       |      1       |
    s1     |= k1 100 =|    |= k1 100 =|
    s2       |= k2 =|       ......|= k2 =|
    """
    drawn, rank, main, s1, s2 = two_streams()
    for step in ("0", "1"):
        rank.block(step)
        main.wait(s2, "e", distance=1)
        main.launch(s2, "k2", 5, call=0)
        main.launch(s1, "k1", 100, call=0)
        main.record(s1, "e")
    rank.starts(slots={"e": 70})
    run = drawn.run()
    assert run["k2#1"] == (70, 75)
    assert run["k2#2"] == (100, 105)


def test_a_wait_over_two_blocks_means_the_step_before_the_last() -> None:
    """Distance 2: step 2 waits for step 0, not for step 1."""
    drawn, rank, main, s1, s2 = two_streams()
    for number in range(3):
        rank.block(str(number))
        main.wait(s2, "e", distance=2)
        main.launch(s2, "k2", 5, call=0)
        main.launch(s1, "k1", 100, call=0)
        main.record(s1, "e")
    rank.starts(slots={"e": 0})
    run = drawn.run()
    assert run["k2#2"] == (5, 10)
    assert run["k2#3"] == (100, 105)


def test_a_repeated_block_waits_for_its_own_copy() -> None:
    """Both copies of a step carry the same slot; each wait means the record of its own copy."""
    drawn, _, main, s1, s2 = two_streams()
    main.launch(s1, "k1", 100, call=0)
    main.record(s1, "e")
    main.wait(s2, "e")
    main.launch(s2, "k2", 5, call=0)
    twice = run(job_of(repeat(drawn.program(), 2)))
    assert twice["k2#1"] == (100, 105)
    assert twice["k2#2"] == (200, 205)


def test_a_wait_without_any_record_is_an_error_that_names_it() -> None:
    """main | wait e | l2 | and no record of e anywhere."""
    drawn, _, main, _, s2 = two_streams()
    main.wait(s2, "e")
    main.launch(s2, "k2", 5)
    with pytest.raises(UnusableInputError, match="wait e"):
        drawn.run()


def test_a_wait_for_a_block_that_does_not_record_is_an_error() -> None:
    """Block 1 waits for block 0, which records something else."""
    drawn, rank, main, s1, s2 = two_streams()
    rank.block("0")
    main.record(s1, "other")
    rank.block("1")
    main.wait(s2, "e", distance=1)
    main.launch(s2, "k2", 5)
    rank.starts()
    with pytest.raises(UnusableInputError, match="awaits slot"):
        drawn.run()


def test_without_event_waits_streams_run_freely() -> None:
    """--drop event_wait: k2 starts with its launch."""
    drawn, _, main, s1, s2 = two_streams()
    main.launch(s1, "k1", 100)
    main.record(s1, "e")
    main.wait(s2, "e")
    main.launch(s2, "k2", 10)
    assert drawn.run([Rule.EVENT_WAIT])["k2"] == (1, 11)
