"""Why a rank is slow: which part of its durations, made typical, gains most.

Of traces of kernels a row belongs to one part:

    rank 1 | op |.. pause ..| launch |         the host: stall
                             |= gemm =|a-r|    the device: compute, link; other work: imbalance

Whole operations tell neither host nor shapes. There the time of a compute is taken apart into factors:

    typical x (its stage : typical) x (its micro-batch : the rank) x (the rank : its stage)
              |------------------- work --------------------------|  |---- slow compute ----|

What the stages differ in is how the model was split. A micro-batch has more work than others where
its forward and its backward both take longer than the quickest of the rank in that step; where only
one of them does, the rank was slow for a while. A slow rank has no quick one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from lumos.analysis.typical import Durations, Typical
from lumos.graph.job import NONE, Grain, Job, Program, TaskKind
from lumos.graph.labels import host_computes
from lumos.graph.layout import layout_of
from lumos.graph.work import Phase


class Cause(Enum):
    """What makes a rank slower than is typical."""

    HOST_STALL = "host_stall"  # pauses, operators and calls of the host
    SLOW_COMPUTE = "slow_compute"  # the same work takes longer
    SLOW_LINK = "slow_link"  # transfers take longer
    IMBALANCE = "imbalance"  # more work than others
    NONE = "none"


LEAST_AGREEMENT = 0.25
"""What the forward of a micro-batch takes longer, as a share of what its backward does, or the other
way round, for both to come from the same work: attention over longer sequences gives 0.5."""
Columns = Mapping[Cause, tuple[Durations, ...]]
"""For each cause the durations of each rank's rows with that part alone made typical [ns]."""


def parts_made_typical(job: Job, found: Typical) -> Columns:
    """The job's durations with one part at a time made typical, rank by rank."""
    if job.grain is Grain.OPERATION:
        return _operations(job, found)
    programs = [job.programs[role] for role in job.placement.role]
    return {
        cause: tuple(
            np.where(part == number, usual, program.rows.duration_ns)
            for program, usual, part in zip(
                programs, found.duration_ns, map(_parts, programs, found.other_work), strict=True
            )
        )
        for number, cause in enumerate(_PARTS)
    }


_PARTS = (Cause.HOST_STALL, Cause.SLOW_COMPUTE, Cause.SLOW_LINK, Cause.IMBALANCE)


def _parts(program: Program, other_work: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The place in _PARTS of what each row is a part of."""
    rows = program.rows
    computes = rows.kind == TaskKind.OPERATOR if host_computes(program) else rows.on_device
    return np.select(  # the first that holds
        [other_work, rows.kind == TaskKind.COLLECTIVE, computes],
        [_PARTS.index(one) for one in (Cause.IMBALANCE, Cause.SLOW_LINK, Cause.SLOW_COMPUTE)],
        _PARTS.index(Cause.HOST_STALL),
    )


def _operations(job: Job, found: Typical) -> Columns:
    programs = [job.programs[role] for role in job.placement.role]
    stages = layout_of(job.placement).stage or dict.fromkeys(job.placement.ranks, 0)
    usual = _of_stages(programs, [stages[rank] for rank in job.placement.ranks])
    columns: dict[Cause, list[Durations]] = {cause: [] for cause in _PARTS}
    for program, typical_ns, stage_ns in zip(programs, found.duration_ns, usual, strict=True):
        rows, own = program.rows, program.rows.duration_ns
        known = (rows.kind == TaskKind.KERNEL) & (own > 0) & (stage_ns > 0) & (typical_ns > 0)
        slower = np.divide(own, stage_ns, out=np.ones(len(rows)), where=known)
        more = _work_of_micro_batches(program, slower, known)
        # a stage that has less to do than others is no reason to be slow
        heavier = np.divide(stage_ns, typical_ns, out=np.ones(len(rows)), where=known)
        work = np.maximum(heavier, 1) * more
        columns[Cause.HOST_STALL].append(own)
        columns[Cause.SLOW_COMPUTE].append(np.rint(own / (slower / more)).astype(np.int64))
        columns[Cause.SLOW_LINK].append(np.where(rows.kind == TaskKind.COLLECTIVE, typical_ns, own))
        columns[Cause.IMBALANCE].append(np.rint(own / work).astype(np.int64))
    return {cause: tuple(each) for cause, each in columns.items()}


def _of_stages(programs: Sequence[Program], stages: Sequence[int]) -> list[NDArray[np.float64]]:
    """What each row takes in its stage where it has little to do: the lower median of its ranks.

    Of a rank it is the quickest of a step, in the median of steps: most micro-batches may be long.
    """
    known: dict[tuple[int, str], list[float]] = {}
    for program, stage in zip(programs, stages, strict=True):
        for name in np.unique(program.rows.name).tolist():
            mine = program.rows.name == name
            _, step = np.unique(program.rows.block[mine], return_inverse=True)
            quickest = np.full(int(step.max()) + 1, np.inf)
            np.minimum.at(quickest, step, program.rows.duration_ns[mine])
            known.setdefault((stage, program.names[name]), []).append(float(np.median(quickest)))
    usual = {key: sorted(each)[(len(each) - 1) // 2] for key, each in known.items()}
    return [
        np.array([usual.get((stage, name), 0.0) for name in program.names])[program.rows.name]
        for program, stage in zip(programs, stages, strict=True)
    ]


def _work_of_micro_batches(
    program: Program, slower: NDArray[np.float64], known: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """By which factor each row takes longer than the rank's quickest because of its micro-batch."""
    rows = program.rows
    factor = np.ones(len(rows))
    computes = known & (rows.micro_batch != NONE)
    for block in np.unique(rows.block[computes]).tolist():
        mine = computes & (rows.block == block)
        longer = slower / slower[mine].min()
        for batch in np.unique(rows.micro_batch[mine]).tolist():
            own = mine & (rows.micro_batch == batch)
            ways = [own & (rows.phase == way) for way in (Phase.FORWARD, Phase.BACKWARD)]
            if all(way.any() for way in ways):
                forward, backward = (float(np.mean(longer[way])) - 1 for way in ways)
                less, more = sorted((abs(forward), abs(backward)))
                if forward * backward > 0 and less >= LEAST_AGREEMENT * more:
                    factor[own] = longer[own]
    return factor
