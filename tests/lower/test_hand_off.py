"""Hand-off: a host thread that waited goes on when another thread has signalled."""

from __future__ import annotations

import pytest

from lumos.errors import UnusableInputError
from lumos.graph.execution import Rule
from lumos.simulate import simulate
from tests.drawing import Drawing


def forward_and_backward(**lags: int) -> Drawing:
    """Main hands the backward to autograd and waits for its end.

    main     | forward 10 | signal f | ............ | gap 3 | optimizer 5 |
    autograd                | gap 2 | backward 100 | signal b |
    """
    drawn = Drawing(**lags)
    rank = drawn.rank()
    main, autograd = rank.thread("main"), rank.thread("autograd")
    main.work("forward", 10)
    main.signal("f")
    autograd.gap(2, awaits="f", name="wakes")
    autograd.work("backward", 100)
    autograd.signal("b")
    main.gap(3, awaits="b", name="returns")
    main.work("optimizer", 5)
    return drawn


def test_each_thread_goes_on_when_the_other_has_signalled() -> None:
    run = forward_and_backward().run()
    assert run["backward"] == (12, 112)
    assert run["returns"] == (10, 115)
    assert run.wait("returns") == 102
    assert run["optimizer"] == (115, 120)


def test_a_hand_off_takes_its_lag() -> None:
    """Lag 7, twice."""
    run = forward_and_backward(hand_off=7).run()
    assert run["backward"][0] == 10 + 7 + 2
    assert run["optimizer"][0] == 119 + 7 + 3


def test_a_signal_made_long_before_holds_nobody() -> None:
    """The waiter comes later than the signal."""
    drawn = Drawing(hand_off=7)
    rank = drawn.rank()
    main, other = rank.thread("main"), rank.thread("other")
    other.work("b", 5)
    other.signal("x")
    main.work("a", 1000)
    main.gap(3, awaits="x", name="pause")
    run = drawn.run()
    assert run["pause"] == (1000, 1003)
    assert run.wait("pause") == 0


def test_a_faster_signaller_makes_the_waiter_faster() -> None:
    """A gap keeps what follows the signal, never the waiting."""
    run = forward_and_backward().run()
    faster = run.graph.duration_ns.copy()
    faster[run.row("backward")] = 40
    runs = simulate(run.graph), simulate(run.graph, faster)
    ends = [int(one.ranks[0].end_ns.max()) for one in runs]
    assert ends[0] - ends[1] == 60


def test_without_hand_offs_threads_run_on() -> None:
    """--drop hand_off: backward begins at 0 + 2, the optimizer at 10 + 3."""
    run = forward_and_backward(hand_off=7).run([Rule.HAND_OFF])
    assert run["backward"] == (2, 102)
    assert run["optimizer"] == (13, 18)


def test_a_pause_that_awaits_what_nobody_signals_is_an_error() -> None:
    drawn = Drawing()
    main = drawn.rank().thread("main")
    main.work("forward", 10)
    main.gap(3, awaits="never", name="returns")
    with pytest.raises(UnusableInputError, match=r"\(returns\) awaits slot 0 of block 0"):
        drawn.run()
