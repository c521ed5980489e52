"""Prediction of other steps from one step: the period of back-to-back steps, and the host's time."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from lumos.analysis.replay import percent
from lumos.graph.job import NONE, Job
from lumos.graph.timeline import Timeline


@dataclass(frozen=True)
class Quantity:
    """A quantity measured in one step, predicted from another, and what "no change" would say.

    Times in ns, None where unknown: a first step has no period of its own.
    """

    measured_ns: int | None
    predicted_ns: int | None
    naive_ns: int | None

    @property
    def error_pct(self) -> float | None:
        """Signed error of the prediction."""
        if self.measured_ns is None or self.predicted_ns is None:
            return None
        return percent(self.predicted_ns, self.measured_ns)

    @property
    def naive_error_pct(self) -> float | None:
        """Signed error of taking the source step's own value."""
        if self.measured_ns is None or self.naive_ns is None:
            return None
        return percent(self.naive_ns, self.measured_ns)


@dataclass(frozen=True)
class StepPrediction:
    """What one step's program says of another step.

    `unprofiled_ns` is how long a step takes without the profiler, None where nothing tells.
    """

    from_step: str
    step: str
    period: Quantity
    host: Quantity
    unprofiled_ns: int | None = None


def device_ends_ns(job: Job, run: Timeline) -> list[int | None]:
    """Last device end of each block over all ranks [ns]; None for blocks without device tasks."""
    ends: list[int | None] = []
    for block in range(len(job.programs[0].blocks)):
        last = [
            int(rank.end_ns[chosen].max())
            for role, rank in zip(job.placement.role, run.ranks, strict=True)
            if (
                chosen := (job.programs[role].rows.block == block)
                & (job.programs[role].rows.launch != NONE)
            ).any()
        ]
        ends.append(max(last) if last else None)
    return ends


def periods_ns(job: Job, run: Timeline) -> list[int | None]:
    """Each block's last device end minus the one's before; None for the first."""
    ends = device_ends_ns(job, run)
    return [None] + [
        None if now is None or before is None else now - before
        for before, now in itertools.pairwise(ends)
    ]


def host_ns(job: Job, run: Timeline) -> list[int]:
    """How long the main thread of the first rank spends in each block [ns]."""
    program, rank = job.programs[job.placement.role[0]], run.ranks[0]
    rows = program.rows
    lengths = []
    for block in range(len(program.blocks)):
        mine = np.flatnonzero((rows.block == block) & (rows.processor == program.main_thread))
        lengths.append(int(rank.end_ns[mine].max() - rank.start_ns[mine].min()) if len(mine) else 0)
    return lengths
