"""Meetings and messages: which rows of several ranks are one collective, or the ends of one message."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from lumos.graph.job import ALL_MEMBERS_WAIT, NONE, POINT_TO_POINT, CollectiveKind, Program

Where = tuple[int, int]
"""Place of a rank, and a row of its program."""


def meetings(programs: Sequence[Program]) -> list[list[Where]]:
    """Collective rows that are one: lists of (rank place, row), each with two members or more.

    The k-th collective of a group in a block, in the order in which each member issues them.
    """
    members: dict[tuple[int, int, int], list[Where]] = defaultdict(list)
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


def messages(programs: Sequence[Program], ranks: Sequence[int]) -> list[tuple[Where, Where]]:
    """Pairs of (rank place, row) that send and receive one message.

    The k-th send of a pair of ranks in a block meets the k-th receive of the other one.
    """
    place_of = {rank: place for place, rank in enumerate(ranks)}
    queues: dict[tuple[int, int, int, int], tuple[list[int], list[int]]] = {}
    for place, program in enumerate(programs):
        rows = program.rows
        for row in np.flatnonzero(rows.collective != NONE).tolist():
            one = program.collectives[rows.collective[row]]
            peer = place_of.get(one.peer)
            if peer is None or one.kind not in POINT_TO_POINT:
                continue
            sends = one.kind == CollectiveKind.SEND
            pair = (place, peer) if sends else (peer, place)
            key = (int(rows.block[row]), one.group, *pair)
            queues.setdefault(key, ([], []))[0 if sends else 1].append(row)
    return [
        ((sender, send), (receiver, receive))
        for (_, _, sender, receiver), (sent, received) in sorted(queues.items())
        for send, receive in zip(sent, received, strict=False)
    ]


def is_synchronous(programs: Sequence[Program], message: tuple[Where, Where]) -> bool:
    """Whether a message's sender waits for its receiver: then the two meet."""
    (place, row), _ = message
    return programs[place].collectives[programs[place].rows.collective[row]].synchronous
