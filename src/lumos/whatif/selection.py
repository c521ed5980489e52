"""Which rows of a job a change is about: masks, one for each program, that combine with & | ~.

gemm = labelled(job, By.CLASS, "gemm")
faster = scale(job, gemm & of_ranks(job, 1), 0.5)
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lumos.errors import UsageError
from lumos.graph.job import CollectiveKind, Job, Program, TaskKind
from lumos.graph.labels import By, host_computes, labels
from lumos.graph.segments import operator_segments
from lumos.graph.work import Phase, WorkKind, kind_of_operator

DATA_LOADER = "DataLoader"
"""What PyTorch's data loader has in the names of its operators, `enumerate(DataLoader)#...`."""


@dataclass(frozen=True)
class Selection:
    """Rows of each program of a job: `masks[role]` has one entry a row."""

    masks: tuple[NDArray[np.bool_], ...]

    def __and__(self, other: Selection) -> Selection:
        return Selection(tuple(a & b for a, b in zip(self.masks, other.masks, strict=True)))

    def __or__(self, other: Selection) -> Selection:
        return Selection(tuple(a | b for a, b in zip(self.masks, other.masks, strict=True)))

    def __invert__(self) -> Selection:
        return Selection(tuple(~mask for mask in self.masks))

    def __len__(self) -> int:
        return sum(int(mask.sum()) for mask in self.masks)


def everything(job: Job) -> Selection:
    """Every row."""
    return Selection(tuple(np.ones(len(program.rows), bool) for program in job.programs))


def labelled(job: Job, by: By, *texts: str) -> Selection:
    """Rows that go by one of these labels, as the tables that sum `by` it name them."""
    found = []
    for program in job.programs:
        known = labels(program, by)
        masks = [known.rows_of(text) for text in texts]
        found.append(np.logical_or.reduce(masks, axis=0) if masks else known.number < -1)
    return Selection(tuple(found))


def of_ranks(job: Job, *ranks: int) -> Selection:
    """Rows of these ranks. UsageError where a rank is unknown or plays a role with others."""
    roles = set()
    for rank in ranks:
        if rank not in job.placement.ranks:
            raise UsageError(f"no rank {rank} was traced; the traced ones are {_some(job)}")
        roles.add(job.placement.role[job.placement.ranks.index(rank)])
    played = zip(job.placement.ranks, job.placement.role, strict=True)
    more = [rank for rank, role in played if role in roles and rank not in ranks]
    if more:
        raise UsageError(
            f"ranks {', '.join(map(str, ranks))} run the program of rank {more[0]} too; "
            "give them a role of their own first"
        )
    return Selection(
        tuple(np.full(len(p.rows), role in roles) for role, p in enumerate(job.programs))
    )


def communication(job: Job, kinds: Collection[CollectiveKind] = tuple(CollectiveKind)) -> Selection:
    """Collectives and messages of these kinds; all of them by default."""
    found = []
    for program in job.programs:
        rows = program.rows
        wanted = np.array([one.kind in kinds for one in program.collectives] or [False])
        known = CollectiveKind.UNKNOWN in kinds  # communication without a description
        of_kind = np.where(rows.collective >= 0, wanted[rows.collective], known)
        found.append((rows.kind == TaskKind.COLLECTIVE) & of_kind)
    return Selection(tuple(found))


def data_loading(job: Job) -> Selection:
    """Host rows inside the data loader's operators or annotations."""
    return Selection(tuple(loads_data(program) for program in job.programs))


def loads_data(program: Program) -> NDArray[np.bool_]:
    """Which host rows of a program are inside the data loader's operators or annotations."""
    names = [name for name in program.names if DATA_LOADER in name]
    marked = ~program.rows.on_device & (program.rows.phase == Phase.DATA_LOADING)
    return marked | (operator_segments(program, names) >= 0)


def host_overhead(job: Job) -> Selection:
    """What the host adds to the computation: operators' own time, calls, pauses; no data loading.

    Pauses of threads that launch nothing are idle. Where the host computes (a CPU job) its operators are the computation: calls and pauses remain.
    """
    return Selection(tuple(is_host_overhead(program) for program in job.programs))


def is_host_overhead(program: Program) -> NDArray[np.bool_]:
    """Which rows of a program are host overhead."""
    rows = program.rows
    host = ~rows.on_device & (on_leading_threads(program) | (rows.kind != TaskKind.GAP))
    if host_computes(program):
        host &= rows.kind != TaskKind.OPERATOR
    return host & ~loads_data(program)


def on_leading_threads(program: Program) -> NDArray[np.bool_]:
    """Which rows are of the main thread or of a host thread that launches."""
    rows = program.rows
    calls = rows.processor[rows.kind == TaskKind.LAUNCH]
    return np.isin(rows.processor, np.union1d(calls, [program.main_thread]))


def operators_of_kind(job: Job, kind: WorkKind) -> frozenset[str]:
    """The names of the operators of this family."""
    names = {name for program in job.programs for name in program.names}
    return frozenset(name for name in names if kind_of_operator(name) is kind)


def inside(job: Job, operators: Iterable[str]) -> Selection:
    """Host rows of these operators and of all that runs inside them on their threads."""
    names = tuple(operators)
    return Selection(tuple(operator_segments(program, names) >= 0 for program in job.programs))


def _some(job: Job, most: int = 8) -> str:
    ranks = job.placement.ranks
    return ", ".join(map(str, ranks[:most])) + (", ..." if len(ranks) > most else "")
