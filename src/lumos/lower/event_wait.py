"""Event wait: a stream goes on when what another stream had been given at the record is done.

host     | record | wait |
stream 1 |===========|  <- given before the record
stream 2               |====|  <- given after the wait
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lumos.graph.execution import Edges
from lumos.graph.job import NONE, TaskKind
from lumos.lower.context import RankContext


def event_wait(context: RankContext) -> Edges:
    """The marker of each stream wait starts when what the record captured has ended."""
    waits, captured = captured_items(context, TaskKind.WAIT_EVENT)
    bound = captured != NONE
    return Edges.of(captured[bound], context.marker_of_row[waits[bound]], context.lags.event_wait)


def captured_items(
    context: RankContext, kind: TaskKind
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of `kind` that await a slot, and the task that its record captured (NONE: nothing)."""
    rows = context.program.rows
    waiting = np.flatnonzero((rows.kind == kind) & (rows.awaits != NONE)).astype(np.int64)
    record = context.signalling_row(waiting)
    known = record != NONE
    captured = np.full(len(waiting), NONE, np.int64)
    captured[known] = context.last_item(rows.stream[record[known]], record[known])
    return waiting, captured
