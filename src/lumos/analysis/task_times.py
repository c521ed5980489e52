"""When every task ran in a measured run, in the words of the simulator: waiting apart from work.

A recorded row that waits inside itself spans the waiting; the simulator lets it start when it has
waited. What was recorded is cut where the dependencies were fulfilled, and stays inside itself:

    recorded   host   | synchronize ............. |      stream   | all-reduce .......... |
    here              |.. waiting ..| synchronize |               |. waiting .| transfer  |
                                    ^ what it awaits has ended                ^ the last member is there
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lumos.compiled import compiled
from lumos.fit.readiness import kept_waiting, latest_ready
from lumos.graph.execution import ExecutionGraph
from lumos.graph.job import NONE
from lumos.graph.timeline import TaskTimes, Timeline


def measured_task_times(graph: ExecutionGraph, measured: Timeline) -> TaskTimes:
    """Start and end of every task of `graph` in the run its rows were recorded in [ns].

    Host rows and collectives that wait for other ranks start when all they wait for was there,
    never before they began nor behind their end. A rank is at a collective when its row began;
    other markers stand where their dependencies put them.
    """
    begin = np.concatenate([np.empty(0, np.int64), *(rank.start_ns for rank in measured.ranks)])
    finish = np.concatenate([np.empty(0, np.int64), *(rank.end_ns for rank in measured.ranks)])
    start, end = np.empty(len(graph), np.int64), np.empty(len(graph), np.int64)
    _place(
        graph.order, graph.first, graph.before, graph.lag_ns, graph.from_start, graph.release_ns,
        graph.on_host, graph.opening, opened_rows(graph), begin, finish, start, end,
    )  # fmt: skip
    held_by = np.empty(0, np.int32)
    if graph.shares_gpus:
        held_by = kept_waiting(graph, start, end, latest_ready(graph, start, end))[1]
    return TaskTimes(start, end, held_by)


def opened_rows(graph: ExecutionGraph) -> NDArray[np.int64]:
    """For each task the row that opens with it: itself, or the row behind a marker; NONE without."""
    opened = np.full(len(graph), NONE, np.int64)
    opened[: graph.rows] = np.arange(graph.rows)
    opened[graph.opening[: graph.rows]] = np.arange(graph.rows)
    return opened


@compiled()
def _place(  # type: ignore[no-untyped-def]
    order, first, before, lag, from_start, release, on_host, opening, opened, begin, finish, start,
    end,
):  # fmt: skip
    rows = len(begin)
    for task in order:
        ready = release[task]
        for edge in range(first[task], first[task + 1]):
            source = before[edge]
            point = start[source] if from_start[edge] else end[source]
            ready = max(ready, point + lag[edge])
        if task >= rows:
            start[task] = begin[opened[task]] if opened[task] >= 0 else ready
            end[task] = start[task]
        else:
            waits_inside = on_host[task] or opening[task] != task
            cut = min(max(ready, begin[task]), finish[task])
            start[task] = cut if waits_inside else begin[task]
            end[task] = finish[task]
