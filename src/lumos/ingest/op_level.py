"""Operation-level traces -> a Job: each operation a device row on its stream, waits as in CUDA.

Nothing is known of the host: it hands everything out at the step's begin. What an operation waits
for is written as records and stream waits, so that the Job is lowered and simulated like any other:

    receive      | r0 |     | r1 |            a receive is posted when what the last one fed is done
    compute           |= f0 =|    |= f1 =|    in the order recorded
    send                     | s0 |           a send behind what it carries, met by its receive
    collectives  |gather|     |=scatter=|     behind the last backward of the model chunk

The rules are those of Lin et al., Understanding Stragglers in Large Model Training Using What-if
Analysis (OSDI 2025): one stream for compute, one for collectives, one each for sends and receives
of either direction.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from lumos.errors import UnusableInputError
from lumos.graph.finding import Finding
from lumos.graph.job import Grain, Job, Placement
from lumos.graph.timeline import Timeline
from lumos.ingest.op_order import whole_steps
from lumos.ingest.op_program import Steps, program_of
from lumos.ingest.op_types import OPERATION_TYPES, process_groups
from lumos.ingest.operations import Operations, Sizes, read_operations


def read_job(source: str | Path) -> tuple[Job, Timeline]:
    """The Job in a `trace-NAME.parquet` with its `meta-NAME.yaml` beside it, and its measured run.

    Durations are as recorded, waiting included; the steps stand one behind the other. Raises
    UnusableInputError with one line for what cannot be understood.
    """
    path = Path(source)
    operations, sizes = read_operations(path)
    unknown = [name for name in operations.types if name not in OPERATION_TYPES]
    if unknown:
        known = ", ".join(OPERATION_TYPES)
        raise UnusableInputError(
            f"{path}: holds operations called {unknown[0][:60]!r}; known are {known}"
        )
    groups = process_groups(operations, sizes)
    whole, broken = whole_steps(operations, sizes, groups)
    if not len(whole):
        raise UnusableInputError(f"{path}: no step is whole; {broken[0]}")
    steps = _steps(whole)
    ranks = np.unique(whole.rank).tolist()
    built = [program_of(whole.take(whole.rank == rank), steps, groups, sizes) for rank in ranks]
    job = Job(
        tuple(program for program, _ in built),
        Placement(tuple(ranks), tuple(range(len(ranks))), sizes.world, tuple(groups)),
        findings=tuple(_findings(path, sizes, broken)),
        grain=Grain.OPERATION,
    )
    return job, Timeline(tuple(run for _, run in built))


def find_job_trace(paths: str | Path | Sequence[str | Path]) -> Path | None:
    """The operation-level trace that `paths` name: a .parquet file, or the folder of one.

    None where they name something else. Raises UnusableInputError where they name more than it.
    """
    names = [str(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    found = [file for name in names for file in _job_traces(name)]
    if len(found) > 1 or (found and len(names) > 1):
        shown = ", ".join(file.name for file in found[:6])
        raise UnusableInputError(
            f"{names[0]}: {len(found)} operation-level traces among {len(names)} paths ({shown}); "
            "each is a whole job: name one, and nothing else"
        )
    return found[0] if found else None


def _job_traces(path: str) -> list[Path]:
    place = Path(path)
    try:
        if place.is_dir():
            return sorted(place.glob("trace-*.parquet"))
        if place.suffix != ".parquet":
            return []
        return [place] if place.exists() else sorted(map(Path, glob.glob(path)))  # noqa: PTH207 - any root
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UnusableInputError(f"{path}: cannot be opened ({reason})") from error


def _steps(operations: Operations) -> Steps:
    """All steps, put one behind the other."""
    numbers, place = np.unique(operations.step, return_inverse=True)
    length = np.zeros(len(numbers), np.int64)
    np.maximum.at(length, place, operations.end_ns)
    return Steps(numbers, np.cumsum(length) - length, length)


def _findings(path: Path, sizes: Sizes, broken: Sequence[str]) -> Iterator[Finding]:
    shards = sizes.tensor * sizes.sequence
    if shards > 1:
        message = f"of each {shards} ranks that share a micro-batch one is in the trace"
        yield Finding("one-rank-of-each-shard", "info", message)
    if broken:
        message = f"{len(broken)} steps of {path} are not whole and were left out: {broken[0]}"
        yield Finding("step-not-whole", "warning", message)
