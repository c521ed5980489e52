"""Program order: a host thread runs its rows one after another.

    thread | a | b | c |
"""

from __future__ import annotations

import numpy as np

from lumos.graph.execution import Edges
from lumos.lower.context import RankContext


def program_order(context: RankContext) -> Edges:
    """Each host row starts when the one before it on its thread has ended."""
    rows = context.program.rows
    is_stream = np.array([p.is_stream for p in context.program.processors], bool)
    host = np.flatnonzero(~is_stream[rows.processor]) if len(rows) else np.empty(0, np.int64)
    order = host[np.argsort(rows.processor[host], kind="stable")]
    same = rows.processor[order][1:] == rows.processor[order][:-1]
    before, after = order[:-1][same], order[1:][same]
    return Edges.of(context.offset + before, context.opening[after])
