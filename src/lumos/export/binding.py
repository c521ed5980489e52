"""Which dependency decided when each row of a run began: the one that was fulfilled last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lumos.analysis.critical_path import STARTING_STATE
from lumos.compiled import compiled
from lumos.graph.execution import ExecutionGraph, Rule
from lumos.graph.job import NONE
from lumos.graph.timeline import Timeline

NO_RULE = 255


@dataclass(frozen=True)
class Binding:
    """What held each row of a run; arrays of one entry a row of the graph.

    `rule` is a Rule, STARTING_STATE, or NO_RULE for a row that nothing held; `source` is the row
    that was waited for (NONE without one) and `from_start` tells that its start counted, not its
    end. Markers are looked through: a kernel behind a stream wait is held by what that awaited.
    """

    rule: NDArray[np.uint8]
    source: NDArray[np.int64]
    from_start: NDArray[np.bool_]


def binding(graph: ExecutionGraph, run: Timeline) -> Binding:
    """The dependency of each row that was fulfilled last in `run`, a simulated run of `graph`.

    Where several were fulfilled at the same time, the last one in the order of Rule counts.
    """
    count = len(graph)
    start, end = np.zeros(count, np.int64), np.zeros(count, np.int64)
    start[: graph.rows] = np.concatenate([rank.start_ns + rank.wait_ns for rank in run.ranks])
    end[: graph.rows] = np.concatenate([rank.end_ns for rank in run.ranks])
    opened = np.full(count, NONE, np.int64)
    opened[graph.opening[: graph.rows]] = np.arange(graph.rows)
    rule, source, from_start = _bind(
        graph.order, graph.rows, graph.first, graph.before, graph.lag_ns, graph.from_start,
        graph.rule, graph.release_ns, graph.delay_ns, graph.device, opened, graph.opening,
        start, end, _Codes(NO_RULE, STARTING_STATE, int(Rule.STREAM_ORDER), int(Rule.CONTENTION)),
    )  # fmt: skip
    rows = slice(0, graph.rows)
    return Binding(rule[rows], source[rows], from_start[rows])


class _Codes(NamedTuple):
    """Rules as the kernel knows them."""

    no_rule: int
    starting_state: int
    stream_order: int
    contention: int


@compiled()
def _bind(  # type: ignore[no-untyped-def]
    order, rows, first, before, lag, from_start, rule, release, delay, device, opened, opening,
    start, end, codes,
):  # fmt: skip
    held = np.empty(len(order), np.uint8)
    source = np.full(len(order), -1, np.int64)
    at_start = np.zeros(len(order), np.bool_)
    for place in range(len(order)):
        task = order[place]
        ready, chosen = release[task], np.int64(-1)
        for edge in range(first[task], first[task + 1]):
            origin = before[edge]
            time = (start[origin] if from_start[edge] else end[origin]) + lag[edge]
            if time >= ready:
                ready, chosen = time, np.int64(edge)
        if task >= rows:  # a marker takes no time: it stands where it was ready
            start[task] = ready
            end[task] = ready
        late = start[task] - ready
        if device[task] >= 0 and late > 0 and late != delay[task]:
            held[task] = codes.contention
            continue
        if chosen < 0:
            held[task] = codes.starting_state if ready > 0 else codes.no_rule
            continue
        origin = before[chosen]
        held[task], source[task], at_start[task] = rule[chosen], origin, from_start[chosen]
        if origin < rows:
            continue
        row = opened[origin]
        if row >= 0 and row != task:  # another rank arrived last
            source[task], at_start[task] = row, True
            continue
        if source[origin] == task:  # this rank arrived last itself
            origin = opening[task]
            row = task
        if row == task or rule[chosen] == codes.stream_order:
            held[task] = held[origin]
        source[task], at_start[task] = source[origin], at_start[origin]
    return held, source, at_start
