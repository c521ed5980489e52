"""The simulator: one pass over the tasks in an order in which each comes behind what it awaits.

A task starts when its processor's turn, all it waits for and the starting state allow, and ends
its duration later. Nothing else happens: whatever a task means is in the graph.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lumos.compiled import compiled
from lumos.graph.execution import ExecutionGraph
from lumos.graph.timeline import RankTimeline, Timeline


def simulate(
    graph: ExecutionGraph,
    durations: NDArray[np.int64] | None = None,
    *,
    delays: bool = False,
) -> Timeline:
    """Run the graph; `delays` adds to device tasks the recorded delays that no rule explains."""
    start, end = task_times(graph, durations, delays=delays)
    return to_timeline(graph, start, end)


def task_times(
    graph: ExecutionGraph,
    durations: NDArray[np.int64] | None = None,
    *,
    delays: bool = False,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Start and end of every task [ns], arrays `(tasks,)`."""
    duration = graph.duration_ns if durations is None else np.ascontiguousarray(durations, np.int64)
    delay = graph.delay_ns if delays else np.zeros(len(graph), np.int64)
    return _sweep(  # type: ignore[no-any-return]
        graph.order, graph.first, graph.before, graph.lag_ns, graph.from_start, graph.release_ns,
        duration, delay,
    )  # fmt: skip


@compiled()
def _sweep(order, first, before, lag, from_start, release, duration, delay):  # type: ignore[no-untyped-def]
    start = np.empty(len(order), np.int64)
    end = np.empty(len(order), np.int64)
    for place in range(len(order)):
        task = order[place]
        ready = release[task]
        for edge in range(first[task], first[task + 1]):
            source = before[edge]
            time = (start[source] if from_start[edge] else end[source]) + lag[edge]
            ready = max(ready, time)
        start[task] = ready + delay[task]
        end[task] = start[task] + duration[task]
    return start, end


def to_timeline(
    graph: ExecutionGraph, start: NDArray[np.int64], end: NDArray[np.int64]
) -> Timeline:
    """Times of tasks -> times of rows, rank by rank.

    A host row begins when its thread reaches it, so the time it waits is inside it; a collective
    begins when its rank is ready for it.
    """
    rows = graph.rows
    begin = start[graph.opening[:rows]].copy()
    host = np.flatnonzero(graph.on_host[:rows])
    order = host[np.argsort(graph.processor[host], kind="stable")]
    same = graph.processor[order][1:] == graph.processor[order][:-1]
    begin[order[1:][same]] = end[order[:-1][same]]
    wait = start[:rows] - begin
    ranks = []
    for low, high in zip(graph.row_offset[:-1], graph.row_offset[1:], strict=True):
        own = slice(low, high)
        ranks.append(RankTimeline(begin[own], end[own], wait[own]))
    return Timeline(tuple(ranks))
