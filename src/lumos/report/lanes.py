"""Lanes: what ran on the threads and streams of a rank, with as much detail as there is room for.

A step has a thousand times more tasks than a screen has pixels. Tasks shorter than a given time that
lie in the same such stretch become one piece, in the shade of what took most of it; longer ones stay.

    tasks    |=a=||b||=a=|    |======== c ========||b|
    pieces   |== a (3) ==|    |======== c ========||b|
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from lumos.graph.job import Program, TaskKind
from lumos.graph.timeline import RankTimeline


class Shade(IntEnum):
    """What a piece of a lane is drawn as; the word is that of its colour."""

    COMPUTE = 0
    COPY = 1
    TRANSFER = 2
    WAIT = 3
    HOST = 4
    CALL = 5
    PAUSE = 6

    @property
    def fill(self) -> str:
        """The name of its colour in the palette."""
        return self.name.lower()


_SHADES = {
    TaskKind.OPERATOR: Shade.HOST,
    TaskKind.GAP: Shade.PAUSE,
    TaskKind.KERNEL: Shade.COMPUTE,
    TaskKind.COPY: Shade.COPY,
    TaskKind.SET: Shade.COPY,
    TaskKind.COLLECTIVE: Shade.TRANSFER,
}
_SHADE_OF_KIND = np.array([_SHADES.get(kind, Shade.CALL) for kind in TaskKind], np.uint8)


@dataclass(frozen=True)
class Lane:
    """Pieces of one thread or stream in order of their start; arrays of one entry a piece.

    `name` indexes the program's names: that of the piece, or of the longest of the `tasks` that were
    merged in it.
    """

    rank: int
    label: str
    is_stream: bool
    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    shade: NDArray[np.uint8]
    name: NDArray[np.int32]
    tasks: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.start_ns)

    @property
    def busy_ns(self) -> int:
        """Time of all pieces but pauses and waits."""
        works = (self.shade != Shade.PAUSE) & (self.shade != Shade.WAIT)
        return int((self.end_ns - self.start_ns)[works].sum())


def lane(rank: int, program: Program, run: RankTimeline, processor: int) -> Lane:
    """Everything that one processor did. What a task waited inside itself is a piece of its own.

    A pause of the host counts only where nothing explains it: else it is a wait that another lane shows.
    """
    rows = program.rows
    own = np.flatnonzero(rows.processor == processor)
    own = own[(rows.kind[own] != TaskKind.GAP) | rows.frozen[own]]
    start, end = run.start_ns[own], run.end_ns[own]
    worked = np.clip(end - waits_ns(program, run)[own], start, end)
    work_start = start + (end - worked)
    waited = np.flatnonzero(work_start > start)
    worth = np.flatnonzero(end > work_start)
    place = np.concatenate([waited, worth])
    begins = np.concatenate([start[waited], work_start[worth]])
    ends = np.concatenate([work_start[waited], end[worth]])
    shade = np.concatenate(
        [np.full(len(waited), Shade.WAIT, np.uint8), _SHADE_OF_KIND[rows.kind[own[worth]]]]
    )
    order = np.argsort(begins, kind="stable")
    one = program.processors[processor]
    return Lane(
        rank,
        one.label,
        one.is_stream,
        begins[order],
        ends[order],
        shade[order],
        rows.name[own[place[order]]],
        np.ones(len(order), np.int32),
    )


def waits_ns(program: Program, run: RankTimeline) -> NDArray[np.int64]:
    """How long each row waits inside itself [ns].

    A measured run does not tell. There it is what a collective or a synchronising call took longer
    than its own time, which the fit found.
    """
    rows = program.rows
    can_wait = (rows.kind == TaskKind.COLLECTIVE) | (rows.kind == TaskKind.SYNCHRONIZE)
    longer = np.maximum(run.end_ns - run.start_ns - rows.duration_ns, 0)
    return np.maximum(run.wait_ns, np.where(can_wait, longer, 0))


def merged(lane: Lane, shortest_ns: int) -> Lane:
    """The lane with pieces shorter than `shortest_ns` merged where they lie in the same such stretch."""
    if not len(lane) or shortest_ns <= 0:
        return lane
    short = lane.end_ns - lane.start_ns < shortest_ns
    stretch = lane.start_ns // shortest_ns
    new = np.ones(len(lane), bool)
    new[1:] = ~(short[1:] & short[:-1] & (stretch[1:] == stretch[:-1]))
    if new.all():
        return lane
    first = np.flatnonzero(new)
    piece = np.cumsum(new) - 1
    length = lane.end_ns - lane.start_ns
    taken = np.zeros((len(first), len(Shade)), np.int64)
    np.add.at(taken, (piece, lane.shade), length)
    longest = np.lexsort((-length, piece))[first]  # within a piece the longest comes first
    return Lane(
        lane.rank,
        lane.label,
        lane.is_stream,
        lane.start_ns[first],
        np.maximum.reduceat(lane.end_ns, first),
        np.argmax(taken, axis=1).astype(np.uint8),
        lane.name[longest],
        np.add.reduceat(lane.tasks, first),
    )


def fitted(lanes: Sequence[Lane], most: int, shortest_ns: int = 0) -> tuple[list[Lane], int]:
    """The lanes with at most about `most` pieces in all, and the shortest piece kept apart [ns].

    At that length there are never more than two pieces to a stretch, so `most` is reached.
    """
    found = [merged(one, shortest_ns) for one in lanes]
    while sum(map(len, found)) > max(most, 4 * len(lanes)):
        shortest_ns = max(shortest_ns * 3 // 2, shortest_ns + 1000)
        found = [merged(one, shortest_ns) for one in lanes]
    return found, shortest_ns
