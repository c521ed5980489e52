"""Which operator is around each operator and call: the innermost one, and the outermost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lumos.build.threads import HostEvents
from lumos.compiled import compiled
from lumos.graph.trace import Trace


@dataclass(frozen=True)
class Nesting:
    """For each trace row the rows of the operators around it, arrays `(events,)`.

    `parent` is the innermost operator around the event (NONE without one), `top` the outermost,
    the event itself where it stands alone; both NONE for events that are no operators or calls.
    """

    parent: NDArray[np.int32]
    top: NDArray[np.int32]


def nest(trace: Trace, events: HostEvents) -> Nesting:
    """The nesting of all operators and calls of a trace."""
    return Nesting(*_nest(len(trace), events.row, events.thread, events.start_ns, events.end_ns))


@compiled()
def _nest(count, rows, thread, start, end):  # type: ignore[no-untyped-def]
    parent = np.full(count, -1, np.int32)
    top = np.full(count, -1, np.int32)
    stack = np.empty(len(rows) + 1, np.int64)
    depth = 0
    for place in range(len(rows)):
        if place > 0 and thread[place] != thread[place - 1]:
            depth = 0
        while depth > 0 and end[stack[depth - 1]] <= start[place]:
            depth -= 1
        row = rows[place]
        parent[row] = rows[stack[depth - 1]] if depth > 0 else -1
        top[row] = rows[stack[0]] if depth > 0 else row
        stack[depth] = place
        depth += 1
    return parent, top
