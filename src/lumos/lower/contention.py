"""Contention: kernels of several streams of one GPU, where one fills it many times over.

    stream 1 |=== fills the GPU ===|
    stream 2      ready .......|= k =|

Which kernel comes first is known only while running; here it is told which take part. Collectives
run at a higher priority, and copies to and from the host need no multiprocessor: they are left out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lumos.graph.execution import SATURATING_WAVES
from lumos.graph.job import NONE, TaskKind
from lumos.lower.context import RankContext


def sharing_kernels(context: RankContext, rank: int) -> NDArray[np.int32]:
    """For each row the GPU that it shares with other streams; NONE where it shares none."""
    rows, processors = context.program.rows, context.program.processors
    inside = np.array(["DtoD" in name for name in context.program.names], bool)
    kernels = (rows.kind == TaskKind.KERNEL) | ((rows.kind == TaskKind.COPY) & inside[rows.name])
    ordinals = np.array([max(p.device, 0) for p in processors], np.int32)
    _, ordinal = np.unique(ordinals, return_inverse=True)  # a file may number its GPUs as it likes
    used = np.bincount(rows.processor[kernels], minlength=len(processors)) > 0
    filling = kernels & (rows.waves >= SATURATING_WAVES)
    fills = np.bincount(rows.processor[filling], minlength=len(processors)) > 0
    shared = [
        bool((used & (ordinal == one)).sum() > 1 and (fills & (ordinal == one)).any())
        for one in ordinal
    ]
    gpu = np.where(shared, rank * np.int32(1 << 10) + ordinal, NONE).astype(np.int32)
    return np.where(kernels, gpu[rows.processor], np.int32(NONE))
