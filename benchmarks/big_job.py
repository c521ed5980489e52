"""A large coupled job: one recorded rank's program, repeated, run by many ranks of one group."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lumos import predict
from lumos.graph.blocks import repeat
from lumos.graph.job import Job, Placement
from lumos.graph.trace import ProcessGroup
from lumos.ingest import read


def coupled_job(source: Path, ranks: int, tasks: int) -> Job:
    """The job of the trace `source` on `ranks` ranks, with about `tasks` rows over all ranks.

    All ranks play the recorded role, and every collective is one of all ranks.
    """
    recorded = predict.record(read(source)).job
    program = recorded.programs[0]
    copies = max(1, round(tasks / ranks / len(program.rows)))
    together = tuple(replace(one, group=0) for one in program.collectives)
    program = replace(repeat(program, copies), collectives=together, start=None)
    everyone = ProcessGroup("all", "", tuple(range(ranks)))
    placement = Placement(tuple(range(ranks)), (0,) * ranks, ranks, (everyone,))
    return Job((program,), placement, recorded.lags)
