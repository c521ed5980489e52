"""The simulator where kernels of several streams share a GPU: tasks in order of time.

A kernel whose grid fills the GPU many times over hands out its blocks wave by wave. A kernel of
another stream that becomes ready meanwhile gets its first block when the last wave has been handed
out (leftover policy; Amert et al., "GPU Scheduling on the NVIDIA TX2: Hidden Details Revealed",
RTSS 2017, rules on block dispatch):

    stream 1 |=== K: w waves of d / w =======|
    stream 2      ready ............|= N =|          N starts at the end of K less one wave

Who comes first is known only while running: kernels that share a GPU are taken in order of time,
ties by number, and each time all else that can run has run before.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lumos.compiled import compiled


class Successors(NamedTuple):
    """Dependencies by the task that is waited for: those of `t` are `first[t]:first[t+1]`."""

    first: NDArray[np.int64]
    after: NDArray[np.int32]  # the waiting task
    lag_ns: NDArray[np.int64]
    from_start: NDArray[np.bool_]


def successors(
    first: NDArray[np.int64],
    before: NDArray[np.int32],
    lag_ns: NDArray[np.int64],
    from_start: NDArray[np.bool_],
) -> Successors:
    """The same dependencies, sorted by the task that is waited for."""
    found = Successors(
        np.zeros(len(first), np.int64),
        np.empty(len(before), np.int32),
        np.empty(len(before), np.int64),
        np.empty(len(before), np.bool_),
    )
    _turn_round(first, before, lag_ns, from_start, *found)
    return found


class Room(NamedTuple):
    """Memory of a run: fresh memory costs as much time as the run itself, so runs reuse it."""

    start: NDArray[np.int64]
    end: NDArray[np.int64]
    held_by: NDArray[np.int32]
    open_count: NDArray[np.int32]
    heap_time: NDArray[np.int64]
    heap_task: NDArray[np.int32]
    others: NDArray[np.int32]  # ready, and of no shared GPU: last in, first out


def room_for(tasks: int) -> Room:
    """Room for runs of a graph of so many tasks."""
    long = [np.empty(tasks + 1, np.int64) for _ in range(3)]
    short = [np.empty(tasks + 1, np.int32) for _ in range(4)]
    return Room(long[0], long[1], short[0], short[1], long[2], short[2], short[3])


def run_with_contention(  # type: ignore[no-untyped-def]
    order, first, before, lag, from_start, release, duration, delay, processor, device, waves,
    saturating, following: Successors | None = None, room: Room | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:  # fmt: skip
    """Start and end of every task, and the kernel that held it back (-1: none).

    `following` and `room` save work where one graph is run several times: what is returned then
    lies in the room, until the next run in it.
    """
    count = len(order)
    if following is None:
        following = successors(first, before, lag, from_start)
    if room is None:
        room = room_for(count)
    devices = int(device.max(initial=-1)) + 1
    _run(
        first, release, following, duration, delay, processor, devices, device, waves, saturating,
        *room,
    )  # fmt: skip
    return room.start[:count], room.end[:count], room.held_by[:count]


@compiled()
def _run(  # type: ignore[no-untyped-def]
    first, release, following, duration, delay, processor, devices, device, waves, saturating,
    start, end, held_by, open_count, heap_time, heap_task, others,
):  # fmt: skip
    count, size, waiting = len(release), 0, 0
    for task in range(count):
        start[task] = release[task]  # until it runs: when what has run so far lets it start
        held_by[task] = -1
        open_count[task] = first[task + 1] - first[task]
        if open_count[task] == 0 and device[task] >= 0:
            size = _push(heap_time, heap_task, size, start[task], np.int32(task))
        elif open_count[task] == 0:
            others[waiting] = task
            waiting += 1
    busy_until = np.full(devices, np.iinfo(np.int64).min)
    owner = np.full(devices, -1, np.int64)
    next_task = -1  # of those that became ready the one to go on with
    while size > 0 or waiting > 0 or next_task >= 0:
        if next_task >= 0:
            task, next_task = next_task, -1
            time = start[task]
        elif waiting > 0:
            waiting -= 1
            task = others[waiting]
            time = start[task]
        else:
            time, task = heap_time[0], heap_task[0]
            size = _pop(heap_time, heap_task, size)
        gpu = device[task]
        if gpu >= 0:
            holder = owner[gpu]
            if holder >= 0 and processor[holder] != processor[task] and time < busy_until[gpu]:
                held_by[task] = holder
                size = _push(heap_time, heap_task, size, busy_until[gpu], task)
                continue
        start[task] = time + delay[task]
        end[task] = start[task] + duration[task]
        if gpu >= 0 and waves[task] >= saturating:
            handed_out = end[task] - np.int64(duration[task] / waves[task])
            if handed_out > busy_until[gpu]:
                busy_until[gpu] = handed_out
                owner[gpu] = task
        for place in range(following.first[task], following.first[task + 1]):
            target = following.after[place]
            point = start[task] if following.from_start[place] else end[task]
            start[target] = max(start[target], point + following.lag_ns[place])
            open_count[target] -= 1
            if open_count[target] > 0:
                continue
            if device[target] >= 0:
                size = _push(heap_time, heap_task, size, start[target], target)
            elif next_task < 0:
                next_task = target
            else:
                others[waiting] = target
                waiting += 1


@compiled()
def _turn_round(first, before, lag, from_start, bounds, after, lag_of, from_start_of):  # type: ignore[no-untyped-def]
    count = len(first) - 1
    for edge in range(len(before)):
        bounds[before[edge] + 1] += 1
    for task in range(count):
        bounds[task + 1] += bounds[task]
    cursor = bounds[:-1].copy()
    for task in range(count):
        for edge in range(first[task], first[task + 1]):
            place = cursor[before[edge]]
            after[place] = task
            lag_of[place] = lag[edge]
            from_start_of[place] = from_start[edge]
            cursor[before[edge]] += 1


@compiled()
def _push(times, tasks, size, time, task):  # type: ignore[no-untyped-def]
    place = size
    while place > 0:
        parent = (place - 1) >> 1
        if times[parent] < time or (times[parent] == time and tasks[parent] < task):
            break
        times[place], tasks[place] = times[parent], tasks[parent]
        place = parent
    times[place], tasks[place] = time, task
    return size + 1


@compiled()
def _pop(times, tasks, size):  # type: ignore[no-untyped-def]
    size -= 1
    time, task = times[size], tasks[size]
    place = 0
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        right = child + 1
        if right < size and (
            times[right] < times[child]
            or (times[right] == times[child] and tasks[right] < tasks[child])
        ):
            child = right
        if time < times[child] or (time == times[child] and task < tasks[child]):
            break
        times[place], tasks[place] = times[child], tasks[child]
        place = child
    times[place], tasks[place] = time, task
    return size
