"""Which stream waits for which event: told by the trace, else inferred with evidence.

The calls of most traces carry no stream and no event. What is known: the thread and time of each
call, the operators around it, and when the device tasks behind it ran. Candidates come from the
program (what this thread had launched where), times decide between them:

    host   | launch K | ... | wait | launch N |
    comm        |====K=========|
    main                        |=N=|          N starts as K ends although launch and stream were
                                               ready before: the wait binds, K was awaited
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from lumos.build.calls import CallClass
from lumos.build.device import DeviceTasks
from lumos.build.fans import find_fans
from lumos.build.launches import Launches
from lumos.build.lone_waits import lone_waits
from lumos.build.threads import Segments, call_segments
from lumos.build.wait import Evidence, Wait
from lumos.compiled import compiled
from lumos.graph.job import NONE
from lumos.graph.trace import Argument, EventKind, Trace


def resolve_waits(
    trace: Trace,
    segments: Segments,
    tasks: DeviceTasks,
    classes: NDArray[np.uint8],
    communicates: NDArray[np.bool_],
    step_of_segment: NDArray[np.int32],
) -> list[Wait]:
    """Give every stream-wait call of the trace its meaning; calls without any are left out."""
    calls = np.flatnonzero(classes == CallClass.WAIT_EVENT)
    if not len(calls) or not len(tasks):
        return []
    launches = Launches(segments, tasks, communicates, trace.kind[tasks.event])
    explicit = _explicit(trace, launches, calls)
    waits = list(explicit.values())
    inside = _communication_operators(trace, segments)
    known = np.fromiter(explicit, np.int64, len(explicit))
    open_calls = calls[~np.isin(calls, known)]
    behind = _launches_behind(launches, inside, open_calls)
    pattern = zip(open_calls[behind >= 0].tolist(), behind[behind >= 0].tolist(), strict=True)
    waits += _pattern_waits(launches, pattern)
    fans = find_fans(segments, classes, np.unique(launches.segment), inside)
    waits += lone_waits(launches, open_calls[behind == ALONE], fans, step_of_segment)
    return sorted(waits, key=lambda wait: wait.segment)


def _explicit(trace: Trace, launches: Launches, calls: NDArray[np.intp]) -> dict[int, Wait]:
    """Waits whose event the trace resolves: cuda_sync events with the record's correlation."""
    segments, tasks = launches.segments, launches.tasks
    rows = np.flatnonzero(trace.kind == EventKind.SYNC)
    if not len(rows):
        return {}
    wait_on = trace.argument_column(Argument.WAIT_ON_STREAM)
    record_of = trace.argument_column(Argument.WAIT_ON_RECORD_CORRELATION)
    rows = rows[(wait_on[rows] >= 0) & (record_of[rows] >= 0)]
    segment_of_correlation = call_segments(trace, segments)
    number = {stream: index for index, (_, stream) in enumerate(tasks.streams)}
    known = set(calls.tolist())
    found: dict[int, Wait] = {}
    for row in rows:
        call = segment_of_correlation.get(int(trace.correlation[row]), NONE)
        record = segment_of_correlation.get(int(record_of[row]))
        waiting, source = number.get(int(trace.stream[row])), number.get(int(wait_on[row]))
        if call not in known or record is None or not segments.in_order(record, call):
            continue
        if waiting is not None and source is not None:
            awaited = launches.last_before(source, int(segments.start_ns[record]))
            found[call] = Wait(call, waiting, source, awaited, record, Evidence.EXPLICIT)
    return found


def _communication_operators(trace: Trace, segments: Segments) -> NDArray[np.int64]:
    """For each segment the trace row of the communication operator around it, NONE outside."""
    is_operator = np.array(
        [text == "record_param_comms" or text.startswith("c10d::") for text in trace.strings], bool
    )
    rows = np.flatnonzero((trace.kind == EventKind.OPERATOR) & is_operator[trace.name])
    around = np.full(len(segments), NONE, np.int64)
    threads, first = np.unique(segments.thread[segments.event != NONE], return_index=True)
    events = segments.event[segments.event != NONE][first]
    label = {
        (int(trace.process[event]), int(trace.thread[event])): int(thread)
        for thread, event in zip(threads, events, strict=True)
    }
    keys = zip(trace.process[rows].tolist(), trace.thread[rows].tolist(), strict=True)
    thread = np.fromiter((label.get(key, NONE) for key in keys), np.int64, len(rows))
    rows, thread = rows[thread != NONE], thread[thread != NONE]
    # outer operators are written first, so the widest one stays where they nest
    order = np.lexsort((-trace.duration_ns[rows], trace.start_ns[rows]))
    rows, begin = rows[order], trace.start_ns[rows[order]]
    bounds = np.searchsorted(segments.thread, np.arange(int(segments.thread.max(initial=0)) + 2))
    end = begin + trace.duration_ns[rows]
    _mark(rows, thread[order], begin, end, bounds, segments.start_ns, around)
    return around


@compiled()
def _mark(rows, thread, begin, end, bounds, start, around):  # type: ignore[no-untyped-def]
    for place in range(len(rows)):
        low, high = bounds[thread[place]], bounds[thread[place] + 1]
        first = low + np.searchsorted(start[low:high], begin[place])
        last = low + np.searchsorted(start[low:high], end[place])
        if first < last and around[first] == NONE:
            around[first:last] = rows[place]


ALONE, BEHIND = -1, -2
"""In the place of a communication task: a wait by itself, and one behind its operator's launch,
which is the library's own affair."""


def _launches_behind(
    launches: Launches, inside: NDArray[np.int64], calls: NDArray[np.intp]
) -> NDArray[np.int64]:
    """The communication task launched behind each call in the same communication operator."""
    return _behind(  # type: ignore[no-any-return]
        calls, inside, launches.segments.thread, launches.first, launches.segment,
        launches.communicates, launches.task,
    )  # fmt: skip


@compiled()
def _behind(calls, inside, thread, first, segment, communicates, task):  # type: ignore[no-untyped-def]
    found = np.full(len(calls), ALONE, np.int64)
    for number, call in enumerate(calls):
        low, high = first[thread[call]], first[thread[call] + 1]
        if inside[call] == NONE:
            continue
        begin = low + np.searchsorted(segment[low:high], call)
        place = begin
        while place < high and inside[segment[place]] == inside[call]:
            if communicates[place]:
                found[number] = task[place]
                break
            place += 1
        before = begin - 1
        library = before >= low and communicates[before]
        if found[number] == ALONE and library and inside[segment[before]] == inside[call]:
            found[number] = BEHIND
    return found


def _pattern_waits(launches: Launches, found: Iterable[tuple[int, int]]) -> list[Wait]:
    """Before its launch, communication waits for the stream that the thread works on."""
    waits = []
    for call, task in found:
        waiting = int(launches.tasks.stream[task])
        time_ns = int(launches.segments.start_ns[call])
        options: list[tuple[bool, bool, int, int, int]] = []
        for preference, source in enumerate(launches.neighbours(call)):
            awaited = launches.last_before(source, time_ns) if source != NONE else NONE
            if source == waiting or awaited == NONE:
                continue
            possible, binds = launches.fits(awaited, task)
            if possible:
                options.append(
                    (not binds, not launches.computes[source], preference, source, awaited)
                )
        if options:
            *_, source, awaited = min(options)
            waits.append(Wait(call, waiting, source, awaited, call, Evidence.CALL_PATTERN))
    return waits
