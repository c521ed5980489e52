"""ExecutionGraph -> Timeline: the fast pass where the order is fixed, by time where GPUs are shared."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lumos.graph.execution import SATURATING_WAVES, ExecutionGraph
from lumos.graph.timeline import RankTimeline, TaskTimes, Timeline
from lumos.simulate.contention import run_with_contention
from lumos.simulate.sweep import run_in_order


def simulate(
    graph: ExecutionGraph,
    durations: NDArray[np.int64] | None = None,
    *,
    delays: bool = False,
) -> Timeline:
    """Run the graph; `delays` adds to device tasks the recorded delays that no rule explains."""
    return to_timeline(graph, run(graph, durations, delays=delays))


def run(
    graph: ExecutionGraph,
    durations: NDArray[np.int64] | None = None,
    *,
    delays: bool = False,
) -> TaskTimes:
    """The times of every task; `durations` (tasks,) replaces the graph's own [ns]."""
    duration = graph.duration_ns if durations is None else np.ascontiguousarray(durations, np.int64)
    delay = graph.delay_ns if delays else np.zeros(len(graph), np.int64)
    plain = (
        graph.order, graph.first, graph.before, graph.lag_ns, graph.from_start, graph.release_ns,
        duration, delay,
    )  # fmt: skip
    if graph.shares_gpus:
        return TaskTimes(
            *run_with_contention(*plain, graph.processor, graph.device, graph.waves, SATURATING_WAVES)
        )
    return TaskTimes(*run_in_order(*plain), np.full(len(graph), -1, np.int64))


def to_timeline(graph: ExecutionGraph, times: TaskTimes) -> Timeline:
    """Times of tasks -> times of rows, rank by rank.

    A host row begins when its thread reaches it, so the time it waits is inside it; a collective
    begins when its rank is ready for it.
    """
    rows, start, end = graph.rows, times.start_ns, times.end_ns
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
