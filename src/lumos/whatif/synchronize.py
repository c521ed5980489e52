"""A host that waits for the device where it did not: `.item()` on a loss, a print of a tensor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lumos.errors import UsageError
from lumos.graph.job import NONE, Job, Program, Rows, TaskKind
from lumos.graph.segments import insert_behind
from lumos.graph.work import Phase

CALL = "cudaStreamSynchronize"


def synchronize_layers(job: Job) -> Job:
    """The job whose hosts wait for the device at the end of each layer's forward pass.

    host   | layer 0 | layer 1 |      ->  | layer 0 |.......| layer 1 |.......|
    stream    |== 0 ==|== 1 ==|              |== 0 ==|          |== 1 ==|

    The call takes what such calls take in the recording besides waiting: the median, 0 where there is
    none. A program whose host computes has nothing to wait for. UsageError where layers are unknown.
    """
    if not any((program.rows.layer != NONE).any() for program in job.programs):
        raise UsageError(
            "which rows belong to which layer is unknown; record with spans named 'layer N' or "
            "with Python stacks"
        )
    return replace(job, programs=tuple(_synchronized(program) for program in job.programs))


def _synchronized(program: Program) -> Program:
    rows = program.rows
    forward = (rows.layer != NONE) & (rows.phase != Phase.BACKWARD)
    behind, stream = _ends(rows, np.flatnonzero(forward))
    if not len(behind):
        return program
    names = program.names if CALL in program.names else (*program.names, CALL)
    calls = rows.kind == TaskKind.SYNCHRONIZE
    own_ns = int(np.median(rows.duration_ns[calls])) if calls.any() else 0
    new = rows.take(behind).with_columns(
        kind=np.full(len(behind), TaskKind.SYNCHRONIZE, np.uint8),
        name=np.full(len(behind), names.index(CALL), np.int32),
        duration_ns=np.full(len(behind), own_ns, np.int64),
        delay_ns=np.zeros(len(behind), np.int64),
        stream=stream,
        frozen=np.zeros(len(behind), bool),
        **dict.fromkeys(("signal", "awaits", "collective", "work"), _nothing(behind)),
        distance=np.zeros(len(behind), np.int32),
        event=np.full(len(behind), NONE, np.int64),
    )
    return insert_behind(replace(program, names=names), behind, new)


def _ends(rows: Rows, chosen: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    """The last call of each run of a layer that gives a stream work, and that stream."""
    tasks = chosen[rows.on_device[chosen] & (rows.kind[chosen] != TaskKind.COLLECTIVE)]
    key = np.stack([rows.block[tasks], rows.micro_batch[tasks], rows.layer[tasks]])
    last = np.ones(len(tasks), bool)
    last[:-1] = (key[:, 1:] != key[:, :-1]).any(axis=0)
    ends = tasks[last]
    return rows.launch[ends].astype(np.intp), rows.processor[ends]


def _nothing(behind: NDArray[np.intp]) -> NDArray[np.int32]:
    return np.full(len(behind), NONE, np.int32)
