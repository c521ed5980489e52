"""One order in which all tasks can run, or the circle that makes it impossible."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from lumos.compiled import compiled
from lumos.errors import UnfinishableScheduleError


def topological_order(
    first: NDArray[np.int64], before: NDArray[np.int32], describe: Callable[[int], str]
) -> NDArray[np.int32]:
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


def as_written(
    opening: NDArray[np.int32], marker: NDArray[np.int32], point: NDArray[np.int32], offset: int
) -> NDArray[np.int32]:
    """Tasks of one rank in the order of its rows, whose tasks begin at `offset`.

    Before a row comes the marker at which it opens (`opening`) and the meeting it completes
    (`point`), behind it the `marker` of a stream wait; NONE for rows without.
    """
    return _as_written(opening, marker, point, offset)  # type: ignore[no-any-return]


@compiled()
def _as_written(opening, marker, point, offset):  # type: ignore[no-untyped-def]
    tasks = np.empty(4 * len(opening), np.int32)
    count = 0
    for row in range(len(opening)):
        if opening[row] != offset + row:
            tasks[count] = opening[row]
            count += 1
        if point[row] >= 0:
            tasks[count] = point[row]
            count += 1
        tasks[count] = offset + row
        count += 1
        if marker[row] >= 0:
            tasks[count] = marker[row]
            count += 1
    return tasks[:count]


def order_by_turns(
    first: NDArray[np.int64], before: NDArray[np.int32], lists: Sequence[NDArray[np.int32]]
) -> NDArray[np.int32] | None:
    """The same from one list of tasks a rank, each nearly in a possible order already; None if not.

    Ranks take turns: each runs down its list until a task awaits one that has not run. Unlike
    Kahn's order this keeps neighbours together, which a simulator's pass needs to be fast.
    """
    tasks = np.concatenate([np.empty(0, np.int32), *lists])
    bounds = np.cumsum([0, *map(len, lists)])
    order, done = _take_turns(tasks, bounds, first, before)
    return order if done == len(first) - 1 else None


@compiled()
def _take_turns(tasks, bounds, first, before):  # type: ignore[no-untyped-def]
    done = np.zeros(len(tasks), np.bool_)
    order = np.empty(len(tasks), np.int32)
    cursor = bounds[:-1].copy()
    count, last_round = 0, -1
    while count > last_round:
        last_round = count
        for rank in range(len(cursor)):
            while cursor[rank] < bounds[rank + 1]:
                task = tasks[cursor[rank]]
                free = True
                for edge in range(first[task], first[task + 1]):
                    free = free and done[before[edge]]
                if not free:
                    break
                done[task] = True
                order[count] = task
                count += 1
                cursor[rank] += 1
    return order, count


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
    order = np.empty(count, np.int32)
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
    first: NDArray[np.int64], before: NDArray[np.int32], order: NDArray[np.int32], done: int
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
