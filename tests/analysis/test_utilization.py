"""Utilisation and the parts of a span, against counting nanosecond by nanosecond."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lumos.analysis.breakdown import breakdown, intersection, length, union
from lumos.analysis.utilization import utilization
from lumos.graph.job import TaskKind
from lumos.graph.timeline import RankTimeline
from tests.drawing import Drawing

spans = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 15)), max_size=12)


def busy_moments(drawn: list[tuple[int, int]]) -> set[int]:
    return {moment for low, size in drawn for moment in range(low, low + size)}


def intervals(drawn: list[tuple[int, int]]) -> np.ndarray:
    start = np.array([low for low, _ in drawn], np.int64)
    end = start + np.array([size for _, size in drawn], np.int64)
    return union(RankTimeline(start, end, 0 * start), np.ones(len(drawn), bool), 0, 100)


@given(spans, st.integers(1, 30), st.integers(60, 90))
def test_each_window_counts_the_moments_in_which_something_ran(
    drawn: list[tuple[int, int]], window: int, end: int
) -> None:
    busy = intervals(drawn)
    moments = busy_moments(drawn)
    expected = [
        len(moments & set(range(low, min(low + window, end)))) / (min(low + window, end) - low)
        for low in range(0, end, window)
    ]
    clipped = intersection(busy, np.array([[0, end]]))
    assert utilization(clipped, 0, end, window).tolist() == pytest.approx(expected)


def test_utilisation_of_a_drawn_stream() -> None:
    """
    stream |== k1 ==|   |= k2 =|        windows of 10: 10, 2 + 4, 4 of the last 5
           0        12  16     24 25
    """
    busy = np.array([[0, 12], [16, 24]])
    assert utilization(busy, 0, 25, 10).tolist() == [1.0, 0.6, 0.8]
    assert utilization(busy[:0], 0, 25, 10).tolist() == [0, 0, 0]
    assert utilization(busy[:0], 7, 7).tolist() == []


@given(spans, spans)
def test_two_sets_of_intervals_meet_where_both_run(
    first: list[tuple[int, int]], second: list[tuple[int, int]]
) -> None:
    both = intersection(intervals(first), intervals(second))
    assert length(both) == len(busy_moments(first) & busy_moments(second))


@given(spans, spans)
def test_the_parts_of_a_span_are_those_of_its_moments(
    compute: list[tuple[int, int]], communication: list[tuple[int, int]]
) -> None:
    drawn = Drawing()
    rank = drawn.rank()
    group = drawn.group("all", 0)
    main, stream = rank.thread(), rank.stream(1)
    main.launch(stream, "first", 1)
    for _ in compute:
        main.launch(stream, "k", 1)
    for _ in communication:
        main.collective(stream, "all_reduce", 1, group)
    program = drawn.program()
    kind = program.rows.kind
    start, end = np.zeros(len(kind), np.int64), np.zeros(len(kind), np.int64)
    for task, ran in ((TaskKind.KERNEL, [(0, 0), *compute]), (TaskKind.COLLECTIVE, communication)):
        start[kind == task] = [low for low, _ in ran]
        end[kind == task] = [low + size for low, size in ran]
    parts = breakdown(program, RankTimeline(start, end, 0 * start), 0, 80)
    computing, communicating = busy_moments(compute), busy_moments(communication)
    assert parts.overlapped_ns == len(computing & communicating)
    assert parts.exposed_compute_ns == len(computing - communicating)
    assert parts.exposed_communication_ns == len(communicating - computing)
    assert parts.other_ns == 80 - len(computing | communicating)
