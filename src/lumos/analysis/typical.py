"""What a row takes on a typical rank in a typical step.

    rank 0 | mm 10 | launch 2 | gap  5 |
    rank 1 | mm 12 | launch 2 | gap 25 |        typical | mm 11 | launch 2 | gap 5 |
    rank 2 | mm 11 | launch 3 | gap  4 |

A row is held against the same row of the ranks and steps that run the same program, and takes the
median: of each rank's steps, then of the ranks; of an even number the lower of the middle two, since
what is slow is the exception. Medians of single rows leave out what happens now here, now there, as it
does on every rank: so pauses, the rest of the host and the device are each scaled to take as long in
all as on the median rank. Transfers are not: their long tails are links that are slow. A rank that runs a program of its
own is held against its own steps; only its pauses, which have no size, against those of all ranks.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from lumos.analysis.peers import Peers, peers_of
from lumos.graph.blocks import take_blocks
from lumos.graph.job import NONE, Grain, Job, Program, Rows, TaskKind

Durations = NDArray[np.int64]
PAUSES, HOST, DEVICE, TRANSFERS = range(4)
PARTS = 4


@dataclass(frozen=True)
class Typical:
    """Of each rank's rows what they take typically [ns], and which do other work than is typical.

    Other work: rows that fewer than half of the ranks have (typically they take no time), and tasks
    of other shapes. `compared_pct` is the share of time in rows that are held against other ranks,
    `alone_pct` that of rows held against other steps of their own rank only; the rest keeps its own.
    """

    duration_ns: tuple[Durations, ...] = field(repr=False)
    other_work: tuple[NDArray[np.bool_], ...] = field(repr=False)
    compared_pct: float
    alone_pct: float


def typical(job: Job) -> Typical:
    """The typical durations of a job of one step or more.

    In a job of whole operations all of one type are alike: computes take their mean, transfers their
    median over all ranks and steps (Lin et al., Understanding Stragglers in Large Model Training
    Using What-if Analysis, OSDI 2025).
    """
    programs = [job.programs[role] for role in job.placement.role]
    if job.grain is Grain.OPERATION:
        return _typical_operations(programs)
    return _typical_rows(programs)


def with_typical_durations(job: Job) -> Job:
    """The job in which every row takes what is typical; every rank has a role of its own."""
    programs = tuple(
        replace(job.programs[role], rows=job.programs[role].rows.with_columns(duration_ns=duration))
        for role, duration in zip(job.placement.role, typical(job).duration_ns, strict=True)
    )
    placement = replace(job.placement, role=tuple(range(len(programs))))
    return replace(job, programs=programs, placement=placement)


def _typical_operations(programs: Sequence[Program]) -> Typical:
    pooled: dict[str, list[Durations]] = {}
    for program in programs:
        for name, rows in _by_name(program):
            pooled.setdefault(name, []).append(program.rows.duration_ns[rows])
    transfers = {
        name
        for p in programs
        for name, rows in _by_name(p)
        if (p.rows.collective[rows] != NONE).any()
    }
    value = {
        name: float(np.median(every) if name in transfers else np.mean(every))
        for name, every in ((name, np.concatenate(parts)) for name, parts in pooled.items())
    }
    columns = []
    for program in programs:
        duration = program.rows.duration_ns.copy()
        for name, rows in _by_name(program):
            duration[rows] = round(value[name])
        columns.append(duration)
    nothing = tuple(np.zeros(len(program.rows), bool) for program in programs)
    return Typical(tuple(columns), nothing, 100.0, 0.0)


def _by_name(program: Program) -> list[tuple[str, NDArray[np.intp]]]:
    """The device rows of each name."""
    rows = program.rows
    device = rows.on_device
    return [
        (program.names[name], np.flatnonzero(device & (rows.name == name)))
        for name in np.unique(rows.name[device]).tolist()
    ]


def _typical_rows(programs: Sequence[Program]) -> Typical:
    steps = [
        (place, block, take_blocks(program, block, block + 1))
        for place, program in enumerate(programs)
        for block in range(len(program.blocks))
    ]
    duration = [program.rows.duration_ns.copy() for program in programs]
    other = [np.zeros(len(program.rows), bool) for program in programs]
    pauses_ns = _typical_pauses(steps)
    compared, alone = 0, 0
    for group in peers_of([step for _, _, step in steps]):
        ranks = np.array([steps[number][0] for number in group.members])
        members = [steps[number][2] for number in group.members]
        table = _table(group, members, ranks, pauses_ns)
        time = sum(int(member.rows.duration_ns.sum()) for member in members)
        compared += time if len(set(ranks)) > 1 else 0
        alone += time if len(set(ranks)) == 1 < len(members) else 0
        for number, places in zip(group.members, group.places, strict=True):
            place, block, step = steps[number]
            own = programs[place].rows.block == block
            duration[place][own], other[place][own] = table.of(step, places)
    total = max(sum(int(program.rows.duration_ns.sum()) for program in programs), 1)
    return Typical(tuple(duration), tuple(other), 100 * compared / total, 100 * alone / total)


def _typical_pauses(steps: Sequence[tuple[int, int, Program]]) -> float:
    """How long the median rank pauses in the median of its steps [ns], whatever it runs."""
    of_rank: dict[int, list[int]] = {}
    for place, _, step in steps:
        pauses = step.rows.duration_ns[step.rows.kind == TaskKind.GAP]
        of_rank.setdefault(place, []).append(int(pauses.sum()))
    medians = [[_middle(np.array([own], float).T)[0]] for own in of_rank.values()]
    return float(_middle(np.array(medians))[0])


@dataclass(frozen=True)
class _Table:
    """What each place of a group of programs takes typically [ns], and the shapes it works on.

    `value_ns` is NaN where the typical rank has no such row, and still without `factor`, one of each
    part; `shape` numbers `shapes`, NONE where unknown.
    """

    value_ns: NDArray[np.float64]
    factor: NDArray[np.float64]
    shape: NDArray[np.int64]
    shapes: dict[Hashable, int]

    def of(
        self, program: Program, places: NDArray[np.int64]
    ) -> tuple[Durations, NDArray[np.bool_]]:
        """Durations of one program's rows, and which rows do other work."""
        rows, value = program.rows, self.value_ns[places]
        absent, part = np.isnan(value), _parts(rows)
        transfers = part == TRANSFERS
        value = np.where(absent, np.where(transfers, rows.duration_ns, 0), value)
        value = np.where(transfers, value, value * self.factor[part])
        shape = _shapes(program, self.shapes)
        other = (shape != NONE) & (shape != self.shape[places])
        other |= absent & ~transfers & (part != PAUSES)
        return np.rint(value).astype(np.int64), other


def _table(
    group: Peers, members: Sequence[Program], ranks: NDArray[np.int64], pauses_ns: float
) -> _Table:
    kind = np.zeros(group.count, np.uint8)
    for program, places in zip(members, group.places, strict=True):
        kind[places] = program.rows.kind
    by_rank = []
    for rank in np.unique(ranks):
        mine = np.flatnonzero(ranks == rank).tolist()
        known = np.full((len(mine), group.count), np.nan)
        for line, number in enumerate(mine):
            known[line, group.places[number]] = members[number].rows.duration_ns
        by_rank.append(_middle(_with_pauses(known, kind)))
    value = _middle(_with_pauses(np.stack(by_rank), kind))
    shapes: dict[Hashable, int] = {}
    shape = _usual_shapes(group, members, shapes)
    own = np.stack([_sums(one, one.rows.duration_ns) for one in members])
    usual = np.stack(
        [
            _sums(one, np.nan_to_num(value[places]))
            for one, places in zip(members, group.places, strict=True)
        ]
    )
    share = np.divide(own, usual, out=np.full(own.shape, np.nan), where=usual > 0)
    factor = _middle(np.stack([_middle(share[ranks == rank]) for rank in np.unique(ranks)]))
    if len(by_rank) == 1 and usual[:, PAUSES].any():
        most = pauses_ns / float(np.median(usual[:, PAUSES]))
        factor[PAUSES] = min(factor[PAUSES], most)
    return _Table(value, np.nan_to_num(factor, nan=1.0), shape, shapes)


def _with_pauses(known: NDArray[np.float64], kind: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Where there is no pause it took no time; other rows that are not there are unknown."""
    return np.where(np.isnan(known) & (kind == TaskKind.GAP), 0.0, known)


def _sums(program: Program, value: NDArray[np.number]) -> NDArray[np.float64]:
    """The time in each part."""
    return np.bincount(_parts(program.rows), value, minlength=PARTS).astype(np.float64)


def _middle(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The lower median of each column's known values; NaN where fewer than half are known."""
    ordered = np.sort(values, axis=0)  # NaN comes last
    known = (~np.isnan(ordered)).sum(axis=0)
    middle = ordered[np.maximum(known - 1, 0) // 2, np.arange(values.shape[1])]
    return np.where(2 * known >= len(values), middle, np.nan)


def _parts(rows: Rows) -> NDArray[np.int64]:
    """The part of its rank that a row belongs to."""
    host = np.where(rows.kind == TaskKind.GAP, PAUSES, HOST)
    device = np.where(rows.kind == TaskKind.COLLECTIVE, TRANSFERS, DEVICE)
    return np.where(rows.on_device, device, host)


def _shapes(program: Program, numbers: dict[Hashable, int]) -> NDArray[np.int64]:
    """The shapes that each task works on; NONE for rows of which the trace tells none."""
    known = [
        numbers.setdefault((work.shapes, work.bytes), len(numbers)) if work.shapes else NONE
        for work in program.works
    ]
    return np.array([*known, NONE], np.int64)[program.rows.work]  # the last is what NONE indexes


def _usual_shapes(
    group: Peers, members: Sequence[Program], numbers: dict[Hashable, int]
) -> NDArray[np.int64]:
    """The shapes that most programs have at each place; of equally many those that take less time."""
    place = np.concatenate(group.places)
    shape = np.concatenate([_shapes(program, numbers) for program in members])
    duration = np.concatenate([program.rows.duration_ns for program in members])
    known = shape != NONE
    cell = place[known] * (len(numbers) + 1) + shape[known]
    cells, number, count = np.unique(cell, return_inverse=True, return_counts=True)
    time = np.bincount(number, duration[known], minlength=len(cells))
    order = np.lexsort((-time, count))
    usual = np.full(group.count, NONE, np.int64)
    found = cells[order]
    usual[found // (len(numbers) + 1)] = found % (len(numbers) + 1)  # the last one counts
    return usual
