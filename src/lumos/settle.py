"""The order in which several host threads feed one stream, found by running the job.

What a thread gives a stream stands in program order, but which of two threads comes first is known
only at run time:

    thread 1 | launch a |                     thread 1 | work ......... | launch a |
    thread 2       | launch b |               thread 2       | launch b |
    stream         |= a =||= b =|             stream               |= b =|  |= a =|

A Job's rows are in one host order. It is run, and where threads reached their calls in another
order than the rows say, the rows are put in that order and lowered again, until both agree.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lumos.errors import UnfinishableScheduleError
from lumos.graph.execution import ExecutionGraph, Rule
from lumos.graph.job import NONE, Job, Program, TaskKind
from lumos.graph.timeline import RankTimeline, TaskTimes, Timeline
from lumos.lower import lower
from lumos.simulate import run, to_timeline

MOST_TURNS = 6
"""Two threads that overtake each other for ever keep the last order tried."""
_TOUCHES_A_STREAM = (
    TaskKind.LAUNCH,
    TaskKind.RECORD,
    TaskKind.WAIT_EVENT,
    TaskKind.SYNCHRONIZE,
)


@dataclass(frozen=True)
class Settled:
    """A Job whose rows stand in the order in which its threads reach them, and its run.

    `order[rank]` are the old numbers of that rank's rows, None where they stayed as they were.
    """

    job: Job
    graph: ExecutionGraph
    times: TaskTimes
    order: tuple[NDArray[np.intp] | None, ...]

    def reorder(self, timeline: Timeline) -> Timeline:
        """A run of the Job as it was, row by row of the Job as it is."""
        return Timeline(
            tuple(
                rank
                if order is None
                else RankTimeline(rank.start_ns[order], rank.end_ns[order], rank.wait_ns[order])
                for rank, order in zip(timeline.ranks, self.order, strict=True)
            )
        )


def settle(job: Job, drop: Collection[Rule] = ()) -> Settled:
    """Run `job` with its streams fed in the order of arrival.

    With a dropped rule threads run wild, and the rows keep their order: an ablation changes the
    lowering alone.
    """
    order: list[NDArray[np.intp] | None] = [None] * len(job.placement.role)
    graph = lower(job, drop)
    times = run(graph)
    for _ in range(0 if drop else MOST_TURNS):
        timeline = to_timeline(graph, times)
        programs, arrivals = list(job.programs), list(order)
        overtaken = False
        for role in sorted(set(job.placement.role)):
            places = [place for place, own in enumerate(job.placement.role) if own == role]
            arrival = _arrival_order(job.programs[role], timeline.ranks[places[0]])
            if arrival is None:
                continue
            overtaken = True
            programs[role] = _reordered(job.programs[role], arrival)
            for place in places:
                before = order[place]
                arrivals[place] = arrival if before is None else before[arrival]
        if not overtaken:
            break
        reordered = replace(job, programs=tuple(programs))
        try:
            graph = lower(reordered)
        except UnfinishableScheduleError:
            break  # a thread would overtake what it waits for: the order before is the last sound one
        job, order = reordered, arrivals
        times = run(graph)
    return Settled(job, graph, times, tuple(order))


def _arrival_order(program: Program, simulated: RankTimeline) -> NDArray[np.intp] | None:
    """The rows in the order in which their threads reach them; None where that is the order they have.

    Only calls that concern a stream count; a thread keeps its own order, and so does a block.
    """
    rows = program.rows
    calls = np.flatnonzero(np.isin(rows.kind, _TOUCHES_A_STREAM))
    if len(calls) < 2 or len(np.unique(rows.processor[calls])) < 2:
        return None
    # a launch that blocks hands its task over when it goes on, a wait counts from its begin
    blocked = np.where(rows.kind == TaskKind.LAUNCH, simulated.wait_ns, 0)
    reached = simulated.start_ns + blocked
    earlier = reached[calls[1:]] < reached[calls[:-1]]
    if not (earlier & (rows.block[calls[1:]] == rows.block[calls[:-1]])).any():
        return None
    number = np.arange(len(rows))
    leader = np.where(rows.launch == NONE, number, rows.launch)
    order = np.lexsort((number, leader, reached[leader], rows.block))
    return None if (order == number).all() else order


def _reordered(program: Program, order: NDArray[np.intp]) -> Program:
    rows = program.rows.take(order)
    new_row = np.empty(len(order), np.int32)
    new_row[order] = np.arange(len(order), dtype=np.int32)
    launch = np.where(rows.launch == NONE, NONE, new_row[rows.launch]).astype(np.int32)
    return replace(program, rows=rows.with_columns(launch=launch))
