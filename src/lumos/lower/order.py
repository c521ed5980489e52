"""One order in which all tasks can run, or the circle that makes it impossible."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lumos.compiled import compiled
from lumos.errors import UnfinishableScheduleError


def topological_order(
    first: NDArray[np.int64], before: NDArray[np.int64], describe: Callable[[int], str]
) -> NDArray[np.int64]:
    """Tasks in an order in which each comes behind all it waits for (Kahn's algorithm, FIFO).

    `before[first[t]:first[t+1]]` are the tasks that task `t` waits for. Raises
    UnfinishableScheduleError naming the tasks of one circle.
    """
    order, done = _kahn(first, before)
    if done < len(order):
        circle = _circle(first, before, order, done)
        words = " -> ".join(describe(task) for task in circle[:12])
        raise UnfinishableScheduleError(
            f"{len(circle)} tasks wait for each other in a circle and can never start: {words}"
        )
    return order


@compiled()
def _kahn(first, before):  # type: ignore[no-untyped-def]
    count = len(first) - 1
    open_count = np.empty(count, np.int64)
    fan_out = np.zeros(count + 1, np.int64)
    for task in range(count):
        open_count[task] = first[task + 1] - first[task]
    for edge in range(len(before)):
        fan_out[before[edge] + 1] += 1
    for task in range(count):
        fan_out[task + 1] += fan_out[task]
    after = np.empty(len(before), np.int64)
    cursor = fan_out[:-1].copy()
    for task in range(count):
        for edge in range(first[task], first[task + 1]):
            source = before[edge]
            after[cursor[source]] = task
            cursor[source] += 1
    order = np.empty(count, np.int64)
    head, tail = 0, 0
    for task in range(count):
        if open_count[task] == 0:
            order[tail] = task
            tail += 1
    while head < tail:
        task = order[head]
        head += 1
        for place in range(fan_out[task], fan_out[task + 1]):
            target = after[place]
            open_count[target] -= 1
            if open_count[target] == 0:
                order[tail] = target
                tail += 1
    return order, tail


def _circle(
    first: NDArray[np.int64], before: NDArray[np.int64], order: NDArray[np.int64], done: int
) -> list[int]:
    """One circle among the tasks that never became ready."""
    ready = np.zeros(len(first) - 1, bool)
    ready[order[:done]] = True
    task = int(np.flatnonzero(~ready)[0])
    seen: dict[int, int] = {}
    path: list[int] = []
    while task not in seen:
        seen[task] = len(path)
        path.append(task)
        task = next(int(b) for b in before[first[task] : first[task + 1]] if not ready[b])
    return path[seen[task] :][::-1]
