"""Hand-offs: a thread's pause ends because another thread has done its part."""

from __future__ import annotations

import numpy as np

from lumos.graph.job import NONE, TaskKind
from tests.build.drawn_trace import DrawnTrace


def training_step(returns_after: float = 20) -> DrawnTrace:
    """Main runs forward, autograd backward, main the optimizer; times in us.

    main     | forward 0..1000 |..................| optimizer |
    autograd                     | backward 1020..3000 |
    """
    drawn = DrawnTrace().op("forward", 0, 1000)
    drawn.op("backward", 1020, 3000, thread=9)
    begin = 3000 + returns_after
    return drawn.op("optimizer", begin, begin + 1000).op(
        "later", begin + 1500, begin + 1600, thread=9
    )


def waiting_gaps(drawn: DrawnTrace) -> list[tuple[str, float, float, float]]:
    """(thread, begin, end, time of its signal) of each pause that awaits another thread."""
    built = drawn.build()
    program, run = built.program(), built.run()
    rows = program.rows
    return [
        (
            program.processors[rows.processor[row]].label.split()[1],
            *(float(t) / 1000 for t in (run.start_ns[row], run.end_ns[row])),
            float(run.start_ns[built.signal_of(row)]) / 1000,
        )
        for row in np.flatnonzero((rows.kind == TaskKind.GAP) & (rows.awaits != NONE)).tolist()
    ]


def test_main_waits_for_the_end_of_backward_and_backward_for_that_of_forward() -> None:
    gaps = waiting_gaps(training_step())
    assert ("8", 3000, 3020, 3000) in gaps
    assert ("9", 1000, 1020, 1000) in gaps


def test_the_waiting_itself_is_no_row() -> None:
    """Main's pause begins at the signal: nothing of backward's 1980 us is frozen in it."""
    built = training_step().build()
    rows = built.program().rows
    before = (rows.processor == 0) & (np.arange(len(rows)) < built.row("optimizer"))
    assert rows.duration_ns[before & rows.frozen].sum() == 20_000


def test_a_pause_in_which_nobody_works_awaits_nothing() -> None:
    """The data loader, in another process: main pauses for 2000 us."""
    drawn = DrawnTrace().op("a", 0, 1000).op("b", 3000, 4000).op("short", 100, 200, thread=9)
    assert waiting_gaps(drawn) == []


def test_a_thread_that_ended_long_before_the_pause_ends_is_not_awaited() -> None:
    """It worked for 100 us of 10 ms and stopped 9 ms before main went on."""
    drawn = DrawnTrace().op("a", 0, 1000).op("other", 1100, 1200, thread=9).op("b", 11000, 12000)
    assert all(thread != "8" for thread, *_ in waiting_gaps(drawn))


def test_short_pauses_are_not_searched() -> None:
    """30 us between two operators while another thread works."""
    drawn = DrawnTrace().op("a", 0, 1000).op("b", 1030, 2000)
    drawn.op("other", 0, 1025, thread=9)
    assert all(thread != "8" for thread, *_ in waiting_gaps(drawn))
