"""Host rows and device tasks -> a role program and the measured run of the same rows."""

from __future__ import annotations

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
    source, is_task = _interleave(host, tasks)
    step = steps.step_at(host.columns["start_ns"])
    host_row = np.where(is_task, host.row_of_segment[tasks.segment[source * is_task]], source) if len(tasks) else source
    block = step[host_row]
    main = _main_thread(steps, thread_labels, host)
    idle = _trailing_pauses(host, main)
    kept = np.flatnonzero((block != NONE) & ~(idle[host_row] & ~is_task))
    source, is_task, block, host_row = source[kept], is_task[kept], block[kept], host_row[kept]
    new_row = np.full(len(host.columns["kind"]), NONE, np.int64)
    new_row[source[~is_task]] = np.flatnonzero(~is_task)

    def column(name: str, of_task: NDArray[np.int64] | int) -> NDArray[np.int64]:
        values = np.empty(len(source), np.int64)
        values[~is_task] = host.columns[name][source[~is_task]]
        values[is_task] = of_task if isinstance(of_task, int) else of_task[source[is_task]]
        return values

    threads = len(thread_labels)
    start, end = column("start_ns", tasks.start_ns), column("end_ns", tasks.end_ns)
    event = column("event", tasks.event)
    stream = column("stream", NONE)
    kind = column("kind", _task_kinds(trace, tasks, collective_of_task))
    rows = Rows(
        kind=kind.astype(np.uint8),
        name=_names(trace, event, kind).astype(np.int32),
        processor=column("thread", tasks.stream.astype(np.int64) + threads).astype(np.int32),
        duration_ns=end - start,
        delay_ns=np.zeros(len(source), np.int64),
        launch=np.where(is_task, new_row[host_row], NONE).astype(np.int32),
        stream=np.where(stream >= 0, stream + threads, stream).astype(np.int32),
        signal=column("signal", NONE).astype(np.int32),
        awaits=column("awaits", NONE).astype(np.int32),
        distance=column("distance", 0).astype(np.int32),
        block=block.astype(np.int32),
        collective=column("collective", collective_of_task.astype(np.int64)).astype(np.int32)
        if "collective" in host.columns
        else np.where(is_task, collective_of_task[source * is_task] if len(tasks) else NONE, NONE).astype(np.int32),
        event=event,
        frozen=kind == TaskKind.GAP,
        waves=np.where(is_task, waves_of_tasks(trace, tasks)[source * is_task], 0).astype(np.float32)
        if len(tasks)
        else np.zeros(len(source), np.float32),
    )
    program = Program(
        rows=rows,
        names=(*trace.strings, *OWN_NAMES),
        processors=_processors(trace, thread_labels, tasks),
        blocks=steps.names,
        collectives=(Collective(CollectiveKind.UNKNOWN, NONE),) * collectives,
        start=_state_before(host, tasks, steps, threads),
        main_thread=main,
    )
    return program, RankTimeline(start, end, np.zeros(len(source), np.int64))


def _interleave(host: HostRows, tasks: DeviceTasks) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The order of all rows: (index into host rows or device tasks, which of the two)."""
    count = len(host.columns["kind"])
    launched = np.flatnonzero(tasks.segment != NONE)
    launch = host.row_of_segment[tasks.segment[launched]]
    launched, launch = launched[launch != NONE], launch[launch != NONE]
    place = np.concatenate([np.arange(count), launch])
    is_task = np.concatenate([np.zeros(count, bool), np.ones(len(launched), bool)])
    source = np.concatenate([np.arange(count), launched])
    order = np.lexsort((source, is_task, place))
    return source[order], is_task[order]


def _task_kinds(
    trace: Trace, tasks: DeviceTasks, collective_of_task: NDArray[np.int32]
) -> NDArray[np.int64]:
    kinds = np.full(len(EventKind), TaskKind.KERNEL, np.int64)
    kinds[EventKind.COPY], kinds[EventKind.SET] = TaskKind.COPY, TaskKind.SET
    kind = kinds[trace.kind[tasks.event]]
    kind[collective_of_task != NONE] = TaskKind.COLLECTIVE
    return kind


def _names(trace: Trace, event: NDArray[np.int64], kind: NDArray[np.int64]) -> NDArray[np.int64]:
    own = np.full(len(event), len(trace.strings), np.int64)
    own[kind == TaskKind.RECORD] += 1
    own[kind == TaskKind.SIGNAL] += 2
    own[kind == TaskKind.SYNCHRONIZE] += 3
    return np.where(event == NONE, own, trace.name[event].astype(np.int64))


def _processors(
    trace: Trace, thread_labels: list[tuple[str, str]], tasks: DeviceTasks
) -> tuple[Processor, ...]:
    threads = []
    for process, thread in thread_labels:
        name = trace.thread_names.get((process, thread), "")
        threads.append(Processor(False, name if thread in name else f"thread {thread} {name}".strip()))
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
    column = host.columns
    last = np.full(int(column["thread"].max(initial=0)) + 1, -1, np.int64)
    busy = np.flatnonzero(column["kind"] != TaskKind.GAP)
    np.maximum.at(last, column["thread"][busy], busy)
    behind = np.arange(len(column["kind"])) > last[column["thread"]]
    return behind & (column["thread"] != main_thread)


def _state_before(
    host: HostRows, tasks: DeviceTasks, steps: Steps, threads: int
) -> StartingState:
    """What ran into the first step: tasks launched before it, host rows that reach into it."""
    begin = int(steps.begin_ns[0])
    free = np.zeros(threads + len(tasks.streams), np.int64)
    launch = np.where(
        tasks.segment == NONE, begin - 1, host.columns["start_ns"][host.row_of_segment[tasks.segment]]
    )
    early = launch < begin
    np.maximum.at(free, threads + tasks.stream[early], tasks.end_ns[early] - begin)
    column = host.columns
    early_host = column["start_ns"] < begin
    np.maximum.at(free, column["thread"][early_host], column["end_ns"][early_host] - begin)
    slots = {slot: int(tasks.end_ns[task]) - begin for slot, task in host.before_trace.items()}
    return StartingState(free, slots)
