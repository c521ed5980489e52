"""Program order: a host thread runs its rows one after another."""

from __future__ import annotations

from lumos.graph.execution import Rule
from tests.drawing import Drawing


def test_a_thread_runs_its_rows_one_after_another() -> None:
    """main | a 10 | b 20 |."""
    drawn = Drawing()
    main = drawn.rank().thread()
    main.work("a", 10)
    main.work("b", 20)
    run = drawn.run()
    assert run["a"] == (0, 10)
    assert run["b"] == (10, 30)


def test_a_gap_between_operators_keeps_its_length() -> None:
    """main | a 10 | gap 7 | b 20 |."""
    drawn = Drawing()
    main = drawn.rank().thread()
    main.work("a", 10)
    main.gap(7)
    main.work("b", 20)
    run = drawn.run()
    assert run["(gap)"] == (10, 17)
    assert run["b"] == (17, 37)


def test_own_time_of_an_operator_around_its_children_is_kept() -> None:
    """A nested operator is cut into pieces of own time.

    outer |============================|
          | 3 | inner 5 | 4 | launch | 2 |
    """
    drawn = Drawing()
    rank = drawn.rank()
    main, stream = rank.thread(), rank.stream(1)
    main.work("outer", 3)
    main.work("inner", 5)
    main.work("outer", 4)
    main.launch(stream, "k", 1, call=6)
    main.work("outer", 2)
    run = drawn.run()
    assert [run[f"outer#{n}"] for n in (1, 2, 3)] == [(0, 3), (8, 12), (18, 20)]


def test_threads_do_not_wait_for_each_other_without_a_reason() -> None:
    """main | a 10 |, other | b 20 |: both begin at once."""
    drawn = Drawing()
    rank = drawn.rank()
    rank.thread("main").work("a", 10)
    rank.thread("other").work("b", 20)
    run = drawn.run()
    assert run["a"] == (0, 10)
    assert run["b"] == (0, 20)


def test_rows_of_two_threads_may_be_mixed_in_host_order() -> None:
    """Rows stand a1 b1 a2 b2; each thread runs its own."""
    drawn = Drawing()
    rank = drawn.rank()
    one, two = rank.thread("one"), rank.thread("two")
    one.work("a1", 10)
    two.work("b1", 3)
    one.work("a2", 10)
    two.work("b2", 3)
    run = drawn.run()
    assert run["a2"] == (10, 20)
    assert run["b2"] == (3, 6)


def test_a_thread_that_was_busy_begins_late() -> None:
    """The recorded start has main busy until 15: | from before | a 10 |."""
    drawn = Drawing()
    rank = drawn.rank()
    main, other = rank.thread("main"), rank.thread("other")
    main.work("a", 10)
    other.work("b", 1)
    rank.starts({main.number: 15})
    run = drawn.run()
    assert run["a"] == (15, 25)
    assert run["b"] == (0, 1)


def test_without_program_order_every_row_begins_at_once() -> None:
    """--drop program_order: | a 10 | and | b 20 | side by side."""
    drawn = Drawing()
    main = drawn.rank().thread()
    main.work("a", 10)
    main.work("b", 20)
    run = drawn.run([Rule.PROGRAM_ORDER])
    assert run["b"][1] == 20
