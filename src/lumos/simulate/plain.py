"""The compiled simulators once more in plain Python: slow, obvious, same arguments, same results.

For machines without a compiler, and as what the compiled kernels are held against.
"""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.int64]


def run_in_order(
    order: Any, first: Any, before: Any, lag: Any, from_start: Any, release: Any, duration: Any,
    delay: Any,
) -> tuple[Times, Times]:  # fmt: skip
    """Start and end of every task [ns]; see lumos.simulate.sweep."""
    start, end = [0] * len(order), [0] * len(order)
    for task in order.tolist():
        ready = int(release[task])
        for edge in range(int(first[task]), int(first[task + 1])):
            source = int(before[edge])
            point = start[source] if from_start[edge] else end[source]
            ready = max(ready, point + int(lag[edge]))
        start[task] = ready + int(delay[task])
        end[task] = start[task] + int(duration[task])
    return np.array(start, np.int64), np.array(end, np.int64)


def run_with_contention(
    order: Any, first: Any, before: Any, lag: Any, from_start: Any, release: Any, duration: Any,
    delay: Any, processor: Any, device: Any, waves: Any, saturating: float,
) -> tuple[Times, Times, Times]:  # fmt: skip
    """Start and end of every task, and what held it back; see lumos.simulate.contention."""
    count = len(order)
    start, end, held_by = [0] * count, [0] * count, [-1] * count
    open_count = [int(first[task + 1] - first[task]) for task in range(count)]
    ready = [int(time) for time in release]
    successors: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    for task in range(count):
        for edge in range(int(first[task]), int(first[task + 1])):
            successors[before[edge]].append((task, edge))
    free = [task for task in range(count) if open_count[task] == 0]
    heap = [(ready[task], task) for task in free if device[task] >= 0]
    others = [task for task in free if device[task] < 0]
    heapq.heapify(heap)
    holder: dict[int, tuple[int, int]] = {}  # GPU -> (handed out until, kernel)
    while heap or others:
        if others:
            task = others.pop()
            time = ready[task]
        else:
            time, task = heapq.heappop(heap)
        gpu = int(device[task])
        if gpu >= 0 and gpu in holder:
            until, kernel = holder[gpu]
            if processor[kernel] != processor[task] and time < until:
                held_by[task] = kernel
                heapq.heappush(heap, (until, task))
                continue
        start[task] = time + int(delay[task])
        end[task] = start[task] + int(duration[task])
        if gpu >= 0 and waves[task] >= saturating:
            handed_out = end[task] - int(int(duration[task]) / float(waves[task]))
            if gpu not in holder or handed_out > holder[gpu][0]:
                holder[gpu] = handed_out, task
        for target, edge in successors[task]:
            point = start[task] if from_start[edge] else end[task]
            ready[target] = max(ready[target], point + int(lag[edge]))
            open_count[target] -= 1
            if open_count[target] == 0 and device[target] >= 0:
                heapq.heappush(heap, (ready[target], target))
            elif open_count[target] == 0:
                others.append(target)
    return np.array(start, np.int64), np.array(end, np.int64), np.array(held_by, np.int32)
