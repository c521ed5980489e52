"""Which pauses wait for communication that the host itself runs: places of a step, told over steps.

    main    | c10d::allreduce_ | backward ......... |wait| next |
    worker       |== gloo:all_reduce ==============|

A wait leaves no event: the thread that issued a span pauses, and goes on just after its end. In one
step any pause can end so by chance. But a program waits at the same place of every step: a place
that the thread has left in other steps while the span still ran is none. The place that more steps
speak for than against waits in all of them, also where the span had ended before it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lumos.build.host_communication import POINT_TO_POINT, HostSpans
from lumos.build.steps import Steps
from lumos.build.threads import HostEvents, Segments
from lumos.graph.job import NONE
from lumos.graph.trace import EventKind, Trace
from lumos.units import NS_PER_US

RETURN_NS = 5000 * NS_PER_US
"""A waiting thread goes on within this of the span's end: workers and waiters share cores."""
SHORTEST_WAIT_NS = 10 * NS_PER_US


@dataclass(frozen=True)
class HostWait:
    """In pause `segment` the thread waited until `time_ns` for `span` (index into the spans).

    `late_ns` is how much later than that the span is recorded to end: its thread was held up after
    it had told the waiting one.
    """

    segment: int
    span: int
    time_ns: int
    late_ns: int


class Place(NamedTuple):
    """A place of the program, and in which step the thread waits there: `steps` behind the issue."""

    number: int
    steps: int


def find_host_waits(
    trace: Trace, events: HostEvents, segments: Segments, spans: HostSpans, steps: Steps
) -> list[HostWait]:
    """The waits of issuing threads, between operators or inside of them."""
    issued = np.flatnonzero(spans.segment != NONE)
    if not len(issued):
        return []
    pauses = _pauses(trace, events, segments, spans, steps, issued)
    found: list[HostWait] = []
    behind: dict[tuple[int, int], Place] = {}  # where the next one of a thread and name is awaited
    for members in reversed(_alike(trace, segments, spans, pauses.step, issued)):
        first = members[0]
        name = int(trace.name[spans.event[first]])
        of_thread = int(segments.thread[spans.segment[first]]), name
        place = pauses.waiting_place(members)
        if place is None and not pauses.message[first]:
            # DDP waits for its buckets in the order of their issue (torch: Reducer::finalize_backward)
            place = behind.get(of_thread)
            if place is not None and pauses.votes(members, place).steps_against:
                place = None
        if place is not None:
            behind[of_thread] = place
            found += pauses.waits(members, place)
    return sorted(found, key=lambda one: (one.segment, one.time_ns))


def without_late_ends(spans: HostSpans, waits: Sequence[HostWait]) -> HostSpans:
    """The spans, none of which ends after the thread that waited for it has gone on."""
    end_ns = spans.end_ns.copy()
    for one in waits:
        end_ns[one.span] -= one.late_ns
    return replace(spans, end_ns=end_ns)


@dataclass(frozen=True)
class _Votes:
    """How many steps speak for a place and against it, and how long the thread paused there [ns]."""

    steps_for: int
    steps_against: int
    paused_ns: int


@dataclass(frozen=True)
class _Pauses:
    """Where each thread can wait, and when the spans that it may wait for start and end.

    `place` and `step` have one entry a segment, NONE where nothing can wait; `at` finds the segment
    at a place in a step, `last_of` the span that ends last in a pause. `issue`, `start_ns` and
    `end_ns` have one entry a span, and so have `message`, which tells sends and receives, and
    `ends_in`, the segment of its thread in which it ends.
    """

    segments: Segments
    place: NDArray[np.int64]
    step: NDArray[np.int64]
    at: dict[tuple[int, int], int]
    issue: NDArray[np.int64]
    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    message: NDArray[np.bool_]
    ends_in: NDArray[np.int64]
    last_of: NDArray[np.int64]

    def waiting_place(self, members: Sequence[int]) -> Place | None:
        """The place at which the same span of several steps is awaited; None where none shows."""
        votes = {place: self.votes(members, place) for place in self._candidates(members)}
        possible = [
            (-one.steps_against, one.steps_for, one.paused_ns, place)
            for place, one in votes.items()
            if one.steps_for >= one.steps_against
        ]
        return max(possible)[-1] if possible else None

    def waits(self, members: Sequence[int], place: Place) -> Iterator[HostWait]:
        """The wait of each span at its place, where the thread comes there after the issue."""
        for span in members:
            pause, end = self._pause(span, place), int(self.end_ns[span])
            if pause == NONE or self.start_ns[span] >= self.segments.end_ns[pause]:
                continue
            begin, left = int(self.segments.start_ns[pause]), int(self.segments.end_ns[pause])
            yield HostWait(pause, span, min(max(end, begin), left), max(0, end - left))

    def _candidates(self, members: Sequence[int]) -> set[Place]:
        """The places that the thread left just after the span's end in any step."""
        found = set()
        for span in members:
            pause = int(self.ends_in[span])
            if pause != NONE and self.place[pause] != NONE and self._speaks(span, pause):
                steps = int(self.step[pause] - self.step[self.issue[span]])
                found.add(Place(int(self.place[pause]), steps))
        return found

    def _speaks(self, span: int, pause: int) -> bool:
        """Whether a pause looks as if it waited for this span.

        A message's span lasts until somebody has waited for it: of several that one pause waits for,
        one after the other, the last stands for all.
        """
        if self.ends_in[span] != pause or (self.message[span] and self.last_of[pause] != span):
            return False
        begin, left = int(self.segments.start_ns[pause]), int(self.segments.end_ns[pause])
        return left - begin >= SHORTEST_WAIT_NS and left - int(self.end_ns[span]) <= RETURN_NS

    def votes(self, members: Sequence[int], place: Place) -> _Votes:
        """What the steps say of a place, for the same span of each."""
        steps_for = steps_against = paused_ns = 0
        for span in members:
            pause = self._pause(span, place)
            if pause == NONE:
                continue
            if self._speaks(span, pause):
                steps_for += 1
                paused_ns += int(self.segments.end_ns[pause] - self.segments.start_ns[pause])
            steps_against += bool(self.end_ns[span] > self.segments.end_ns[pause])
        return _Votes(steps_for, steps_against, paused_ns)

    def _pause(self, span: int, place: Place) -> int:
        """The segment at a place, in the step that belongs to a span; NONE before its issue."""
        issue = int(self.issue[span])
        pause = self.at.get((place.number, int(self.step[issue]) + place.steps), NONE)
        return pause if pause > issue else NONE


def _pauses(
    trace: Trace,
    events: HostEvents,
    segments: Segments,
    spans: HostSpans,
    steps: Steps,
    issued: NDArray[np.intp],
) -> _Pauses:
    works = np.array([text.startswith(("aten::", "c10d::")) for text in trace.strings], bool)
    works = works[trace.name] | (trace.kind == EventKind.CALL)  # own time of these is no pause
    can_wait = (segments.event == NONE) | ~works[segments.event]
    goes_on = np.append(segments.thread[1:] == segments.thread[:-1], False)
    issues = np.isin(segments.thread, segments.thread[spans.segment[issued]])
    place = np.where(can_wait & goes_on & issues, _places(trace, events, segments, steps), NONE)
    step = steps.step_at(segments.start_ns).astype(np.int64)
    known = np.flatnonzero(place != NONE)[::-1]  # of several the first
    keys = zip(place[known].tolist(), step[known].tolist(), strict=True)
    at = dict(zip(keys, known.tolist(), strict=True))
    end_ns = (trace.start_ns + trace.duration_ns)[spans.event]
    ends_in, last_of = _endings(segments, spans.segment, end_ns, issued)
    names = [trace.text(name) for name in trace.name[spans.event].tolist()]
    message = np.array([name in POINT_TO_POINT for name in names], bool)
    return _Pauses(
        segments, place, step, at, spans.segment, spans.start_ns, end_ns, message, ends_in, last_of
    )


def _endings(
    segments: Segments,
    issue: NDArray[np.int64],
    end_ns: NDArray[np.int64],
    issued: NDArray[np.intp],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The segment in which each span ends, behind its issue, and the last span of each segment."""
    ends_in = np.full(len(issue), NONE, np.int64)
    last_of = np.full(len(segments), NONE, np.int64)
    for span in issued[np.argsort(end_ns[issued], kind="stable")].tolist():
        first = int(issue[span])
        behind = int(np.searchsorted(segments.thread, segments.thread[first], side="right"))
        pause = first + int(np.searchsorted(segments.end_ns[first:behind], end_ns[span]))
        if first < pause < behind and segments.start_ns[pause] < end_ns[span]:
            ends_in[span], last_of[pause] = pause, span
    return ends_in, last_of


def _places(
    trace: Trace, events: HostEvents, segments: Segments, steps: Steps
) -> NDArray[np.int64]:
    """A number for the place of each segment: the same one in every step.

    It is told by the last operator or call that had begun on the thread - its name, and which of
    that name it is in its step - and by the operator whose own time it is.
    """
    name = trace.name[events.row].astype(np.int64)
    which = _which(events.thread, steps.step_at(events.start_ns), name)
    begun = np.searchsorted(events.thread, segments.thread)  # the first event of the thread
    for thread in range(len(events.labels)):
        mine = segments.thread == thread
        low, high = np.searchsorted(events.thread, [thread, thread + 1])
        begun[mine] = (
            low
            - 1
            + np.searchsorted(events.start_ns[low:high], segments.start_ns[mine], side="right")
        )
        none = mine & (begun < low)
        begun[none] = NONE
    own = np.where(segments.event != NONE, trace.name[segments.event], NONE)
    last = np.where(begun != NONE, name[begun], NONE)
    columns = (segments.thread, last, np.where(begun != NONE, which[begun], NONE), own)
    return np.unique(np.stack(columns), axis=1, return_inverse=True)[1].reshape(-1)


def _alike(
    trace: Trace,
    segments: Segments,
    spans: HostSpans,
    step: NDArray[np.int64],
    issued: NDArray[np.intp],
) -> list[list[int]]:
    """The spans that are one in every step - of a thread the k-th of a name - in order of issue."""
    order = issued[np.argsort(spans.segment[issued], kind="stable")]
    thread, name = segments.thread[spans.segment[order]], trace.name[spans.event[order]]
    which = _which(thread, step[spans.segment[order]], name)
    found: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    keys = zip(thread.tolist(), name.tolist(), which.tolist(), strict=True)
    for key, span in zip(keys, order.tolist(), strict=True):
        found[key].append(span)
    return list(found.values())


def _which(*columns: NDArray[np.integer]) -> NDArray[np.int64]:
    """How many entries with the same values stand before each one."""
    _, key = np.unique(np.stack(columns).astype(np.int64), axis=1, return_inverse=True)
    key = key.reshape(-1)
    order = np.argsort(key, kind="stable")
    first = np.ones(len(key), bool)
    first[1:] = key[order][1:] != key[order][:-1]
    begin = np.maximum.accumulate(np.where(first, np.arange(len(key)), 0))
    found = np.empty(len(key), np.int64)
    found[order] = np.arange(len(key)) - begin
    return found
