"""Rows that take longer or shorter; a collective's duration is its transfer, waiting follows anew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lumos.errors import UsageError
from lumos.graph.execution import ExecutionGraph
from lumos.graph.job import Job
from lumos.whatif.selection import Selection


def scale(job: Job, chosen: Selection, factor: float) -> Job:
    """The job with the durations of the chosen rows times `factor`; 0 makes them free.

    Durations are rounded to whole ns. UsageError for a factor that is negative or no number.
    """
    if not 0 <= factor < np.inf:
        raise UsageError(f"durations can be scaled by a factor of 0 or more, not {factor}")
    columns = [
        np.where(mask, np.rint(program.rows.duration_ns * factor), program.rows.duration_ns)
        for program, mask in zip(job.programs, chosen.masks, strict=True)
    ]
    return with_durations(job, [column.astype(np.int64) for column in columns])


def with_durations(job: Job, durations: list[NDArray[np.int64]]) -> Job:
    """The job with these durations [ns], one column a program."""
    programs = zip(job.programs, durations, strict=True)
    return replace(
        job,
        programs=tuple(
            replace(program, rows=program.rows.with_columns(duration_ns=column))
            for program, column in programs
        ),
    )


def durations_of(graph: ExecutionGraph, job: Job) -> NDArray[np.int64]:
    """The column of durations (tasks,) [ns] that makes `graph` run as `job` would.

    `graph` is lowered from a job that differs from this one in durations alone; markers take no time.
    """
    durations = np.zeros(len(graph), np.int64)
    for place, role in enumerate(job.placement.role):
        own = slice(int(graph.row_offset[place]), int(graph.row_offset[place + 1]))
        durations[own] = job.programs[role].rows.duration_ns
    return durations
