"""Rendezvous: a collective moves its data when its last member is there, a message when it was sent.

    rank 0 |.....wait.....|== transfer ==|
    rank 1                |== transfer ==|

Each member opens with a marker (it is there) and moves its data when all have opened. So do the
two ends of a message whose send is synchronous.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lumos.graph.execution import Edges
from lumos.graph.meetings import Where


def message_edges(pairs: Sequence[tuple[Where, Where]], offset: Sequence[int]) -> Edges:
    """A receive's transfer starts when the message was sent; a buffered send waits for nobody.

    A small message is buffered (NCCL and gloo alike), so that its sender goes on at once.
    """
    before = [offset[place] + row for (place, row), _ in pairs]
    after = [offset[place] + row for _, (place, row) in pairs]
    return Edges.of(np.array(before, np.int64), np.array(after, np.int64), from_start=True)


def rendezvous(
    meeting_rows: Sequence[Sequence[Where]],
    opening: Sequence[NDArray[np.int32]],
    offset: Sequence[int],
    first_free: int,
) -> Edges:
    """Every member's transfer starts when all members have opened.

    Each meeting has a point of its own, `first_free` and on: all opened -> point -> all transfers.
    """
    before, after = [], []
    for number, members in enumerate(meeting_rows):
        point = first_free + number
        for place, row in members:
            before += [int(opening[place][row]), point]
            after += [point, offset[place] + row]
    return Edges.of(np.array(before, np.int64), np.array(after, np.int64))
