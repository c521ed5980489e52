"""Replay: one step's simulated run held against its measured one, rank by rank."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lumos.analysis.breakdown import Breakdown, breakdown, union
from lumos.analysis.critical_path import by_rule, critical_path, path_of
from lumos.analysis.path_sums import sums_by_rule
from lumos.analysis.task_times import opened_rows
from lumos.graph.execution import ExecutionGraph
from lumos.graph.job import NONE, Job, Program, TaskKind
from lumos.graph.timeline import RankTimeline, TaskTimes, Timeline


@dataclass(frozen=True)
class StartError:
    """How far device tasks start from where they did, absolute [ns]; None without device tasks."""

    p50_ns: float | None
    p95_ns: float | None
    max_ns: float | None


@dataclass(frozen=True)
class RankReplay:
    """One rank of a replayed step. Times in ns; errors are signed and in % of the measured span.

    All but `with_unexplained_error_pct` come from the run by rules only.
    """

    rank: int
    measured_ns: int
    replayed_ns: int
    task_start_error: StartError
    measured_breakdown: Breakdown
    replayed_breakdown: Breakdown
    with_unexplained_error_pct: float | None
    idle_explained_pct: float | None
    frozen_gap_ns: int
    unexplained_ns: int
    critical_path_ns: dict[str, int]

    @property
    def error_pct(self) -> float | None:
        """Replay error of the rank's span."""
        return percent(self.replayed_ns, self.measured_ns)


@dataclass(frozen=True)
class StepReplay:
    """A replayed step: the span over all its ranks, and each rank's own figures.

    `unprofiled_ns` is how long a step takes without the profiler, None where nothing tells.
    `critical_path_ns` is what the last end of all ranks waits for, by rule: it adds up to the
    replayed span.
    """

    step: str
    measured_ns: int
    replayed_ns: int
    ranks: tuple[RankReplay, ...]
    unprofiled_ns: int | None = None
    critical_path_ns: dict[str, int] = field(default_factory=dict)

    @property
    def error_pct(self) -> float | None:
        """Replay error of the step's span."""
        return percent(self.replayed_ns, self.measured_ns)


def percent(predicted: float, measured: float) -> float | None:
    """(predicted - measured) / measured in %, None where nothing was measured."""
    return 100.0 * (predicted - measured) / measured if measured else None


def compare(
    step: str,
    job: Job,
    graph: ExecutionGraph,
    measured: Timeline,
    replayed: Timeline,
    with_unexplained: Timeline | None,
    times: TaskTimes,
) -> StepReplay:
    """Hold a replay of `job` against the measured run of the same rows.

    `times` are those of every task of `graph` in the replay; `with_unexplained` is
    the replay with the recorded delays, None where delays make no sense (a dropped rule).
    """
    ranks, opened = [], opened_rows(graph)
    for place, rank in enumerate(job.placement.ranks):
        program = job.programs[job.placement.role[place]]
        if not event_rows(program).any():
            continue
        ranks.append(
            _compare_rank(
                rank, place, program, graph, measured.ranks[place], replayed.ranks[place],
                None if with_unexplained is None else with_unexplained.ranks[place], times,
                opened,
            )
        )  # fmt: skip
    low, high = span_of(job, measured)
    new_low, new_high = span_of(job, replayed)
    is_task = np.concatenate([event_rows(job.programs[role]) for role in job.placement.role])
    path = path_of(graph, times, is_task, new_low, opened=opened)
    return StepReplay(
        step, high - low, new_high - new_low, tuple(ranks),
        critical_path_ns=sums_by_rule(graph, path),
    )  # fmt: skip


def _compare_rank(
    rank: int,
    place: int,
    program: Program,
    graph: ExecutionGraph,
    measured: RankTimeline,
    replayed: RankTimeline,
    with_unexplained: RankTimeline | None,
    times: TaskTimes,
    opened: NDArray[np.int64],
) -> RankReplay:
    begin, end = rank_span(program, measured)
    new_begin, new_end = rank_span(program, replayed)
    unexplained = None
    if with_unexplained is not None:
        low, high = rank_span(program, with_unexplained)
        unexplained = percent(high - low, end - begin)
    rows = event_rows(program)
    last = int(np.flatnonzero(rows)[np.argmax(replayed.end_ns[rows])])
    path = critical_path(graph, times, int(graph.row_offset[place]) + last, opened=opened)
    return RankReplay(
        rank=rank,
        measured_ns=end - begin,
        replayed_ns=new_end - new_begin,
        task_start_error=_start_error(program, measured, replayed),
        measured_breakdown=breakdown(program, measured, begin, end),
        replayed_breakdown=breakdown(program, replayed, new_begin, new_end),
        with_unexplained_error_pct=unexplained,
        idle_explained_pct=_idle_explained(program, measured, begin),
        frozen_gap_ns=_frozen_gap(program),
        unexplained_ns=int(program.rows.delay_ns.sum()),
        critical_path_ns={rule.word: time for rule, time in by_rule(graph, path).items()},
    )


def event_rows(program: Program) -> NDArray[np.bool_]:
    """Rows that are tasks of the program: no gaps, no rows of our own making."""
    return program.rows.event != NONE


def rank_span(program: Program, run: RankTimeline) -> tuple[int, int]:
    """First start and last end of a rank's tasks, host and device [ns]."""
    rows = event_rows(program)
    return int(run.start_ns[rows].min()), int(run.end_ns[rows].max())


def span_of(job: Job, run: Timeline) -> tuple[int, int]:
    """First start and last end over all ranks [ns]; (0, 0) where no rank has a task."""
    spans = [
        rank_span(job.programs[role], rank)
        for role, rank in zip(job.placement.role, run.ranks, strict=True)
        if event_rows(job.programs[role]).any()
    ]
    return min((low for low, _ in spans), default=0), max((high for _, high in spans), default=0)


def _start_error(program: Program, measured: RankTimeline, replayed: RankTimeline) -> StartError:
    device = program.rows.launch != NONE
    if not device.any():
        return StartError(None, None, None)
    error = np.abs(replayed.start_ns[device] - measured.start_ns[device])
    p50, p95 = np.percentile(error, [50, 95])
    return StartError(float(p50), float(p95), float(error.max()))


def _idle_explained(program: Program, measured: RankTimeline, begin_ns: int) -> float | None:
    """Share of the time without any running device task, up to the last one, that a rule explains.

    An idle stretch ends with a task; what that task was later than all its predecessors allow is
    unexplained, the rest of the stretch was waiting for them.
    """
    rows = program.rows
    device = rows.launch != NONE
    if not device.any():
        return None
    busy = union(measured, device, begin_ns, int(measured.end_ns[device].max()))
    idle_from = np.concatenate([[begin_ns], busy[:-1, 1]])
    idle = busy[:, 0] - idle_from
    if idle.sum() <= 0:
        return None
    started = np.flatnonzero(device)
    started = started[np.argsort(measured.start_ns[started], kind="stable")]
    opener = started[np.searchsorted(measured.start_ns[started], busy[:, 0])]
    unexplained = np.minimum(rows.delay_ns[opener], idle)
    return float(100.0 * (1.0 - unexplained.sum() / idle.sum()))


def _frozen_gap(program: Program) -> int:
    """Time of the pauses between two operators of one step that no rule explains [ns].

    Counted on the threads that launch: a helper's pauses hold nothing up.
    """
    rows = program.rows
    launching = np.unique(rows.processor[rows.kind == TaskKind.LAUNCH]).tolist()
    total = 0
    for number, processor in enumerate(program.processors):
        if processor.is_stream or (launching and number not in launching):
            continue
        mine = np.flatnonzero(rows.processor == number)
        busy = np.flatnonzero(rows.kind[mine] != TaskKind.GAP)
        if len(busy):
            inside = mine[busy[0] : busy[-1] + 1]
            total += int(rows.duration_ns[inside][rows.frozen[inside]].sum())
    return total
