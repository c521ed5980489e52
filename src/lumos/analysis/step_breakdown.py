"""Where a step's time goes, rank by rank, measured beside replayed; why devices were idle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lumos.analysis.breakdown import (
    Breakdown,
    Intervals,
    breakdown,
    intersection,
    length,
    union,
    working_rows,
)
from lumos.analysis.efficiency import Efficiency, efficiency
from lumos.analysis.idle import Cause, Stretches, causes_of_idle
from lumos.analysis.replay import event_rows, rank_span, span_of
from lumos.analysis.run_times import RunTimes, run_times
from lumos.analysis.utilization import utilization
from lumos.graph.execution import ExecutionGraph
from lumos.graph.job import CollectiveKind, Job, Program
from lumos.graph.timeline import RankTimeline, Timeline

MESSAGES = frozenset({CollectiveKind.SEND, CollectiveKind.RECEIVE, CollectiveKind.SEND_RECEIVE})
"""Communication by which one stage of a pipeline hands its results to the next."""


@dataclass(frozen=True)
class RankBreakdown:
    """One rank of one run; times in ns.

    `idle_ns` is `parts.other_ns` by cause, and sums to it. Of the exposed communication
    `waiting_for_peers_ns` was waiting for other members of collectives and `bubble_ns` for
    messages; None where no communication was matched across ranks, so that waiting is inside the
    transfers. `utilization` is the busy fraction of each millisecond of the step, from the first
    task of all ranks to the last.
    """

    span_ns: int
    parts: Breakdown
    idle_ns: Mapping[Cause, int]
    waiting_for_peers_ns: int | None
    bubble_ns: int | None
    utilization: NDArray[np.float64] = field(repr=False)

    @property
    def transfer_ns(self) -> int:
        """Exposed communication that does not wait, or not as far as is known."""
        waiting = (self.waiting_for_peers_ns or 0) + (self.bubble_ns or 0)
        return self.parts.exposed_communication_ns - waiting


@dataclass(frozen=True)
class RankWhere:
    """One rank of a step: measured, and replayed by rules alone."""

    rank: int
    measured: RankBreakdown
    replayed: RankBreakdown


@dataclass(frozen=True)
class StepBreakdown:
    """Where the time of a step goes, and how well its measured kernels use the hardware."""

    step: str
    ranks: tuple[RankWhere, ...]
    efficiency: Efficiency


def step_breakdown(
    step: str, job: Job, graph: ExecutionGraph, measured: Timeline, replayed: Timeline
) -> StepBreakdown:
    """The breakdown of a step of `job`, whose rows ran as `measured` and `replayed` say."""
    sides = [breakdowns(job, graph, run) for run in (measured, replayed)]
    ranks = tuple(
        RankWhere(rank, *pair)
        for rank, *pair in zip(job.placement.ranks, *sides, strict=True)
        if None not in pair
    )
    spans = [one.measured.span_ns for one in ranks]
    return StepBreakdown(step, ranks, efficiency(job, measured, spans))


def breakdowns(job: Job, graph: ExecutionGraph, run: Timeline) -> list[RankBreakdown | None]:
    """The breakdown of every rank of a run, None of one that did nothing."""
    times, step = run_times(graph, run), span_of(job, run)
    return [
        _rank(job, graph, times, place, run.ranks[place], step)
        if event_rows(job.programs[role]).any()
        else None
        for place, role in enumerate(job.placement.role)
    ]


def _rank(
    job: Job,
    graph: ExecutionGraph,
    times: RunTimes,
    place: int,
    run: RankTimeline,
    step: tuple[int, int],
) -> RankBreakdown:
    program = job.programs[job.placement.role[place]]
    begin, end = rank_span(program, run)
    computes, communicates = working_rows(program)
    busy = union(run, computes | communicates, begin, end)
    stretches = _stretches(graph, program, run, place, computes | communicates, busy, (begin, end))
    causes = causes_of_idle(job, graph, times, stretches).sum(axis=0)
    own = slice(int(graph.row_offset[place]), int(graph.row_offset[place + 1]))
    waiting = _waiting(program, run, times, own, (begin, end)) if times.meets[own].any() else None
    return RankBreakdown(
        span_ns=end - begin,
        parts=breakdown(program, run, begin, end),
        idle_ns={cause: int(time) for cause, time in zip(Cause, causes, strict=True)},
        waiting_for_peers_ns=waiting[0] if waiting else None,
        bubble_ns=waiting[1] if waiting else None,
        utilization=utilization(busy, *step),
    )


def _stretches(
    graph: ExecutionGraph,
    program: Program,
    run: RankTimeline,
    place: int,
    works: NDArray[np.bool_],
    busy: Intervals,
    span: tuple[int, int],
) -> Stretches:
    """When nothing ran, and the task that ended each stretch; the last one ends with the host."""
    begin, end = span
    interval = np.stack([np.append(begin, busy[:, 1]), np.append(busy[:, 0], end)], axis=1)
    offset = int(graph.row_offset[place])
    started = np.flatnonzero(works & (run.end_ns > run.start_ns))
    started = started[np.argsort(run.start_ns[started], kind="stable")]
    opener = started[np.searchsorted(run.start_ns[started], interval[:-1, 1])]
    rows = np.flatnonzero(event_rows(program))
    last = rows[np.argmax(run.end_ns[rows])]
    task = np.append(graph.opening[offset + opener], offset + last).astype(np.int64)
    runs = np.append(np.zeros(len(opener), bool), True)
    idle = interval[:, 1] > interval[:, 0]
    return Stretches(interval[idle], task[idle], runs[idle])


def _waiting(
    program: Program, run: RankTimeline, times: RunTimes, own: slice, span: tuple[int, int]
) -> tuple[int, int]:
    """Exposed communication in which collectives waited for their members, and messages alone."""
    computes, communicates = working_rows(program)
    compute = union(run, computes, *span)
    transfers = RankTimeline(times.start_ns[own], times.end_ns[own], run.wait_ns)
    moving = union(transfers, communicates, *span)
    of_message = np.array([one.kind in MESSAGES for one in program.collectives] + [False])
    collectives = communicates & ~of_message[program.rows.collective]
    meeting = union(run, collectives, *span)
    exposed = [_exposed(one, compute) for one in (union(run, communicates, *span), moving)]
    either = _exposed(_either(moving, meeting), compute)
    return either - exposed[1], exposed[0] - either


def _exposed(intervals: Intervals, compute: Intervals) -> int:
    return length(intervals) - length(intersection(intervals, compute))


def _either(first: Intervals, second: Intervals) -> Intervals:
    both = np.concatenate([first, second])
    run = RankTimeline(both[:, 0], both[:, 1], both[:, 0])
    low, high = (int(both[:, 0].min()), int(both[:, 1].max())) if len(both) else (0, 0)
    return union(run, np.ones(len(both), bool), low, high)
