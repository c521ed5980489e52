"""What a critical path is made of: summed by part, kind, rule, rank, stream, layer, phase, operator."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lumos.analysis.critical_path import STARTING_STATE, CriticalPath, by_rule
from lumos.graph.execution import ExecutionGraph
from lumos.graph.job import NONE, Job, TaskKind
from lumos.graph.labels import HOST, By, Labels, labels

Key = TypeVar("Key")
UNKNOWN = "unknown"
"""What is summed of tasks that have no label."""


class Part(Enum):
    """Parts of a path: three of time on tasks, three of time between them."""

    COMPUTE = "compute"  # device tasks but communication; operators where the host computes
    COMMUNICATION = "communication"
    HOST = "host"
    LAG = "lag"  # latencies between a task and what it waited for
    UNEXPLAINED = "unexplained"  # tasks that start later than all dependencies allow
    STARTING_STATE = "starting_state"  # what was under way when the run began


@dataclass(frozen=True)
class PathSums:
    """Times of a path [ns], longest first; each table adds up to its length.

    `by_kind` and `by_operator` sum the time on tasks by their class and operator, with the time
    between tasks under the words of Part; `by_rule` counts a task's time to the rule that released
    it. In the other tables the time in front of a task is the task's.
    """

    by_part: dict[Part, int]
    by_kind: dict[str, int]
    by_rule: dict[str, int]
    by_rank: dict[int, int]
    by_stream: dict[str, int]
    by_layer: dict[str, int]
    by_phase: dict[str, int]
    by_operator: dict[str, int]


def path_sums(job: Job, graph: ExecutionGraph, path: CriticalPath) -> PathSums:
    """All sums of a path through a run of `graph`."""
    between = _between(path)
    kind, operator, stream, layer, phase = (
        labels_of(job, graph, path.row, by)
        for by in (By.CLASS, By.OPERATOR, By.STREAM, By.LAYER, By.PHASE)
    )
    ranks = Labels(graph.rank[path.row], tuple(map(str, job.placement.ranks)))
    beside = {part.value: time for part, time in between.items()}
    return PathSums(
        by_part=_longest_first(_by_part(job, graph, path, kind) | between),
        by_kind=_sum(kind, path.own_ns, beside),
        by_rule=sums_by_rule(graph, path),
        by_rank={int(rank): time for rank, time in _sum(ranks, path.time_ns).items()},
        by_stream=_sum(stream, path.time_ns),
        by_layer=_sum(layer, path.time_ns),
        by_phase=_sum(phase, path.time_ns),
        by_operator=_sum(operator, path.own_ns, beside),
    )


def sums_by_rule(graph: ExecutionGraph, path: CriticalPath) -> dict[str, int]:
    """The whole of a path by the rule that released each task [ns], longest first."""
    between = _between(path)
    return _longest_first(
        {rule.word: time for rule, time in by_rule(graph, path).items()}
        | {part.value: between[part] for part in (Part.UNEXPLAINED, Part.STARTING_STATE)}
    )


def labels_of(job: Job, graph: ExecutionGraph, rows: NDArray[np.int64], by: By) -> Labels:
    """Labels of rows that are numbered through all ranks; equal texts of several ranks are one."""
    place_of: dict[str, int] = {}
    known: dict[int, Labels] = {}
    number = np.full(len(rows), NONE, np.int32)
    rank = graph.rank[rows]
    for place in np.unique(rank).tolist():
        role = job.placement.role[place]
        if role not in known:
            known[role] = labels(job.programs[role], by)
        found = known[role]
        new = [place_of.setdefault(text, len(place_of)) for text in found.texts]
        own = np.flatnonzero(rank == place)
        local = rows[own] - int(graph.row_offset[place])
        number[own] = np.array([*new, NONE], np.int32)[found.number[local]]
    return Labels(number, tuple(place_of))


def part_of_rows(
    job: Job, graph: ExecutionGraph, rows: NDArray[np.int64], kind: Labels
) -> NDArray[np.int8]:
    """Whether each row communicates, is a host's or computes: its place in Part."""
    parts = list(Part)
    communicates = np.zeros(len(rows), bool)
    rank = graph.rank[rows]
    for place in np.unique(rank).tolist():
        own = np.flatnonzero(rank == place)
        table = job.programs[job.placement.role[place]].rows
        row_kind = table.kind[rows[own] - int(graph.row_offset[place])]
        communicates[own] = row_kind == TaskKind.COLLECTIVE
    number = np.full(len(rows), parts.index(Part.COMPUTE), np.int8)
    number[kind.rows_of(HOST)] = parts.index(Part.HOST)
    number[communicates] = parts.index(Part.COMMUNICATION)
    return number


def _by_part(job: Job, graph: ExecutionGraph, path: CriticalPath, kind: Labels) -> dict[Part, int]:
    part = part_of_rows(job, graph, path.row, kind)
    return {one: int(path.own_ns[part == number].sum()) for number, one in enumerate(Part)}


def _between(path: CriticalPath) -> dict[Part, int]:
    """The time that the path spends on no task."""
    starts = path.rule == STARTING_STATE
    return {
        Part.LAG: int(path.lag_ns[~starts].sum()),
        Part.UNEXPLAINED: int(path.unexplained_ns.sum()),
        Part.STARTING_STATE: int(path.lag_ns[starts].sum()),
    }


def _sum(
    found: Labels, time_ns: NDArray[np.int64], beside: dict[str, int] | None = None
) -> dict[str, int]:
    totals = np.zeros(len(found.texts) + 1, np.int64)
    np.add.at(totals, found.number, time_ns)  # NONE adds to the last
    by_text = dict(zip(found.texts, totals[:-1].tolist(), strict=True))
    for text, time in {UNKNOWN: int(totals[-1]), **(beside or {})}.items():
        by_text[text] = by_text.get(text, 0) + time
    return _longest_first(by_text)


def _longest_first(totals: dict[Key, int]) -> dict[Key, int]:
    return dict(sorted(((k, t) for k, t in totals.items() if t), key=lambda item: -item[1]))
