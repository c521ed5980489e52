"""Host pieces: the segments of all threads with every wait made a row of its own, in host order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumos.build.calls import CallClass
from lumos.build.device import DeviceTasks
from lumos.build.hand_offs import HandOff
from lumos.build.host_communication import HostSpans
from lumos.build.host_waits import HostWait
from lumos.build.steps import Steps
from lumos.build.synchronize import Synchronization
from lumos.build.threads import Segments
from lumos.build.wait import Evidence, Wait
from lumos.graph.job import NONE, TaskKind
from lumos.units import NS_PER_US

SLOW_LAUNCH_FACTOR = 4
"""A launch call this many times longer than usual hands its task over near its end."""


@dataclass
class Pieces:
    """Growing columns of host rows; `order` breaks ties between rows that start together."""

    kind: list[int] = field(default_factory=list)
    event: list[int] = field(default_factory=list)
    thread: list[int] = field(default_factory=list)
    start_ns: list[int] = field(default_factory=list)
    end_ns: list[int] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    stream: list[int] = field(default_factory=list)
    signal: list[int] = field(default_factory=list)
    awaits: list[int] = field(default_factory=list)
    distance: list[int] = field(default_factory=list)

    def add(
        self,
        kind: TaskKind,
        thread: int,
        start_ns: int,
        end_ns: int,
        order: int,
        *,
        event: int = NONE,
        stream: int = NONE,
        signal: int = NONE,
        awaits: int = NONE,
        distance: int = 0,
    ) -> None:
        """Append one row."""
        for name, value in (
            ("kind", kind), ("thread", thread), ("start_ns", start_ns), ("end_ns", end_ns),
            ("order", order), ("event", event), ("stream", stream),
            ("signal", signal), ("awaits", awaits), ("distance", distance),
        ):  # fmt: skip
            getattr(self, name).append(value)


class _Slots:
    """Numbers for what is signalled and awaited: equal places of different steps share one."""

    def __init__(self) -> None:
        self.numbers: dict[tuple[object, ...], int] = {}

    def of(self, *key: object) -> int:
        return self.numbers.setdefault(key, len(self.numbers))


Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class HostRows:
    """Columns of the host rows and their order; which row launches for each segment.

    The columns lie as they were made, `order` takes their values to the rows. `before_trace` maps a
    slot that is awaited, though its task was launched before the trace, to that task.
    """

    columns: Columns
    order: NDArray[np.intp]
    row_of_segment: NDArray[np.int32]
    before_trace: dict[int, int]

    def column(self, name: str) -> NDArray[Any]:
        """A column in the order of the rows."""
        return self.columns[name][self.order]


def host_pieces(
    segments: Segments,
    classes: NDArray[np.uint8],
    tasks: DeviceTasks,
    steps: Steps,
    step_of_segment: NDArray[np.int32],
    waits: list[Wait],
    synchronizations: list[Synchronization],
    hand_offs: list[HandOff],
    spans: HostSpans,
    host_waits: list[HostWait],
) -> HostRows:
    """All host rows in host order, every wait a row of its own."""
    slots, extra = _Slots(), Pieces()
    column = _plain(segments, classes, tasks)
    _take_hand_offs(segments, hand_offs, column, extra, slots)
    before_trace = _take_waits(segments, tasks, step_of_segment, waits, column, extra, slots)
    _take_synchronizations(segments, step_of_segment, synchronizations, column, extra, slots)
    _take_host_waits(segments, steps, spans, host_waits, tasks, column, extra, slots)
    _split_slow_launches(segments, tasks, column, extra)
    _cut_gaps(steps, column, extra)
    joined = {
        name: np.concatenate([values, np.array(getattr(extra, name), values.dtype)])
        for name, values in column.items()
    }
    order = np.lexsort((joined.pop("order"), joined["start_ns"]))
    row = np.empty(len(order), np.int32)
    row[order] = np.arange(len(order), dtype=np.int32)
    launches = column["kind"] == TaskKind.LAUNCH
    row_of_segment = np.where(launches, row[: len(segments)], np.int32(NONE))
    return HostRows(joined, order, row_of_segment, before_trace)


def _plain(segments: Segments, classes: NDArray[np.uint8], tasks: DeviceTasks) -> Columns:
    """One row a segment, before any wait is known."""
    count = len(segments)
    kind = np.full(count, TaskKind.OPERATOR, np.int64)
    kind[segments.event == NONE] = TaskKind.GAP
    kind[classes != CallClass.NOT_A_CALL] = TaskKind.CALL
    kind[tasks.segment[tasks.segment != NONE]] = TaskKind.LAUNCH
    none = np.full(count, NONE, np.int32)
    return {
        "kind": kind.astype(np.uint8),
        "event": segments.event,
        "thread": segments.thread,
        "start_ns": segments.start_ns.copy(),
        "end_ns": segments.end_ns.copy(),
        "order": 4 * np.arange(count, dtype=np.int64) + 2,
        "stream": none,
        "signal": none.copy(),
        "awaits": none.copy(),
        "distance": np.zeros(count, np.int32),
    }


def _take_hand_offs(
    segments: Segments, hand_offs: list[HandOff], column: Columns, extra: Pieces, slots: _Slots
) -> None:
    """The pause is cut to what follows the signal; the signal is a row of its own."""
    for one in hand_offs:
        slot = slots.of("hand-off", one.signaller)
        extra.add(
            TaskKind.SIGNAL, int(segments.thread[one.signaller]), one.time_ns, one.time_ns,
            4 * one.signaller + 3, signal=slot,
        )  # fmt: skip
        column["start_ns"][one.waiter] = one.time_ns
        column["awaits"][one.waiter] = slot
        column["order"][one.waiter] = 4 * len(segments) + one.waiter


def _take_waits(
    segments: Segments,
    tasks: DeviceTasks,
    step_of_segment: NDArray[np.int32],
    waits: list[Wait],
    column: Columns,
    extra: Pieces,
    slots: _Slots,
) -> dict[int, int]:
    """Each stream wait awaits a slot; its record is a row of our own where the host made it."""
    place = _places(tasks, step_of_segment)
    recorded: set[int] = set()
    before_trace: dict[int, int] = {}
    for wait in waits:
        column["kind"][wait.segment] = TaskKind.WAIT_EVENT
        column["stream"][wait.segment] = wait.waiting
        if wait.evidence in (Evidence.CALL_PATTERN, Evidence.EXPLICIT):
            slot = slots.of("record", wait.record)
            distance = int(place.step_of_segment[wait.segment] - place.step_of_segment[wait.record])
            if slot not in recorded:
                _add_record(segments, wait.record, 4 * wait.record + 1, wait.source, slot, extra)
        else:
            slot, distance = _lone_record(segments, wait, place, extra, slots, recorded)
            if place.step_of_task[wait.awaited] == NONE:
                before_trace[slot] = wait.awaited
        recorded.add(slot)
        column["awaits"][wait.segment] = slot
        column["distance"][wait.segment] = distance
    return before_trace


def _add_record(
    segments: Segments, segment: int, order: int, stream: int, slot: int, extra: Pieces
) -> None:
    time_ns = int(segments.start_ns[segment])
    extra.add(
        TaskKind.RECORD, int(segments.thread[segment]), time_ns, time_ns, order,
        stream=stream, signal=slot,
    )  # fmt: skip


@dataclass(frozen=True)
class _Places:
    """The steps of segments and tasks; runs of tasks of one step and stream, first to last."""

    step_of_segment: NDArray[np.int32]
    step_of_task: NDArray[np.int32]
    launch_segment: NDArray[np.int64]
    run_stream: NDArray[np.int32]
    run_step: NDArray[np.int32]
    run_first: NDArray[np.int64]
    run_last: NDArray[np.int64]

    def from_back(self, task: int) -> int:
        """How many tasks come behind `task` in its run."""
        return int(self.run_last[np.searchsorted(self.run_first, task, side="right") - 1]) - task

    def same_place(self, stream: int, back: int) -> list[int]:
        """The task that far from the back in every step, in the order of the steps."""
        task = self.run_last - back
        found = (self.run_stream == stream) & (self.run_step != NONE) & (task >= self.run_first)
        by_step = dict(zip(self.run_step[found].tolist(), task[found].tolist(), strict=True))
        return [by_step[step] for step in sorted(by_step)]


def _places(tasks: DeviceTasks, step_of_segment: NDArray[np.int32]) -> _Places:
    step = np.where(tasks.segment == NONE, NONE, step_of_segment[tasks.segment]).astype(np.int32)
    new = np.ones(len(tasks), bool)
    new[1:] = (step[1:] != step[:-1]) | (tasks.stream[1:] != tasks.stream[:-1])
    first = np.flatnonzero(new)
    last = np.append(first, len(tasks))[1:] - 1
    return _Places(
        step_of_segment, step, tasks.segment, tasks.stream[first], step[first], first, last
    )


def _lone_record(
    segments: Segments, wait: Wait, place: _Places, extra: Pieces, slots: _Slots, recorded: set[int]
) -> tuple[int, int]:
    """Slot and distance of a wait for the task launched by segment `wait.record`.

    A wait for a task of an earlier step names the same place in every step, so that it holds in
    back-to-back copies of one step too.
    """
    mine = int(place.step_of_segment[wait.segment])
    task = wait.awaited
    theirs = int(place.step_of_task[task])
    if mine == theirs:
        slot = slots.of("task", task)
        if slot not in recorded:
            _add_record(segments, wait.record, 4 * wait.record + 3, wait.source, slot, extra)
        return slot, 0
    back = place.from_back(task)
    slot = slots.of("last", wait.source, back)
    if slot not in recorded:
        for there in place.same_place(wait.source, back):
            if (segment := int(place.launch_segment[there])) != NONE:
                _add_record(segments, segment, 4 * segment + 3, wait.source, slot, extra)
    return slot, max(mine - theirs, 1) if theirs != NONE else 1


def _take_synchronizations(
    segments: Segments,
    step_of_segment: NDArray[np.int32],
    synchronizations: list[Synchronization],
    column: Columns,
    extra: Pieces,
    slots: _Slots,
) -> None:
    """Blocking calls wait for a stream, a slot or the device; launching ones are cut in two."""
    usual = _usual_launch_ns(segments, column)
    recorded: set[int] = set()
    for one in synchronizations:
        segment = one.segment
        slot = NONE
        if one.position != segment:
            slot = slots.of("event", one.position, one.stream)
            if slot not in recorded:
                _add_record(segments, one.position, 4 * one.position + 1, one.stream, slot, extra)
            recorded.add(slot)
            # the record of an earlier step: DDP reads the step before's events, for one
            column["distance"][segment] = max(
                0, int(step_of_segment[segment] - step_of_segment[one.position])
            )
        if one.behind_launch:
            begin, end = int(segments.start_ns[segment]), int(segments.end_ns[segment])
            cut = begin + min(usual, (end - begin) // 2)
            column["end_ns"][segment] = cut
            extra.add(
                TaskKind.SYNCHRONIZE, int(segments.thread[segment]), cut, end, 4 * segment + 3,
                event=int(segments.event[segment]), stream=one.stream,
            )  # fmt: skip
        else:
            column["kind"][segment] = TaskKind.SYNCHRONIZE
            column["stream"][segment] = one.stream
            column["awaits"][segment] = slot


def _take_host_waits(
    segments: Segments,
    steps: Steps,
    spans: HostSpans,
    host_waits: list[HostWait],
    tasks: DeviceTasks,
    column: Columns,
    extra: Pieces,
    slots: _Slots,
) -> None:
    """The pause before a span's end was waiting; a row of our own waits, the rest goes on behind."""
    ours = np.flatnonzero(np.isin(tasks.event, spans.event))
    stream_of = dict(zip(tasks.event[ours].tolist(), tasks.stream[ours].tolist(), strict=True))
    for one in host_waits:
        if column["awaits"][one.segment] != NONE:  # another thread's hand-off decides already
            continue
        thread, launch = int(segments.thread[one.segment]), int(spans.segment[one.span])
        slot = slots.of("span", one.span)
        stream = stream_of[int(spans.event[one.span])]
        _add_record(segments, launch, 4 * launch + 3, stream, slot, extra)
        theirs, mine = steps.step_at(np.array([segments.start_ns[launch], one.time_ns])).tolist()
        extra.add(
            TaskKind.SYNCHRONIZE, thread, one.time_ns, one.time_ns, 4 * one.segment + 1,
            stream=stream, awaits=slot, distance=max(0, mine - theirs),
        )  # fmt: skip
        column["start_ns"][one.segment] = one.time_ns  # of several waits the last


def _usual_launch_ns(segments: Segments, column: Columns) -> int:
    launches = column["kind"] == TaskKind.LAUNCH
    length = segments.end_ns[launches] - segments.start_ns[launches]
    return int(np.median(length)) if len(length) else 5 * NS_PER_US


def _split_slow_launches(
    segments: Segments, tasks: DeviceTasks, column: Columns, extra: Pieces
) -> None:
    """A launch call much longer than usual hands its task over at its end, or near its begin.

    When its task ran tells which of the two; the rest of the call is host time around it.
    """
    usual = _usual_launch_ns(segments, column)
    first_start = np.full(len(segments), np.iinfo(np.int64).max)
    own = tasks.segment != NONE
    np.minimum.at(first_start, tasks.segment[own], tasks.start_ns[own])
    length = column["end_ns"] - column["start_ns"]
    slow = (column["kind"] == TaskKind.LAUNCH) & (length > SLOW_LAUNCH_FACTOR * usual)
    for segment in np.flatnonzero(slow).tolist():
        begin, end = int(column["start_ns"][segment]), int(column["end_ns"][segment])
        thread, event = int(segments.thread[segment]), int(segments.event[segment])
        if first_start[segment] >= end - usual:
            column["start_ns"][segment] = end - usual
            extra.add(TaskKind.CALL, thread, begin, end - usual, 4 * segment + 1, event=event)
        else:
            column["end_ns"][segment] = begin + usual
            extra.add(TaskKind.CALL, thread, begin + usual, end, 4 * segment + 3, event=event)
    for place, kind in enumerate(extra.kind):  # what is recorded right behind a launch stays there
        if kind == TaskKind.RECORD and extra.order[place] % 4 == 3:
            time_ns = int(column["start_ns"][extra.order[place] // 4])
            extra.start_ns[place] = extra.end_ns[place] = time_ns


def _cut_gaps(steps: Steps, column: Columns, extra: Pieces) -> None:
    """A pause across the border of two steps belongs to both."""
    borders = np.append(steps.begin_ns, steps.end_ns[-1:])
    pauses = np.flatnonzero((column["kind"] == TaskKind.GAP) & (column["awaits"] == NONE))
    next_border = np.append(borders, np.iinfo(np.int64).max)[
        np.searchsorted(borders, column["start_ns"][pauses], side="right")
    ]
    for row in pauses[next_border < column["end_ns"][pauses]]:
        begin, end = int(column["start_ns"][row]), int(column["end_ns"][row])
        inside = borders[(borders > begin) & (borders < end)]
        if not len(inside):
            continue
        column["end_ns"][row] = inside[0]
        for low, high in zip(inside, np.append(inside[1:], end), strict=True):
            extra.add(
                TaskKind.GAP, int(column["thread"][row]), int(low), int(high),
                int(column["order"][row]),
            )  # fmt: skip
