"""Which process group a collective without metadata belongs to: by what its members have in common.

Collectives that share a queue, or sizes, form a cluster. A cluster belongs to the group whose
other members each have a cluster that reads the same and ends most closely with it. Sends and
receives belong to the group in which each other member receives what is sent to it, and sends
what is received from it; where the calls do not say to whom, only a pair can be told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations

import numpy as np

from lumos.graph.job import NONE, POINT_TO_POINT, CollectiveKind, Program
from lumos.graph.timeline import RankTimeline
from lumos.graph.trace import ProcessGroup

QUEUES_OF_A_GROUP = 2
"""Worker threads that gloo gives each process group (PyTorch's ProcessGroupGloo, default)."""


@dataclass(frozen=True)
class _Cluster:
    """Rows of one rank's collectives that belong together, in issue order.

    `queues` is how many worker threads ran them, none for messages; `members` holds for each row
    which member of its group it sends to or receives from.
    """

    rows: list[int]
    members: list[int]
    reads: list[tuple[CollectiveKind, int | None]]
    ends: list[int]
    queues: int

    @property
    def point_to_point(self) -> bool:
        return all(kind in POINT_TO_POINT for kind, _ in self.reads)


def infer_groups(
    programs: Sequence[Program],
    runs: Sequence[RankTimeline],
    ranks: Sequence[int],
    groups: Sequence[ProcessGroup],
    members: Sequence[Sequence[int]],
) -> tuple[list[Program], int]:
    """Programs whose collectives without a group got one where it can be told, and how many did.

    `members` holds for each rank and collective which member of its group it sends to or receives
    from, NONE where the trace does not say.
    """
    clusters = {
        rank: _clusters(program, run, told)
        for rank, program, run, told in zip(ranks, programs, runs, members, strict=True)
    }
    found = {rank: _choose(clusters[rank], rank, groups, clusters, []) for rank in ranks}
    left = {rank: _left(clusters[rank], found[rank]) for rank in ranks}
    if any(left.values()):
        joined = {rank: own + _joined(left[rank]) for rank, own in clusters.items()}
        for rank in ranks:
            own = left[rank] + _joined(left[rank])
            found[rank] += _choose(own, rank, groups, joined, found[rank])
    result = [
        _with_groups(program, rank, groups, found[rank])
        for program, rank in zip(programs, ranks, strict=True)
    ]
    return result, sum(len(cluster.rows) for own in found.values() for cluster, _ in own)


Choice = tuple[_Cluster, int]
"""A cluster and the group that it belongs to."""


def _choose(
    own: Sequence[_Cluster],
    rank: int,
    groups: Sequence[ProcessGroup],
    clusters: Mapping[int, Sequence[_Cluster]],
    known: Sequence[Choice],
) -> list[Choice]:
    """The best group of each of a rank's own clusters that has one, besides what is known already.

    A group that somebody named goes before the default one, then the one whose ends lie closest.
    """
    candidates = [n for n, group in enumerate(groups) if len(group.ranks) > 1]
    named = [n for n in candidates if groups[n].description not in ("default_pg", "")]
    queues: Counter[int] = Counter()
    for cluster, number in known:
        queues[number] += cluster.queues
    found: list[Choice] = []
    taken: set[int] = set()
    for cluster in sorted(own, key=lambda cluster: -len(cluster.rows)):
        scored = []
        for preference, pool in enumerate((named, candidates)):
            for number in pool:
                fits = queues[number] + cluster.queues <= QUEUES_OF_A_GROUP
                if fits and rank in groups[number].ranks and taken.isdisjoint(cluster.rows):
                    score = _score(cluster, rank, groups[number].ranks, clusters)
                    if score is not None:
                        scored.append((preference, score, number))
        if scored:
            number = min(scored)[2]
            queues[number] += cluster.queues
            taken.update(cluster.rows)
            found.append((cluster, number))
    return found


def _left(clusters: Sequence[_Cluster], found: Sequence[Choice]) -> list[_Cluster]:
    told = {row for cluster, _ in found for row in cluster.rows}
    return [cluster for cluster in clusters if told.isdisjoint(cluster.rows)]


def _joined(clusters: Sequence[_Cluster]) -> list[_Cluster]:
    """Two queues each as one cluster: of one group's queues, ranks need not use the same for a size."""
    single = [cluster for cluster in clusters if cluster.queues == 1]
    return [_merged(first, second) for first, second in combinations(single, 2)]


def _merged(first: _Cluster, second: _Cluster) -> _Cluster:
    columns = (
        zip(one.rows, one.members, one.reads, one.ends, strict=True) for one in (first, second)
    )
    rows, members, reads, ends = zip(*sorted(chain(*columns)), strict=True)
    queues = first.queues + second.queues
    return _Cluster(list(rows), list(members), list(reads), list(ends), queues)


def _with_groups(
    program: Program, rank: int, groups: Sequence[ProcessGroup], found: Sequence[Choice]
) -> Program:
    table = list(program.collectives)
    for cluster, number in found:
        peers = _peers(cluster, rank, groups[number].ranks)
        for row, peer in zip(cluster.rows, peers, strict=True):
            entry = int(program.rows.collective[row])
            table[entry] = replace(table[entry], group=number, peer=peer)
    return replace(program, collectives=tuple(table))


def _peers(cluster: _Cluster, rank: int, group: tuple[int, ...]) -> list[int]:
    """The other rank of each send and receive, were they in this group of ranks.

    Where the call does not tell it is the other one of a pair; NONE in a larger group, and where
    what the call tells is no other member.
    """
    others = [other for other in group if other != rank]
    only = others[0] if len(others) == 1 else NONE
    told = [
        only if member == NONE else group[member] if member < len(group) else NONE
        for member in cluster.members
    ]
    return [peer if cluster.point_to_point and peer != rank else NONE for peer in told]


def _clusters(program: Program, run: RankTimeline, told: Sequence[int]) -> list[_Cluster]:
    """Collectives without a group, joined where they share a queue or a size."""
    rows = [
        int(row)
        for row in np.flatnonzero(program.rows.collective != NONE)
        if program.collectives[program.rows.collective[row]].group == NONE
    ]
    parent: dict[object, object] = {}

    def root(key: object) -> object:
        while parent.setdefault(key, key) != key:
            key = parent[key]
        return key

    def is_message(row: int) -> bool:
        return program.collectives[program.rows.collective[row]].kind in POINT_TO_POINT

    for row in rows:
        pair = is_message(row)
        size = (
            "size",
            pair,
            None if pair else program.collectives[program.rows.collective[row]].in_bytes,
        )
        parent[root(("queue", int(program.rows.processor[row])))] = root(size)
    together: dict[object, list[int]] = {}
    for row in rows:
        together.setdefault(root(("queue", int(program.rows.processor[row]))), []).append(row)
    return [
        _Cluster(
            own,
            [told[program.rows.collective[row]] for row in own],
            [
                (
                    program.collectives[program.rows.collective[row]].kind,
                    program.collectives[program.rows.collective[row]].in_bytes,
                )
                for row in own
            ],
            [int(run.end_ns[row]) for row in own],
            len({int(program.rows.processor[row]) for row in own if not is_message(row)}),
        )
        for own in together.values()
    ]


def _score(
    cluster: _Cluster, rank: int, group: tuple[int, ...], clusters: Mapping[int, Sequence[_Cluster]]
) -> float | None:
    """How far the ends of the other members' matching clusters lie apart; None without a match."""
    others = [other for other in group if other != rank and other in clusters]
    if not others:
        return None
    if cluster.point_to_point:
        peers = _peers(cluster, rank, group)
        told = NONE not in peers
        return (
            0.0
            if told
            and all(
                any(_mirrors(cluster, rank, theirs, other, group) for theirs in clusters[other])
                for other in others
            )
            else None
        )
    worst = 0.0
    for other in others:
        fits = [theirs for theirs in clusters[other] if theirs.reads == cluster.reads]
        if not fits:
            return None
        worst = max(worst, min(_apart(cluster, theirs) for theirs in fits))
    return worst


def _apart(mine: _Cluster, theirs: _Cluster) -> float:
    """How far the ends of two clusters that read the same lie apart: their median [ns]."""
    return float(np.median(np.abs(np.subtract(mine.ends, theirs.ends))))


def _mirrors(
    mine: _Cluster, rank: int, theirs: _Cluster, other: int, group: tuple[int, ...]
) -> bool:
    """Whether the other rank receives what this one sends to it, and sends what this one receives."""
    return theirs.point_to_point and all(
        _exchanged(mine, rank, group, kind, other) == _exchanged(theirs, other, group, back, rank)
        for kind, back in (POINT_TO_POINT, POINT_TO_POINT[::-1])
    )


def _exchanged(
    cluster: _Cluster, rank: int, group: tuple[int, ...], kind: CollectiveKind, peer: int
) -> list[int | None]:
    """Sizes of what a cluster sends to a peer, or receives from it, in order."""
    return [
        size
        for (one, size), other in zip(cluster.reads, _peers(cluster, rank, group), strict=True)
        if one == kind and other == peer
    ]
