"""Synchronize: the host goes on when the device has done what the call waits for.

host   | launch | synchronize ........|x|     x: the call's own time after the wait
stream      |== task =============|
"""

from __future__ import annotations

import numpy as np

from lumos.graph.execution import Edges
from lumos.graph.job import NONE, WHOLE_DEVICE, TaskKind
from lumos.lower.classes import call_names, values_of
from lumos.lower.context import RankContext
from lumos.lower.event_wait import captured_items


def synchronize(context: RankContext) -> Edges:
    """A synchronising row starts its own time when all that it awaits has ended."""
    rows = context.program.rows
    calls, captured = captured_items(context, TaskKind.SYNCHRONIZE)
    plain = np.flatnonzero((rows.kind == TaskKind.SYNCHRONIZE) & (rows.awaits == NONE))
    one = plain[rows.stream[plain] != WHOLE_DEVICE]
    after, before = [calls, one], [captured, context.last_item(rows.stream[one], one)]
    every = plain[rows.stream[plain] == WHOLE_DEVICE]
    for number, processor in enumerate(context.program.processors):
        if processor.is_stream:
            after.append(every)
            before.append(context.last_item(np.full(len(every), number, np.int32), every))
    waiting, awaited = np.concatenate(after), np.concatenate(before)
    bound = awaited != NONE
    lag = values_of(context.lags.synchronize, call_names(context.program, waiting[bound]))
    return Edges.of(awaited[bound], context.offset + waiting[bound], lag)
