"""Which ranks and steps do the same, and which of their rows are one and the same row.

rank 0, step 1 | mm | add |       | launch |
rank 0, step 2 | mm | add |       | launch |        places 0 1 _ 2
rank 1, step 1 | mm | add | save  | launch |        places 0 1 3 2
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lumos.analysis.alignment import align, row_keys
from lumos.graph.job import Program

LEAST_MATCHED = 0.9
"""Share of rows that programs have in common to be one: 0.90 and more among the ranks of all traces
at hand. Two stages of a pipeline have less (0.84): what looks alike there may be of another size."""


@dataclass(frozen=True)
class Peers:
    """Programs that do the same. `places[i]` numbers the rows of `members[i]`, 0 to `count` - 1.

    Rows of one number are the same row of their programs; each program has a number at most once.
    """

    members: tuple[int, ...]
    places: tuple[NDArray[np.int64], ...]
    count: int


def peers_of(programs: Sequence[Program]) -> list[Peers]:
    """The programs in groups that do the same, in the order of each group's first member."""
    groups: list[tuple[list[int], list[NDArray[np.int64]]]] = []
    for number, program in enumerate(programs):
        for members, partners in groups:
            first = programs[members[0]]
            longest = max(len(first.rows), len(program.rows))
            if min(len(first.rows), len(program.rows)) < LEAST_MATCHED * longest:
                continue
            pairs = align(program, first)
            if len(pairs.first) >= LEAST_MATCHED * longest:
                partner = np.full(len(program.rows), -1, np.int64)
                partner[pairs.first] = pairs.second
                members.append(number)
                partners.append(partner)
                break
        else:
            groups.append(([number], [np.arange(len(program.rows))]))
    return [_numbered(programs, members, partners) for members, partners in groups]


def _numbered(
    programs: Sequence[Program], members: list[int], partners: list[NDArray[np.int64]]
) -> Peers:
    """Rows that the first member lacks go by the row before them, by what they are, by occurrence."""
    count = len(programs[members[0]].rows)
    numbers: dict[str, int] = {}
    known: dict[tuple[int, int, int], int] = {}
    places = []
    for member, partner in zip(members, partners, strict=True):
        place = partner.copy()
        alone = np.flatnonzero(partner < 0)
        if len(alone):
            keys = row_keys(programs[member], numbers)[alone]
            before = np.maximum.accumulate(np.where(partner < 0, -1, np.arange(len(partner))))[
                alone
            ]
            seen: dict[tuple[int, int], int] = {}
            for row, key, last in zip(alone.tolist(), keys.tolist(), before.tolist(), strict=True):
                anchor = int(partner[last]) if last >= 0 else -1
                which = seen[anchor, key] = seen.get((anchor, key), -1) + 1
                place[row] = known.setdefault((anchor, key, which), count + len(known))
        places.append(place)
    return Peers(tuple(members), tuple(places), count + len(known))
