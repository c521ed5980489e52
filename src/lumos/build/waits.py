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

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from lumos.build.calls import CallClass
from lumos.build.device import DeviceTasks
from lumos.build.fans import Fan, find_fans
from lumos.build.threads import Segments, call_segments
from lumos.graph.job import NONE
from lumos.graph.trace import Argument, EventKind, Trace
from lumos.units import NS_PER_US

BINDING_NS = 8 * NS_PER_US
"""A task that starts at most this long after the awaited one ended was held by it."""
EARLY_NS = 2 * NS_PER_US
"""Time stamps of device tasks on two streams disagree by up to this."""
LAUNCHED_BEFORE_NS = 3 * NS_PER_US
MAXIMUM_BACK = 12
"""How many tasks of a communication stream a wait may reach back."""


class Evidence(IntEnum):
    """Why a wait is taken to mean what it does, strongest first."""

    EXPLICIT = 0  # the trace says so
    CALL_PATTERN = 1  # inside a communication operator, before its launch
    TIMES = 2  # another step's tasks start as the awaited ones end
    OWN_TIMES = 3  # the same, but of the very step it is used in
    ORDER = 4  # nothing but the order of the calls


@dataclass(frozen=True)
class Wait:
    """One resolved cudaStreamWaitEvent: stream `waiting` waits for device task `awaited` of `source`.

    For EXPLICIT and CALL_PATTERN evidence the record stands right before host segment `record`;
    for the others right behind the launch of `awaited`.
    """

    segment: int
    waiting: int
    source: int
    awaited: int
    record: int
    evidence: Evidence


@dataclass(frozen=True)
class ThreadLaunches:
    """Launches of one thread in host order: segment and stream, and whether it communicates."""

    segment: NDArray[np.int64]
    stream: NDArray[np.int32]
    task: NDArray[np.int64]
    communicates: NDArray[np.bool_]


class _Device:
    """Look-ups into the device tasks that all candidates need."""

    def __init__(
        self,
        segments: Segments,
        tasks: DeviceTasks,
        communicates: NDArray[np.bool_],
        kind: NDArray[np.uint8],
    ) -> None:
        self.segments, self.tasks, self.communicates = segments, tasks, communicates
        own = (tasks.segment != NONE) & ~tasks.adopted
        self.launch_ns = np.where(
            tasks.segment == NONE, np.iinfo(np.int64).min, segments.start_ns[tasks.segment]
        )
        is_kernel = ~communicates & (kind == EventKind.KERNEL)
        self.computes = np.bincount(tasks.stream, is_kernel, len(tasks.streams)) > 0
        self.launches = np.unique(tasks.segment[own])
        self.threads: dict[int, ThreadLaunches] = {}
        self.kinds: dict[tuple[int, bool], tuple[NDArray[np.int64], NDArray[np.int32]]] = {}
        mine = np.flatnonzero(own)
        thread = segments.thread[tasks.segment[mine]]
        for number in np.unique(thread):
            chosen = mine[thread == number]
            chosen = chosen[np.argsort(tasks.segment[chosen], kind="stable")]
            self.threads[int(number)] = ThreadLaunches(
                tasks.segment[chosen], tasks.stream[chosen], chosen, communicates[chosen]
            )
            for part in (True, False):
                mine_of = chosen[communicates[chosen] == part]
                self.kinds[int(number), part] = tasks.segment[mine_of], tasks.stream[mine_of]

    def last_before(self, stream: int, time_ns: int) -> int:
        """The last task given to `stream` before host time `time_ns`, NONE without one."""
        first, last = self.tasks.first[stream], self.tasks.first[stream + 1]
        place = first + int(np.searchsorted(self.launch_ns[first:last], time_ns))
        return int(place - 1) if place > first else NONE

    def first_after(self, stream: int, time_ns: int) -> int:
        """The first task given to `stream` at or after `time_ns`, NONE without one."""
        first, last = self.tasks.first[stream], self.tasks.first[stream + 1]
        place = first + int(np.searchsorted(self.launch_ns[first:last], time_ns))
        return int(place) if place < last else NONE

    def neighbours(self, thread: int, segment: int, *, communicating: bool) -> tuple[int, int]:
        """Streams of the thread's launches before and after `segment` (NONE without one)."""
        if (thread, communicating) not in self.kinds:
            return NONE, NONE
        at, stream = self.kinds[thread, communicating]
        place = int(np.searchsorted(at, segment))
        before = int(stream[place - 1]) if place > 0 else NONE
        after = int(stream[place]) if place < len(at) else NONE
        return before, after

    def fits(self, awaited: int, waiting: int) -> tuple[bool, bool]:
        """Whether `waiting` may have awaited `awaited`, and whether the wait held it back."""
        tasks = self.tasks
        gap = int(tasks.start_ns[waiting] - tasks.end_ns[awaited])
        if gap < -EARLY_NS:
            return False, False
        ready = max(
            int(self.launch_ns[waiting]) + LAUNCHED_BEFORE_NS,
            int(tasks.end_ns[waiting - 1]) if waiting > tasks.first[tasks.stream[waiting]] else 0,
        )
        return True, gap <= BINDING_NS and ready < int(tasks.end_ns[awaited])


@dataclass(frozen=True)
class Candidate:
    """A meaning that a wait may have: (waiting stream, source stream, tasks back on the source)."""

    waiting: int
    source: int
    back: int


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
    device = _Device(segments, tasks, communicates, trace.kind[tasks.event])
    explicit = _explicit(trace, device, calls)
    waits = list(explicit.values())
    inside = _communication_operators(trace, segments)
    open_calls = [int(call) for call in calls if int(call) not in explicit]
    pattern, lone = [], []
    for call in open_calls:
        launch = _launch_behind(device, segments, inside, call)
        if launch is not None:
            pattern.append((call, launch))
        elif not _behind_launch(device, segments, inside, call):
            lone.append(call)
    waits += _pattern_waits(device, segments, pattern)
    fans = find_fans(segments, classes, device.launches, inside)
    waits += _lone_waits(device, segments, lone, fans, step_of_segment)
    return sorted(waits, key=lambda wait: wait.segment)


def _explicit(trace: Trace, device: _Device, calls: NDArray[np.intp]) -> dict[int, Wait]:
    """Waits whose event the trace resolves: cuda_sync events with the record's correlation."""
    segments, tasks = device.segments, device.tasks
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
            awaited = device.last_before(source, int(segments.start_ns[record]))
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
    # outer operators are written first, so the widest one stays where they nest
    order = rows[np.lexsort((-trace.duration_ns[rows], trace.start_ns[rows]))]
    bounds = np.searchsorted(segments.thread, np.arange(int(segments.thread.max(initial=0)) + 2))
    for row in order:
        thread = label.get((int(trace.process[row]), int(trace.thread[row])))
        if thread is None:
            continue
        low, high = bounds[thread], bounds[thread + 1]
        begin, end = trace.start_ns[row], trace.start_ns[row] + trace.duration_ns[row]
        first = low + np.searchsorted(segments.start_ns[low:high], begin)
        last = low + np.searchsorted(segments.start_ns[low:high], end)
        if first < last and around[first] == NONE:
            around[first:last] = row
    return around


def _launch_behind(
    device: _Device, segments: Segments, inside: NDArray[np.int64], call: int
) -> int | None:
    """The communication task launched behind `call` in the same communication operator."""
    launches = device.threads.get(int(segments.thread[call]))
    if inside[call] == NONE or launches is None:
        return None
    place = int(np.searchsorted(launches.segment, call))
    while place < len(launches.segment) and inside[launches.segment[place]] == inside[call]:
        if launches.communicates[place]:
            return int(launches.task[place])
        place += 1
    return None


def _behind_launch(
    device: _Device, segments: Segments, inside: NDArray[np.int64], call: int
) -> bool:
    """Whether `call` follows a communication launch in its operator: the library's own affair."""
    launches = device.threads.get(int(segments.thread[call]))
    if inside[call] == NONE or launches is None:
        return False
    place = int(np.searchsorted(launches.segment, call)) - 1
    return (
        place >= 0
        and bool(launches.communicates[place])
        and inside[launches.segment[place]] == inside[call]
    )


def _pattern_waits(device: _Device, segments: Segments, found: list[tuple[int, int]]) -> list[Wait]:
    """Before its launch, communication waits for the stream that the thread works on."""
    waits = []
    for call, task in found:
        waiting = int(device.tasks.stream[task])
        before, after = device.neighbours(int(segments.thread[call]), call, communicating=False)
        time_ns = int(segments.start_ns[call])
        options: list[tuple[bool, bool, int, int, int]] = []
        for preference, source in enumerate((before, after)):
            awaited = device.last_before(source, time_ns) if source != NONE else NONE
            if source == waiting or awaited == NONE:
                continue
            possible, binds = device.fits(awaited, task)
            if possible:
                options.append(
                    (not binds, not device.computes[source], preference, source, awaited)
                )
        if options:
            *_, source, awaited = min(options)
            waits.append(Wait(call, waiting, source, awaited, call, Evidence.CALL_PATTERN))
    return waits


def _lone_waits(
    device: _Device,
    segments: Segments,
    calls: list[int],
    fans: dict[int, Fan],
    step_of_segment: NDArray[np.int32],
) -> list[Wait]:
    """Waits outside any communication launch: the compute stream waits for another one."""
    options = {
        call: _fan_candidate(device, segments, call, fans)
        or _candidates(device, segments, call, _launches_between(device, segments, call, following))
        for call, following in zip(calls, [*calls, NONE][1:], strict=True)
    }
    places = _same_place(segments, options, step_of_segment)
    waits = []
    for call in calls:
        choice = _choose(options[call], places[call])
        if choice is None:
            continue
        candidate, evidence = choice
        time_ns = int(segments.start_ns[call])
        awaited = device.last_before(candidate.source, time_ns) - candidate.back
        record = int(device.tasks.segment[awaited])
        waits.append(Wait(call, candidate.waiting, candidate.source, awaited, record, evidence))
    return waits


def _launches_between(device: _Device, segments: Segments, call: int, following: int) -> bool:
    """Whether the thread of `call` launches something before the next wait `following`."""
    launches = device.threads.get(int(segments.thread[call]))
    if following == NONE or segments.thread[following] != segments.thread[call]:
        return True
    if launches is None:
        return False
    first, last = np.searchsorted(launches.segment, [call, following])
    return bool(last > first)


def _fan_candidate(
    device: _Device, segments: Segments, call: int, fans: dict[int, Fan]
) -> dict[Candidate, bool]:
    """The meaning of a wait in a fork or a join: the stream left, and the one gone on with."""
    if call not in fans:
        return {}
    launches = device.threads.get(int(segments.thread[call]))
    if launches is None:
        return {}
    place = int(np.searchsorted(launches.segment, call))
    source = int(launches.stream[place - 1]) if place else NONE
    others = [int(stream) for stream in launches.stream[place:] if stream != source]
    if source == NONE or not others:
        return {}
    time_ns = int(segments.start_ns[call])
    task, awaited = device.first_after(others[0], time_ns), device.last_before(source, time_ns)
    possible, binds = device.fits(awaited, task) if NONE not in (task, awaited) else (False, False)
    return {Candidate(others[0], source, 0): binds} if possible else {}


def _candidates(
    device: _Device, segments: Segments, call: int, launches_next: bool
) -> dict[Candidate, bool]:
    """Possible meanings of `call` in order of preference; True where the wait held the next task.

    The stream that waits is the one launched on next; where another wait comes first, that one
    is for the next launch and this one for the stream launched on before. Streams that only copy
    come last.
    """
    thread, time_ns = int(segments.thread[call]), int(segments.start_ns[call])
    before, after = device.neighbours(thread, call, communicating=False)
    streams = [s for s in ((after, before) if launches_next else (before, after)) if s != NONE]
    found: dict[Candidate, bool] = {}
    for waiting in sorted(dict.fromkeys(streams), key=lambda s: not device.computes[s]):
        task = device.first_after(waiting, time_ns)
        if task == NONE:
            continue
        for source in range(len(device.tasks.streams)):
            if source == waiting:
                continue
            last = device.last_before(source, time_ns)
            if last == NONE:
                continue
            reach = MAXIMUM_BACK if device.communicates[last] else 1
            for back in range(reach):
                awaited = last - back
                if awaited < device.tasks.first[source]:
                    break
                possible, binds = device.fits(awaited, task)
                if possible:
                    found[Candidate(waiting, source, back)] = binds
    return found


@dataclass
class _Place:
    """The waits at one place of the program, one of each step: what they may mean, in how many."""

    steps: int = 0
    possible: Counter[Candidate] = field(default_factory=Counter)
    binding: Counter[Candidate] = field(default_factory=Counter)


def _same_place(
    segments: Segments,
    options: dict[int, dict[Candidate, bool]],
    step_of_segment: NDArray[np.int32],
) -> dict[int, _Place]:
    """For each call its place: thread, and number among the waits of its step.

    Steps are compared only where they have equally many such calls.
    """
    by_step: dict[tuple[int, int], list[int]] = defaultdict(list)
    for call in options:
        by_step[int(step_of_segment[call]), int(segments.thread[call])].append(call)
    places: dict[tuple[int, int, int], _Place] = defaultdict(_Place)
    place_of = {}
    for (_, thread), members in by_step.items():
        for number, call in enumerate(members):
            place = place_of[call] = places[thread, len(members), number]
            place.steps += 1
            place.possible.update(options[call].keys())
            place.binding.update(c for c, binds in options[call].items() if binds)
    return place_of


def _choose(mine: dict[Candidate, bool], place: _Place) -> tuple[Candidate, Evidence] | None:
    """The meaning that binds in most other steps and is impossible in none."""
    possible = [c for c in mine if place.possible[c] == place.steps] or list(mine)
    if not possible:
        return None
    votes = {c: place.binding[c] - mine[c] for c in possible}  # those of the other steps
    best = max(votes.values())
    if best > 0:
        return next(c for c in possible if votes[c] == best), Evidence.TIMES
    bound = [c for c in possible if mine[c]]
    if bound:
        return bound[0], Evidence.OWN_TIMES
    return possible[0], Evidence.ORDER
