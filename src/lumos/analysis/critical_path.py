"""The chain of tasks that decides when a run ends, and the rule by which each was released."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lumos.compiled import compiled
from lumos.graph.execution import ExecutionGraph, Rule
from lumos.graph.timeline import TaskTimes


@dataclass(frozen=True)
class CriticalPath:
    """Tasks from first to last, the rule that released each, and the time each adds [ns].

    The times add up to the end of the last task minus the start of the first. A task that nothing
    but the recorded start held counts as released by its processor's own order.
    """

    task: NDArray[np.int64]
    rule: NDArray[np.uint8]
    time_ns: NDArray[np.int64]

    def by_rule(self) -> dict[str, int]:
        """Total time of the path by rule [ns], longest first."""
        totals = {rule.word: int(self.time_ns[self.rule == rule].sum()) for rule in Rule}
        return dict(sorted(((w, t) for w, t in totals.items() if t), key=lambda item: -item[1]))


def critical_path(graph: ExecutionGraph, times: TaskTimes, last: int) -> CriticalPath:
    """The chain that ends with task `last`, in a run of `graph`.

    Where several dependencies end at once the later rule in `Rule` counts.
    """
    task, rule, time = _walk(
        graph.first, graph.before, graph.lag_ns, graph.from_start, graph.rule, len(Rule), int(Rule.CONTENTION),
        times.start_ns, times.end_ns, times.held_by, last,
    )  # fmt: skip
    own = np.where(graph.on_host[task], Rule.PROGRAM_ORDER, Rule.STREAM_ORDER)
    return CriticalPath(task, np.where(rule == len(Rule), own, rule).astype(np.uint8), time)


@compiled()
def _walk(first, before, lag, from_start, rule, unknown, contention, start, end, held_by, last):  # type: ignore[no-untyped-def]
    count = len(first) - 1
    tasks = np.empty(count, np.int64)
    rules = np.empty(count, np.uint8)
    times = np.empty(count, np.int64)
    n = np.int64(0)
    task = np.int64(last)
    leave = np.int64(end[last])
    while task >= 0:
        best, best_edge = np.int64(-1), np.int64(-1)
        for edge in range(first[task], first[task + 1]):
            point = start[before[edge]] if from_start[edge] else end[before[edge]]
            if point + lag[edge] == start[task] and np.int64(rule[edge]) >= best:
                best, best_edge = np.int64(rule[edge]), np.int64(edge)
        tasks[n] = task
        if best_edge < 0 and len(held_by) and held_by[task] >= 0:
            rules[n] = contention
            times[n] = leave - start[task]
            leave = np.int64(start[task])
            task = np.int64(held_by[task])
        elif best_edge < 0:
            rules[n] = unknown
            times[n] = leave - start[task]
            task = np.int64(-1)
        else:
            source = before[best_edge]
            entered = start[source] if from_start[best_edge] else end[source]
            rules[n] = best
            times[n] = leave - entered
            leave = np.int64(entered)
            task = np.int64(source)
        n += 1
    return tasks[:n][::-1].copy(), rules[:n][::-1].copy(), times[:n][::-1].copy()
