"""The critical path of a step: the path, its sums, its story, and what is nearly critical."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from lumos.analysis.critical_path import CriticalPath, path_of
from lumos.analysis.path_hops import Hop, hops
from lumos.analysis.path_segments import Segment, segments
from lumos.analysis.path_sums import Part, PathSums, labels_of, path_sums
from lumos.analysis.replay import event_rows, span_of
from lumos.analysis.slack import slack
from lumos.graph.execution import ExecutionGraph
from lumos.graph.job import Job
from lumos.graph.labels import By
from lumos.graph.timeline import TaskTimes, Timeline

MOST_SEGMENTS = 200
MOST_HOPS = 200
"""Of longer stories the longest parts are told; the path itself is whole."""
NEAR_PCT = 1.0
"""A task whose slack is at most this share of the makespan [%] is nearly critical."""


class Ran(Enum):
    """How a run came about."""

    MEASURED = "measured"
    REPLAYED = "replayed"


@dataclass(frozen=True)
class NearCritical:
    """Tasks off the path, of one class on one thread or stream, that little would put on it [ns].

    `own_ns` is the time of these tasks together, `least_slack_ns` that of the nearest.
    """

    rank: int
    stream: str
    kind: str
    tasks: int
    own_ns: int
    least_slack_ns: int


@dataclass(frozen=True)
class StepPath:
    """The critical path of a step's run over all ranks; times in ns.

    `makespan_ns` is from the first start to the last end of its tasks: what the path adds up to.
    `segments` are the longest of `segment_count`, `hops` those to the tasks that add most.
    `slack_ns` has one entry a row through all ranks (UNLIMITED where the end does not depend on
    it). `error_pct` is the replay error of the step.
    """

    step: str
    ran: Ran
    makespan_ns: int
    error_pct: float | None
    sums: PathSums
    segment_count: int
    segments: tuple[Segment, ...] = field(repr=False)
    hops: tuple[Hop, ...] = field(repr=False)
    near: tuple[NearCritical, ...] = field(repr=False)
    path: CriticalPath = field(repr=False)
    slack_ns: NDArray[np.int64] = field(repr=False)

    def share_pct(self, time_ns: int) -> float:
        """`time_ns` as a share of the makespan [%]; 0 of a step of no length."""
        return 100.0 * time_ns / self.makespan_ns if self.makespan_ns else 0.0

    def part_ns(self, part: Part) -> int:
        """What one part adds to the path."""
        return self.sums.by_part.get(part, 0)


def step_path(
    step: str,
    ran: Ran,
    job: Job,
    graph: ExecutionGraph,
    run: Timeline,
    times: TaskTimes,
    error_pct: float | None,
) -> StepPath:
    """The critical path of `run`, a run of the rows of `job`, whose tasks ran at `times`."""
    low, high = span_of(job, run)
    is_task = np.concatenate([event_rows(job.programs[role]) for role in job.placement.role])
    path = path_of(graph, times, is_task, low)
    room = slack(graph, times, is_task, high)
    count, story = segments(job, graph, path, MOST_SEGMENTS)
    return StepPath(
        step, ran, high - low, error_pct, path_sums(job, graph, path), count, story,
        hops(job, graph, path, MOST_HOPS),
        near_critical(job, graph, times, path, room, int((high - low) * NEAR_PCT / 100)),
        path, room,
    )  # fmt: skip


def near_critical(
    job: Job,
    graph: ExecutionGraph,
    times: TaskTimes,
    path: CriticalPath,
    slack_ns: NDArray[np.int64],
    most_ns: int,
) -> tuple[NearCritical, ...]:
    """Groups of tasks off the path of at most `most_ns` slack, those of most time first."""
    near = slack_ns <= most_ns
    near[path.row] = False
    rows = np.flatnonzero(near)
    own = (times.end_ns - times.start_ns)[rows]
    kind, stream = (labels_of(job, graph, rows, by) for by in (By.CLASS, By.STREAM))
    size = len(kind.texts) + 1
    key = graph.processor[rows].astype(np.int64) * size + kind.number
    used, first, group = np.unique(key, return_index=True, return_inverse=True)
    total, least = np.zeros(len(used), np.int64), np.full(len(used), most_ns)
    np.add.at(total, group, own)
    np.minimum.at(least, group, slack_ns[rows])
    count = np.bincount(group, minlength=len(used))
    return tuple(
        NearCritical(
            job.placement.ranks[graph.rank[rows[first[one]]]],
            stream.texts[stream.number[first[one]]],
            kind.texts[kind.number[first[one]]],
            int(count[one]),
            int(total[one]),
            int(least[one]),
        )
        for one in np.argsort(-total, kind="stable").tolist()
        if total[one]
    )
