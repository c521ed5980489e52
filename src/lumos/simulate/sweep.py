"""The simulator: one pass over the tasks in an order in which each comes behind what it awaits.

A task starts when its processor's turn, all it waits for and the starting state allow, and ends
its duration later. Nothing else happens: whatever a task means is in the graph.
"""

from __future__ import annotations

import numpy as np

from lumos.compiled import compiled


@compiled()
def run_in_order(order, first, before, lag, from_start, release, duration, delay):  # type: ignore[no-untyped-def]
    """Start and end of every task [ns]."""
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
