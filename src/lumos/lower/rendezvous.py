"""Rendezvous: a collective moves its data when its last member is there, a message when it was sent.

    rank 0 |.....wait.....|== transfer ==|
    rank 1                |== transfer ==|

Each member opens with a marker (it is there) and moves its data when all have opened. So do the
two ends of a message whose send is synchronous.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lumos.graph.execution import Edges
from lumos.graph.job import ALL_MEMBERS_WAIT, NONE, CollectiveKind, Program

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


def messages(
    programs: Sequence[Program], ranks: Sequence[int]
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
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
            if peer is None or one.kind not in (CollectiveKind.SEND, CollectiveKind.RECEIVE):
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


def is_synchronous(
    programs: Sequence[Program], message: tuple[tuple[int, int], tuple[int, int]]
) -> bool:
    """Whether a message's sender waits for its receiver: then the two meet."""
    (place, row), _ = message
    return programs[place].collectives[programs[place].rows.collective[row]].synchronous


def message_edges(
    pairs: Sequence[tuple[tuple[int, int], tuple[int, int]]], offset: Sequence[int]
) -> Edges:
    """A receive's transfer starts when the message was sent; a buffered send waits for nobody.

    A small message is buffered (NCCL and gloo alike), so that its sender goes on at once.
    """
    before = [offset[place] + row for (place, row), _ in pairs]
    after = [offset[place] + row for _, (place, row) in pairs]
    return Edges.of(np.array(before, np.int64), np.array(after, np.int64), from_start=True)


def rendezvous(
    meeting_rows: Sequence[Sequence[tuple[int, int]]],
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
