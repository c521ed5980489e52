"""The chain of tasks, across ranks, that decides when a run ends, and why each came when it did.

The walk goes back in time from the last end to the first start, always to the dependency that was
fulfilled last, over threads, streams and ranks. The time between two points of it is one piece, of
one of three kinds, so that the pieces add up to the whole to the nanosecond:

    rank 0 host     | a |launch|
    rank 0 stream        ..????|== gemm ==|== all-reduce ==|     . lag of the launch
    rank 1 stream   |= k =|... waiting ...|== all-reduce ==|     ? unexplained
    the path        | a |..????|== gemm ==|== all-reduce ==|

* **own**: the path is on a task. Of a task that is left before its end (a kernel starts when its
  launch call has begun) only what lies before that point counts.
* **lag**: between the point that was waited for and the time at which that let the task start.
* **unexplained**: the task started later than all its dependencies allow. In a simulated run these
  are the recorded delays where they were put back, else there are none.

In a measured run a task can start before what it is said to wait for has ended: clocks are noisy,
and a lag is a typical value. The path then goes on, inside what was waited for, at the time that it
has reached. So what overlaps counts once, and no piece is negative:

    waited for     |== k1 ========|
    started early           |== k2 ==|
    the path       |== k1 ==|== k2 ==|
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lumos.analysis.task_times import opened_rows
from lumos.compiled import compiled
from lumos.graph.execution import ExecutionGraph, Rule
from lumos.graph.timeline import TaskTimes

STARTING_STATE = len(Rule)
"""In the place of a rule, behind them all: held by nothing but what was under way when the run began."""


@dataclass(frozen=True)
class CriticalPath:
    """One entry a task of the path, from first to last; times in ns.

    `row` numbers rows through all ranks. The path comes to it by `rule` (a Rule or STARTING_STATE),
    after `lag_ns` and `unexplained_ns`, and stays on it for `own_ns`; the pieces of one entry follow
    each other in this order, and the first begins at `begin_ns`. A collective that waits for other
    ranks has an entry where its last member arrives (of no own time), and one for its transfer.
    Stream waits are looked through: a kernel behind one is held by what that one awaited.
    """

    row: NDArray[np.int64]
    rule: NDArray[np.uint8]
    lag_ns: NDArray[np.int64]
    unexplained_ns: NDArray[np.int64]
    own_ns: NDArray[np.int64]
    begin_ns: int

    def __len__(self) -> int:
        return len(self.row)

    @property
    def time_ns(self) -> NDArray[np.int64]:
        """What each entry adds to the path, all three kinds."""
        return self.lag_ns + self.unexplained_ns + self.own_ns

    @property
    def length_ns(self) -> int:
        """All pieces together: the last end minus `begin_ns`."""
        return int(self.time_ns.sum())

    @property
    def own_start_ns(self) -> NDArray[np.int64]:
        """When the path gets onto each task."""
        return self.begin_ns + self.time_ns.cumsum() - self.own_ns


def by_rule(graph: ExecutionGraph, path: CriticalPath) -> dict[Rule, int]:
    """Own time and lags of the path by the rule that released each task [ns], longest first.

    What nothing but the recorded start held counts as released by its processor's own order; what
    was under way at the begin, and what is unexplained, is not in these sums.
    """
    starts = path.rule == STARTING_STATE
    own_order = np.where(graph.on_host[path.row], Rule.PROGRAM_ORDER, Rule.STREAM_ORDER)
    rule = np.where(starts, own_order, path.rule)
    time = path.own_ns + np.where(starts, 0, path.lag_ns)
    totals = {one: int(time[rule == one].sum()) for one in Rule}
    return dict(sorted(((r, t) for r, t in totals.items() if t), key=lambda item: -item[1]))


def rule_word(rule: int) -> str:
    """The name of a rule of a path as users write it."""
    return "starting_state" if rule == STARTING_STATE else Rule(rule).word


def critical_path(
    graph: ExecutionGraph,
    times: TaskTimes,
    last: int,
    begin_ns: int = 0,
    *,
    opened: NDArray[np.int64] | None = None,
) -> CriticalPath:
    """The path to the end of row `last` in a run of `graph`, back to `begin_ns`.

    `times` are those of lumos.simulate.run, or measured_task_times of a recorded run. Where
    several dependencies were fulfilled at once, the later rule in `Rule` counts. `opened` are the
    graph's opened_rows where they are known already.
    """
    opened = opened_rows(graph) if opened is None else opened
    backwards = _walk(
        graph.first, graph.before, graph.lag_ns, graph.from_start, graph.rule,
        graph.release_ns, graph.waves, opened, times.start_ns, times.end_ns, times.held_by, last,
        begin_ns,        _Codes(int(Rule.STREAM_ORDER), int(Rule.CONTENTION), STARTING_STATE),
    )  # fmt: skip
    row, rule, lag, unexplained, own = (column[::-1].copy() for column in backwards)
    return CriticalPath(row, rule, lag, unexplained, own, begin_ns)


def path_of(
    graph: ExecutionGraph,
    times: TaskTimes,
    is_task: NDArray[np.bool_],
    begin_ns: int,
    *,
    opened: NDArray[np.int64] | None = None,
) -> CriticalPath:
    """The path to the last end of the rows that are tasks; of the first row where several end then."""
    tasks = np.flatnonzero(is_task)
    if not len(tasks):
        nothing = np.empty(0, np.int64)
        rule = np.empty(0, np.uint8)
        return CriticalPath(nothing, rule, nothing, nothing, nothing, begin_ns)
    last = int(tasks[np.argmax(times.end_ns[tasks])])
    return critical_path(graph, times, last, begin_ns, opened=opened)


class _Codes(NamedTuple):
    """Rules as the kernels know them."""

    stream_order: int
    contention: int
    starting_state: int


@compiled()
def _walk(  # type: ignore[no-untyped-def]
    first, before, lag, from_start, rule, release, waves, opened, start, end, held_by, last, begin,
    codes,
):  # fmt: skip
    count = len(first) - 1
    row, by = np.empty(count, np.int64), np.empty(count, np.uint8)
    lags, late, own = (
        np.empty(count, np.int64),
        np.empty(count, np.int64),
        np.empty(count, np.int64),
    )
    n = -1
    task = np.int64(last)
    now = max(end[task], begin)  # the time that the path has reached, going back
    while True:
        if opened[task] >= 0:
            n += 1
            row[n], by[n], lags[n], late[n] = opened[task], codes.stream_order, 0, 0
            reached = max(min(now, start[task]), begin)
            own[n] = now - reached
            now = reached
        # a stream wait or a meeting takes no time: the row behind it is held by what holds that
        ready, point, source, found = _latest(
            task, first, before, lag, from_start, rule, release, waves, start, end, held_by, now,
            codes,
        )  # fmt: skip
        reached = max(min(now, ready), begin)
        late[n] += now - reached
        now = reached
        reached = max(min(now, point), begin)
        lags[n] += now - reached
        now = reached
        if by[n] == codes.stream_order:
            by[n] = found
        if source < 0 or (now <= begin and start[source] < begin):
            break
        task = source
    if source < 0:
        lags[n] += now - begin
    size = n + 1
    return row[:size], by[:size], lags[:size], late[:size], own[:size]


@compiled()
def _latest(  # type: ignore[no-untyped-def]
    task, first, before, lag, from_start, rule, release, waves, start, end, held_by, now, codes,
):  # fmt: skip
    """When the last dependency let the task start, its point, the task waited for, the rule."""
    ready, point, source = release[task], release[task], np.int64(-1)
    found = codes.starting_state
    for edge in range(first[task], first[task + 1]):
        origin = before[edge]
        time = start[origin] if from_start[edge] else end[origin]
        if time + lag[edge] > ready or (
            time + lag[edge] == ready and (source < 0 or rule[edge] >= found)
        ):
            ready, point = time + lag[edge], time
            source, found = np.int64(origin), np.int64(rule[edge])
    if len(held_by) and held_by[task] >= 0:
        holder = held_by[task]
        wave = np.int64((end[holder] - start[holder]) / waves[holder])
        handed_out = min(end[holder] - wave, start[task])
        # in a measured run what it holds may lie before it: the path never goes round in a circle
        if handed_out > ready and start[holder] < now:
            ready, point, source, found = handed_out, handed_out, holder, codes.contention
    return ready, point, source, found
