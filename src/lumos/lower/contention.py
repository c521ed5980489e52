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


def sharing_kernels(
    context: RankContext, rank: int
) -> NDArray[np.int32]:
    """For each row the GPU that it shares with other streams; NONE where it shares none."""
    rows = context.program.rows
    ordinal = np.array([max(p.device, 0) for p in context.program.processors], np.int32)
    inside = np.array(["DtoD" in name for name in context.program.names], bool)
    kernels = (rows.kind == TaskKind.KERNEL) | ((rows.kind == TaskKind.COPY) & inside[rows.name])
    gpu = np.where(kernels, rank * np.int32(1 << 10) + ordinal[rows.processor], NONE)
    for one in np.unique(gpu[kernels]):
        mine = gpu == one
        alone = len(np.unique(rows.processor[mine])) < 2
        if alone or rows.waves[mine].max(initial=0) < SATURATING_WAVES:
            gpu[mine] = NONE
    return gpu.astype(np.int32)
