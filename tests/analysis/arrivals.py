"""Slow counts of communication: who met whom and came last, and what ran at each nanosecond."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from lumos.graph.job import ALL_MEMBERS_WAIT, NONE, CollectiveKind, Job, Program, TaskKind
from lumos.graph.timeline import RankTimeline, Timeline

Row = tuple[int, int]  # the place of its rank, its number
MESSAGES = (CollectiveKind.SEND, CollectiveKind.RECEIVE)


class Met(NamedTuple):
    """One collective or message that met: its kind as its rows call it, and its rows in order."""

    message: bool
    rows: list[Row]
    start_ns: list[int]
    waits: list[bool]  # a buffered send does not

    @property
    def last_ns(self) -> int:
        return max(self.start_ns)

    @property
    def waited_ns(self) -> list[int]:
        return [
            self.last_ns - start if waits else 0
            for start, waits in zip(self.start_ns, self.waits, strict=True)
        ]


def met(job: Job, run: Timeline) -> list[Met]:
    """Everything that met across ranks in a run by rules, where no one ends before all are there."""
    found: dict[tuple[object, ...], list[tuple[Row, int, bool]]] = defaultdict(list)
    for place, role in enumerate(job.placement.role):
        program, seen = job.programs[role], defaultdict[tuple[object, ...], int](int)
        for row, entry in enumerate(program.rows.collective.tolist()):
            if entry == NONE:
                continue
            one, block = program.collectives[entry], int(program.rows.block[row])
            key: tuple[object, ...]
            waits, mine = True, int(job.placement.ranks[place])
            if one.kind in ALL_MEMBERS_WAIT:
                key = order = ("collective", block, one.group)
            elif one.kind in MESSAGES and one.peer != NONE:
                sends = one.kind == CollectiveKind.SEND
                ends = (mine, one.peer) if sends else (one.peer, mine)
                key, order = ("message", block, one.group, *ends), (block, one.group, *ends, sends)
                waits = not sends or one.synchronous
            else:
                continue
            found[*key, seen[order]].append(
                ((place, row), int(run.ranks[place].start_ns[row]), waits)
            )
            seen[order] += 1
    return [
        Met(key[0] == "message", *map(list, zip(*members, strict=True)))
        for key, members in found.items()
        if len(members) > 1
    ]


def moments(run: RankTimeline, rows: Iterable[int]) -> set[int]:
    """The nanoseconds in which one of these rows ran."""
    return {
        moment for row in rows for moment in range(int(run.start_ns[row]), int(run.end_ns[row]))
    }


def computing(program: Program, run: RankTimeline) -> set[int]:
    """The nanoseconds in which the device computes or copies; where there is none, the host's operators."""
    kinds = [TaskKind(kind) for kind in program.rows.kind.tolist()]
    on_device = program.rows.on_device.tolist()
    device = [
        row for row, kind in enumerate(kinds) if on_device[row] and kind != TaskKind.COLLECTIVE
    ]
    operators = [row for row, kind in enumerate(kinds) if kind == TaskKind.OPERATOR]
    gpu = any(one.device >= 0 for one in program.processors)
    return moments(run, device if gpu else operators)
