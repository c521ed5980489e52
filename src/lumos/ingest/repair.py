"""Times that cannot be true: found, mended where the neighbours tell how, counted always."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumos.graph.finding import Finding
from lumos.graph.trace import DEVICE_KINDS
from lumos.units import NS_PER_MS, NS_PER_S, NS_PER_US

Columns = Mapping[str, NDArray[Any]]

OVERLAP_TOLERANCE_NS = 50 * NS_PER_US
"""Kernels of one CUDA graph overlap in a stream by some us; more than this is a corrupt duration."""


LONGEST_NS = 24 * 3600 * NS_PER_S
"""No trace is longer. So times and their sums stay far inside int64, whatever a file says."""


def out_of_reach(start_ns: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which events start so far from the others that they cannot be of one recording."""
    if not len(start_ns) or int(start_ns.max()) - int(start_ns.min()) <= LONGEST_NS:
        return np.zeros(len(start_ns), bool)
    middle = int(np.partition(start_ns, len(start_ns) // 2)[len(start_ns) // 2])
    return (start_ns < middle - LONGEST_NS) | (start_ns > middle + LONGEST_NS)


def repair_times(columns: Columns) -> tuple[Columns, list[Finding]]:
    """Mend negative and endless durations, and device tasks that run into the next of their stream."""
    columns, negative = _mend_negative(columns)
    columns, running_over = _mend_running_over(columns)
    columns, endless = _mend_endless(columns)
    return columns, negative + running_over + endless


def _mend_negative(columns: Columns) -> tuple[Columns, list[Finding]]:
    duration = columns["duration_ns"]
    bad = duration < 0
    if not bad.any():
        return columns, []
    message = f"{int(bad.sum())} events with a negative duration were set to zero length"
    # the true length is unknown: the size of the written value is the best bound there is
    affected = int(np.minimum(-duration[bad], NS_PER_MS * 1000).sum())
    finding = Finding("negative-duration", "warning", message, affected, "update the profiler")
    return {**columns, "duration_ns": np.where(bad, 0, duration)}, [finding]


def _mend_endless(columns: Columns) -> tuple[Columns, list[Finding]]:
    bad = columns["duration_ns"] > LONGEST_NS
    if not bad.any():
        return columns, []
    message = f"{int(bad.sum())} events last longer than a day and were set to zero length"
    finding = Finding("impossible-duration", "warning", message, None, "update the profiler")
    return {**columns, "duration_ns": np.where(bad, 0, columns["duration_ns"])}, [finding]


def _mend_running_over(columns: Columns) -> tuple[Columns, list[Finding]]:
    """A device task can't reach far into the next of its stream: cut it at that one's start.

    The stream's successors decide: one corrupt task overlaps many that follow it, so a task is
    cut only where at least two later starts lie inside it.
    """
    start, duration = columns["start_ns"], columns["duration_ns"].copy()
    device = np.flatnonzero(np.isin(columns["kind"], DEVICE_KINDS))
    order = device[
        np.lexsort((start[device], columns["stream"][device], columns["device"][device]))
    ]
    if len(order) < 3:
        return columns, []
    stream, ordinal = columns["stream"][order], columns["device"][order]
    same = (stream[:-2] == stream[2:]) & (ordinal[:-2] == ordinal[2:])
    end = start[order] + duration[order]
    over = np.flatnonzero(same & (end[:-2] > start[order][2:] + OVERLAP_TOLERANCE_NS))
    if not len(over):
        return columns, []
    rows, following = order[over], order[over + 1]
    cut = start[following] - start[rows]
    affected = int(np.minimum(duration[rows] - cut, LONGEST_NS).sum())
    duration[rows] = cut
    message = f"{len(rows)} device tasks ran into later ones of their stream and were cut there"
    finding = Finding("impossible-duration", "warning", message, affected, "update the profiler")
    return {**columns, "duration_ns": duration}, [finding]
