"""Program order: a host thread runs its rows one after another.

thread | a | b | c |
"""

from __future__ import annotations

import numpy as np

from lumos.compiled import compiled
from lumos.graph.execution import Edges
from lumos.lower.context import RankContext


def program_order(context: RankContext) -> Edges:
    """Each host row starts when the one before it on its thread has ended."""
    is_host = np.array([not p.is_stream for p in context.program.processors], bool)
    before, after = _neighbours(context.program.rows.processor, is_host)
    return Edges.of(context.offset + before, context.opening[after])


@compiled()
def _neighbours(processor, is_host):  # type: ignore[no-untyped-def]
    """Each host row that has one before it on its thread: (that one, the row)."""
    last = np.full(len(is_host), -1, np.int64)
    before = np.empty(len(processor), np.int32)
    after = np.empty(len(processor), np.int32)
    count = 0
    for row in range(len(processor)):
        thread = processor[row]
        if is_host[thread]:
            if last[thread] >= 0:
                before[count], after[count] = last[thread], row
                count += 1
            last[thread] = row
    return before[:count], after[:count]
