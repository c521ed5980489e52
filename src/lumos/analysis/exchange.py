"""Two jobs taken apart into the same parts, so that any of them can be exchanged.

A part is what can be taken from either job: the durations of some rows, the waits for peers that
the jobs do not hold, the structure of the program, its lags, what was under way at its start, the
recorded delays. A state says which parts come from the second job:

    structure of     first          second
    matched rows     durations of either, part by part
    other rows       -              durations of their own job

Where one job has but pauses more than the other, its structure is that of both: a pause that the
other run did not have takes no time there. Where both have the same tasks, what is left of the
structure is their order and the queues they run in: gloo gives a task to whichever worker is free.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from lumos.analysis.alignment import Alignment, align
from lumos.analysis.parts import (
    DELAYS,
    LAGS,
    ORDER,
    START,
    STRUCTURE,
    WAITING,
    PartName,
    parts_of,
)
from lumos.graph.execution import ExecutionGraph
from lumos.graph.job import NONE, Job, Program, StartingState
from lumos.graph.timeline import Timeline
from lumos.lower import lower
from lumos.simulate import simulate_each

State = frozenset[int]
"""Numbers of the parts that come from the second job."""
MOST_PARTS = 16
"""Parts of durations told apart; what differs less is one part a kind."""


@dataclass(frozen=True)
class Columns:
    """The rows of one job, rank after rank, times in ns.

    `own_ns` are its durations, `taken_ns` those of the partners in the other job; `part` numbers
    the part of each row, NONE where nothing is exchanged; `alone` are the rows without a partner
    that make the structures differ; `peers_ns` and `taken_peers_ns` are the waits for peers outside
    the job.
    """

    own_ns: NDArray[np.int64]
    taken_ns: NDArray[np.int64]
    part: NDArray[np.int64]
    alone: NDArray[np.bool_]
    peers_ns: NDArray[np.int64]
    taken_peers_ns: NDArray[np.int64]


@dataclass(frozen=True)
class Exchange:
    """Two jobs in one game: `run` gives the timelines of any states."""

    jobs: tuple[Job, Job]
    alignments: tuple[Alignment, ...] = field(repr=False)  # one a rank, from first to second
    players: tuple[PartName, ...]
    columns: tuple[Columns, Columns] = field(repr=False)

    @property
    def _fuller(self) -> bool:
        """Whether the second job has the rows of the first and more."""
        first, second = (len(columns.own_ns) for columns in self.columns)
        return second > first

    @property
    def tasks(self) -> int:
        """Rows of the larger job."""
        return max(len(columns.own_ns) for columns in self.columns)

    @property
    def matched_pct(self) -> float:
        """Share of the rows of both jobs that have a partner."""
        pairs = sum(len(alignment.first) for alignment in self.alignments)
        rows = sum(len(columns.own_ns) for columns in self.columns)
        return 200.0 * pairs / rows if rows else 100.0

    def run(self, states: Iterable[State]) -> Iterator[tuple[State, Job, Timeline]]:
        """Each state once, with the job that it runs; those of one graph together."""
        variants: dict[tuple[bool, ...], list[State]] = {}
        for state in sorted(set(states), key=sorted):
            variants.setdefault(self._variant(state), []).append(state)
        for variant, members in sorted(variants.items()):
            job = self._job(*variant)
            graph = lower(job)
            durations = (self._durations(graph, state) for state in members)
            for state, timeline in zip(
                members, simulate_each(graph, durations, delays=True), strict=True
            ):
                yield state, job, timeline

    def waits(self, state: State, timeline: Timeline, *, second: bool) -> NDArray[np.int64]:
        """What the rows of one job waited in the run of a state [ns], rank after rank."""
        structure = self._structure(state)
        found = []
        for alignment, rank, of_role in zip(
            self.alignments, timeline.ranks, self.jobs[second].placement.role, strict=True
        ):
            if structure == second:
                found.append(rank.wait_ns)
                continue
            seen = alignment if second else alignment.swapped()  # from the structure to the job
            wait = np.zeros(len(self.jobs[second].programs[of_role].rows), np.int64)
            wait[seen.second] = rank.wait_ns[seen.first]
            found.append(wait)
        return np.concatenate(found)

    def _structure(self, state: State) -> bool:
        of = STRUCTURE if STRUCTURE in self.players else ORDER
        return self._has(state, of, otherwise=self._fuller)

    def _has(self, state: State, part: PartName, *, otherwise: bool) -> bool:
        """Whether a part comes from the second job; one that is equal in both goes with the structure."""
        return self.players.index(part) in state if part in self.players else otherwise

    def _variant(self, state: State) -> tuple[bool, bool, bool, bool]:
        structure = self._structure(state)
        lags, start, delays = (
            self._has(state, part, otherwise=structure) for part in (LAGS, START, DELAYS)
        )
        return structure, lags, start, delays

    def _job(self, structure: bool, lags: bool, start: bool, delays: bool) -> Job:
        """The job with the structure of one and the lags, start and delays of either."""
        job = self.jobs[structure]
        programs = list(job.programs)
        for place, alignment in enumerate(self.alignments):
            seen = alignment.swapped() if structure else alignment
            role = job.placement.role[place]
            other = self.jobs[not structure].programs[
                self.jobs[not structure].placement.role[place]
            ]
            if start != structure:
                programs[role] = replace(
                    programs[role], start=start_taken(programs[role], other, seen)
                )
            if delays != structure:
                rows = programs[role].rows
                column = _taken(seen, rows.delay_ns, other.rows.delay_ns)
                programs[role] = replace(programs[role], rows=rows.with_columns(delay_ns=column))
        return replace(job, programs=tuple(programs), lags=self.jobs[lags].lags)

    def _durations(self, graph: ExecutionGraph, state: State) -> NDArray[np.int64]:
        structure = self._structure(state)
        columns = self.columns[structure]
        second = np.zeros(len(self.players) + 1, bool)  # the last is what NONE indexes
        second[list(state)] = True
        foreign = second[columns.part] != structure
        foreign &= columns.part != NONE
        duration = np.zeros(len(graph), np.int64)
        rows = len(columns.own_ns)
        duration[:rows] = np.where(foreign, columns.taken_ns, columns.own_ns)
        peers = self._has(state, WAITING, otherwise=structure)
        duration[:rows] += columns.peers_ns if peers == structure else columns.taken_peers_ns
        return duration


def exchange_of(
    jobs: tuple[Job, Job], peers_ns: tuple[Sequence[NDArray[np.int64]], ...]
) -> Exchange:
    """Align two jobs rank by rank and name the parts in which they differ.

    `peers_ns` holds for each job and rank the waits of its rows for peers outside the job.
    """
    programs = [[job.programs[role] for role in job.placement.role] for job in jobs]
    alignments = tuple(align(mine, theirs) for mine, theirs in zip(*programs, strict=True))
    names, parts = parts_of(programs, alignments)
    columns = (
        _columns(programs[0], programs[1], alignments, parts[0], peers_ns[0], peers_ns[1]),
        _columns(
            programs[1], programs[0], [one.swapped() for one in alignments], parts[1], peers_ns[1], peers_ns[0],
        ),
    )  # fmt: skip
    names, columns = _largest(names, columns)
    same = not any(side.alone.any() for side in columns)
    whole = [
        (WAITING, any((one != 0).any() for side in peers_ns for one in side)),
        (STRUCTURE, not same),
        (ORDER, same and not _same_order(programs, columns, alignments)),
        (LAGS, jobs[0].lags != jobs[1].lags),
        (START, _starts_differ(programs, alignments)),
        (DELAYS, _delays_differ(programs, alignments)),
    ]
    players = (*names, *(part for part, differs in whole if differs))
    return Exchange(jobs, alignments, players, columns)


def _columns(
    programs: Sequence[Program],
    others: Sequence[Program],
    alignments: Sequence[Alignment],
    parts: Sequence[NDArray[np.int64]],
    peers_ns: Sequence[NDArray[np.int64]],
    other_peers_ns: Sequence[NDArray[np.int64]],
) -> Columns:
    own, taken, taken_peers = [], [], []
    for program, other, alignment, part, waits, other_waits in zip(
        programs, others, alignments, parts, peers_ns, other_peers_ns, strict=True
    ):
        duration = program.rows.duration_ns
        own.append(duration)
        # without a partner: a pause that the other run did not have
        alone = np.where(part == NONE, duration, 0)
        taken.append(_taken(alignment, alone, other.rows.duration_ns))
        taken_peers.append(_taken(alignment, np.where(part == NONE, waits, 0), other_waits))
    return Columns(
        np.concatenate(own),
        np.concatenate(taken),
        np.concatenate(parts),
        np.concatenate([part == NONE for part in parts]),
        np.concatenate(peers_ns),
        np.concatenate(taken_peers),
    )


def _largest(
    names: list[PartName], columns: tuple[Columns, Columns]
) -> tuple[list[PartName], tuple[Columns, Columns]]:
    """Keep the parts whose durations differ most, and put the others together kind by kind."""
    moved = np.zeros(len(names))
    for side in columns:
        known = side.part != NONE
        apart = np.abs(side.taken_ns - side.own_ns)[known].astype(float)
        moved += np.bincount(side.part[known], apart, minlength=len(names))
    order = [int(part) for part in np.argsort(-moved, kind="stable") if moved[part] > 0]
    kept = [names[part] for part in order[:MOST_PARTS]]
    place = {name: number for number, name in enumerate(kept)}
    new = np.full(len(names) + 1, NONE, np.int64)
    for part, name in enumerate(names):
        if name not in place:
            rest = PartName(name.kind, "all else")
            if moved[part] > 0 or rest in place:
                place.setdefault(rest, len(place))
            name = rest  # noqa: PLW2901
        new[part] = place.get(name, NONE)
    return list(place), tuple(replace(side, part=new[side.part]) for side in columns)  # type: ignore[return-value]


def _taken(
    alignment: Alignment, own: NDArray[np.int64], other: NDArray[np.int64]
) -> NDArray[np.int64]:
    """A column with the values of the partners; `own` where there is none."""
    column = own.copy()
    column[alignment.first] = other[alignment.second]
    return column


def _same_order(
    programs: Sequence[Sequence[Program]], sides: Sequence[Columns], alignments: Sequence[Alignment]
) -> bool:
    """Whether partners stand in one order and in the same queues, and one side has all rows of both."""
    pairs = sum(len(alignment.first) for alignment in alignments)
    contained = pairs == min(len(side.own_ns) for side in sides)
    ordered = all((np.diff(alignment.second) > 0).all() for alignment in alignments)
    return contained and ordered and all(map(_same_queues, *programs, alignments))


def _same_queues(program: Program, other: Program, alignment: Alignment) -> bool:
    """Whether rows that share a processor in one program share one in the other."""
    mine = program.rows.processor[alignment.first].astype(np.int64)
    theirs = other.rows.processor[alignment.second].astype(np.int64)
    pairs = np.unique(np.stack((mine, theirs)), axis=1)
    return all(len(np.unique(side)) == len(side) for side in pairs)


def _delays_differ(programs: list[list[Program]], alignments: Sequence[Alignment]) -> bool:
    return any(
        (mine.rows.delay_ns[pairs.first] != theirs.rows.delay_ns[pairs.second]).any()
        for mine, theirs, pairs in zip(*programs, alignments, strict=True)
    )


def _starts_differ(programs: list[list[Program]], alignments: Sequence[Alignment]) -> bool:
    for mine, theirs, alignment in zip(*programs, alignments, strict=True):
        taken = start_taken(mine, theirs, alignment)
        if mine.start is None or taken is None:
            continue
        if (taken.free_ns != mine.start.free_ns).any() or taken.slot_ns != mine.start.slot_ns:
            return True
    return False


def start_taken(program: Program, other: Program, alignment: Alignment) -> StartingState | None:
    """The starting state of `other` in the numbers of `program`.

    A processor is the one on which most partners of its rows run, a slot that which the partner of
    a row awaits; what has no partner keeps its own time.
    """
    if program.start is None or other.start is None:
        return program.start
    mine, theirs = program.rows.take(alignment.first), other.rows.take(alignment.second)
    shared = np.zeros((len(program.processors), len(other.processors)), np.int64)
    np.add.at(shared, (mine.processor, theirs.processor), 1)
    known = shared.any(axis=1)
    free = np.where(known, other.start.free_ns[shared.argmax(axis=1)], program.start.free_ns)
    slots = dict(program.start.slot_ns)
    waiting = np.flatnonzero((mine.awaits != NONE) & (theirs.awaits != NONE))
    for own, foreign in zip(
        mine.awaits[waiting].tolist(), theirs.awaits[waiting].tolist(), strict=True
    ):
        if own in slots and foreign in other.start.slot_ns:
            slots[own] = other.start.slot_ns[foreign]
    return StartingState(free, slots)
