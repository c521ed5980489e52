"""Steps that follow each other without end, as in training: copies of a step, one behind the other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lumos.graph.blocks import repeat
from lumos.graph.job import NONE, Job, Program, StartingState
from lumos.graph.timeline import Timeline


def back_to_back(job: Job, copies: int) -> Job:
    """The job's steps `copies` times, starting with idle hosts and streams.

    The host of a copy goes on when the copy before has let it go, however late the device is: it
    runs ahead as far as the program's waits and the launch queue allow.
    """
    programs = tuple(replace(repeat(one, copies), start=_idle(one)) for one in job.programs)
    return replace(job, programs=programs)


def _idle(program: Program) -> StartingState:
    """A start with nothing under way: what earlier copies would have signalled is done."""
    rows = program.rows
    slots = np.unique(rows.awaits[(rows.awaits != NONE) & (rows.distance > 0)])
    return StartingState(
        np.zeros(len(program.processors), np.int64), dict.fromkeys(slots.tolist(), 0)
    )


def without_late_delays(job: Job, measured: Timeline) -> Job:
    """The job without the unexplained delays of device tasks that ran after the host had left.

    They shared the GPU with tasks of the next step; where that is simulated too, they would count
    twice.
    """
    end_ns = max(
        int(run.end_ns[job.programs[role].rows.launch == NONE].max(initial=0))
        for role, run in zip(job.placement.role, measured.ranks, strict=True)
    )
    programs = list(job.programs)
    for role, recorded in zip(job.placement.role, measured.ranks, strict=True):
        rows = programs[role].rows
        delay = np.where(recorded.start_ns > end_ns, 0, rows.delay_ns)
        programs[role] = replace(programs[role], rows=rows.with_columns(delay_ns=delay))
    return replace(job, programs=tuple(programs))
