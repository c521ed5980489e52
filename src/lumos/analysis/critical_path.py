"""The chain of tasks that decides when a run ends, and the rule by which each was released."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lumos.compiled import compiled
from lumos.graph.execution import ExecutionGraph, Rule

RULES = len(Rule)


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


def critical_path(
    graph: ExecutionGraph, start: NDArray[np.int64], end: NDArray[np.int64], last: int
) -> CriticalPath:
    """The chain that ends with task `last`, from the task times of a run of `graph`.

    Where several dependencies end at once the later rule in `Rule` counts.
    """
    task, rule, time = _walk(
        graph.first, graph.before, graph.lag_ns, graph.from_start, graph.rule, start, end, last,
    )  # fmt: skip
    own = np.where(_on_stream(graph)[task], Rule.STREAM_ORDER, Rule.PROGRAM_ORDER)
    return CriticalPath(task, np.where(rule == len(Rule), own, rule).astype(np.uint8), time)


def _on_stream(graph: ExecutionGraph) -> NDArray[np.bool_]:
    return ~graph.on_host


@compiled()
def _walk(first, before, lag, from_start, rule, start, end, last):  # type: ignore[no-untyped-def]
    count = len(first) - 1
    tasks = np.empty(count, np.int64)
    rules = np.empty(count, np.uint8)
    times = np.empty(count, np.int64)
    n = 0
    task = last
    leave = end[last]
    unknown = RULES
    while True:
        best, best_edge = -1, -1
        for edge in range(first[task], first[task + 1]):
            source = before[edge]
            time = (start[source] if from_start[edge] else end[source]) + lag[edge]
            if time == start[task] and rule[edge] >= best:
                best, best_edge = rule[edge], edge
        tasks[n] = task
        if best_edge < 0:
            rules[n] = unknown
            times[n] = leave - start[task]
            n += 1
            break
        source = before[best_edge]
        point = start[source] if from_start[best_edge] else end[source]
        rules[n] = best
        times[n] = leave - point
        n += 1
        leave = point
        task = source
    return tasks[:n][::-1].copy(), rules[:n][::-1].copy(), times[:n][::-1].copy()
