"""Which pauses wait for communication that the host runs: the same places of every step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest

from lumos.graph.job import NONE, TaskKind
from tests.build.drawn_trace import Built, DrawnTrace

SIZES: dict[str, Any] = {"Input Dims": [[64]]}


class Step(NamedTuple):
    """When the two all-reduces of a step end; both buckets are waited for behind the backward.

    main     | issue 1 | backward |   | backward | issue 2 |..... | view |.... | view |   | update |
             0        100        300 350        500       600     (1)         (2)
    worker 1     |== first ===...
    worker 2                                           |== second ===...
    """

    first: int
    second: int


def drawn(steps: Sequence[Step], *, pause: str = "", late: int = 0) -> Built:
    """Steps of 5 ms. `pause` is an operator whose own time the pause from 300 to 350 is.

    The end of the last second span is recorded so much too `late`.
    """
    trace = DrawnTrace(world=2)
    for number, step in enumerate(steps):
        at = 5000 * number
        trace.annotation(f"ProfilerStep#{number}", at, at + 5000)
        trace.op("c10d::allreduce_", at + 60, at + 100, **SIZES)
        trace.op("aten::mm", at + 105, at + 300)
        if pause:
            trace.op(pause, at + 300, at + 351)
        trace.op("aten::mul", at + 350, at + 500)
        trace.op("c10d::allreduce_", at + 560, at + 600, **SIZES)
        first_view = max(step.first, 605) + 5
        second_view = max(step.second, first_view + 100) + 5
        trace.op("aten::as_strided", at + first_view, at + first_view + 90)
        trace.op("aten::as_strided", at + second_view, at + second_view + 90)
        trace.op("aten::add_", at + second_view + 92, at + 4500)
        end = step.second + late * (number == len(steps) - 1)
        trace.event("user_annotation", "gloo:all_reduce", at + 99, at + step.first, 9, **SIZES)
        trace.event("user_annotation", "gloo:all_reduce", at + 598, at + end, 10, **SIZES)
    return trace.build()


def waits(built: Built) -> list[list[tuple[int, str]]]:
    """Of each step: which of its spans is waited for, and the operator behind the wait."""
    program = built.program()
    rows = program.rows
    spans = np.flatnonzero(rows.kind == TaskKind.COLLECTIVE)
    found: list[list[tuple[int, str]]] = [[] for _ in program.blocks]
    for wait in np.flatnonzero((rows.kind == TaskKind.SYNCHRONIZE) & (rows.awaits != NONE)):
        record = built.signal_of(int(wait))
        (span,) = spans[rows.launch[spans] == rows.launch[record - 1]]
        which = int((spans[rows.block[spans] == rows.block[span]] < span).sum())
        behind = wait + np.flatnonzero(rows.kind[wait:] == TaskKind.OPERATOR)[0]
        found[rows.block[wait]].append((which, program.names[rows.name[behind]]))
    return found


ALL_WAITED = [(0, "aten::as_strided"), (1, "aten::as_strided")]


def test_a_pause_in_which_a_span_ends_by_chance_is_no_wait() -> None:
    """In the first step the first span ends in the pause of the backward, in the others behind it."""
    built = drawn([Step(330, 900), Step(700, 1000), Step(800, 900)])
    assert waits(built) == [ALL_WAITED] * 3


def test_a_place_that_waits_in_one_step_waits_in_all() -> None:
    """Where the span had ended before, there was nothing to wait for: were it slower, there would be."""
    built = drawn([Step(200, 640), Step(900, 950), Step(200, 1200)])
    assert waits(built) == [ALL_WAITED] * 3


def test_spans_are_waited_for_in_the_order_of_their_issue() -> None:
    """No pause tells where the first is waited for: not behind the second, so no later than there."""
    built = drawn([Step(200, 900), Step(210, 1000)])
    assert waits(built) == [ALL_WAITED] * 2


def test_a_span_that_ends_within_the_wait_for_another_is_waited_for_with_it() -> None:
    """The second is over when the thread has waited for the first, in all steps."""
    found = waits(drawn([Step(900, 880), Step(1200, 1000)]))
    assert [sorted(step) for step in found] == [ALL_WAITED] * 2


def test_a_pause_is_explained_by_the_span_that_ended_closer_to_it() -> None:
    """The ends are noted a little late: the first one behind the pause that waited for it."""
    built = drawn([Step(1000, 1400), Step(1100, 1105), Step(900, 1300)], late=150)
    assert waits(built) == [ALL_WAITED] * 3
    run, rows = built.run(), built.program().rows
    first, second = np.flatnonzero(rows.kind == TaskKind.SYNCHRONIZE)[-2:]
    assert run.end_ns[first] < run.end_ns[second]


def test_what_an_operator_computes_is_no_wait() -> None:
    """The first span ends while the thread is in the operator, in all steps."""
    steps = [Step(340, 900), Step(345, 900)]
    assert waits(drawn(steps, pause="aten::sum")) == waits(drawn([Step(200, 900)] * 2))
    other = waits(drawn(steps, pause="autograd::engine"))
    assert [step[0] for step in other] == [(0, "autograd::engine")] * 2


def test_the_last_pause_of_a_trace_waits_for_nothing() -> None:
    """The thread does not go on behind it: it is over when the last event of any thread ends."""
    trace = DrawnTrace(world=2)
    trace.annotation("ProfilerStep#0", 0, 1000)
    trace.op("c10d::allreduce_", 10, 50, **SIZES)
    trace.op("aten::mm", 60, 300)
    trace.event("user_annotation", "gloo:all_reduce", 40, 600, 9, **SIZES)
    assert waits(trace.build()) == [[]]


def test_a_span_ends_no_later_than_the_wait_for_it() -> None:
    """The worker had told the waiting thread, and was kept from running before it noted its end."""
    steps = [Step(700, 950), Step(700, 1000), Step(700, 900)]
    built = drawn(steps, late=1500)
    assert waits(built) == [ALL_WAITED] * 3
    (*_, last), (*_, exact) = (one.rows("worker 10") for one in (built, drawn(steps)))
    assert last[3] == pytest.approx(exact[3], abs=5)
    (finding,) = (one for one in built.job.findings if one.code == "late-ends")
    assert "1 in all" in finding.message
    assert not [one for one in drawn(steps).job.findings if one.code == "late-ends"]
