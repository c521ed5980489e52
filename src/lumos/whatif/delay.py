"""Host work that is added: a little to every operator, or a stall of one rank in every step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lumos.errors import UsageError
from lumos.graph.job import NONE, Job, Program, TaskKind
from lumos.whatif.scale import with_durations
from lumos.whatif.selection import Selection


def add_host_work(job: Job, chosen: Selection, extra_ns: int) -> Job:
    """The job with `extra_ns` more own time in each run of an operator among the chosen rows.

    An operator of several pieces takes longer in the first of them.

    host   | mm....| launch | mm |
    stream              |= k =|
    """
    columns = []
    for program, mask in zip(job.programs, chosen.masks, strict=True):
        duration = program.rows.duration_ns.copy()
        duration[_first_pieces(program, mask)] += _not_negative(extra_ns)
        columns.append(duration)
    return with_durations(job, columns)


def stall(job: Job, rank: int, extra_ns: int) -> Job:
    """The job with the main thread of `rank` doing nothing for `extra_ns` at each step's begin."""
    if rank not in job.placement.ranks:
        raise UsageError(f"no rank {rank} was traced")
    place = job.placement.ranks.index(rank)
    role, roles = job.placement.role[place], list(job.placement.role)
    program, programs = job.programs[role], list(job.programs)
    rows = program.rows
    pausing = np.isin(rows.kind, (TaskKind.OPERATOR, TaskKind.GAP))  # a launch would go on at once
    mine = np.flatnonzero(pausing & (rows.processor == program.main_thread))
    _, first = np.unique(rows.block[mine], return_index=True)
    duration = rows.duration_ns.copy()
    duration[mine[first]] += _not_negative(extra_ns)
    stalled = replace(program, rows=rows.with_columns(duration_ns=duration))
    if roles.count(role) == 1:
        programs[role] = stalled
    else:  # a rank that differs plays a role of its own
        roles[place] = len(programs)
        programs.append(stalled)
    placement = replace(job.placement, role=tuple(roles))
    return replace(job, programs=tuple(programs), placement=placement)


def _first_pieces(program: Program, mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The first chosen piece of each run of an operator."""
    rows = program.rows
    pieces = np.flatnonzero(mask & (rows.kind == TaskKind.OPERATOR) & (rows.event != NONE))
    keys = np.stack([rows.processor[pieces], rows.block[pieces], rows.event[pieces]])
    _, first = np.unique(keys, axis=1, return_index=True)
    return pieces[first]


def _not_negative(extra_ns: int) -> int:
    if extra_ns < 0:
        raise UsageError(f"host work can be added, not taken away: {extra_ns} ns; scale it instead")
    return extra_ns
