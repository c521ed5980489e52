"""ExecutionGraph -> Timeline: the fast pass where the order is fixed, by time where GPUs are shared."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from lumos.compiled import compiled
from lumos.graph.execution import SATURATING_WAVES, ExecutionGraph
from lumos.graph.timeline import RankTimeline, TaskTimes, Timeline
from lumos.simulate.contention import Room, Successors, run_with_contention, successors
from lumos.simulate.sweep import run_in_order


def simulate(
    graph: ExecutionGraph,
    durations: NDArray[np.int64] | None = None,
    *,
    delays: bool = False,
) -> Timeline:
    """Run the graph; `delays` adds to device tasks the recorded delays that no rule explains."""
    return to_timeline(graph, run(graph, durations, delays=delays))


def simulate_each(
    graph: ExecutionGraph, durations: Iterable[NDArray[np.int64]], *, delays: bool = False
) -> Iterator[Timeline]:
    """Run the graph with each of several `durations` (tasks,) [ns], as many at once as there are cores.

    The timelines come in the order of `durations`; only those that run are held in memory.
    """
    following = successors_of(graph)

    def one(duration: NDArray[np.int64]) -> Timeline:
        return to_timeline(graph, run(graph, duration, delays=delays, following=following))

    cores = os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as pool:
        waiting = []
        for duration in durations:
            waiting.append(pool.submit(one, duration))
            if len(waiting) >= cores:
                yield waiting.pop(0).result()
        for last in waiting:
            yield last.result()


def run(
    graph: ExecutionGraph,
    durations: NDArray[np.int64] | None = None,
    *,
    delays: bool = False,
    following: Successors | None = None,
    room: Room | None = None,
) -> TaskTimes:
    """The times of every task; `durations` (tasks,) replaces the graph's own [ns].

    `following` are the graph's successors where they are known already, and in `room` lie the times
    until the next run in it, where streams share GPUs.
    """
    duration = graph.duration_ns if durations is None else np.ascontiguousarray(durations, np.int64)
    delay = graph.delay_ns if delays else np.zeros(len(graph), np.int64)
    plain = (
        graph.order, graph.first, graph.before, graph.lag_ns, graph.from_start, graph.release_ns,
        duration, delay,
    )  # fmt: skip
    if graph.shares_gpus:
        sharing = graph.processor, graph.device, graph.waves, SATURATING_WAVES
        return TaskTimes(*run_with_contention(*plain, *sharing, following, room))
    return TaskTimes(*run_in_order(*plain), np.empty(0, np.int32))


def successors_of(graph: ExecutionGraph) -> Successors | None:
    """What runs of a graph whose streams share GPUs have in common; None where its order is fixed."""
    if not graph.shares_gpus:
        return None
    return successors(graph.first, graph.before, graph.lag_ns, graph.from_start)


def to_timeline(graph: ExecutionGraph, times: TaskTimes) -> Timeline:
    """Times of tasks -> times of rows, rank by rank.

    A host row begins when its thread reaches it, so the time it waits is inside it; a collective
    begins when its rank is ready for it.
    """
    rows, end = graph.rows, times.end_ns
    begin, wait = np.empty(rows, np.int64), np.empty(rows, np.int64)
    _begins(
        graph.opening, graph.on_host, graph.processor, int(graph.processor.max(initial=0)) + 1,
        times.start_ns, end, begin, wait,
    )  # fmt: skip
    ranks = []
    for low, high in zip(graph.row_offset[:-1], graph.row_offset[1:], strict=True):
        own = slice(low, high)
        ranks.append(RankTimeline(begin[own], end[own], wait[own]))
    return Timeline(tuple(ranks))


@compiled()
def _begins(opening, on_host, processor, processors, start, end, begin, wait):  # type: ignore[no-untyped-def]
    last = np.full(processors, -1, np.int64)  # row before on the same thread
    for row in range(len(begin)):
        begin[row] = start[opening[row]]
        if on_host[row]:
            thread = processor[row]
            if last[thread] >= 0:
                begin[row] = end[last[thread]]
            last[thread] = row
        wait[row] = start[row] - begin[row]
