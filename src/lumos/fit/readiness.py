"""When each task was ready, rule by rule, judged by the measured times of what it waited for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lumos.compiled import compiled
from lumos.graph.execution import SATURATING_WAVES, ExecutionGraph, Rule
from lumos.graph.timeline import Timeline
from lumos.units import NS_PER_US

WAVES_EARLY = 2
EARLY_NS = 10 * NS_PER_US
FREE_NS = 10 * NS_PER_US
"""The last waves are not all of one length: how much before the last one a task may slip in."""
ANY_RULE = -1
NEVER = np.iinfo(np.int64).min


def measured_times(
    graph: ExecutionGraph, measured: Timeline
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Start and end of every task in the measured run; markers stand where their rule puts them."""
    never = np.full(len(graph) - graph.rows, NEVER)
    start = np.concatenate([*(rank.start_ns for rank in measured.ranks), never])
    end = np.concatenate([*(rank.end_ns for rank in measured.ranks), never])
    _place_markers(
        graph.order, graph.rows, graph.first, graph.before, graph.lag_ns, graph.from_start,
        graph.release_ns, start, end,
    )  # fmt: skip
    return start, end


@compiled()
def _place_markers(order, rows, first, before, lag, from_start, release, start, end):  # type: ignore[no-untyped-def]
    for place in range(len(order)):
        task = order[place]
        if task < rows:
            continue
        start[task] = release[task]
        for edge in range(first[task], first[task + 1]):
            source = before[edge]
            time = (start[source] if from_start[edge] else end[source]) + lag[edge]
            start[task] = max(start[task], time)
        end[task] = start[task]


def kept_waiting(
    graph: ExecutionGraph,
    start: NDArray[np.int64],
    end: NDArray[np.int64],
    ready: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """When kernels of other streams let each task start [ns], and which one kept it waiting.

    Judged by the measured run; `ready` is when all rules let a task start. A kernel that by its
    waves would have held a task much longer than the task really waited did not hold it: NEVER
    and NONE there.
    """
    return _held(*_sharing(graph, start), SATURATING_WAVES, start, end, ready)  # type: ignore[no-any-return]


def _sharing(
    graph: ExecutionGraph, start: NDArray[np.int64]
) -> tuple[NDArray[np.intp], int, NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    """Kernels that share a GPU in the order of their starts, how many GPUs; the graph's columns."""
    by_start = np.flatnonzero(graph.device >= 0)
    by_start = by_start[np.argsort(start[by_start], kind="stable")]
    gpus = int(graph.device.max(initial=-1)) + 1
    return by_start, gpus, graph.device, graph.processor, graph.waves


@compiled()
def _held(by_start, gpus, device, processor, waves, saturating, start, end, ready):  # type: ignore[no-untyped-def]
    count = len(start)
    held = np.full(count, np.iinfo(np.int64).min)
    held_by = np.full(count, -1, np.int32)
    if len(by_start) == 0:
        return held, held_by
    busy_until = np.full(gpus, np.iinfo(np.int64).min)
    owner = np.full(gpus, -1, np.int64)
    for task in by_start:
        gpu = device[task]
        holder = owner[gpu]
        if holder >= 0 and processor[holder] != processor[task] and ready[task] < busy_until[gpu]:
            wave = np.int64((end[holder] - start[holder]) / waves[holder])
            if busy_until[gpu] <= start[task] + WAVES_EARLY * wave + EARLY_NS:
                held[task] = min(busy_until[gpu], start[task])
                held_by[task] = holder
        if waves[task] >= saturating:
            handed_out = end[task] - np.int64((end[task] - start[task]) / waves[task])
            if handed_out > busy_until[gpu]:
                busy_until[gpu] = handed_out
                owner[gpu] = task
    return held, held_by


def holding_record(
    graph: ExecutionGraph,
    start: NDArray[np.int64],
    end: NDArray[np.int64],
    ready: NDArray[np.int64],
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """For each task how many kernels of other streams it held back, and how many started freely.

    Counted are those that became ready while, by its waves, it had still much to hand out.
    """
    return _holding(*_sharing(graph, start), SATURATING_WAVES, start, end, ready)  # type: ignore[no-any-return]


@compiled()
def _holding(by_start, gpus, device, processor, waves, saturating, start, end, ready):  # type: ignore[no-untyped-def]
    held = np.zeros(len(start), np.int32)
    free = np.zeros(len(start), np.int32)
    if len(by_start) == 0:
        return held, free
    owner = np.full(gpus, -1, np.int64)
    for task in by_start:
        gpu = device[task]
        holder = owner[gpu]
        if holder >= 0 and processor[holder] != processor[task] and start[holder] < ready[task]:
            wave = np.int64((end[holder] - start[holder]) / waves[holder])
            soon = end[holder] - (WAVES_EARLY + 1) * wave - EARLY_NS
            if ready[task] + FREE_NS < soon:
                if start[task] >= soon:
                    held[holder] += 1
                elif start[task] <= ready[task] + FREE_NS:
                    free[holder] += 1
        if waves[task] >= saturating and (owner[gpu] < 0 or end[task] > end[owner[gpu]]):
            owner[gpu] = task
    return held, free


@dataclass(frozen=True)
class MeasuredRun:
    """A graph with start and end of all its tasks as measured [ns]."""

    graph: ExecutionGraph
    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]

    def ready(self, rule: Rule, tasks: NDArray[np.integer]) -> NDArray[np.int64]:
        """When `rule` let each of `tasks` start [ns]; NEVER without such a rule."""
        return _ready(self, int(rule), tasks, np.full(len(tasks), NEVER))


def latest_ready(
    graph: ExecutionGraph, start: NDArray[np.int64], end: NDArray[np.int64]
) -> NDArray[np.int64]:
    """When all rules and the recorded start let each task start [ns]."""
    everything = np.arange(len(graph), dtype=np.int32)
    return _ready(MeasuredRun(graph, start, end), ANY_RULE, everything, graph.release_ns.copy())


def _ready(
    run: MeasuredRun, rule: int, tasks: NDArray[np.integer], ready: NDArray[np.int64]
) -> NDArray[np.int64]:
    graph = run.graph
    _raise_to_latest(
        graph.first, graph.before, graph.lag_ns, graph.from_start, graph.rule,
        run.start_ns, run.end_ns, rule, tasks, ready,
    )  # fmt: skip
    return ready


@compiled()
def _raise_to_latest(  # type: ignore[no-untyped-def]
    first, before, lag, from_start, rule, start, end, wanted, tasks, ready
):
    for place in range(len(tasks)):
        task = tasks[place]
        for edge in range(first[task], first[task + 1]):
            if wanted != ANY_RULE and rule[edge] != wanted:
                continue
            source = before[edge]
            point = start[source] if from_start[edge] else end[source]
            if point != np.iinfo(np.int64).min:
                ready[place] = max(ready[place], point + lag[edge])
