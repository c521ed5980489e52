"""Rendezvous: a collective's data starts to move when its last member is there.

    rank 0 |.....wait.....|== transfer ==|
    rank 1                |== transfer ==|

Each member opens with a marker (it is there) and moves its data when all have opened.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lumos.graph.execution import Edges
from lumos.graph.job import ALL_MEMBERS_WAIT, NONE, Program

Key = tuple[int, int, int]


def meetings(programs: Sequence[Program]) -> list[list[tuple[int, int]]]:
    """Collective rows that are one: lists of (rank place, row), each with two members or more.

    The k-th collective of a group in a block, in the order in which each member issues them.
    """
    members: dict[Key, list[tuple[int, int]]] = defaultdict(list)
    for place, program in enumerate(programs):
        rows = program.rows
        seen: Counter[tuple[int, int]] = Counter()
        for row in np.flatnonzero(rows.collective != NONE).tolist():
            one = program.collectives[rows.collective[row]]
            if one.group == NONE or one.kind not in ALL_MEMBERS_WAIT:
                continue
            key = (int(rows.block[row]), one.group)
            members[(*key, seen[key])].append((place, row))
            seen[key] += 1
    return [found for _, found in sorted(members.items()) if len(found) > 1]


def rendezvous(
    meeting_rows: Sequence[Sequence[tuple[int, int]]],
    opening: Sequence[NDArray[np.int64]],
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
