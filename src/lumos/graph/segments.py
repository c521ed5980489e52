"""Stretches of host time inside a program, and programs in which each of them runs again.

thread | linear | addmm | linear | gelu |      the segment of `linear` is its first three rows
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lumos.graph.blocks import concatenate
from lumos.graph.job import NONE, Program, Rows, TaskKind


def operator_segments(
    program: Program, operators: Collection[str], *, innermost: bool = False
) -> NDArray[np.int32]:
    """For each row the number of the segment it is in, NONE outside; device rows are in none.

    A segment is one run of an operator of these names: from its first piece of own time to its
    last, with all that its thread does between them. Of operators inside each other the outermost
    counts, or the `innermost`.
    """
    rows = program.rows
    number = np.full(len(rows), NONE, np.int32)
    named = np.array([name in operators for name in program.names], bool)
    if not named.any():
        return number
    host = np.flatnonzero(~rows.on_device)
    host = host[np.argsort(rows.processor[host], kind="stable")]  # places count thread by thread
    pieces = np.flatnonzero((rows.kind[host] == TaskKind.OPERATOR) & named[rows.name[host]])
    first, last = _runs(rows, host, pieces)
    first, last = _innermost(first, last) if innermost else _outermost(first, last)
    for segment, (low, high) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
        number[host[low : high + 1]] = segment
    return number


def _runs(
    rows: Rows, host: NDArray[np.intp], pieces: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First and last place of each run that has some of these pieces, in the order of the first.

    A run is one trace row in one step.
    """
    own = host[pieces]
    order = np.lexsort((pieces, rows.event[own], rows.block[own], rows.processor[own]))
    keys = np.stack([rows.event[own], rows.block[own], rows.processor[own]])[:, order]
    new = np.ones(len(own), bool)
    new[1:] = (np.diff(keys) != 0).any(axis=0)
    begins = np.flatnonzero(new)
    ends = np.append(begins, len(own))[1:] - 1
    first, last = pieces[order][begins], pieces[order][ends]
    by_first = np.argsort(first, kind="stable")
    return first[by_first], last[by_first]


def _innermost(
    first: NDArray[np.intp], last: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    inner = np.ones(len(first), bool)
    inner[:-1] = first[1:] > last[:-1]
    return first[inner], last[inner]


def _outermost(
    first: NDArray[np.intp], last: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    outer = np.ones(len(first), bool)
    outer[1:] = first[1:] > np.maximum.accumulate(last)[:-1]
    return first[outer], last[outer]


def run_each_twice(program: Program, segment: NDArray[np.int32]) -> Program:
    """Every segment a second time right behind its first, with the device tasks it launches.

    `segment[row]` numbers the segments of host rows, NONE outside. What a copy awaits of its own
    segment is what the copy signals; everything else waits for the first run.
    """
    rows, count = program.rows, len(program.rows)
    owner = np.where(rows.on_device, rows.launch, np.arange(count))
    number = segment[owner]
    again = np.flatnonzero(number != NONE)
    last = np.zeros(int(number.max(initial=-1)) + 1, np.int64)
    np.maximum.at(last, number[again], again)
    # each copy stands behind the last row of its segment
    source = np.concatenate([np.arange(count), again])
    behind = np.concatenate([np.arange(count), last[number[again]]])
    copy = np.repeat([False, True], [count, len(again)])
    order = np.lexsort((source, copy, behind))
    source, copy = source[order], copy[order]
    new_row = np.empty((2, count), np.int32)
    new_row[copy.astype(np.int8), source] = np.arange(len(source), dtype=np.int32)
    taken = _own_slots(rows.take(source), copy, number[source])
    launch = np.where(taken.launch == NONE, NONE, new_row[copy.astype(np.int8), taken.launch])
    return replace(program, rows=taken.with_columns(launch=launch.astype(np.int32)))


def _own_slots(rows: Rows, copy: NDArray[np.bool_], segment: NDArray[np.int32]) -> Rows:
    """Copied rows with slots of their own for what is signalled among them."""
    signals = np.flatnonzero(copy & (rows.signal != NONE))
    if not len(signals):
        return rows
    size = max(int(rows.signal.max()), int(rows.awaits.max())) + 1
    fresh = np.arange(size, 2 * size, dtype=np.int32)
    key = _place(rows.block[signals], rows.signal[signals], size)
    order = np.argsort(key, kind="stable")
    waits = np.flatnonzero(copy & (rows.awaits != NONE) & (rows.distance == 0))
    wanted = _place(rows.block[waits], rows.awaits[waits], size)
    found = np.searchsorted(key[order], wanted, side="right") - 1
    signaller = signals[order][found]
    mine = (found >= 0) & (key[order][found] == wanted) & (segment[signaller] == segment[waits])
    signal, awaits = rows.signal.copy(), rows.awaits.copy()
    signal[signals] = fresh[signal[signals]]
    awaits[waits[mine]] = fresh[awaits[waits[mine]]]
    return rows.with_columns(signal=signal, awaits=awaits)


def _place(block: NDArray[np.int32], slot: NDArray[np.int32], size: int) -> NDArray[np.int64]:
    return block.astype(np.int64) * size + slot


def insert_behind(program: Program, behind: NDArray[np.intp], new: Rows) -> Program:
    """One row of `new` behind each of these host rows and its device tasks, on its thread.

    `new` has a host row for each of `behind`, which names every row once at most; what they signal
    and await means the slots of the program.
    """
    rows, count = program.rows, len(program.rows)
    last = np.arange(count)
    device = np.flatnonzero(rows.on_device)
    np.maximum.at(last, rows.launch[device], device)
    source = np.concatenate([np.arange(count), last[behind]])
    order = np.argsort(source, kind="stable")
    new_row = np.empty(len(order), np.int32)
    new_row[order] = np.arange(len(order), dtype=np.int32)
    new = new.with_columns(processor=rows.processor[behind], block=rows.block[behind])
    joined = concatenate([rows, new]).take(order)
    launch = np.where(joined.launch == NONE, NONE, new_row[joined.launch])
    return replace(program, rows=joined.with_columns(launch=launch.astype(np.int32)))
