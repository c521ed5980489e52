"""What the slices of a run look like: where each ends so that those of a stream nest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lumos.graph.job import Program
from lumos.graph.timeline import RankTimeline


def shown_ends(program: Program, run: RankTimeline) -> NDArray[np.int64]:
    """Where the slice of each row ends [ns]: tasks that cross on a stream are cut at the next one.

    Kernels of one graph overlap inside a stream by some us, and slices of a thread must nest.
    """
    shown = run.end_ns.copy()
    for number, processor in enumerate(program.processors):
        if not processor.is_stream:
            continue
        order = in_stream_order(program, run, number)
        following = run.start_ns[order][1:]
        if (run.end_ns[order][:-1] <= following).all():
            continue
        stack: list[int] = []
        for row in order.tolist():
            begin, end = run.start_ns[row], run.end_ns[row]
            while stack and (shown[stack[-1]] <= begin or shown[stack[-1]] < end):
                crossed = stack.pop()
                shown[crossed] = min(shown[crossed], begin)
            stack.append(row)
    return shown


def in_stream_order(program: Program, run: RankTimeline, processor: int) -> NDArray[np.intp]:
    """The rows of a stream by start; of those that start together the longest first."""
    mine = np.flatnonzero(program.rows.processor == processor)
    return mine[np.lexsort((-run.end_ns[mine], run.start_ns[mine]))]
