"""Many what-ifs over one graph: scenarios that scale the durations of groups of tasks, run together.

Only ends are asked for. Where the order is fixed, sixteen scenarios go side by side through one pass:
what the graph says is read once for all of them. Where streams share GPUs the order is found while
running, so there each scenario runs alone, in the order that it leads to.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lumos.compiled import compiled
from lumos.graph.execution import ExecutionGraph
from lumos.simulate.contention import room_for
from lumos.simulate.simulation import run, successors_of

LANES = 16
"""Scenarios of one pass: their times at one task fill two cache lines. More would be a little faster
and take more memory: 256 bytes a task."""
MOST_BYTES = 2 << 30
"""Passes run at once as long as all their times fit into this."""


@dataclass(frozen=True)
class Scenarios:
    """Scenario `k`: the tasks of group `group[k]` last `factor[k]` times as long, all else as it was.

    Tasks are grouped in several ways at once: `number[grouping, task]` is the group of a task in
    one grouping, NONE where it is in none; `grouping[k]` says which one scenario `k` means.
    """

    number: NDArray[np.int32]  # (groupings, tasks)
    grouping: NDArray[np.int32]  # (scenarios,)
    group: NDArray[np.int32]  # (scenarios,)
    factor: NDArray[np.float64]  # (scenarios,)

    def __len__(self) -> int:
        return len(self.group)

    def write(self, graph: ExecutionGraph, scenario: int, durations: NDArray[np.int64]) -> None:
        """The duration of each task in one scenario, into `durations` [ns], rounded to whole ns."""
        number = self.number[self.grouping[scenario]]
        group, factor = self.group[scenario], self.factor[scenario]
        _scale(graph.duration_ns, number, group, factor, durations)


def ends_of_each(
    graph: ExecutionGraph,
    scenarios: Scenarios,
    mark: NDArray[np.int32],
    *,
    marks: int | None = None,
    delays: bool = False,
) -> NDArray[np.int64]:
    """The last end of the tasks of each mark in each scenario [ns], (scenarios, marks).

    `mark[task]` numbers what is watched from 0, NONE for tasks whose end is not asked for; a mark
    without tasks ends at 0. There are `marks` of them, by default as many as the tasks tell.
    `delays` adds the recorded delays that no rule explains.
    """
    if marks is None:
        marks = int(mark.max(initial=-1)) + 1
    if not len(scenarios):
        return np.zeros((0, marks), np.int64)
    if graph.shares_gpus:
        columns = [partial(scenarios.write, graph, k) for k in range(len(scenarios))]
        return ends_with_each(graph, columns, mark, marks=marks, delays=delays)
    return _side_by_side(graph, scenarios, mark, marks, delays=delays)


def ends_with_each(
    graph: ExecutionGraph,
    columns: Sequence[Callable[[NDArray[np.int64]], None]],
    mark: NDArray[np.int32],
    *,
    marks: int | None = None,
    delays: bool = False,
) -> NDArray[np.int64]:
    """The last end of the tasks of each mark with each of several columns of durations [ns], as above.

    Each of `columns` writes its durations into an array (tasks,) when its turn comes: memory is
    held for as many as run at once.
    """
    following = successors_of(graph)
    if not delays:  # once, not once a run
        graph = replace(graph, delay_ns=np.zeros(len(graph), np.int64))
    if marks is None:
        marks = int(mark.max(initial=-1)) + 1
    found = np.zeros((len(columns), marks), np.int64)
    workers = min(os.cpu_count() or 1, max(len(columns), 1))

    def some(worker: int) -> None:
        durations = np.empty(len(graph), np.int64)
        room = None if following is None else room_for(len(graph))
        for place in range(worker, len(columns), workers):
            columns[place](durations)
            times = run(graph, durations, delays=True, following=following, room=room)
            _take_latest(times.end_ns, mark, found[place])

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(some, range(workers)))
    return found


@compiled()
def _scale(own, number, group, factor, durations):  # type: ignore[no-untyped-def]
    for task in range(len(own)):
        durations[task] = own[task]
        if number[task] == group:
            durations[task] = np.int64(np.rint(own[task] * factor))


@compiled()
def _take_latest(end, mark, latest):  # type: ignore[no-untyped-def]
    for task in range(len(end)):
        if mark[task] >= 0:
            latest[mark[task]] = max(latest[mark[task]], end[task])


def _side_by_side(
    graph: ExecutionGraph,
    scenarios: Scenarios,
    mark: NDArray[np.int32],
    marks: int,
    *,
    delays: bool,
) -> NDArray[np.int64]:
    # scenarios of one group stand together, so that a task finds its own as a range of lanes
    order = np.lexsort((scenarios.group, scenarios.grouping))
    first, last = _ranges(scenarios, order)
    factor = scenarios.factor[order]
    delay = graph.delay_ns if delays else np.zeros(len(graph), np.int64)
    ends = np.zeros((len(order), marks), np.int64)
    passes = range(0, len(order), LANES)
    fitting = max(1, MOST_BYTES // (len(graph) * 2 * LANES * 8 + 1))
    workers = min(os.cpu_count() or 1, fitting, len(passes))

    def some(begins: Sequence[int]) -> None:
        times = np.empty((len(graph), 2, LANES), np.int64)
        for begin in begins:
            latest = np.zeros((marks, LANES), np.int64)
            _sweep_lanes(
                graph.order, graph.first, graph.before, graph.lag_ns, graph.from_start,
                graph.release_ns, graph.duration_ns, delay, mark, scenarios.number, first, last,
                factor, begin, times, latest,
            )  # fmt: skip
            own = order[begin : begin + LANES]
            ends[own] = latest[:, : len(own)].T

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(some, [passes[worker::workers] for worker in range(workers)]))
    return ends


def _ranges(
    scenarios: Scenarios, order: NDArray[np.intp]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Which places of `order` change each group: `first[grouping, group]` to `last` (exclusive)."""
    groupings = len(scenarios.number)
    groups = int(max(scenarios.number.max(initial=-1), scenarios.group.max())) + 1
    first = np.zeros((groupings, groups), np.int32)
    last = np.zeros((groupings, groups), np.int32)
    for place, scenario in enumerate(order.tolist()):
        cell = scenarios.grouping[scenario], scenarios.group[scenario]
        if last[cell] == 0:
            first[cell] = place
        last[cell] = place + 1
    return first, last


@compiled()
def _sweep_lanes(  # type: ignore[no-untyped-def]
    order, first, before, lag, from_start, release, duration, delay, mark, number, first_scenario,
    last_scenario, factor, begin, times, latest,
):  # fmt: skip
    for task in order:
        start, end = times[task, 0], times[task, 1]
        for lane in range(LANES):
            start[lane] = release[task]
        for edge in range(first[task], first[task + 1]):
            point = times[before[edge], 0 if from_start[edge] else 1]
            for lane in range(LANES):
                ready = point[lane] + lag[edge]
                start[lane] = max(start[lane], ready)
        for lane in range(LANES):
            start[lane] += delay[task]
            end[lane] = start[lane] + duration[task]
        for grouping in range(len(number)):
            group = number[grouping, task]
            if group >= 0:
                low = max(first_scenario[grouping, group] - begin, 0)
                high = min(last_scenario[grouping, group] - begin, LANES)
                for lane in range(low, high):
                    scaled = np.rint(duration[task] * factor[begin + lane])
                    end[lane] = start[lane] + np.int64(scaled)
        if mark[task] >= 0:
            last = latest[mark[task]]
            for lane in range(LANES):
                last[lane] = max(last[lane], end[lane])
