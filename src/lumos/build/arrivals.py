"""Messages over gloo: when their data arrived, which no event tells, and who waited until then.

sender   | send |.......... wait ..........| next |
receiver | work .............. | recv |....| next |
                               ^ both are posted: the data moves

The spans of both ends last until somebody waits for them, however long ago the data arrived.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lumos.build.collectives import Communication
from lumos.build.device import HOST
from lumos.graph.job import NONE, Collective, Program, TaskKind
from lumos.graph.meetings import Where
from lumos.graph.timeline import RankTimeline


class _Transfer(NamedTuple):
    """A message both of whose ends are known: its bytes, and when both were posted [ns].

    Then the waits for it returned: the sender's at `returned_ns`, the receiver's at `asked_ns`.
    `seen` tells whether the receiver already waited when the data began to move.
    """

    send: Where
    receive: Where
    size: int | None
    posted_ns: int
    returned_ns: int
    asked_ns: int
    seen: bool


@dataclass
class _Rank:
    """One rank's times while they are corrected, and the rows that wait for its messages."""

    program: Program
    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    rows_of: Sequence[NDArray[np.intp]]  # of each processor
    waits: Mapping[int, Sequence[int]]

    def neighbours(self, row: int) -> tuple[int, int]:
        """The rows in front of and behind a row on its processor, itself where there is none."""
        own = self.rows_of[int(self.program.rows.processor[row])]
        place = int(np.searchsorted(own, row))
        return int(own[max(place - 1, 0)]), int(own[min(place + 1, len(own) - 1)])

    def waits_since(self, row: int) -> int | None:
        """When the pause began in which the wait for `row` returned [ns]; None without one."""
        since = [int(self.end_ns[self.neighbours(one)[0]]) for one in self.waits[row]]
        return min(since, default=None)


def find_arrivals(
    programs: Sequence[Program],
    runs: Sequence[RankTimeline],
    sent: Sequence[tuple[Where, Where]],
    described: Sequence[Sequence[Communication]],
) -> tuple[list[Program], list[RankTimeline]]:
    """Programs and runs in which messages over gloo end when their data arrived.

    Their sends are synchronous (gloo's tcp `Pair::send`). A receiver that waited already when both
    ends were posted shows how long a message of its size takes; the others are given the median of
    these, at most the time until somebody asked. A send that was asked for before its receiver came
    is none of a pair, as is one whose receiver is unknown: it counts as buffered. What is left of a
    pause behind an arrival is kept as recorded.
    """
    if not any(one.waited_ns is not None for mine in described for one in mine):
        return list(programs), list(runs)
    own = [_rank(program, run) for program, run in zip(programs, runs, strict=True)]
    tables = [list(program.collectives) for program in programs]
    transfers = list(_transfers(own, sent, described))
    typical = _typical_ns(transfers)
    for one in transfers:
        (sender, send), (receiver, receive) = one.send, one.receive
        lasts = one.asked_ns - one.posted_ns
        if not one.seen:
            lasts = min(lasts, typical[one.size])
        arrived = one.posted_ns + lasts
        own[receiver].end_ns[receive] = arrived
        own[sender].end_ns[send] = min(arrived, one.returned_ns)
        entry = int(programs[sender].rows.collective[send])
        tables[sender][entry] = replace(tables[sender][entry], synchronous=True)
    for rank, mine in zip(own, described, strict=True):
        _go_on_at_arrivals(rank, mine)
    return (
        [_with_times(rank, table) for rank, table in zip(own, tables, strict=True)],
        [
            replace(run, start_ns=rank.start_ns, end_ns=rank.end_ns)
            for run, rank in zip(runs, own, strict=True)
        ],
    )


def _described(
    own: Sequence[_Rank], described: Sequence[Sequence[Communication]], where: Where
) -> Communication:
    place, row = where
    return described[place][int(own[place].program.rows.collective[row])]


def _transfers(
    own: Sequence[_Rank],
    sent: Sequence[tuple[Where, Where]],
    described: Sequence[Sequence[Communication]],
) -> Iterable[_Transfer]:
    """The messages over gloo whose two ends can have met."""
    for send, receive in sent:
        (sender, row), (receiver, into) = send, receive
        waited = _described(own, described, send).waited_ns
        begun, came = int(own[sender].start_ns[row]), int(own[receiver].start_ns[into])
        if waited is None or came > begun + waited:
            continue
        returned, posted, asked = begun + waited, max(begun, came), int(own[receiver].end_ns[into])
        since = own[receiver].waits_since(into)
        size = _described(own, described, receive).in_bytes
        if posted <= asked:
            seen = since is not None and since <= posted
            yield _Transfer(send, receive, size, posted, returned, asked, seen)


def _typical_ns(transfers: Sequence[_Transfer]) -> dict[int | None, int]:
    """How long a message of each size takes [ns]: the median of those seen, else the least of all."""
    seen, every = defaultdict(list), defaultdict(list)
    for one in transfers:
        every[one.size].append(one.asked_ns - one.posted_ns)
        if one.seen:
            seen[one.size].append(one.asked_ns - one.posted_ns)
    return {
        size: int(np.median(seen[size])) if seen[size] else min(lengths)
        for size, lengths in every.items()
    }


def _go_on_at_arrivals(rank: _Rank, described: Sequence[Communication]) -> None:
    """Let rows that wait for a message go on when it had arrived; what follows of the pause is kept.

    A pause in which a wait returned need not have been for that message alone: the data of several
    arrives, and then they are asked for in turn.
    """
    rows = rank.program.rows
    for row in np.flatnonzero(rows.collective != NONE).tolist():
        if described[int(rows.collective[row])].waited_ns is None:
            continue
        for waiting in rank.waits[row]:
            before, behind = rank.neighbours(waiting)
            if rank.start_ns[behind] == rank.start_ns[waiting]:
                at = max(min(rank.end_ns[row], rank.start_ns[waiting]), rank.end_ns[before])
                for times in (rank.start_ns, rank.end_ns):
                    times[waiting] = at
                rank.start_ns[behind] = at


def _with_times(rank: _Rank, collectives: Sequence[Collective]) -> Program:
    rows = rank.program.rows
    duration = np.where(rows.on_device, rows.duration_ns, rank.end_ns - rank.start_ns)
    rows = rows.with_columns(duration_ns=duration)
    return replace(rank.program, rows=rows, collectives=tuple(collectives))


def _rank(program: Program, run: RankTimeline) -> _Rank:
    rows = program.rows
    rows_of = [np.flatnonzero(rows.processor == n) for n in range(len(program.processors))]
    waits = _waits(program, rows_of)
    return _Rank(program, run.start_ns.copy(), run.end_ns.copy(), rows_of, waits)


def _waits(program: Program, rows_of: Sequence[NDArray[np.intp]]) -> Mapping[int, Sequence[int]]:
    """The rows that wait for each task of a queue of the host, by the record that captured it."""
    rows, found = program.rows, defaultdict(list)
    recorded = dict(zip(rows.signal.tolist(), range(len(rows)), strict=True))
    for row in np.flatnonzero((rows.kind == TaskKind.SYNCHRONIZE) & (rows.awaits != NONE)).tolist():
        record = recorded.get(int(rows.awaits[row]), NONE)
        queue = int(rows.stream[record]) if record != NONE else NONE
        if queue >= 0 and program.processors[queue].device == HOST:
            place = int(np.searchsorted(rows_of[queue], record)) - 1
            if place >= 0:
                found[int(rows_of[queue][place])].append(row)
    return found
