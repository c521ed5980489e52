"""Host threads: nested operators and calls -> one unbroken row of segments a thread.

op A  |=============|                 segments:  A1 | call | A2 | gap | B
call      |==|            op B |==|
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lumos.compiled import compiled
from lumos.graph.job import NONE
from lumos.graph.trace import EventKind, Trace


@dataclass(frozen=True)
class Segments:
    """Pieces of host time, thread by thread, each in time order; all arrays one entry a piece.

    `event` is the trace row whose own time it is (NONE: a gap between operators), `top` the row
    of the outermost operator around it.
    """

    event: NDArray[np.int32]
    top: NDArray[np.int32]
    thread: NDArray[np.int32]
    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.event)

    def in_order(self, first: int, second: int) -> bool:
        """Whether the host reached segment `first` before `second`: a wait's record comes first."""
        begin, end = int(self.start_ns[first]), int(self.start_ns[second])
        return (begin, first) < (end, second)


def call_segments(trace: Trace, segments: Segments) -> dict[int, int]:
    """The segment of each call, by its correlation."""
    own = np.flatnonzero(segments.event != NONE)
    calls = own[trace.kind[segments.event[own]] == EventKind.CALL]
    return dict(zip(trace.correlation[segments.event[calls]].tolist(), calls.tolist(), strict=True))


def host_threads(
    trace: Trace,
) -> tuple[NDArray[np.int64], NDArray[np.int32], list[tuple[str, str]]]:
    """Rows of operators and calls in nesting order by thread, the thread of each, thread labels.

    Threads are numbered by the time of their first event.
    """
    rows = np.flatnonzero((trace.kind == EventKind.OPERATOR) | (trace.kind == EventKind.CALL))
    inverse, first = _pairs(trace.process[rows], trace.thread[rows])
    begin = np.full(len(first), np.iinfo(np.int64).max)
    np.minimum.at(begin, inverse, trace.start_ns[rows])
    rank_of_key = np.empty(len(first), np.int32)
    rank_of_key[np.lexsort((first, begin))] = np.arange(len(first), dtype=np.int32)
    thread = rank_of_key[inverse]
    labels = [("", "")] * len(first)
    for position, number in enumerate(rank_of_key):
        row = rows[first[position]]
        labels[number] = (trace.text(trace.process[row]), trace.text(trace.thread[row]))
    is_call = trace.kind[rows] == EventKind.CALL
    order = np.lexsort((is_call, -trace.duration_ns[rows], trace.start_ns[rows], thread))
    return rows[order], thread[order], labels


def _pairs(
    one: NDArray[np.int32], other: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """A number for each pair of indices of strings, and where each pair comes first."""
    narrow = _numbered(other)
    pair = _numbered(_numbered(one) * (int(narrow.max(initial=0)) + 1) + narrow)
    first = np.empty(int(pair.max(initial=-1)) + 1, np.intp)
    first[pair[::-1]] = np.arange(len(pair))[::-1]
    return pair, first


def _numbered(values: NDArray[np.integer]) -> NDArray[np.int64]:
    """Small numbers, MISSING among them, numbered without holes; their order is kept."""
    used = np.bincount(values + 1) > 0
    return (used.cumsum() - 1)[values + 1]  # type: ignore[no-any-return]


def segment_threads(
    trace: Trace, window: tuple[int, int] | None = None
) -> tuple[Segments, list[tuple[str, str]]]:
    """Cut the host time of every thread into pieces: own time of operators, calls, gaps.

    Every thread is covered from the first host event of the trace to the last, annotations
    included, and over the whole `window` (begin, end) [ns] where one is given. Pieces of no length
    are dropped, calls excepted.
    """
    host = np.isin(trace.kind, (EventKind.OPERATOR, EventKind.CALL, EventKind.ANNOTATION))
    limits = np.iinfo(np.int64)
    first = int(np.min(trace.start_ns, where=host, initial=limits.max))
    last = int(np.max(trace.start_ns + trace.duration_ns, where=host, initial=limits.min))
    if window is not None:
        first, last = min(first, window[0]), max(last, window[1])
    rows, thread, labels = host_threads(trace)
    start = trace.start_ns[rows]
    end = start + trace.duration_ns[rows]
    is_call = trace.kind[rows] == EventKind.CALL
    size = 4 * len(rows) + 2 * len(labels)  # numpy asks for huge pages, compiled code does not
    event, top, at = (np.empty(size, np.int32) for _ in range(3))
    begin, finish = (np.empty(size, np.int64) for _ in range(2))
    count = _segment(rows, thread, start, end, is_call, first, last, event, top, at, begin, finish)
    return Segments(event[:count], top[:count], at[:count], begin[:count], finish[:count]), labels


@compiled()
def _segment(  # type: ignore[no-untyped-def]
    rows, thread, start, end, is_call, first, last, event, top, at, begin, finish
):
    count = len(rows)
    stack = np.empty(count + 1, np.int64)
    stack_end = np.empty(count + 1, np.int64)
    depth = 0
    n = 0
    opened = 0  # pieces before this one are of other threads, or the thread's opening pause
    now = np.int64(0)
    for i in range(count + 1):
        new_thread = i in (0, count) or thread[i] != thread[i - 1]
        limit = np.iinfo(np.int64).max if new_thread else start[i]
        # close what ended before this event starts
        while depth > 0 and stack_end[depth - 1] <= limit:
            depth -= 1
            if stack_end[depth] > now:
                own = rows[stack[depth]]
                if n > opened and event[n - 1] == own:  # an operator of no length came between
                    n -= 1
                else:
                    begin[n] = now
                event[n] = own
                top[n] = rows[stack[0]]
                at[n] = thread[stack[depth]]
                finish[n] = stack_end[depth]
                n += 1
                now = stack_end[depth]
        if new_thread and i > 0 and now < last:
            event[n], top[n], at[n], begin[n], finish[n] = -1, -1, thread[i - 1], now, last
            n += 1
        if i == count:
            break
        if new_thread:
            now = start[i]
            if now > first:
                event[n], top[n], at[n], begin[n], finish[n] = -1, -1, thread[i], first, now
                n += 1
            opened = n
        if start[i] > now:
            own = rows[stack[depth - 1]] if depth > 0 else -1
            if n > opened and event[n - 1] == own:
                n -= 1
            else:
                begin[n] = now
            event[n] = own
            top[n] = rows[stack[0]] if depth > 0 else -1
            at[n] = thread[i]
            finish[n] = start[i]
            n += 1
            now = start[i]
        # a child that reaches past its parent by rounding ends with it
        limit_end = stack_end[depth - 1] if depth > 0 else np.iinfo(np.int64).max
        own_end = max(min(end[i], limit_end), now)
        if is_call[i]:
            event[n] = rows[i]
            top[n] = rows[stack[0]] if depth > 0 else rows[i]
            at[n] = thread[i]
            begin[n] = now
            finish[n] = own_end
            n += 1
            now = own_end
        else:
            stack[depth] = i
            stack_end[depth] = own_end
            depth += 1
    return n
