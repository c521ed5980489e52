"""What a blocking call waits for: a stream, an event, the whole device, or the copy it made itself.

host   | launch K | ... | cudaStreamSynchronize ........ |
stream         |=====K=======================|           returns just after K ends
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lumos.build.calls import CallClass
from lumos.build.device import DeviceTasks
from lumos.build.threads import Segments, call_segments
from lumos.graph.job import NONE, WHOLE_DEVICE
from lumos.graph.trace import Argument, EventKind, Trace
from lumos.units import NS_PER_US

RETURN_NS = 100 * NS_PER_US
"""A blocking call returns within this of the end of what it waited for (a page copy included)."""
EARLY_NS = 2 * NS_PER_US
BLOCKED_NS = 20 * NS_PER_US
"""Calls shorter than this are not taken for blocked on the strength of times alone."""


@dataclass(frozen=True)
class Synchronization:
    """A host segment that waits for what `stream` had been given when the host reached `position`.

    `stream` is WHOLE_DEVICE for everything; `position` is the segment itself, or, for an event,
    the segment of its record. `behind_launch` marks a call that first launches and then waits
    for its own task.
    """

    segment: int
    stream: int
    position: int
    behind_launch: bool


def find_synchronizations(
    trace: Trace,
    segments: Segments,
    tasks: DeviceTasks,
    classes: NDArray[np.uint8],
    early: NDArray[np.intp],
) -> list[Synchronization]:
    """Every host segment that waits for the device, and for what.

    The calls that returned `early` wait for nothing.
    """
    if not len(tasks):
        return []
    launch_ns = np.where(
        tasks.segment == NONE, np.iinfo(np.int64).min, segments.start_ns[tasks.segment]
    )
    streams = _Streams(tasks, launch_ns)
    found = []
    own = np.flatnonzero((tasks.segment != NONE) & ~tasks.adopted)
    launched = own[np.argsort(tasks.segment[own], kind="stable")]  # so thread by thread, too
    launch = tasks.segment[launched]
    explicit = _explicit_streams(trace, segments, tasks)
    contradicted = set(early.tolist())
    wanted = (
        CallClass.SYNCHRONIZE_STREAM,
        CallClass.SYNCHRONIZE_EVENT,
        CallClass.SYNCHRONIZE_DEVICE,
    )
    for segment in np.flatnonzero(np.isin(classes, wanted)).tolist():
        stream, position = WHOLE_DEVICE, segment
        if classes[segment] != CallClass.SYNCHRONIZE_DEVICE:
            before = int(np.searchsorted(launch, segment)) - 1
            mine = before >= 0 and segments.thread[launch[before]] == segments.thread[segment]
            current = int(tasks.stream[launched[before]]) if mine else NONE
            if classes[segment] == CallClass.SYNCHRONIZE_EVENT:
                position = _last_record(segments, classes, segment)
            if segment in explicit:
                stream, position = explicit[segment]
            else:
                stream = streams.awaited(
                    int(segments.start_ns[position]), int(segments.end_ns[segment]), current
                )
        if stream != NONE and segment not in contradicted:
            found.append(Synchronization(segment, stream, position, behind_launch=False))
    found += _blocking_copies(trace, segments, tasks, own)
    found += _blocking_allocations(segments, tasks, classes, streams)
    return sorted(found, key=lambda one: one.segment)


def returned_early(
    segments: Segments, tasks: DeviceTasks, classes: NDArray[np.uint8]
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Calls that wait for the whole device and yet returned before its work ended; how early [ns].

    They contradict the times of the device, which cannot be told from a wait for part of it.
    """
    calls = np.flatnonzero(classes == CallClass.SYNCHRONIZE_DEVICE)
    if not len(calls) or not len(tasks):
        return np.empty(0, np.intp), np.empty(0, np.int64)
    earlier = np.iinfo(np.int64).min
    launch_ns = np.where(tasks.segment == NONE, earlier, segments.start_ns[tasks.segment])
    order = np.argsort(launch_ns, kind="stable")
    busy_until = np.append(earlier, np.maximum.accumulate(tasks.end_ns[order]))
    until = busy_until[np.searchsorted(launch_ns[order], segments.start_ns[calls])]
    early = until > segments.end_ns[calls] + RETURN_NS
    return calls[early], until[early] - segments.end_ns[calls[early]]


class _Streams:
    """The last task that each stream had been given at a host time."""

    def __init__(self, tasks: DeviceTasks, launch_ns: NDArray[np.int64]) -> None:
        self.tasks, self.launch_ns = tasks, launch_ns

    def last_end(self, stream: int, time_ns: int) -> int | None:
        first, last = self.tasks.first[stream], self.tasks.first[stream + 1]
        place = int(np.searchsorted(self.launch_ns[first:last], time_ns))
        return int(self.tasks.end_ns[first + place - 1]) if place else None

    def awaited(self, time_ns: int, return_ns: int, current: int) -> int:
        """The stream for which a call that returned at `return_ns` can have waited.

        The thread's own stream unless its work ended later; then the one that ended last before
        the return. NONE where every stream contradicts.
        """
        ends = {s: self.last_end(s, time_ns) for s in range(len(self.tasks.streams))}
        possible = {
            s: end for s, end in ends.items() if end is not None and end <= return_ns + EARLY_NS
        }
        close = {s: end for s, end in possible.items() if end >= return_ns - RETURN_NS}
        if current in close or (current in possible and not close):
            return current
        if close:
            return max(close, key=lambda s: (close[s], -s))
        return NONE


def _explicit_streams(
    trace: Trace, segments: Segments, tasks: DeviceTasks
) -> dict[int, tuple[int, int]]:
    """Stream and position that cuda_sync events name, by the segment of the call."""
    rows = np.flatnonzero(trace.kind == EventKind.SYNC)
    if not len(rows):
        return {}
    wait_on = trace.argument_column(Argument.WAIT_ON_STREAM)
    record_of = trace.argument_column(Argument.WAIT_ON_RECORD_CORRELATION)
    call_of = call_segments(trace, segments)
    number = {stream: index for index, (_, stream) in enumerate(tasks.streams)}
    found = {}
    for row in rows:
        call, name = call_of.get(int(trace.correlation[row])), trace.text(trace.name[row])
        if call is None:
            continue
        if name == "Stream Sync" and int(trace.stream[row]) in number:
            found[call] = number[int(trace.stream[row])], call
        elif name == "Event Sync" and int(wait_on[row]) in number:
            record = call_of.get(int(record_of[row]))
            if record is not None and segments.in_order(record, call):
                found[call] = number[int(wait_on[row])], record
    return found


def _last_record(segments: Segments, classes: NDArray[np.uint8], segment: int) -> int:
    """The last record of the same thread before `segment`; the segment itself without one."""
    place = segment - 1
    while place >= 0 and segments.thread[place] == segments.thread[segment]:
        if classes[place] == CallClass.RECORD:
            return place
        place -= 1
    return segment


def _blocking_copies(
    trace: Trace, segments: Segments, tasks: DeviceTasks, own: NDArray[np.intp]
) -> list[Synchronization]:
    """Copies to pageable memory and plain cudaMemcpy return when the copy is done."""
    to_pageable = np.array(["DtoH" in t and "Pageable" in t for t in trace.strings], bool)
    plain = np.array(
        [t in ("cudaMemcpy", "hipMemcpy", "hipMemcpyWithStream") for t in trace.strings], bool
    )
    copies = own[trace.kind[tasks.event[own]] == EventKind.COPY]
    segment = tasks.segment[copies]
    length = segments.end_ns[segment] - segments.start_ns[segment]
    returned_after = segments.end_ns[segment] >= tasks.end_ns[copies] - EARLY_NS
    by_name = (
        to_pageable[trace.name[tasks.event[copies]]] | plain[trace.name[segments.event[segment]]]
    )
    blocking = returned_after & (by_name | (length > 5 * BLOCKED_NS))
    return [
        Synchronization(int(s), int(stream), int(s), behind_launch=True)
        for s, stream in zip(segment[blocking], tasks.stream[copies[blocking]], strict=True)
    ]


def _blocking_allocations(
    segments: Segments, tasks: DeviceTasks, classes: NDArray[np.uint8], streams: _Streams
) -> list[Synchronization]:
    """CudaFree and the like may wait for the whole device: those that end just as it falls idle."""
    calls = np.flatnonzero(
        (classes == CallClass.ALLOCATE) & (segments.end_ns - segments.start_ns > BLOCKED_NS)
    )
    found = []
    for call in calls:
        begin, end = int(segments.start_ns[call]), int(segments.end_ns[call])
        ends = [streams.last_end(s, begin) for s in range(len(tasks.streams))]
        last = max((e for e in ends if e is not None), default=None)
        if last is not None and begin < last <= end + EARLY_NS and end - last < RETURN_NS:
            found.append(Synchronization(int(call), WHOLE_DEVICE, int(call), behind_launch=False))
    return found
