"""Dependencies of all rules put together, sorted by the task that waits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lumos.compiled import compiled
from lumos.graph.execution import Edges, Rule


class Dependencies(NamedTuple):
    """Those of task `t` are `first[t]:first[t+1]`; columns as in ExecutionGraph."""

    first: NDArray[np.int64]
    before: NDArray[np.int32]
    lag_ns: NDArray[np.int64]
    from_start: NDArray[np.bool_]
    rule: NDArray[np.uint8]


def by_task(found: Sequence[tuple[Rule, Edges]], count: int) -> Dependencies:
    """The dependencies of `count` tasks; those of one task stay in the order given."""
    first = np.zeros(count + 1, np.int64)
    for _, edges in found:
        _count(edges.after, first)
    first = first.cumsum()
    size = int(first[-1])
    sorted_ = Dependencies(
        first, np.empty(size, np.int32), np.empty(size, np.int64), np.empty(size, np.bool_),
        np.empty(size, np.uint8),
    )  # fmt: skip
    cursor = first[:-1].copy()
    for rule, edges in found:
        _place(
            edges.before, edges.after, edges.lag_ns, edges.from_start, int(rule), cursor, sorted_
        )
    return sorted_


@compiled()
def _count(after, first):  # type: ignore[no-untyped-def]
    for task in after:
        first[task + 1] += 1


@compiled()
def _place(before, after, lag, from_start, rule, cursor, into):  # type: ignore[no-untyped-def]
    for edge in range(len(after)):
        place = cursor[after[edge]]
        cursor[after[edge]] += 1
        into.before[place] = before[edge]
        into.lag_ns[place] = lag[edge]
        into.from_start[place] = from_start[edge]
        into.rule[place] = rule
