"""A critical path as a story: neighbouring tasks of one thread or stream and phase put together.

path   | op | call | gap |k1|k2|k3|k4| call |
story  | host, forward 3 | stream, 4 | host |
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lumos.analysis.critical_path import STARTING_STATE, CriticalPath, rule_word
from lumos.analysis.path_sums import labels_of
from lumos.graph.execution import ExecutionGraph
from lumos.graph.job import NONE, Job
from lumos.graph.labels import By


@dataclass(frozen=True)
class Segment:
    """A stretch of the path on one thread or stream of one rank; times in ns.

    `number` counts all segments of the path from 0. The path comes to it by `rule`; `kinds` and
    `operators` are the time on tasks by class and operator, longest first, of the longest few;
    `lag_ns`, `unexplained_ns` and what was under way when the run began (`earlier_ns`) lie between
    and in front of its tasks. `start_ns` is on the run's clock.
    """

    number: int
    rank: int
    stream: str
    phase: str | None
    rule: str
    start_ns: int
    length_ns: int
    lag_ns: int
    unexplained_ns: int
    earlier_ns: int
    tasks: int
    kinds: tuple[tuple[str, int], ...]
    operators: tuple[tuple[str, int], ...]

    @property
    def end_ns(self) -> int:
        """When the path leaves it."""
        return self.start_ns + self.length_ns


MOST_NAMES = 3
"""Kinds and operators that a segment names."""


def segments(
    job: Job, graph: ExecutionGraph, path: CriticalPath, most: int
) -> tuple[int, tuple[Segment, ...]]:
    """How many segments a path has, and its `most` longest in order of time."""
    if not len(path):
        return 0, ()
    kind, operator, stream, phase = (
        labels_of(job, graph, path.row, by) for by in (By.CLASS, By.OPERATOR, By.STREAM, By.PHASE)
    )
    phases = _continued(graph.processor[path.row], phase.number)
    first = _begins(graph.processor[path.row], phases)
    last = np.append(first[1:], len(path))
    length = np.add.reduceat(path.time_ns, first)
    earlier = np.where(path.rule == STARTING_STATE, path.lag_ns, 0)
    lag, late, earlier = (
        np.add.reduceat(each, first)
        for each in (path.lag_ns - earlier, path.unexplained_ns, earlier)
    )
    start = path.begin_ns + length.cumsum() - length
    chosen = np.sort(np.argsort(-length, kind="stable")[:most])
    found = []
    for number in chosen.tolist():
        own = slice(int(first[number]), int(last[number]))
        begin = own.start
        label = phases[begin]
        found.append(
            Segment(
                number=number,
                rank=job.placement.ranks[graph.rank[path.row[begin]]],
                stream=stream.texts[stream.number[begin]],
                phase=None if label == NONE else phase.texts[label],
                rule=rule_word(int(path.rule[begin])),
                start_ns=int(start[number]),
                length_ns=int(length[number]),
                lag_ns=int(lag[number]),
                unexplained_ns=int(late[number]),
                earlier_ns=int(earlier[number]),
                tasks=own.stop - begin,
                kinds=_longest(kind.number[own], kind.texts, path.own_ns[own]),
                operators=_longest(operator.number[own], operator.texts, path.own_ns[own]),
            )
        )
    return len(first), tuple(found)


def _continued(processor: NDArray[np.int32], phase: NDArray[np.int32]) -> NDArray[np.int32]:
    """The phase of each entry; one that has none is in that of its neighbours, if they agree.

    The neighbours are the nearest on both sides that have one, as long as the path does not leave the processor.
    """
    place = np.arange(len(phase))
    stay = np.append(0, np.cumsum(np.diff(processor) != 0))
    known = phase != NONE
    before = np.maximum.accumulate(np.where(known, place, 0))
    behind = np.minimum.accumulate(np.where(known, place, len(place) - 1)[::-1])[::-1]
    agree = (phase[before] == phase[behind]) & (stay[before] == stay[behind])
    return np.where(agree, phase[before], phase)


def _begins(processor: NDArray[np.int32], phase: NDArray[np.int32]) -> NDArray[np.intp]:
    """The entries with which a segment begins."""
    changes = (np.diff(processor) != 0) | (np.diff(phase) != 0)
    return np.concatenate([[0], np.flatnonzero(changes) + 1])


def _longest(
    number: NDArray[np.int32], texts: tuple[str, ...], time_ns: NDArray[np.int64]
) -> tuple[tuple[str, int], ...]:
    used, place = np.unique(number, return_inverse=True)
    totals = np.zeros(len(used), np.int64)
    np.add.at(totals, place, time_ns)
    order = np.argsort(-totals, kind="stable")[:MOST_NAMES]
    return tuple((texts[used[one]], int(totals[one])) for one in order if totals[one])
