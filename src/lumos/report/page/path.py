"""The critical path as a line through lanes: stretches of one lane, joined where the path changes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lumos.analysis.critical_path import CriticalPath
from lumos.graph.execution import ExecutionGraph
from lumos.graph.job import NONE

ELSEWHERE = NONE
"""In the place of a lane: the path runs where nothing is drawn."""


@dataclass(frozen=True)
class Stretches:
    """The path in order of time; arrays of one entry a stretch, times in ns.

    `lane` is the place among the lanes that are drawn, or ELSEWHERE; `rule` is the Rule that
    released the first task of the stretch, or STARTING_STATE.
    """

    lane: NDArray[np.int64]
    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    rule: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.lane)


def stretches(path: CriticalPath, graph: ExecutionGraph, lane_of: dict[int, int]) -> Stretches:
    """The path by lanes; `lane_of` finds the lane of a processor of the graph."""
    bounds = path.begin_ns + np.concatenate([[0], np.cumsum(path.time_ns)])
    table = np.full(int(graph.processor.max(initial=NONE)) + 2, ELSEWHERE, np.int64)
    for processor, lane in lane_of.items():
        table[processor] = lane
    lanes = table[graph.processor[path.row]]
    new = np.ones(len(lanes), bool)
    new[1:] = (lanes[1:] != lanes[:-1]) | (path.rule[1:] != path.rule[:-1])
    first = np.flatnonzero(new)
    last = np.append(first[1:], len(lanes))
    start, end = bounds[first], bounds[last]
    long = end > start
    return Stretches(lanes[first][long], start[long], end[long], path.rule[first][long])


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
    """The path as the `d` of an SVG path; it is broken where it runs elsewhere."""
    return "".join(_moves(found, scale, begin_ns, middles))


def _moves(
    found: Stretches, scale: float, begin_ns: int, middles: Sequence[float]
) -> Iterator[str]:
    drawing = False
    for lane, start, end in zip(
        found.lane.tolist(), found.start_ns.tolist(), found.end_ns.tolist(), strict=True
    ):
        if lane == ELSEWHERE:
            drawing = False
            continue
        left, right = round((start - begin_ns) * scale), round((end - begin_ns) * scale)
        yield f"V{middles[lane]:g}" if drawing else f"M{left} {middles[lane]:g}"
        yield f"H{right}"
        drawing = True
