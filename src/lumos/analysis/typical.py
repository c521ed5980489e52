"""What a row takes on a typical rank: ranks that run the same program, row by row.

rank 0 | mm 10 | launch 2 | gap  5 |        typical | mm 11 | launch 2 | gap 15 |
rank 1 | mm 12 | launch 2 | gap 25 |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lumos.analysis.alignment import Alignment, align
from lumos.graph.job import Job, Program, TaskKind

LEAST_MATCHED = 0.9
"""Share of rows that ranks of one program have in common: 0.90 and more on all traces at hand. Two
stages of a pipeline have less (0.84), and what looks alike there may be of another size."""


def peers(job: Job) -> list[list[int]]:
    """Places of ranks that run the same program, each rank in one list, in order of first places."""
    return [[place for place, _ in group] for group in _groups(job)]


def typical(job: Job) -> Job:
    """The job in which every rank takes for each row what its peers take in the mean.

    Transfers take the median: theirs have long tails (as in Lin et al., Understanding Stragglers in
    Large Model Training Using What-if Analysis, OSDI 2025). Rows that only some of them have count
    for those. Every rank has a role of its own in the result; one without peers stays as it is.
    """
    programs = [job.programs[role] for role in job.placement.role]
    for group in _groups(job):
        members = [programs[place] for place, _ in group]
        columns = _typical([alignment for _, alignment in group], members)
        for (place, _), program, duration in zip(group, members, columns, strict=True):
            rows = program.rows.with_columns(duration_ns=duration)
            programs[place] = replace(program, rows=rows)
    placement = replace(job.placement, role=tuple(range(len(programs))))
    return replace(job, programs=tuple(programs), placement=placement)


def _groups(job: Job) -> list[list[tuple[int, Alignment]]]:
    """Peers with the alignment of the first one's rows with theirs."""
    programs = [job.programs[role] for role in job.placement.role]
    groups: list[list[tuple[int, Alignment]]] = []
    for place, program in enumerate(programs):
        for group in groups:
            first = programs[group[0][0]]
            longest = max(len(first.rows), len(program.rows))
            if min(len(first.rows), len(program.rows)) < LEAST_MATCHED * longest:
                continue
            pairs = align(first, program)
            if len(pairs.first) >= LEAST_MATCHED * longest:
                group.append((place, pairs))
                break
        else:
            groups.append([(place, align(program, program))])
    return groups


def _typical(
    alignments: Sequence[Alignment], members: Sequence[Program]
) -> list[NDArray[np.int64]]:
    """The durations of each member at the typical value of the rows that the first one has too."""
    count = len(members[0].rows)
    known = np.full((len(members), count), np.nan)
    for number, (pairs, program) in enumerate(zip(alignments, members, strict=True)):
        known[number, pairs.first] = program.rows.duration_ns[pairs.second]
    transfers = members[0].rows.kind == TaskKind.COLLECTIVE
    value = np.nanmean(known, axis=0)
    value[transfers] = np.nanmedian(known[:, transfers], axis=0)
    columns = []
    for pairs, program in zip(alignments, members, strict=True):
        duration = program.rows.duration_ns.copy()
        duration[pairs.second] = np.rint(value[pairs.first]).astype(np.int64)
        columns.append(duration)
    return columns
