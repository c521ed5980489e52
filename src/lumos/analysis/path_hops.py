"""The hops of a critical path one by one: the dependency each follows, and the task it leads to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lumos.analysis.critical_path import CriticalPath, rule_word
from lumos.analysis.path_sums import Part, labels_of
from lumos.graph.execution import ExecutionGraph
from lumos.graph.job import Job
from lumos.graph.labels import By


@dataclass(frozen=True)
class Hop:
    """A step from one task of the path to the next; times in ns.

    `kind` is the rule it follows, `starting_state`, or `unexplained` for the time by which the task
    starts later than all dependencies allow (a hop of its own, behind the one that follows a rule).
    It takes `length_ns` from `start_ns` on the run's clock; then the path is on the task for
    `task_ns`.
    """

    kind: str
    rank: int
    stream: str
    task: str
    start_ns: int
    length_ns: int
    task_ns: int


def hops(job: Job, graph: ExecutionGraph, path: CriticalPath, most: int) -> tuple[Hop, ...]:
    """The hops to the `most` tasks that add most time to the path, in order of time."""
    chosen = np.sort(np.argsort(-path.time_ns, kind="stable")[:most])
    rows = path.row[chosen]
    stream, name = (labels_of(job, graph, rows, by) for by in (By.STREAM, By.KERNEL))
    entered = path.own_start_ns - path.unexplained_ns - path.lag_ns
    found = []
    for place, entry in enumerate(chosen.tolist()):
        where = (
            job.placement.ranks[graph.rank[rows[place]]],
            stream.texts[stream.number[place]],
            name.texts[name.number[place]],
        )
        begin, lag, late, own = (
            int(column[entry])
            for column in (entered, path.lag_ns, path.unexplained_ns, path.own_ns)
        )
        word = rule_word(int(path.rule[entry]))
        found.append(Hop(word, *where, begin, lag, 0 if late else own))
        if late:
            found.append(Hop(Part.UNEXPLAINED.value, *where, begin + lag, late, own))
    return tuple(found)
