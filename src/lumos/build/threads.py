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


def call_segments(trace: Trace, segments: Segments) -> dict[int, int]:
    """The segment of each call, by its correlation."""
    own = np.flatnonzero(segments.event != NONE)
    calls = own[trace.kind[segments.event[own]] == EventKind.CALL]
    return dict(
        zip(trace.correlation[segments.event[calls]].tolist(), calls.tolist(), strict=True)
    )


def host_threads(trace: Trace) -> tuple[NDArray[np.int64], NDArray[np.int32], list[tuple[str, str]]]:
    """Rows of operators and calls in nesting order by thread, the thread of each, thread labels.

    Threads are numbered by the time of their first event.
    """
    rows = np.flatnonzero((trace.kind == EventKind.OPERATOR) | (trace.kind == EventKind.CALL))
    key = trace.process[rows].astype(np.int64) << 32 | trace.thread[rows].astype(np.int64)
    keys, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    begin = np.full(len(keys), np.iinfo(np.int64).max)
    np.minimum.at(begin, inverse, trace.start_ns[rows])
    rank_of_key = np.empty(len(keys), np.int32)
    rank_of_key[np.lexsort((first, begin))] = np.arange(len(keys), dtype=np.int32)
    thread = rank_of_key[inverse]
    labels = [("", "")] * len(keys)
    for position, number in enumerate(rank_of_key):
        row = rows[first[position]]
        labels[number] = (trace.text(trace.process[row]), trace.text(trace.thread[row]))
    is_call = trace.kind[rows] == EventKind.CALL
    order = np.lexsort((is_call, -trace.duration_ns[rows], trace.start_ns[rows], thread))
    return rows[order], thread[order], labels


def segment_threads(
    trace: Trace, window: tuple[int, int] | None = None
) -> tuple[Segments, list[tuple[str, str]]]:
    """Cut the host time of every thread into pieces: own time of operators, calls, gaps.

    Every thread is covered from the first host event of the trace to the last, annotations
    included, and over the whole `window` (begin, end) [ns] where one is given. Zero-length pieces are dropped except calls, which are always kept.
    """
    rows, thread, labels = host_threads(trace)
    start = trace.start_ns[rows]
    end = start + trace.duration_ns[rows]
    is_call = trace.kind[rows] == EventKind.CALL
    pieces = Segments(*_segment(rows, thread, start, end, is_call))
    host = np.isin(trace.kind, (EventKind.OPERATOR, EventKind.CALL, EventKind.ANNOTATION))
    first = int(trace.start_ns[host].min(initial=np.iinfo(np.int64).max))
    last = int((trace.start_ns + trace.duration_ns)[host].max(initial=np.iinfo(np.int64).min))
    if window is not None:
        first, last = min(first, window[0]), max(last, window[1])
    return _cover(pieces, len(labels), first, last), labels


def _cover(pieces: Segments, threads: int, first: int, last: int) -> Segments:
    """Add the pauses before the first and behind the last piece of every thread."""
    places, starts, ends, numbers = [], [], [], []
    bounds = np.searchsorted(pieces.thread, np.arange(threads + 1))
    for thread in range(threads):
        low, high = bounds[thread], bounds[thread + 1]
        if pieces.start_ns[low] > first:
            places.append(low)
            starts.append(first)
            ends.append(pieces.start_ns[low])
            numbers.append(thread)
        if pieces.end_ns[high - 1] < last:
            places.append(high)
            starts.append(pieces.end_ns[high - 1])
            ends.append(last)
            numbers.append(thread)
    return Segments(
        event=np.insert(pieces.event, places, NONE),
        top=np.insert(pieces.top, places, NONE),
        thread=np.insert(pieces.thread, places, numbers),
        start_ns=np.insert(pieces.start_ns, places, starts),
        end_ns=np.insert(pieces.end_ns, places, ends),
    )


@compiled()
def goes_on(event, at, count, own, thread):  # type: ignore[no-untyped-def]
    """Whether the last piece is of the same event: an operator of no length came between."""
    return count > 0 and event[count - 1] == own and at[count - 1] == thread


@compiled()
def _segment(rows, thread, start, end, is_call):  # type: ignore[no-untyped-def]
    count = len(rows)
    size = 4 * count + 4
    event = np.empty(size, np.int32)
    top = np.empty(size, np.int32)
    at = np.empty(size, np.int32)
    begin = np.empty(size, np.int64)
    finish = np.empty(size, np.int64)
    stack = np.empty(count + 1, np.int64)
    stack_end = np.empty(count + 1, np.int64)
    depth = 0
    n = 0
    now = np.int64(0)
    for i in range(count + 1):
        new_thread = i == count or i == 0 or thread[i] != thread[i - 1]
        limit = np.iinfo(np.int64).max if new_thread else start[i]
        # close what ended before this event starts
        while depth > 0 and stack_end[depth - 1] <= limit:
            depth -= 1
            if stack_end[depth] > now:
                own = rows[stack[depth]]
                if goes_on(event, at, n, own, thread[stack[depth]]):
                    n -= 1
                else:
                    begin[n] = now
                event[n] = own
                top[n] = rows[stack[0]]
                at[n] = thread[stack[depth]]
                finish[n] = stack_end[depth]
                n += 1
                now = stack_end[depth]
        if i == count:
            break
        if new_thread:
            now = start[i]
        if start[i] > now:
            own = rows[stack[depth - 1]] if depth > 0 else -1
            if goes_on(event, at, n, own, thread[i]):
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
    return event[:n], top[:n], at[:n], begin[:n], finish[:n]
