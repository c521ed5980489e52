"""Why devices were idle, held against a slow count: nanosecond by nanosecond, piece by piece.

The pieces of time behind a task are written down as far back as they go, latest first; those between a
launch and its task count for nothing. An idle stretch is laid along the rest until it is used up.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lumos.analysis.idle import Cause
from lumos.analysis.step_breakdown import breakdowns
from lumos.graph.execution import ExecutionGraph, Rule
from lumos.graph.job import NONE, Job, Program, TaskKind
from lumos.graph.timeline import RankTimeline, TaskTimes
from lumos.lower import lower
from lumos.settle import settle
from lumos.simulate import run, to_timeline
from tests.simulate.jobs import jobs

FOREVER = 10**15
LATE_NS = 10_000
RULES = {
    Rule.PROGRAM_ORDER: Cause.HOST_BOUND,
    Rule.HAND_OFF: Cause.HOST_BOUND,
    Rule.SYNCHRONIZE: Cause.SYNCHRONIZING_CALL,
}
"""Whatever a device is idle for while it waits by any other rule was launched already."""
steadily = settings(
    deadline=None, max_examples=120, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


class Piece(NamedTuple):
    """Some time behind a task; a way from a launch counts for nothing and has no cause."""

    length: int
    cause: Cause | None


class Awaited(NamedTuple):
    """A task that another waited for: its point, start or end, and when it let the other start."""

    task: int
    rule: Rule
    point: int
    ready: int
    end: bool


class Why:
    """Tells of one rank's tasks what the time behind them went to."""

    def __init__(self, job: Job, graph: ExecutionGraph, times: TaskTimes) -> None:
        self.job, self.graph, self.times = job, graph, times

    def waited_for(self, task: int) -> Awaited | None:
        """The latest that a task waited for; None: for nothing."""
        graph, found = self.graph, None
        for edge in range(int(graph.first[task]), int(graph.first[task + 1])):
            before, start = int(graph.before[edge]), bool(graph.from_start[edge])
            point = int((self.times.start_ns if start else self.times.end_ns)[before])
            ready = point + int(graph.lag_ns[edge])
            if ready >= (found.ready if found else int(graph.release_ns[task])):
                found = Awaited(before, Rule(int(graph.rule[edge])), point, ready, end=not start)
        return found

    def host_row(self, task: int) -> Cause:
        """What a device is idle for while this host row is not done."""
        place = int(self.graph.rank[task])
        program = self.job.programs[self.job.placement.role[place]]
        row = task - int(self.graph.row_offset[place])
        if "DataLoader" in program.names[program.rows.name[row]]:
            return Cause.DATA_LOADING
        kind = program.rows.kind[row]
        return Cause.SYNCHRONIZING_CALL if kind == TaskKind.SYNCHRONIZE else Cause.HOST_BOUND

    def pieces(self, task: int, time: int, *, inside: bool) -> list[Piece]:
        """All time behind `time`, latest first; `inside` the task itself, else behind its start."""
        found: list[Piece] = []
        graph, rule = self.graph, Rule.LAUNCH
        while True:
            host = bool(graph.on_host[task])
            start, end = int(self.times.start_ns[task]), int(self.times.end_ns[task])
            if inside and not host and start < end:
                return [*found, Piece(FOREVER, RULES.get(rule, Cause.LAUNCH_QUEUE))]
            if inside and start < time:
                found.append(Piece(time - start, self.host_row(task)))
                time = start
            awaited = self.waited_for(task)
            ready = awaited.ready if awaited else int(graph.release_ns[task])
            late = time - ready
            queue = Cause.UNEXPLAINED if late > LATE_NS else Cause.LAUNCH_QUEUE
            of_late = self.host_row(task) if host else queue
            if awaited is None and ready > 0:
                return [*found, Piece(late, of_late), Piece(FOREVER, Cause.EARLIER_STEP)]
            if awaited is None:
                return [*found, Piece(FOREVER, None)]
            rule, point = awaited.rule, awaited.point
            if rule is Rule.LAUNCH:
                if late > LATE_NS:
                    returned = max(ready, min(int(self.times.end_ns[awaited.task]), time))
                    if time - returned > LATE_NS:
                        found.append(Piece(time - returned, Cause.UNEXPLAINED))
                        time = returned
                    found.append(Piece(time - ready, Cause.HOST_BOUND))
                    time = ready
                found.append(Piece(time - point, None))
            else:
                found.append(Piece(late, of_late))
                found.append(Piece(ready - point, RULES.get(rule, Cause.LAUNCH_QUEUE)))
            time, task, inside = point, awaited.task, awaited.end


def laid_along(pieces: list[Piece], length: int) -> Counter[Cause]:
    """A stretch of this length by cause."""
    found: Counter[Cause] = Counter()
    ways = 0
    for piece in pieces:
        if not length:
            break
        if piece.cause is not None:
            used = min(piece.length, length)
            found[piece.cause] += used
            length -= used
        elif piece.length < FOREVER:
            ways += piece.length
        else:
            found[Cause.LAUNCH_QUEUE if length <= ways else Cause.UNEXPLAINED] += length
    return found


def works(program: Program) -> NDArray[np.bool_]:
    """Rows in which the device works; without a GPU the host's operators do."""
    rows = program.rows
    if any(one.device >= 0 for one in program.processors):
        return rows.on_device
    return rows.on_device | (rows.kind == TaskKind.OPERATOR)


def idle_stretches(
    program: Program, ran: RankTimeline, begin: int, end: int
) -> list[tuple[int, int]]:
    """Found by asking of every nanosecond whether a task of the device was running."""
    idle = np.ones(end - begin, bool)
    for row in np.flatnonzero(works(program)):
        idle[max(ran.start_ns[row] - begin, 0) : max(ran.end_ns[row] - begin, 0)] = False
    edges = np.flatnonzero(np.diff(np.concatenate([[0], idle.astype(np.int8), [0]])))
    return [(begin + int(a), begin + int(b)) for a, b in edges.reshape(-1, 2)]


def by_hand(job: Job, graph: ExecutionGraph, times: TaskTimes, place: int) -> Counter[Cause]:
    """The idle time of one rank by cause."""
    program = job.programs[job.placement.role[place]]
    ran, offset = to_timeline(graph, times).ranks[place], int(graph.row_offset[place])
    events = np.flatnonzero(program.rows.event != NONE).tolist()
    why, found = Why(job, graph, times), Counter[Cause]()
    begin, end = min(ran.start_ns[r] for r in events), max(ran.end_ns[r] for r in events)
    for low, high in idle_stretches(program, ran, int(begin), int(end)):
        next_up = [
            r for r in np.flatnonzero(works(program)) if ran.end_ns[r] > ran.start_ns[r] == high
        ]
        if next_up:
            pieces = why.pieces(int(graph.opening[offset + next_up[0]]), high, inside=False)
        else:
            last = max(events, key=lambda row: (ran.end_ns[row], -row))
            pieces = why.pieces(offset + last, high, inside=True)
        found += laid_along(pieces, high - low)
    return found


def assert_as_by_hand(job: Job, graph: ExecutionGraph, times: TaskTimes) -> None:
    for place, one in enumerate(breakdowns(job, graph, to_timeline(graph, times))):
        if one is not None:
            known = {cause: time for cause, time in one.idle_ns.items() if time}
            assert known == dict(by_hand(job, graph, times, place))


@given(jobs(most_ranks=3))
@steadily
def test_causes_are_those_counted_by_hand(job: Job) -> None:
    settled = settle(job)
    assert_as_by_hand(settled.job, settled.graph, settled.times)


@given(jobs(most_ranks=2, calls=15), st.integers(0, 2**32 - 1))
@steadily
def test_causes_of_a_run_with_delays_are_those_counted_by_hand(job: Job, seed: int) -> None:
    """Tasks come up to 40 us late, and some calls take as long."""
    draw = np.random.default_rng(seed)
    programs = []
    for program in settle(job).job.programs:
        rows = program.rows
        late, longer = (
            np.where(draw.random(len(rows)) < 0.3, draw.integers(0, 40_000, len(rows)), 0)
            for _ in range(2)
        )
        calls = np.where(rows.kind == TaskKind.LAUNCH, longer, 0)
        columns = {"delay_ns": late, "duration_ns": rows.duration_ns + calls}
        programs.append(replace(program, rows=rows.with_columns(**columns)))
    delayed = replace(job, programs=tuple(programs))
    graph = lower(delayed)
    assert_as_by_hand(delayed, graph, run(graph, delays=True))
