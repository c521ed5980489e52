"""Slack: how much later each task could run without the run ending later.

    stream 1 |==== a 100 ====|= c =|        b could run 70 later, a and c not at all
    stream 2 |= b 30 =|......|

A run is taken as it was: each task starts when the last of its dependencies lets it, plus what it
was later than that. Of a measured run the durations are those recorded, and a task that started
later (or, by clock noise, earlier) than its dependencies say keeps that distance. Where kernels
share a GPU, the order in which they got it is kept: a kernel that was kept waiting waits for the one
that kept it, and that a later kernel could come in the way of others it did not meet is left out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lumos.compiled import compiled
from lumos.graph.execution import ExecutionGraph
from lumos.graph.timeline import TaskTimes

UNLIMITED = np.iinfo(np.int64).max
"""Slack of a row that no task waits for and that is none itself: a pause at a thread's end."""


def slack(
    graph: ExecutionGraph, times: TaskTimes, is_task: NDArray[np.bool_], end_ns: int
) -> NDArray[np.int64]:
    """How much later each row of the graph could start and end [ns], (rows,); never negative.

    Everything else keeps its duration. A collective's start is its arrival. `end_ns` is the last end of the rows that are tasks of the
    program (`is_task`), which must not become later; `times` as for critical_path. A row of slack 0
    can delay the run; UNLIMITED where the end of the run does not depend on a row.
    """
    nobody = np.full(len(graph), -1, np.int32)
    found, complete = _slack(
        graph, times, times.held_by if graph.shares_gpus else nobody, is_task, end_ns
    )
    if not complete:  # of a noisy measured run: what kept a kernel waiting awaits that kernel
        found, _ = _slack(graph, times, nobody, is_task, end_ns)
    rows: NDArray[np.int64] = np.minimum(found[: graph.rows], found[graph.opening[: graph.rows]])
    return rows


def _slack(
    graph: ExecutionGraph,
    times: TaskTimes,
    held_by: NDArray[np.int32],
    is_task: NDArray[np.bool_],
    end_ns: int,
) -> tuple[NDArray[np.int64], bool]:
    """Slack of every task, and whether all could be done in an order."""
    found = np.full(len(graph), UNLIMITED)
    own = np.flatnonzero(is_task)
    found[own] = end_ns - times.end_ns[own]
    done = _backwards(
        graph.first, graph.before, graph.lag_ns, graph.from_start, graph.release_ns, graph.waves,
        times.start_ns, times.end_ns, held_by, found,
    )  # fmt: skip
    return found, done == len(graph)


@compiled()
def _backwards(  # type: ignore[no-untyped-def]
    first, before, lag, from_start, release, waves, start, end, held_by, slack
):
    """Each task when all that wait for it are done; returns how many were."""
    count = len(slack)
    open_count = np.zeros(count, np.int32)
    for source in before:
        open_count[source] += 1
    for holder in held_by:
        if holder >= 0:
            open_count[holder] += 1
    waiting = np.empty(count, np.int32)  # last in, first out
    size, done = 0, 0
    for task in range(count):
        if open_count[task] == 0:
            waiting[size] = task
            size += 1
    while size > 0:
        size -= 1
        done += 1
        task = waiting[size]
        ready = release[task]
        for edge in range(first[task], first[task + 1]):
            source = before[edge]
            ready = max(ready, (start[source] if from_start[edge] else end[source]) + lag[edge])
        holder = held_by[task]
        handed_out = ready
        if holder >= 0:
            wave = np.int64((end[holder] - start[holder]) / waves[holder])
            handed_out = min(end[holder] - wave, start[task])
            ready = max(ready, handed_out)
            slack[holder] = min(slack[holder], _with_room(slack[task], ready - handed_out))
            open_count[holder] -= 1
            if open_count[holder] == 0:
                waiting[size] = holder
                size += 1
        for edge in range(first[task], first[task + 1]):
            source = before[edge]
            time = (start[source] if from_start[edge] else end[source]) + lag[edge]
            slack[source] = min(slack[source], _with_room(slack[task], ready - time))
            open_count[source] -= 1
            if open_count[source] == 0:
                waiting[size] = source
                size += 1
    return done


@compiled()
def _with_room(slack, room):  # type: ignore[no-untyped-def]
    """What a dependency leaves that was fulfilled `room` before its task was ready."""
    return slack if slack == UNLIMITED else slack + room
