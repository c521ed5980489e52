"""Where the time of a step goes: exposed compute, overlapped, exposed communication, other.

compute       |====================|        |=====|
communication            |=====================|
              |-- exposed --|- overl. -|- exp. -|..|-- other: why is in `idle.py`
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lumos.compiled import compiled
from lumos.graph.job import Program, TaskKind
from lumos.graph.labels import host_computes
from lumos.graph.timeline import RankTimeline


@dataclass(frozen=True)
class Breakdown:
    """Parts of a span [ns]; they sum to it (Lumos, MLSys 2025, section 5: execution breakdown).

    exposed compute: the device computes (or copies) and does not communicate; overlapped: both;
    exposed communication: it only communicates; other: it is idle.
    """

    exposed_compute_ns: int
    overlapped_ns: int
    exposed_communication_ns: int
    other_ns: int


Intervals = NDArray[np.int64]  # (count, 2), disjoint and sorted


def breakdown(program: Program, run: RankTimeline, begin_ns: int, end_ns: int) -> Breakdown:
    """The breakdown of one rank's run between `begin_ns` and `end_ns`."""
    computes, communicates = working_rows(program)
    compute = union(run, computes, begin_ns, end_ns)
    communication = union(run, communicates, begin_ns, end_ns)
    both = length(intersection(compute, communication))
    computing, communicating = length(compute), length(communication)
    return Breakdown(
        exposed_compute_ns=computing - both,
        overlapped_ns=both,
        exposed_communication_ns=communicating - both,
        other_ns=(end_ns - begin_ns) - (computing + communicating - both),
    )


def working_rows(program: Program) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which rows are compute (copies, too), and which communication.

    Where the host computes (a CPU job: its streams only communicate), its operators are the compute.
    """
    rows = program.rows
    communicates = rows.kind == TaskKind.COLLECTIVE
    if host_computes(program):
        return rows.kind == TaskKind.OPERATOR, communicates
    return rows.on_device & ~communicates, communicates


def union(run: RankTimeline, chosen: NDArray[np.bool_], begin_ns: int, end_ns: int) -> Intervals:
    """When at least one of the chosen rows ran, inside [begin_ns, end_ns]."""
    start = np.clip(run.start_ns[chosen], begin_ns, end_ns)
    end = np.clip(run.end_ns[chosen], begin_ns, end_ns)
    start, end = start[end > start], end[end > start]
    order = np.argsort(start, kind="stable")
    start, end = start[order], np.maximum.accumulate(end[order]) if len(end) else end
    new = np.ones(len(start), bool)
    new[1:] = start[1:] > end[:-1]
    last = (
        np.append(np.flatnonzero(new)[1:] - 1, len(start) - 1) if len(start) else np.empty(0, int)
    )
    return np.stack([start[new], end[last]], axis=1) if len(start) else np.empty((0, 2), np.int64)


def length(intervals: Intervals) -> int:
    """Total length of disjoint intervals [ns]."""
    return int((intervals[:, 1] - intervals[:, 0]).sum())


def intersection(first: Intervals, second: Intervals) -> Intervals:
    """Where both are."""
    found = np.empty((len(first) + len(second), 2), np.int64)
    return found[: _intersect(first, second, found)]


@compiled()
def _intersect(first, second, found):  # type: ignore[no-untyped-def]
    count = i = j = 0
    while i < len(first) and j < len(second):
        low, high = max(first[i, 0], second[j, 0]), min(first[i, 1], second[j, 1])
        if low < high:
            found[count, 0], found[count, 1] = low, high
            count += 1
        if first[i, 1] < second[j, 1]:
            i += 1
        else:
            j += 1
    return count
