"""How many launches may be outstanding on a stream before a launch call blocks, by observation.

The depth is documented nowhere. It shows where launches run far ahead: calls that take many times
their usual time, all at about the same number of launches that have not started yet. Where a CUDA
recording never got that far, ASSUMED_CUDA_DEPTH is taken, and predictions say so.
"""

from __future__ import annotations

import numpy as np

from lumos.graph.job import NONE, Job
from lumos.graph.timeline import Timeline

MINIMUM_DEPTH = 256
SLOW_FACTOR = 8
MINIMUM_CASES = 8
SPREAD = 0.02
ASSUMED_CUDA_DEPTH = 1024
"""Launches outstanding on a V100 (recsys-2xV100) level off at 1,018; A100s were seen at about 930."""


def back_pressure_depth(job: Job, measured: Timeline) -> int:
    """Launches outstanding at which launch calls block: observed, else assumed on CUDA, else 0."""
    return observed_depth(job, measured) or (ASSUMED_CUDA_DEPTH if _launches_by_cuda(job) else 0)


def _launches_by_cuda(job: Job) -> bool:
    for program in job.programs:
        calls = np.unique(program.rows.name[program.rows.launch[program.rows.launch != NONE]])
        if any(program.names[name].startswith(("cuda", "cuLaunch")) for name in calls):
            return True
    return False


def observed_depth(job: Job, measured: Timeline) -> int:
    """Launches outstanding at which launch calls blocked; 0 where the run shows no such thing."""
    cases: list[int] = []
    for number, role in enumerate(job.placement.role):
        rows, run = job.programs[role].rows, measured.ranks[number]
        device = np.flatnonzero(rows.launch != NONE)
        if not len(device):
            continue
        _, first = np.unique(
            rows.processor[device].astype(np.int64) << 40 | rows.launch[device], return_index=True
        )
        task = device[first]
        call = rows.launch[task]
        length = run.end_ns[call] - run.start_ns[call]
        for stream in np.unique(rows.processor[task]):
            mine = rows.processor[task] == stream
            begins = np.sort(run.start_ns[task[mine]])
            issued = np.arange(int(mine.sum()))
            started = np.searchsorted(begins, run.end_ns[call[mine]])
            slow = length[mine] > SLOW_FACTOR * np.median(length[mine])
            cases += (issued - started)[slow & (issued - started >= MINIMUM_DEPTH)].tolist()
    if len(cases) < MINIMUM_CASES:
        return 0
    top = int(np.percentile(cases, 90))
    close = [case for case in cases if abs(case - top) <= SPREAD * top]
    return int(np.median(close)) if len(close) >= max(MINIMUM_CASES, len(cases) // 2) else 0
