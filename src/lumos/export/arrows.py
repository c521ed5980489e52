"""Binding dependencies as arrows between slices: each end inside a slice that takes time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lumos.export.binding import Binding
from lumos.export.host_spans import is_drawn
from lumos.export.stream_slices import shown_ends
from lumos.graph.execution import Rule
from lumos.graph.job import NONE, Job, Program
from lumos.graph.timeline import RankTimeline, Timeline

DRAWN_RULES = (
    Rule.LAUNCH,
    Rule.EVENT_WAIT,
    Rule.SYNCHRONIZE,
    Rule.BACK_PRESSURE,
    Rule.HAND_OFF,
    Rule.RENDEZVOUS,
)
"""That one task follows another on its own processor can be seen without an arrow."""


@dataclass(frozen=True)
class Arrows:
    """Parallel arrays, one entry an arrow; rows count through all ranks, times in ns.

    `number` is unique; `leaves` and `meets` are the rows whose slices the ends lie in.
    """

    number: NDArray[np.int64]
    rule: NDArray[np.uint8]
    leaves: NDArray[np.int64]
    leaves_ns: NDArray[np.int64]
    meets: NDArray[np.int64]
    meets_ns: NDArray[np.int64]


def arrows(job: Job, run: Timeline, held: Binding) -> Arrows:
    """An arrow for each dependency of `held` that crosses processors.

    An end that falls on a row without a slice (a signal, a pause) is moved to the slice in front
    of it, where the arrow begins, or behind it, where it ends; without one there is no arrow.
    """
    ranks = [
        _anchors(job.programs[role], rank)
        for role, rank in zip(job.placement.role, run.ranks, strict=True)
    ]
    offset = np.cumsum([0, *(len(rank) for rank in run.ranks)])
    in_front, behind = (
        np.concatenate(
            [
                np.where(rank[way] == NONE, NONE, rank[way] + base)
                for rank, base in zip(ranks, offset[:-1], strict=True)
            ]
        )
        for way in (0, 1)
    )
    start = np.concatenate([rank.start_ns for rank in run.ranks])
    work = start + np.concatenate([rank.wait_ns for rank in run.ranks])
    last = np.concatenate([rank[2] for rank in ranks]) - 1
    ends = np.flatnonzero(np.isin(held.rule, DRAWN_RULES) & (held.source != NONE))
    leaves, meets = in_front[held.source[ends]], behind[ends]
    both = (leaves != NONE) & (meets != NONE)
    ends, leaves, meets = ends[both], leaves[both], meets[both]
    leaving = np.where(held.from_start[ends], work[leaves], last[leaves])
    return Arrows(
        number=ends,
        rule=held.rule[ends],
        leaves=leaves,
        leaves_ns=np.clip(leaving, start[leaves], last[leaves]),
        meets=meets,
        meets_ns=np.clip(work[meets], start[meets], last[meets]),
    )


def _anchors(
    program: Program, run: RankTimeline
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """For each row the row with a slice at or in front of it, the one at or behind it, its end."""
    rows, shown = program.rows, shown_ends(program, run)
    visible = is_drawn(rows) & (shown > run.start_ns)
    in_front, behind = np.full(len(rows), NONE, np.int64), np.full(len(rows), NONE, np.int64)
    for number in range(len(program.processors)):
        mine = np.flatnonzero(rows.processor == number)
        anchors = np.concatenate(([NONE], mine[visible[mine]], [NONE]))
        place = visible[mine].cumsum()
        in_front[mine] = anchors[place]
        behind[mine] = anchors[np.where(visible[mine], place, place + 1)]
    return in_front, behind, shown
