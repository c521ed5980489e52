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


@dataclass(frozen=True)
class HostEvents:
    """Operators and calls in nesting order: by thread, then start, the longer first, calls last.

    `row` is the row of the trace; `labels` names process and thread of each thread, which are
    numbered by the time of their first event.
    """

    row: NDArray[np.int64]
    thread: NDArray[np.int32]
    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    is_call: NDArray[np.bool_]
    labels: list[tuple[str, str]]


def host_events(trace: Trace) -> HostEvents:
    """The host events of a trace in the order in which they nest."""
    rows = np.flatnonzero((trace.kind == EventKind.OPERATOR) | (trace.kind == EventKind.CALL))
    inverse, first = _pairs(trace.process[rows], trace.thread[rows])
    start, duration = trace.start_ns[rows], trace.duration_ns[rows]
    is_call = trace.kind[rows] == EventKind.CALL
    begin = np.full(len(first), np.iinfo(np.int64).max)
    np.minimum.at(begin, inverse, start)
    rank_of_key = np.empty(len(first), np.int32)
    rank_of_key[np.lexsort((first, begin))] = np.arange(len(first), dtype=np.int32)
    thread = rank_of_key[inverse]
    labels = [("", "")] * len(first)
    for position, number in enumerate(rank_of_key):
        row = rows[first[position]]
        labels[number] = (trace.text(trace.process[row]), trace.text(trace.thread[row]))
    order = _nesting_order(start, duration, is_call, thread, len(first))
    start = start[order]
    return HostEvents(
        rows[order], thread[order], start, start + duration[order], is_call[order], labels
    )


def _nesting_order(
    start: NDArray[np.int64],
    duration: NDArray[np.int64],
    is_call: NDArray[np.bool_],
    thread: NDArray[np.int32],
    threads: int,
) -> NDArray[np.int64]:
    """Sorted by thread, start, duration (longest first), calls behind operators, row.

    Files hold few runs of ascending times, which a stable sort by time alone merges in one go; few
    events begin at once, so those are put right one by one.
    """
    by_start = np.argsort(start, kind="stable")
    order = _ties_in_order(by_start, start, duration, is_call, thread, threads)
    if len(order) < len(start):  # too many events at one time
        return np.lexsort((is_call, -duration, start, thread))
    return order  # type: ignore[no-any-return]


@compiled()
def _ties_in_order(order, start, duration, is_call, thread, threads):  # type: ignore[no-untyped-def]
    """Events by thread with those of one start in order; nothing where more than 64 share one."""
    count = len(order)
    for place in range(count):
        event = order[place]
        at = place
        while at > 0 and start[order[at - 1]] == start[event]:
            other = order[at - 1]
            if duration[other] > duration[event] or (
                duration[other] == duration[event] and is_call[other] <= is_call[event]
            ):
                break
            if place - at > 64:
                return order[:0]
            order[at] = other
            at -= 1
        order[at] = event
    first = np.zeros(threads + 1, np.int64)
    for event in range(count):
        first[thread[event] + 1] += 1
    for number in range(threads):
        first[number + 1] += first[number]
    by_thread = np.empty(count, np.int64)
    for place in range(count):
        event = order[place]
        by_thread[first[thread[event]]] = event
        first[thread[event]] += 1
    return by_thread


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
    trace: Trace, events: HostEvents, window: tuple[int, int] | None = None
) -> Segments:
    """Cut the host time of every thread into pieces: own time of operators, calls, gaps.

    Every thread is covered from the first host event of the trace to the last, annotations
    included, and over the whole `window` (begin, end) [ns] where one is given. Pieces of no length
    are dropped, calls excepted.
    """
    kind = trace.kind
    host = (kind == EventKind.OPERATOR) | (kind == EventKind.CALL) | (kind == EventKind.ANNOTATION)
    limits = np.iinfo(np.int64)
    first = int(np.min(trace.start_ns, where=host, initial=limits.max))
    last = int(np.max(trace.start_ns + trace.duration_ns, where=host, initial=limits.min))
    if window is not None:
        first, last = min(first, window[0]), max(last, window[1])
    # numpy asks for huge pages, compiled code does not
    size = 4 * len(events.row) + 2 * len(events.labels)
    event, top, at = (np.empty(size, np.int32) for _ in range(3))
    begin, finish = (np.empty(size, np.int64) for _ in range(2))
    count = _segment(
        events.row, events.thread, events.start_ns, events.end_ns, events.is_call, first, last,
        event, top, at, begin, finish,
    )  # fmt: skip
    return Segments(event[:count], top[:count], at[:count], begin[:count], finish[:count])


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
