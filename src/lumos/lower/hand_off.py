"""Hand-off: a host thread that waited goes on when another thread has signalled.

main      | a |...............| c |
autograd      | b ............|        b's end is the signal, c the row that awaits it
"""

from __future__ import annotations

import numpy as np

from lumos.graph.execution import Edges
from lumos.graph.job import NONE, TaskKind
from lumos.lower.context import RankContext


def hand_off(context: RankContext) -> Edges:
    """A host row that awaits a signal starts when the signalling row has ended."""
    rows = context.program.rows
    host = (rows.kind != TaskKind.WAIT_EVENT) & (rows.kind != TaskKind.SYNCHRONIZE)
    waiting = np.flatnonzero(host & (rows.awaits != NONE))
    signal = context.signalling_row(waiting)
    bound = signal != NONE
    return Edges.of(
        context.offset + signal[bound], context.offset + waiting[bound], context.lags.hand_off
    )
