"""Stream order: a stream runs what it is given in the order in which the host gave it.

stream | k1 || k2 |      lag: one value for each kind of task
"""

from __future__ import annotations

import numpy as np

from lumos.graph.execution import Edges
from lumos.lower.classes import kind_classes, values_of
from lumos.lower.context import RankContext


def stream_order(context: RankContext) -> Edges:
    """Each item of a stream starts when the one before it has ended."""
    count = len(context.item_task)
    follows = np.ones(count, bool)
    follows[context.item_first[:-1][context.item_first[:-1] < count]] = False
    after = np.flatnonzero(follows)
    before = after - 1
    rows = context.program.rows
    task = context.item_task[after]
    is_row = task == context.opening[context.item_row[after]]
    lag = values_of(context.lags.stream_order, kind_classes(rows.kind[context.item_row[after]]))
    # a collective that opened has left the task before it behind: no second lag
    opened = context.item_row[after] == context.item_row[before]
    return Edges.of(context.item_task[before], task, np.where(is_row & ~opened, lag, 0))
