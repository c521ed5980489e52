"""What the what-ifs of a step are run against: the step back to back, or once as recorded.

Back to back, how long a step takes is its period: from the last end of one copy to that of the next.

    host   | step 1 | step 2 | step 3 |          a device that lags behind does not hold the host
    device     | step 1 ...| step 2 ...| step 3 ...|
                           |<- period ->|

Once, from the recorded start, it is the span up to the last end. Then a host that had run ahead when
the step began keeps that lead, whatever is changed: of a step that the host limits, the device's
last stretch looks as if it could be saved.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from lumos.analysis.replay import StepReplay, event_rows, percent
from lumos.graph.execution import ExecutionGraph
from lumos.graph.job import NONE, Job, Program
from lumos.graph.timeline import Timeline
from lumos.settle import Settled, settle
from lumos.simulate import run, to_timeline
from lumos.whatif.back_to_back import back_to_back, without_late_delays
from lumos.whatif.selection import on_leading_threads

WARM_UP_COPIES, MEASURED_COPIES, FOLLOWING_COPIES = 1, 2, 1
"""Copies before the period is read, those over which it is averaged, and those behind them, without
which the last one would have its GPU for itself. On all traces at hand, for the step as it is and for
each of its parts made faster, the period is that of ten copies more to 0.2 % of the step."""
COPIES = WARM_UP_COPIES + MEASURED_COPIES + FOLLOWING_COPIES


LIKE_SHARE = 0.1
"""Steps are alike whose measured spans differ by no more than this share."""


class Basis(Enum):
    """How the step is run."""

    BACK_TO_BACK = "back_to_back"
    ONCE = "once"


@dataclass(frozen=True)
class Period:
    """A step's measured period [ns]: its own, or the median of steps like it where that is unknown."""

    length_ns: int
    own: bool


@dataclass(frozen=True)
class Unchanged:
    """A step as it is, in the run that changes are held against; times in ns.

    `length_ns` is its period back to back, or its span from the recorded start; `measured_ns` the
    same as recorded, None where that is unknown. Its period is the step's `own`, or else that of
    steps like it. `replay_error_pct` is the error of the step replayed by rules alone.
    """

    step: str
    basis: Basis
    length_ns: int
    measured_ns: int | None
    replay_error_pct: float | None
    own: bool = True

    @property
    def error_pct(self) -> float | None:
        """(length - measured) / measured [%]; None where it was not measured."""
        return None if self.measured_ns is None else percent(self.length_ns, self.measured_ns)

    @property
    def error_ns(self) -> int | None:
        """How far the run is off: gains smaller than that are within its error."""
        return None if self.measured_ns is None else abs(self.length_ns - self.measured_ns)

    def share_pct(self, time_ns: int) -> float:
        """`time_ns` as a share of the step [%]; 0 of a step of no length."""
        return 100.0 * time_ns / self.length_ns if self.length_ns else 0.0


@dataclass(frozen=True)
class Baseline:
    """A job and its graph, and where to read how long the step takes.

    `step` is the step by itself, `job` its copies. `mark[task]` numbers the copy whose end a task
    counts to, NONE for tasks that count to none; `start_ns` is the begin of the first copy.
    `order` are the numbers of each rank's rows before the threads were put in the order of their
    arrival, None where that changed nothing.
    """

    unchanged: Unchanged
    step: Job = field(repr=False)
    job: Job = field(repr=False)
    graph: ExecutionGraph = field(repr=False)
    mark: NDArray[np.int32] = field(repr=False)
    copies: int
    start_ns: int
    order: tuple[NDArray[np.intp] | None, ...] = field(repr=False)

    def durations_of(self, step: Job) -> NDArray[np.int64]:
        """The column for `graph` of a step that differs from the unchanged one in durations [ns]."""
        durations = self.graph.duration_ns.copy()
        for place, order in enumerate(self.order):
            column = np.tile(
                step.programs[step.placement.role[place]].rows.duration_ns, self.copies
            )
            own = slice(int(self.graph.row_offset[place]), int(self.graph.row_offset[place + 1]))
            durations[own] = column if order is None else column[order]
        return durations

    def length_ns(self, ends_ns: NDArray[np.int64]) -> int:
        """How long the step takes in a run where the copies end at `ends_ns` (copies,) [ns]."""
        return _length_ns(self.unchanged.basis, self.start_ns, ends_ns)

    def length_in(self, graph: ExecutionGraph) -> int:
        """How long the step takes in a run of a graph of the same tasks, delays included [ns]."""
        end_ns = run(graph, delays=True).end_ns
        return self.length_ns(_ends_ns(self.mark, self.copies, end_ns))

    def length_of(self, step: Job) -> int:
        """How long a changed step takes, run as the unchanged one was, delays included [ns]."""
        settled = _run_as(self.unchanged.basis, step)
        end_ns = run(settled.graph, delays=True).end_ns
        mark = _marks(settled.job, settled.graph, self.copies)
        return self.length_ns(_ends_ns(mark, self.copies, end_ns))


def baseline(
    figures: StepReplay,
    job: Job,
    graph: ExecutionGraph,
    measured: Timeline,
    period: Period | None,
    basis: Basis = Basis.BACK_TO_BACK,
) -> Baseline:
    """What to run the changes of a replayed step on: `job` and `graph` are those that were replayed.

    Recorded delays that no rule explains are kept. Back to back those of device tasks that ran
    beside the next recorded step are left out: the next copy takes its place. `period` is the
    measured one, where it is known.
    """
    step, copies, start = job, 1, 0
    order: tuple[NDArray[np.intp] | None, ...] = (None,) * len(job.placement.role)
    if basis is Basis.BACK_TO_BACK:
        step, copies = without_late_delays(job, measured), COPIES
        settled = _run_as(basis, step)
        job, graph, order = settled.job, settled.graph, settled.order
    times = run(graph, delays=True)
    if basis is Basis.ONCE:
        low, high = _span_ns(job, measured)
        start, _ = _span_ns(job, to_timeline(graph, times))
        period = Period(high - low, own=True)
    mark = _marks(job, graph, copies)
    length = _length_ns(basis, start, _ends_ns(mark, copies, times.end_ns))
    measured_ns, own = (period.length_ns, period.own) if period is not None else (None, True)
    unchanged = Unchanged(figures.step, basis, length, measured_ns, figures.error_pct, own)
    return Baseline(unchanged, step, job, graph, mark, copies, start, order)


def _run_as(basis: Basis, step: Job) -> Settled:
    """A step as it is run, threads in the order of their arrival."""
    if basis is Basis.BACK_TO_BACK:
        step = back_to_back(step, COPIES)
    return settle(step)


def measured_periods(job: Job, measured: Timeline) -> list[Period | None]:
    """The measured period of each step: from the last end of the step before it to its own.

    That of the first step is unknown: it is the median of the steps like it. None without any.
    """
    spans = _spans_ns(job, measured)
    periods = [None] + [
        now[1] - before[1] if now and before else None for before, now in itertools.pairwise(spans)
    ]
    found: list[Period | None] = []
    for span, period in zip(spans, periods, strict=True):
        if period is not None:
            found.append(Period(period, own=True))
            continue
        like = sorted(
            theirs
            for other, theirs in zip(spans, periods, strict=True)
            if span and other and theirs is not None and _alike(span, other)
        )
        found.append(Period(like[(len(like) - 1) // 2], own=False) if like else None)
    return found


def _alike(one: tuple[int, int], other: tuple[int, int]) -> bool:
    lengths = one[1] - one[0], other[1] - other[0]
    return max(lengths) - min(lengths) <= LIKE_SHARE * max(lengths)


def _spans_ns(job: Job, run: Timeline) -> list[tuple[int, int] | None]:
    """First start and last end of the rows that count, of each step [ns]; None without any."""
    steps, limits = len(job.programs[0].blocks), np.iinfo(np.int64)
    start, end = np.full(steps, limits.max), np.full(steps, limits.min)
    for role, rank in zip(job.placement.role, run.ranks, strict=True):
        rows = np.flatnonzero(counted_rows(job.programs[role]))
        step = job.programs[role].rows.block[rows]
        np.minimum.at(start, step, rank.start_ns[rows])
        np.maximum.at(end, step, rank.end_ns[rows])
    return [
        (low, high) if low <= high else None
        for low, high in zip(start.tolist(), end.tolist(), strict=True)
    ]


def _span_ns(job: Job, run: Timeline) -> tuple[int, int]:
    """The same of all steps together; (0, 0) without any."""
    spans = [span for span in _spans_ns(job, run) if span is not None]
    starts, ends = zip(*spans, strict=True) if spans else ((0,), (0,))
    return min(starts), max(ends)


def counted_rows(program: Program) -> NDArray[np.bool_]:
    """Rows whose end counts: device tasks, and tasks of the main thread and of threads that launch.

    What other threads do holds something up where somebody waits for it, and counts there. Between
    two tasks they mostly wait for something that leaves no trace: a pause as long as recorded, which
    would keep every step as long as it was.
    """
    return event_rows(program) & (program.rows.on_device | on_leading_threads(program))


def _marks(job: Job, graph: ExecutionGraph, copies: int) -> NDArray[np.int32]:
    """The copy that each row belongs to, where it is a task of the program."""
    steps = len(job.programs[0].blocks) // copies
    mark = np.full(len(graph), NONE, np.int32)
    for place, role in enumerate(job.placement.role):
        program = job.programs[role]
        own = slice(int(graph.row_offset[place]), int(graph.row_offset[place + 1]))
        mark[own] = np.where(counted_rows(program), program.rows.block // steps, NONE)
    return mark


def _ends_ns(mark: NDArray[np.int32], copies: int, end_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    watched = np.flatnonzero(mark != NONE)
    ends = np.zeros(copies, np.int64)
    np.maximum.at(ends, mark[watched], end_ns[watched])
    return ends


def _length_ns(basis: Basis, start_ns: int, ends_ns: NDArray[np.int64]) -> int:
    if basis is Basis.ONCE:
        return int(ends_ns[-1]) - start_ns
    first = WARM_UP_COPIES - 1
    return round(int(ends_ns[first + MEASURED_COPIES] - ends_ns[first]) / MEASURED_COPIES)
