"""Device tasks: which call launched each, in which order each stream got them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lumos.build.host_communication import HostSpans
from lumos.build.threads import Segments
from lumos.graph.job import NONE
from lumos.graph.trace import DEVICE_KINDS, MISSING, EventKind, Trace
from lumos.units import NS_PER_US


@dataclass(frozen=True)
class DeviceTasks:
    """Device tasks of one trace in stream order: by stream, then as launched; one entry a task.

    `segment` is the host segment of the launching call; NONE for tasks whose launch lies before
    the trace. A task without a launch of its own in the middle of a stream goes with the task in
    front of it (`adopted`).
    """

    event: NDArray[np.int64]
    stream: NDArray[np.int32]  # index into `streams`
    segment: NDArray[np.int64]
    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    adopted: NDArray[np.bool_]
    streams: tuple[tuple[int, int], ...]  # (device, stream); device HOST for queues of host threads
    labels: tuple[str, ...]
    first: NDArray[np.int64]  # first task of each stream, one entry more than streams

    def __len__(self) -> int:
        return len(self.event)


HOST = -2
"""Device of the queues in which host threads run communication."""


def link_device_tasks(trace: Trace, segments: Segments, spans: HostSpans) -> DeviceTasks:
    """Find the launch of every device task by correlation and put each stream in launch order.

    Communication run by host threads joins in, each queue a stream of device HOST.
    """
    rows = np.flatnonzero(np.isin(trace.kind, DEVICE_KINDS))
    segment = np.concatenate([_launching_segment(trace, segments, rows), spans.segment])
    device = np.maximum(trace.device[rows].astype(np.int64), MISSING)
    device = np.concatenate([device, np.full(len(spans), HOST)])
    number = np.concatenate([trace.stream[rows], spans.stream])
    start = np.concatenate([trace.start_ns[rows], spans.start_ns])
    end = np.concatenate([trace.start_ns[rows] + trace.duration_ns[rows], spans.end_ns])
    rows = np.concatenate([rows, spans.event])
    _, place = np.unique(number, return_inverse=True)  # numbers of streams may fill 64 bits
    keys, first, stream = np.unique(device << 31 | place, return_index=True, return_inverse=True)
    busy = np.bincount(stream, weights=trace.duration_ns[rows], minlength=len(keys))
    rename = np.empty(len(keys), np.int64)
    rename[np.argsort(-busy, kind="stable")] = np.arange(len(keys))  # the busiest stream is 0
    stream = rename[stream]
    launch_ns = np.where(segment == NONE, np.iinfo(np.int64).min, segments.start_ns[segment])
    launch_ns = _with_neighbours(launch_ns, start, stream)
    order = np.lexsort((rows, start, launch_ns, stream))
    rows, stream, segment = rows[order], stream[order], segment[order]
    segment, adopted = _adopt(segment, stream)
    streams: list[tuple[int, int]] = [(0, 0)] * len(keys)
    for old, new in enumerate(rename):
        streams[new] = (int(device[first[old]]), int(number[first[old]]))
    labels = [f"stream {stream}" if d != HOST else spans.labels[stream] for d, stream in streams]
    return DeviceTasks(
        event=rows,
        stream=stream.astype(np.int32),
        segment=segment,
        start_ns=start[order],
        end_ns=end[order],
        adopted=adopted,
        streams=tuple(streams),
        labels=tuple(labels),
        first=np.searchsorted(stream, np.arange(len(keys) + 1)),
    )


OUT_OF_ORDER_NS = 1000 * NS_PER_US
"""Kernels of one stream may overlap by some us (graphs, programmatic launches), never by this."""


def out_of_order(tasks: DeviceTasks) -> NDArray[np.bool_]:
    """Which device tasks started long before one launched ahead of them on their stream had ended."""
    late = np.zeros(len(tasks), bool)
    for number, (device, _) in enumerate(tasks.streams):
        own = slice(tasks.first[number], tasks.first[number + 1])
        if device != HOST:
            done = np.maximum.accumulate(tasks.end_ns[own])
            late[own][1:] = tasks.start_ns[own][1:] < done[:-1] - OUT_OF_ORDER_NS
    return late


def _launching_segment(
    trace: Trace, segments: Segments, rows: NDArray[np.intp]
) -> NDArray[np.int64]:
    """Segment of the call with the task's correlation, NONE without one."""
    is_call = (segments.event != NONE) & (trace.kind[segments.event] == EventKind.CALL)
    calls = np.flatnonzero(is_call)
    number = trace.correlation[segments.event[calls]]
    calls, number = calls[number != MISSING], number[number != MISSING]
    order = np.argsort(number, kind="stable")
    calls, number = calls[order], number[order]
    wanted = trace.correlation[rows]
    place = np.searchsorted(number, wanted)
    place_safe = np.minimum(place, max(len(number) - 1, 0))
    found = np.zeros(len(rows), bool)
    if len(number):
        found = (number[place_safe] == wanted) & (wanted != MISSING)
        # a launch cannot begin after its task: such a pair is two jobs' ids in one file
        found &= segments.start_ns[calls[place_safe]] <= trace.start_ns[rows] + 1000
    return np.where(found, calls[place_safe] if len(number) else NONE, NONE)


def _with_neighbours(
    launch_ns: NDArray[np.int64], start: NDArray[np.int64], stream: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Tasks without a launch get the launch time of the task that ran before them."""
    order = np.lexsort((start, stream))
    value = launch_ns[order].copy()
    same = np.concatenate(([False], stream[order][1:] == stream[order][:-1]))
    missing = value == np.iinfo(np.int64).min
    group = np.where(missing & same, 0, 1).cumsum() - 1
    leader = np.flatnonzero(~(missing & same))
    value = value[leader][group] if len(value) else value
    filled = np.empty_like(launch_ns)
    filled[order] = value
    return filled


def _adopt(
    segment: NDArray[np.int64], stream: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    same = np.concatenate(([False], stream[1:] == stream[:-1]))
    orphan = (segment == NONE) & same
    leader = np.flatnonzero(~orphan)
    if not len(segment):
        return segment, orphan
    adopted = segment[leader][np.where(orphan, 0, 1).cumsum() - 1]
    return adopted, orphan & (adopted != NONE)
