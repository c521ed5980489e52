"""Which process group a collective without metadata belongs to: by what its members have in common.

Collectives that share a queue, or sizes, form a cluster. A cluster belongs to the group whose
other members each have a cluster that reads the same and ends most closely with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lumos.graph.job import NONE, CollectiveKind, Program
from lumos.graph.timeline import RankTimeline
from lumos.graph.trace import ProcessGroup

QUEUES_OF_A_GROUP = 2
"""Worker threads that gloo gives each process group (PyTorch's ProcessGroupGloo, default)."""
POINT_TO_POINT = (CollectiveKind.SEND, CollectiveKind.RECEIVE)


@dataclass(frozen=True)
class _Cluster:
    """Rows of one rank's collectives that belong together, in issue order."""

    rows: list[int]
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
) -> tuple[list[Program], int]:
    """Programs whose collectives without a group got one where it can be told, and how many did."""
    candidates = [n for n, group in enumerate(groups) if len(group.ranks) > 1]
    named = [n for n in candidates if groups[n].description not in ("default_pg", "")]
    clusters = [_clusters(p, run) for p, run in zip(programs, runs, strict=True)]
    place_of = {rank: place for place, rank in enumerate(ranks)}
    result, count = [], 0
    for place, (program, rank) in enumerate(zip(programs, ranks, strict=True)):
        table = list(program.collectives)
        queues: Counter[int] = Counter()
        for cluster in sorted(clusters[place], key=lambda cluster: -len(cluster.rows)):
            scored = []
            for preference, pool in enumerate((named, candidates)):
                for number in pool:
                    fits = queues[number] + cluster.queues <= QUEUES_OF_A_GROUP
                    if rank in groups[number].ranks and fits:
                        members = [place_of.get(m) for m in groups[number].ranks if m != rank]
                        score = _score(cluster, [clusters[m] for m in members if m is not None])
                        if score is not None:
                            scored.append((preference, score, number))
            if scored:
                number = min(scored)[2]
                queues[number] += 0 if cluster.point_to_point else cluster.queues
                count += len(cluster.rows)
                for row in cluster.rows:
                    entry = int(program.rows.collective[row])
                    peer = _only_peer(groups[number], rank) if cluster.point_to_point else NONE
                    table[entry] = replace(table[entry], group=number, peer=peer)
        result.append(replace(program, collectives=tuple(table)))
    return result, count


def _only_peer(group: ProcessGroup, rank: int) -> int:
    """The other rank of a pair; NONE in a larger group, where it cannot be told."""
    others = [member for member in group.ranks if member != rank]
    return others[0] if len(others) == 1 else NONE


def _clusters(program: Program, run: RankTimeline) -> list[_Cluster]:
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

    for row in rows:
        one = program.collectives[program.rows.collective[row]]
        pair = one.kind in POINT_TO_POINT
        size = ("size", pair, None if pair else one.in_bytes)
        parent[root(("queue", int(program.rows.processor[row])))] = root(size)
    members: dict[object, list[int]] = {}
    for row in rows:
        members.setdefault(root(("queue", int(program.rows.processor[row]))), []).append(row)
    return [
        _Cluster(
            own,
            [
                (
                    program.collectives[program.rows.collective[row]].kind,
                    program.collectives[program.rows.collective[row]].in_bytes,
                )
                for row in own
            ],
            [int(run.end_ns[row]) for row in own],
            len(set(program.rows.processor[own].tolist())),
        )
        for own in members.values()
    ]


def _score(cluster: _Cluster, others: Sequence[list[_Cluster]]) -> float | None:
    """How far the ends of the other members' matching clusters lie apart; None without a match."""
    if not others:
        return None
    worst = 0.0
    for theirs in others:
        fits = [c for c in theirs if _mirrors(cluster, c)]
        if not fits:
            return None
        if not cluster.point_to_point:
            apart = [float(np.median(np.abs(np.subtract(cluster.ends, c.ends)))) for c in fits]
            worst = max(worst, min(apart))
    return worst


def _mirrors(mine: _Cluster, theirs: _Cluster) -> bool:
    """Whether two clusters read the same; for sends and receives, one what the other sends."""
    if mine.point_to_point != theirs.point_to_point:
        return False
    if not mine.point_to_point:
        return mine.reads == theirs.reads
    sent = [size for kind, size in mine.reads if kind == CollectiveKind.SEND]
    received = [size for kind, size in theirs.reads if kind == CollectiveKind.RECEIVE]
    return sent == received
