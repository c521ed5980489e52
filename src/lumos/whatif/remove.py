"""Parts of the program that are not run at all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lumos.graph import blocks
from lumos.graph.job import NONE, Job
from lumos.whatif.selection import Selection


def remove(job: Job, chosen: Selection) -> Job:
    """The job without the chosen rows, and without the device tasks that chosen calls launch.

    A device task goes with its call: a call all of whose tasks are chosen is not made. What a
    remaining row awaits stays signalled: it then captures what came before.
    """
    programs = []
    for program, mask in zip(job.programs, chosen.masks, strict=True):
        rows = program.rows
        device = np.flatnonzero(rows.on_device)
        launched = np.bincount(rows.launch[device], minlength=len(rows))
        gone = np.bincount(rows.launch[device[mask[device]]], minlength=len(rows))
        host = (mask & (rows.launch == NONE)) | ((launched > 0) & (gone == launched))
        programs.append(blocks.remove(program, np.flatnonzero(host)))
    return replace(job, programs=tuple(programs))
