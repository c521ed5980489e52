"""Host rows and device tasks -> a role program and the measured run of the same rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumos.build.device import DeviceTasks
from lumos.build.occupancy import waves_of_tasks
from lumos.build.pieces import HostRows
from lumos.build.steps import Steps
from lumos.graph.job import (
    NONE,
    Collective,
    CollectiveKind,
    Processor,
    Program,
    Rows,
    StartingState,
    TaskKind,
)
from lumos.graph.timeline import RankTimeline
from lumos.graph.trace import EventKind, Trace

OWN_NAMES = ("(gap)", "(record)", "(signal)", "(wait)")


def assemble_program(
    trace: Trace,
    host: HostRows,
    tasks: DeviceTasks,
    steps: Steps,
    thread_labels: list[tuple[str, str]],
    collective_of_task: NDArray[np.int32],
    collectives: int,
) -> tuple[Program, RankTimeline]:
    """Put every device task behind its launch, keep what belongs to a step, number it locally.

    Times of the returned timeline are as absolute as the trace's. The program has room for
    `collectives` descriptions, which are filled in when the ranks are matched.
    """
    main = _main_thread(steps, thread_labels, host)
    launch_ns = host.column("start_ns")
    block = steps.step_at(launch_ns)
    table = _interleave(host, tasks, (block != NONE) & ~_trailing_pauses(host, main))
    threads = np.int32(len(thread_labels))
    state = _state_before(host, launch_ns, tasks, steps, len(thread_labels))
    as_made = replace(table, host=host.order[table.host])

    def column(name: str, of_task: NDArray[Any] | int) -> NDArray[Any]:
        # used up: fresh memory for the new columns would cost more time than filling them
        return as_made.column(host.columns.pop(name), of_task)

    kind = column("kind", _task_kinds(trace, tasks, collective_of_task))
    start, end = column("start_ns", tasks.start_ns), column("end_ns", tasks.end_ns)
    event, stream = column("event", tasks.event.astype(np.int32)), column("stream", NONE)
    rows = Rows(
        kind=kind,
        name=_names(trace, event, kind),
        processor=column("thread", tasks.stream + threads),
        duration_ns=end - start,
        delay_ns=np.zeros(len(kind), np.int64),
        launch=table.launch,
        stream=np.where(stream >= 0, stream + threads, stream),
        signal=column("signal", NONE),
        awaits=column("awaits", NONE),
        distance=column("distance", 0),
        block=table.column(
            block, block[host.row_of_segment[tasks.segment]] if len(tasks) else NONE
        ),
        collective=table.column(np.broadcast_to(np.int32(NONE), len(block)), collective_of_task),
        event=event.astype(np.int64),
        frozen=kind == TaskKind.GAP,
        waves=table.column(
            np.broadcast_to(np.float32(0), len(block)), waves_of_tasks(trace, tasks)
        ),
        work=np.full(len(kind), NONE, np.int32),
        work_share=np.zeros(len(kind), np.float32),
        phase=np.zeros(len(kind), np.uint8),
        layer=np.full(len(kind), NONE, np.int16),
        micro_batch=np.full(len(kind), NONE, np.int16),
    )
    program = Program(
        rows=rows,
        names=(*trace.strings, *OWN_NAMES),
        processors=_processors(trace, thread_labels, tasks),
        blocks=steps.names,
        collectives=(Collective(CollectiveKind.UNKNOWN, NONE),) * collectives,
        start=state,
        main_thread=main,
    )
    return program, RankTimeline(start, end, np.zeros(len(kind), np.int64))


@dataclass(frozen=True)
class _Table:
    """Where host rows and device tasks stand in the rows of the program; `launch` is its column."""

    host: NDArray[np.intp]
    host_place: NDArray[np.intp]
    task: NDArray[np.intp]
    task_place: NDArray[np.intp]
    launch: NDArray[np.int32]

    def column(self, of_host: NDArray[Any], of_task: NDArray[Any] | int) -> NDArray[Any]:
        """A column of the program, of the type of `of_host`."""
        values = np.empty(len(self.launch), of_host.dtype)
        values[self.host_place] = of_host[self.host]
        values[self.task_place] = of_task if isinstance(of_task, int) else of_task[self.task]
        return values


def _interleave(host: HostRows, tasks: DeviceTasks, kept: NDArray[np.bool_]) -> _Table:
    """The `kept` host rows in their order, behind each the tasks it launched."""
    launched = np.flatnonzero(tasks.segment != NONE)
    launch = host.row_of_segment[tasks.segment[launched]]
    found = (launch != NONE) & kept[launch]
    launched, launch = launched[found], launch[found]
    order = np.argsort(launch, kind="stable")
    launched, launch = launched[order], launch[order]
    row = np.flatnonzero(kept)
    launched_before = np.bincount(launch + 1, minlength=len(kept) + 1).cumsum()
    row_place = np.arange(len(row)) + launched_before[row]
    task_place = np.arange(len(launch)) + kept.cumsum()[launch]
    new_row = np.empty(len(kept), np.int32)
    new_row[row] = row_place
    of_row = np.full(len(row) + len(launch), NONE, np.int32)
    of_row[task_place] = new_row[launch]
    return _Table(row, row_place, launched, task_place, of_row)


def _task_kinds(
    trace: Trace, tasks: DeviceTasks, collective_of_task: NDArray[np.int32]
) -> NDArray[np.uint8]:
    kinds = np.full(len(EventKind), TaskKind.KERNEL, np.uint8)
    kinds[EventKind.COPY], kinds[EventKind.SET] = TaskKind.COPY, TaskKind.SET
    kind = kinds[trace.kind[tasks.event]]
    kind[collective_of_task != NONE] = TaskKind.COLLECTIVE
    return kind


def _names(trace: Trace, event: NDArray[np.int32], kind: NDArray[np.uint8]) -> NDArray[np.int32]:
    own = np.full(len(TaskKind), len(trace.strings), np.int32)
    own[[TaskKind.RECORD, TaskKind.SIGNAL, TaskKind.SYNCHRONIZE]] += np.arange(1, 4, dtype=np.int32)
    return np.where(event == NONE, own[kind], trace.name[event])


def _processors(
    trace: Trace, thread_labels: list[tuple[str, str]], tasks: DeviceTasks
) -> tuple[Processor, ...]:
    threads = []
    for process, thread in thread_labels:
        name = trace.thread_names.get((process, thread), "")
        threads.append(
            Processor(False, name if thread in name else f"thread {thread} {name}".strip())
        )
    streams = [
        Processor(True, label, device, stream)
        for label, (device, stream) in zip(tasks.labels, tasks.streams, strict=True)
    ]
    return (*threads, *streams)


def _main_thread(steps: Steps, labels: list[tuple[str, str]], host: HostRows) -> int:
    """The thread that carries the steps' marks, else the busiest one."""
    if steps.thread in labels:
        return labels.index(steps.thread)
    threads = host.columns["thread"]
    return int(np.bincount(threads).argmax()) if len(threads) else 0


def _trailing_pauses(host: HostRows, main_thread: int) -> NDArray[np.bool_]:
    """The last pauses of helper threads: nothing comes behind them, so they hold nothing up."""
    thread = host.column("thread")
    last = np.full(int(thread.max(initial=0)) + 1, -1, np.int32)
    busy = np.flatnonzero(host.column("kind") != TaskKind.GAP)
    last[thread[busy]] = busy  # of several the last one stays
    behind = np.arange(len(thread), dtype=np.int32) > last[thread]
    return behind & (thread != main_thread)


def _state_before(
    host: HostRows,
    launch_ns: NDArray[np.int64],
    tasks: DeviceTasks,
    steps: Steps,
    threads: int,
) -> StartingState:
    """What ran into the first step: tasks launched before it, host rows that reach into it."""
    begin = int(steps.begin_ns[0])
    free = np.zeros(threads + len(tasks.streams), np.int64)
    launch = host.row_of_segment[tasks.segment]
    early = (tasks.segment == NONE) | (launch_ns[launch] < begin)
    np.maximum.at(free, threads + tasks.stream[early], tasks.end_ns[early] - begin)
    column = host.columns
    early_host = column["start_ns"] < begin
    np.maximum.at(free, column["thread"][early_host], column["end_ns"][early_host] - begin)
    slots = {slot: int(tasks.end_ns[task]) - begin for slot, task in host.before_trace.items()}
    return StartingState(free, slots)
