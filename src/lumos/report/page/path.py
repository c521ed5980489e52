"""The critical path as a line through lanes: stretches of one lane, joined where the path changes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lumos.analysis.critical_path import STARTING_STATE, CriticalPath, rule_word
from lumos.graph.execution import ExecutionGraph, Rule
from lumos.graph.job import NONE

ELSEWHERE = NONE
"""In the place of a lane: the path runs where nothing is drawn."""
UNEXPLAINED = STARTING_STATE + 1
"""In the place of a rule: no rule explains why the path took that time."""
RULE_WORDS = (*(rule_word(rule) for rule in (*Rule, STARTING_STATE)), "unexplained")


@dataclass(frozen=True)
class Stretches:
    """The path in order of time; arrays of one entry a stretch, times in ns.

    `lane` is the place among the lanes that are drawn, or ELSEWHERE; `rule` is the Rule that
    released the first task of the stretch, STARTING_STATE or UNEXPLAINED.
    """

    lane: NDArray[np.int64]
    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    rule: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.lane)

    def take(self, chosen: NDArray[np.bool_]) -> Stretches:
        """Some of them."""
        return Stretches(
            self.lane[chosen], self.start_ns[chosen], self.end_ns[chosen], self.rule[chosen]
        )


def stretches(path: CriticalPath, graph: ExecutionGraph, lane_of: dict[int, int]) -> Stretches:
    """The path by lanes; `lane_of` finds the lane of a processor of the graph."""
    table = np.full(int(graph.processor.max(initial=NONE)) + 2, ELSEWHERE, np.int64)
    for processor, lane in lane_of.items():
        table[processor] = lane
    # of each task in turn: the lag before it, its unexplained delay, its own time
    lengths = np.stack([path.lag_ns, path.unexplained_ns, path.own_ns], axis=1)
    rules = np.stack([path.rule, np.full(len(path), UNEXPLAINED, np.uint8), path.rule], axis=1)
    lanes = np.repeat(table[graph.processor[path.row]], 3)
    ends = path.begin_ns + lengths.ravel().cumsum()
    every = Stretches(lanes, ends - lengths.ravel(), ends, rules.ravel())
    return _joined(every.take(every.end_ns > every.start_ns))


def _joined(found: Stretches) -> Stretches:
    """Neighbours of one lane and rule are one."""
    if not len(found):
        return found
    new = np.ones(len(found), bool)
    new[1:] = (found.lane[1:] != found.lane[:-1]) | (found.rule[1:] != found.rule[:-1])
    first = np.flatnonzero(new)
    last = np.append(first[1:], len(found)) - 1
    return Stretches(
        found.lane[first], found.start_ns[first], found.end_ns[last], found.rule[first]
    )


def coarse(found: Stretches, shortest_ns: int) -> Stretches:
    """The path without the detours that are shorter than a pixel: of each such stretch of time the last."""
    if not len(found) or shortest_ns <= 0:
        return found
    short = found.end_ns - found.start_ns < shortest_ns
    stretch = found.start_ns // shortest_ns
    kept = np.ones(len(found), bool)
    kept[:-1] = ~(short[:-1] & short[1:] & (stretch[:-1] == stretch[1:]))
    first = np.concatenate([[0], np.flatnonzero(kept)[:-1] + 1])
    return Stretches(found.lane[kept], found.start_ns[first], found.end_ns[kept], found.rule[kept])


def line(found: Stretches, scale: float, begin_ns: int, middles: Sequence[float]) -> str:
    """The path as the `d` of an SVG path; it is broken where it runs elsewhere, and where it has holes."""
    return "".join(_moves(found, scale, begin_ns, middles))


def _moves(
    found: Stretches, scale: float, begin_ns: int, middles: Sequence[float]
) -> Iterator[str]:
    reached = None
    for lane, start, end in zip(
        found.lane.tolist(), found.start_ns.tolist(), found.end_ns.tolist(), strict=True
    ):
        if lane == ELSEWHERE:
            continue
        left, right = round((start - begin_ns) * scale), round((end - begin_ns) * scale)
        yield f"V{middles[lane]:g}" if start == reached else f"M{left} {middles[lane]:g}"
        yield f"H{right}"
        reached = end
