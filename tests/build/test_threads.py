"""Host threads: nested operators and calls become one unbroken row of pieces."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lumos.graph.job import NONE
from tests.build.drawn_trace import DrawnTrace


def test_an_operator_around_others_keeps_its_own_time_between_them() -> None:
    """
    outer |==========================|  0..100
    inner     |=====|    |==|           10..40, 60..70
    call       |=|                      20..25
    """
    drawn = DrawnTrace().op("outer", 0, 100).op("inner", 10, 40).op("second", 60, 70)
    drawn.call("cudaGetDevice", 20, 25)
    assert drawn.build().rows("8") == [
        ("OPERATOR", "outer", 0, 10),
        ("OPERATOR", "inner", 10, 20),
        ("CALL", "cudaGetDevice", 20, 25),
        ("OPERATOR", "inner", 25, 40),
        ("OPERATOR", "outer", 40, 60),
        ("OPERATOR", "second", 60, 70),
        ("OPERATOR", "outer", 70, 100),
    ]


def test_time_between_operators_is_a_gap() -> None:
    """| a |  gap  | b |."""
    rows = DrawnTrace().op("a", 0, 10).op("b", 30, 40).build().rows("8")
    assert rows == [("OPERATOR", "a", 0, 10), ("GAP", "(gap)", 10, 30), ("OPERATOR", "b", 30, 40)]


def test_a_child_that_reaches_past_its_parent_by_rounding_ends_with_it() -> None:
    """
    outer |==========|      0..50
    inner      |=====|.     20..50.5
    next             |==|   50.5..60
    """
    rows = (
        DrawnTrace().op("outer", 0, 50).op("inner", 20, 50.5).op("next", 50.5, 60).build().rows("8")
    )
    assert [row[1:] for row in rows if row[0] != "GAP"] == [
        ("outer", 0, 20), ("inner", 20, 50), ("next", 50.5, 60),
    ]  # fmt: skip


def test_a_call_of_no_length_stays_an_operator_of_no_length_goes() -> None:
    """A launch that took 0 us still launches."""
    drawn = DrawnTrace().op("outer", 0, 50).op("nothing", 20, 20)
    drawn.kernel("k", 40, 45, call=(30, 30))
    rows = drawn.build().rows("8")
    assert ("LAUNCH", "cudaLaunchKernel", 30, 30) in rows
    assert all(row[1] != "nothing" for row in rows)
    assert rows[0] == ("OPERATOR", "outer", 0, 30)


def test_operators_that_begin_together_nest_by_length() -> None:
    """The longer one is the parent, whatever order they are written in."""
    for events in ((("outer", 50), ("inner", 20)), (("inner", 20), ("outer", 50))):
        drawn = DrawnTrace()
        for name, end in events:
            drawn.op(name, 0, end)
        rows = drawn.build().rows("8")
        assert [row[1:] for row in rows] == [("inner", 0, 20), ("outer", 20, 50)]


def test_every_thread_is_covered_from_the_first_host_event_on() -> None:
    """The second thread's first operator comes at 60: what stands before is a pause."""
    built = DrawnTrace().op("a", 0, 100, thread=8).op("b", 60, 70, thread=9).build()
    assert built.rows("9")[:2] == [("GAP", "(gap)", 0, 60), ("OPERATOR", "b", 60, 70)]


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    st.lists(
        st.tuples(st.integers(0, 300), st.integers(0, 80), st.sampled_from([8, 9]), st.booleans()),
        min_size=1, max_size=25,
    )
)  # fmt: skip
def test_pieces_cover_each_thread_without_holes_or_overlaps(
    events: list[tuple[int, int, int, bool]],
) -> None:
    """Whatever overlaps whatever: pieces of a thread touch, but where one waits for another thread."""
    drawn = DrawnTrace().op("first", 0, 1).op("last", 400, 401)
    for number, (begin, length, thread, is_call) in enumerate(events):
        if is_call:
            drawn.call("cudaGetDevice", begin, begin + length, thread)
        else:
            drawn.op(f"op{number}", begin, begin + length, thread)
    built = drawn.build()
    rows, run = built.program().rows, built.run()
    assert (rows.launch == NONE).all()
    for thread in np.unique(rows.processor):
        mine = rows.processor == thread
        start, end = run.start_ns[mine], run.end_ns[mine]
        touches = start[1:] == end[:-1]
        assert (touches | (rows.awaits[mine][1:] != NONE)).all()
        assert (start[1:] >= end[:-1]).all()
        assert (end >= start).all()
    calls = sum(one[3] for one in events)
    assert (rows.kind == 2).sum() == calls
