"""Back-pressure: a launch blocks while too many launches of its stream are outstanding.

host   | l1 | l2 | ... | ld .........| l(d+1) |     depth d = launches that may be waiting
stream      |== k1 ===============|== k2 ==|
"""

from __future__ import annotations

import numpy as np

from lumos.graph.execution import Edges
from lumos.graph.job import NONE
from lumos.lower.context import RankContext


def back_pressure(context: RankContext) -> Edges:
    """A launching call waits for the start of the stream's launch `depth` calls before it."""
    depth = context.lags.back_pressure_depth
    rows = context.program.rows
    device = np.flatnonzero(rows.launch != NONE)
    if depth <= 0 or not len(device):
        return Edges.of(np.empty(0, np.int64), np.empty(0, np.int64))
    # one entry a launching call and stream: a call that launches a whole graph counts once
    _, first = np.unique(
        rows.processor[device].astype(np.int64) << 40 | rows.launch[device], return_index=True
    )
    order = device[first]
    same = rows.processor[order][depth:] == rows.processor[order][:-depth]
    before, after = order[:-depth][same], rows.launch[order][depth:][same]
    return Edges.of(context.offset + before, context.offset + after, from_start=True)
