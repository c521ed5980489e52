"""Some steps of a Job on their own: rows, measured run, what was under way when they began."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lumos.graph.blocks import block_begin_ns, starting_state, take_blocks
from lumos.graph.job import Job
from lumos.graph.timeline import RankTimeline, Timeline


def steps_of(job: Job, measured: Timeline, first: int, last: int) -> tuple[Job, Timeline]:
    """Blocks `first` to `last` (exclusive) of every rank with their recorded start.

    Times count from the earliest rank's begin.
    """
    begins = [
        block_begin_ns(job.programs[role], run, first)
        for role, run in zip(job.placement.role, measured.ranks, strict=True)
        if len(run)
    ]
    origin = min(begins, default=0)
    programs, runs = [], []
    for role, run in zip(job.placement.role, measured.ranks, strict=True):
        program = job.programs[role]
        own = (program.rows.block >= first) & (program.rows.block < last)
        state = starting_state(program, run, first)
        shift = block_begin_ns(program, run, first) - origin
        state = replace(
            state,
            free_ns=np.maximum(state.free_ns, 0) + shift,
            slot_ns={slot: time + shift for slot, time in state.slot_ns.items()},
        )
        programs.append(replace(take_blocks(program, first, last), start=state))
        runs.append(
            RankTimeline(run.start_ns[own] - origin, run.end_ns[own] - origin, run.wait_ns[own])
        )
    placement = replace(job.placement, role=tuple(range(len(programs))))
    return replace(job, programs=tuple(programs), placement=placement), Timeline(tuple(runs))
