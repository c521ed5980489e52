"""The simulator: one pass over the tasks in an order in which each comes behind what it awaits.

A task starts when its processor's turn, all it waits for and the starting state allow, and ends
its duration later. Nothing else happens: whatever a task means is in the graph.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lumos.compiled import compiled


def run_in_order(  # type: ignore[no-untyped-def]
    order, first, before, lag, from_start, release, duration, delay
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Start and end of every task [ns]."""
    # numpy asks for huge pages, compiled code does not: fresh memory would cost more than the pass
    start, end = np.empty(len(order), np.int64), np.empty(len(order), np.int64)
    _sweep(order, first, before, lag, from_start, release, duration, delay, start, end)
    return start, end


@compiled()
def _sweep(order, first, before, lag, from_start, release, duration, delay, start, end):  # type: ignore[no-untyped-def]
    for place in range(len(order)):
        task = order[place]
        ready = release[task]
        for edge in range(first[task], first[task + 1]):
            source = before[edge]
            time = (start[source] if from_start[edge] else end[source]) + lag[edge]
            ready = max(ready, time)
        start[task] = ready + delay[task]
        end[task] = start[task] + duration[task]
