"""When each task was ready, rule by rule, judged by the measured times of what it waited for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lumos.compiled import compiled
from lumos.graph.execution import ExecutionGraph, Rule
from lumos.graph.timeline import Timeline

NEVER = np.iinfo(np.int64).min


def measured_times(
    graph: ExecutionGraph, measured: Timeline
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Start and end of every task in the measured run; markers stand where their rule puts them."""
    start = np.concatenate([rank.start_ns for rank in measured.ranks])
    end = np.concatenate([rank.end_ns for rank in measured.ranks])
    markers = len(graph) - len(start)
    start = np.concatenate([start, np.full(markers, NEVER)])
    end = np.concatenate([end, np.full(markers, NEVER)])
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


def ready_by_rule(
    graph: ExecutionGraph, start: NDArray[np.int64], end: NDArray[np.int64]
) -> NDArray[np.int64]:
    """When each rule let each task start, array `(rules, tasks)` [ns]; NEVER without such a rule."""
    return _ready(  # type: ignore[no-any-return]
        graph.first, graph.before, graph.lag_ns, graph.from_start, graph.rule, start, end, len(Rule)
    )


@compiled()
def _ready(first, before, lag, from_start, rule, start, end, rules):  # type: ignore[no-untyped-def]
    count = len(first) - 1
    ready = np.full((rules, count), np.iinfo(np.int64).min)
    for task in range(count):
        for edge in range(first[task], first[task + 1]):
            source = before[edge]
            point = start[source] if from_start[edge] else end[source]
            if point == np.iinfo(np.int64).min:
                continue
            ready[rule[edge], task] = max(ready[rule[edge], task], point + lag[edge])
    return ready
