"""When every task of a graph ran in a run of its rows, measured or simulated, markers included."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lumos.compiled import compiled
from lumos.graph.execution import ExecutionGraph, Rule
from lumos.graph.timeline import Timeline


@dataclass(frozen=True)
class RunTimes:
    """Times of every task [ns]: `begin_ns` when its processor got to it, then it may have waited.

    A collective waits from when its rank is there to when all are; that is known only where it
    was matched with those of other ranks, and so are `waits`: which tasks met others.
    """

    begin_ns: NDArray[np.int64]
    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    meets: NDArray[np.bool_]


def run_times(graph: ExecutionGraph, run: Timeline) -> RunTimes:
    """The times of every task of `graph` in a run of its rows.

    Markers stand where their rules put them; one at which a row opens stands where that row began.
    """
    markers = np.zeros(len(graph) - graph.rows, np.int64)
    begin = np.concatenate([*(rank.start_ns for rank in run.ranks), markers])
    wait = np.concatenate([*(rank.wait_ns for rank in run.ranks), markers])
    end = np.concatenate([*(rank.end_ns for rank in run.ranks), markers])
    start = begin + wait
    row_of = np.full(len(graph), -1, np.int64)
    row_of[graph.opening[: graph.rows]] = np.arange(graph.rows)
    meets = np.zeros(len(graph), bool)
    _complete(
        graph.order, graph.rows, graph.first, graph.before, graph.lag_ns, graph.from_start, graph.rule,
        int(Rule.RENDEZVOUS), graph.release_ns, row_of, begin, start, end, meets,
    )  # fmt: skip
    return RunTimes(begin, start, end, meets)


@compiled()
def _complete(order, rows, first, before, lag, from_start, rule, rendezvous, release, row_of, begin, start, end, meets):  # type: ignore[no-untyped-def]  # fmt: skip
    for place in range(len(order)):
        task = order[place]
        if task >= rows and row_of[task] >= 0:
            start[task] = begin[row_of[task]]
        elif task >= rows:
            start[task] = release[task]
        for edge in range(first[task], first[task + 1]):
            met = task < rows and rule[edge] == rendezvous
            if not met and (task < rows or row_of[task] >= 0):
                continue
            source = before[edge]
            ready = (start[source] if from_start[edge] else end[source]) + lag[edge]
            start[task] = max(start[task], ready)
            meets[task] = met
        if task < rows:
            start[task] = min(start[task], end[task])
        else:
            begin[task] = start[task]
            end[task] = start[task]
