"""Launch: a device task starts some time after the call that launches it has begun.

host   | launch |
stream     ->|= task =|      lag: one value for each call and kind of task
"""

from __future__ import annotations

import numpy as np

from lumos.graph.execution import Edges
from lumos.graph.job import NONE, TaskKind
from lumos.lower.classes import launch_classes, values_of
from lumos.lower.context import RankContext


def launch(context: RankContext) -> Edges:
    """Each device row, and each stream wait, starts after its call has begun."""
    rows = context.program.rows
    device = np.flatnonzero(rows.launch != NONE)
    lag = values_of(context.lags.launch, launch_classes(context.program, device))
    tasks = Edges.of(
        context.offset + rows.launch[device], context.opening[device], lag, from_start=True
    )
    waits = np.flatnonzero(rows.kind == TaskKind.WAIT_EVENT)
    return Edges(
        np.concatenate([tasks.before, (context.offset + waits).astype(np.int32)]),
        np.concatenate([tasks.after, context.marker_of_row[waits]]),
        np.concatenate([tasks.lag_ns, np.zeros(len(waits), np.int64)]),
        np.ones(len(tasks) + len(waits), bool),
    )
