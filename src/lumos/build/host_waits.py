"""Which pauses wait for communication that the host itself runs: places of a step, told over steps.

    main    | c10d::allreduce_ | backward ......... |wait| next |
    worker       |== gloo:all_reduce ==============|

A wait leaves no event: the thread that issued a span pauses, and goes on just after its end. In one
step any pause can end so by chance. But a program waits at the same place of every step, for one
span after another: a place that the thread has left in other steps while the span ran on is none.
Each span is given the place whose pauses it explains best, over all steps; there it is awaited in
all of them, also where it had ended before.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lumos.build.combined import combined
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
    alike = _alike(trace, segments, spans, pauses.step, issued)
    places = _best_places(pauses, alike)
    named = [int(trace.name[spans.event[members[0]]]) for members in alike]
    queue = [
        NONE
        if trace.text(name) in POINT_TO_POINT
        else int(segments.thread[spans.segment[members[0]]])
        for name, members in zip(named, alike, strict=True)
    ]
    _fill_in_order(pauses, alike, list(zip(queue, named, strict=True)), places)
    waits = [
        one
        for members, place in zip(alike, places, strict=True)
        if place is not None
        for one in pauses.waits(members, place)
    ]
    return sorted(waits, key=lambda one: (one.segment, one.time_ns))


def _best_places(pauses: _Pauses, alike: Sequence[Sequence[int]]) -> list[Place | None]:
    """The place of each span, one span a place; the best explained first. None where none shows."""
    options = sorted(
        (-explained, number, place)
        for number, members in enumerate(alike)
        for place in pauses.candidates(members)
        if (explained := pauses.explained(members, place)) > 0
    )
    found: list[Place | None] = [None] * len(alike)
    taken: set[tuple[int, int]] = set()
    for _, number, place in options:
        first = int(pauses.step[pauses.issue[alike[number][0]]]) + place.steps
        if found[number] is None and (place.number, first) not in taken:
            found[number] = place
            taken.add((place.number, first))
    return found


def without_late_ends(spans: HostSpans, waits: Sequence[HostWait]) -> HostSpans:
    """The spans, none of which ends after the thread that waited for it has gone on."""
    end_ns = spans.end_ns.copy()
    for one in waits:
        end_ns[one.span] -= one.late_ns
    return replace(spans, end_ns=end_ns)


def _fill_in_order(
    pauses: _Pauses,
    alike: Sequence[Sequence[int]],
    queue: Sequence[tuple[int, int]],
    places: list[Place | None],
) -> None:
    """Collectives that show no place are awaited with the next of their thread and name, or the last.

    DDP waits for its buckets in the order of their issue (torch: Reducer::finalize_backward). `queue`
    says of which thread and name each is, NONE for a message.
    """
    for order in (range(len(alike))[::-1], range(len(alike))):
        near: dict[tuple[int, int], Place] = {}
        for number in order:
            place = places[number] or near.get(queue[number])
            if place is None or queue[number][0] == NONE:
                continue
            waits = pauses.waits(alike[number], place)
            if places[number] is not None or not any(one.late_ns for one in waits):
                places[number] = near[queue[number]] = place


@dataclass(frozen=True)
class _Pauses:
    """Where each thread can wait, and when the spans that it may wait for start and end.

    `place` and `step` have one entry a segment, NONE where nothing can wait; `at` finds the segment
    at a place in a step. `issue`, `start_ns` and `end_ns` have one entry a span.
    """

    segments: Segments
    place: NDArray[np.int64]
    step: NDArray[np.int64]
    at: dict[tuple[int, int], int]
    issue: NDArray[np.int64]
    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]

    def waits(self, members: Sequence[int], place: Place) -> Iterator[HostWait]:
        """The wait of each span at its place, where the thread comes there after the issue."""
        for span in members:
            pause, end = self._pause(span, place), int(self.end_ns[span])
            if pause == NONE or self.start_ns[span] >= self.segments.end_ns[pause]:
                continue
            begin, left = int(self.segments.start_ns[pause]), int(self.segments.end_ns[pause])
            yield HostWait(pause, span, min(max(end, begin), left), max(0, end - left))

    def candidates(self, members: Sequence[int]) -> set[Place]:
        """The places of pauses that end just after the span's end, in any step."""
        found = set()
        for span in members:
            issue, end = int(self.issue[span]), int(self.end_ns[span])
            behind = int(
                np.searchsorted(self.segments.thread, self.segments.thread[issue], side="right")
            )
            pause = issue + int(np.searchsorted(self.segments.end_ns[issue:behind], end))
            if not issue < pause < behind or self.place[pause] == NONE:
                continue
            if (
                self._length_ns(pause) >= SHORTEST_WAIT_NS
                and self._behind_ns(span, pause) <= RETURN_NS
            ):
                steps = int(self.step[pause] - self.step[issue])
                found.add(Place(int(self.place[pause]), steps))
        return found

    def explained(self, members: Sequence[int], place: Place) -> float:
        """How well the same span of several steps explains the pauses of a place: a sum over steps.

        1 where the thread went on as the span ended, less the further apart the two are, in either
        direction, as a share of the pause; -1 where the thread did not pause at all. Nothing where
        the span had ended before.
        """
        total = 0.0
        for span in members:
            pause = self._pause(span, place)
            if pause == NONE or self.end_ns[span] <= self.segments.start_ns[pause]:
                continue
            length, apart = self._length_ns(pause), abs(self._behind_ns(span, pause))
            if length >= SHORTEST_WAIT_NS or self._behind_ns(span, pause) < 0:
                total += (length - apart) / (length + apart)
        return total

    def _length_ns(self, pause: int) -> int:
        return int(self.segments.end_ns[pause] - self.segments.start_ns[pause])

    def _behind_ns(self, span: int, pause: int) -> int:
        """How long after the end of a span the thread went on; negative where it did so before."""
        return int(self.segments.end_ns[pause] - self.end_ns[span])

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
    return _Pauses(segments, place, step, at, spans.segment, spans.start_ns, end_ns)


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
    return combined(np.stack(columns).astype(np.int64))


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
    key = combined(np.stack(columns).astype(np.int64))
    order = np.argsort(key, kind="stable")
    first = np.ones(len(key), bool)
    first[1:] = key[order][1:] != key[order][:-1]
    begin = np.maximum.accumulate(np.where(first, np.arange(len(key)), 0))
    found = np.empty(len(key), np.int64)
    found[order] = np.arange(len(key)) - begin
    return found
