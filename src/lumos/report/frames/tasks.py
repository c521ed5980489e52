"""Tasks as a frame: measured beside replayed, times in milliseconds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars
from numpy.typing import NDArray

from lumos.graph.job import Job, TaskKind
from lumos.graph.timeline import Timeline
from lumos.graph.work import Phase


def tasks_frame(job: Job, measured: Timeline, replayed: Timeline) -> polars.DataFrame:
    """One row for each task of each rank, in both runs of a job."""
    return polars.concat(list(_frames(job, measured, replayed)))


def _frames(job: Job, measured: Timeline, replayed: Timeline) -> Iterator[polars.DataFrame]:
    phases = polars.Series([None, *(phase.name.lower() for phase in list(Phase)[1:])])
    kinds = polars.Series([kind.name.lower() for kind in TaskKind])
    for place, rank in enumerate(job.placement.ranks):
        program = job.programs[job.placement.role[place]]
        rows, recorded, simulated = program.rows, measured.ranks[place], replayed.ranks[place]
        names = polars.Series(program.names)
        labels = polars.Series([processor.label for processor in program.processors])
        works = polars.Series(
            [None, *(work.kind.name.lower() for work in program.works)], dtype=polars.String
        )
        operators = polars.Series(
            [None, *(work.operator for work in program.works)], dtype=polars.String
        )
        yield polars.DataFrame(
            {
                "rank": polars.Series([rank], dtype=polars.Int32).new_from_index(0, len(rows)),
                "step": polars.Series(program.blocks).gather(rows.block),
                "kind": kinds.gather(rows.kind.astype("int64")),
                "name": names.gather(rows.name),
                "processor": labels.gather(rows.processor),
                "on_device": rows.on_device,
                "measured_start_ms": recorded.start_ns / 1e6,
                "measured_end_ms": recorded.end_ns / 1e6,
                "replayed_start_ms": simulated.start_ns / 1e6,
                "replayed_end_ms": simulated.end_ns / 1e6,
                "own_ms": rows.duration_ns / 1e6,
                "wait_ms": simulated.wait_ns / 1e6,
                "unexplained_ms": rows.delay_ns / 1e6,
                "phase": phases.gather(rows.phase.astype("int64")),
                "layer": _known(rows.layer),
                "micro_batch": _known(rows.micro_batch),
                "work": works.gather(rows.work + 1),
                "operator": operators.gather(rows.work + 1),
            }
        )


def _known(numbers: NDArray[np.int16]) -> polars.Series:
    """Numbers with null where nothing told them."""
    return polars.Series(numbers).replace(-1, None)
