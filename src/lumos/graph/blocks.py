"""The block API: Programs cut apart and put together; every what-if is built on it alone.

Host rows move together with the device tasks they launch. A row keeps the slot it signals or
awaits; rows that are copied into the same block get slots of their own for what is signalled
among them, so that the copy's waits mean the copy's records. What must wait for what is derived
from the result when it is lowered.
"""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
from numpy.typing import NDArray

from lumos.errors import UsageError
from lumos.graph.job import NONE, Program, Rows, StartingState, TaskKind
from lumos.graph.timeline import RankTimeline


def take(program: Program, host_rows: NDArray[np.intp]) -> Program:
    """Only these host rows and the device tasks they launch, in the order they have."""
    return _select(program, _with_launches(program.rows, host_rows))


def take_blocks(program: Program, first: int, last: int) -> Program:
    """Blocks `first` to `last` (exclusive), numbered from 0; without a starting state."""
    rows = program.rows
    chosen = _select(program, (rows.block >= first) & (rows.block < last))
    shifted = chosen.rows.with_columns(block=chosen.rows.block - np.int32(first))
    return replace(chosen, rows=shifted, blocks=program.blocks[first:last], start=None)


def remove(program: Program, host_rows: NDArray[np.intp]) -> Program:
    """Everything but these host rows and their device tasks.

    Records and signals that a remaining row awaits stay: they now capture what came before.
    """
    return _select(program, _kept(program, host_rows))


def insert(program: Program, at_row: int, segment: Program) -> Program:
    """The rows of `segment`, of the same tables, put before host row `at_row` into its block.

    `at_row` may be the number of rows: the end. Raises UsageError between a launch and its tasks.
    """
    _same_tables(program, segment)
    rows, new = program.rows, segment.rows
    count = len(rows)
    if not 0 <= at_row <= count or (at_row < count and rows.launch[at_row] != NONE):
        raise UsageError(f"rows can be inserted before a host row or at the end, not at {at_row}")
    block = rows.block[min(at_row, count - 1)] if count else 0
    new = _fresh_slots(new, int(max(rows.signal.max(initial=0), rows.awaits.max(initial=0))) + 1)
    new = new.with_columns(
        block=np.full(len(new), block, np.int32),
        launch=np.where(new.launch == NONE, NONE, new.launch + at_row).astype(np.int32),
    )
    moved = np.where(rows.launch >= at_row, rows.launch + len(new), rows.launch).astype(np.int32)
    old = rows.with_columns(launch=moved)
    joined = _concatenate([old.take(slice(0, at_row)), new, old.take(slice(at_row, count))])
    return replace(program, rows=joined)


def run_twice(program: Program, host_rows: NDArray[np.intp]) -> Program:
    """These host rows and their tasks a second time, right behind the last of them."""
    rows = program.rows
    behind = int(np.flatnonzero(_with_launches(rows, host_rows))[-1]) + 1
    while behind < len(rows) and rows.launch[behind] != NONE:
        behind += 1
    return insert(program, behind, take(program, host_rows))


def replace_rows(program: Program, host_rows: NDArray[np.intp], segment: Program) -> Program:
    """`segment` in the place of these host rows and their tasks."""
    first = int(np.min(host_rows))
    left = remove(program, host_rows)
    return insert(left, int(_kept(program, host_rows)[:first].sum()), segment)


def _kept(program: Program, host_rows: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which rows `remove` keeps."""
    rows = program.rows
    gone = _with_launches(rows, host_rows)
    awaited = np.unique(rows.awaits[~gone & (rows.awaits != NONE)])
    return ~gone | ((rows.signal != NONE) & np.isin(rows.signal, awaited))


def append(program: Program, following: Program) -> Program:
    """`following`'s blocks behind `program`'s; both have the same tables."""
    _same_tables(program, following)
    rows, count, blocks = following.rows, len(program.rows), len(program.blocks)
    behind = rows.with_columns(
        launch=np.where(rows.launch == NONE, NONE, rows.launch + count).astype(np.int32),
        block=rows.block + np.int32(blocks),
    )
    return replace(
        program,
        rows=_concatenate([program.rows, behind]),
        blocks=program.blocks + following.blocks,
    )


def repeat(program: Program, count: int) -> Program:
    """The program's blocks `count` times, one behind the other; the start stays the first one's."""
    if count < 1:
        raise UsageError(f"a program can be repeated 1 time or more, not {count}")
    rows, size, blocks = program.rows, len(program.rows), len(program.blocks)
    tiled = Rows(**{f.name: np.tile(getattr(rows, f.name), count) for f in fields(rows)})
    turn = np.repeat(np.arange(count), size)
    launch = np.where(tiled.launch == NONE, NONE, tiled.launch + turn * size).astype(np.int32)
    block = (tiled.block + turn * blocks).astype(np.int32)
    names = tuple(name if turn == 0 else f"{name} ({turn + 1})" for turn in range(count) for name in program.blocks)
    return replace(program, rows=tiled.with_columns(launch=launch, block=block), blocks=names)


def starting_state(program: Program, measured: RankTimeline, block: int) -> StartingState:
    """What was under way when `block` began, as recorded: busy processors, slots signalled before."""
    rows = program.rows
    begin = block_begin_ns(program, measured, block)
    free = np.zeros(len(program.processors), np.int64)
    slots: dict[int, int] = {}
    first = block_begin_ns(program, measured, int(rows.block[0]))
    if program.start is not None:
        free = np.maximum(program.start.free_ns + first - begin, 0)
        slots = {slot: time + first - begin for slot, time in program.start.slot_ns.items()}
    earlier = np.flatnonzero(rows.block < block)
    np.maximum.at(free, rows.processor[earlier], measured.end_ns[earlier] - begin)
    inside = (rows.block == block) & (rows.awaits != NONE) & (rows.distance > 0)
    for row in np.flatnonzero(inside):
        signal = np.flatnonzero(
            (rows.signal == rows.awaits[row]) & (rows.block == block - rows.distance[row])
        )
        if len(signal):
            slots[int(rows.awaits[row])] = _signalled_ns(program, measured, int(signal[-1])) - begin
    return StartingState(free, slots)


def block_begin_ns(program: Program, measured: RankTimeline, block: int) -> int:
    """When `block` began: the first start of its host rows [ns]."""
    rows = program.rows
    chosen = (rows.block == block) & (rows.launch == NONE)
    return int(measured.start_ns[chosen].min())


def _signalled_ns(program: Program, measured: RankTimeline, signal: int) -> int:
    """When what `signal` captured was done."""
    rows = program.rows
    if rows.kind[signal] != TaskKind.RECORD:
        return int(measured.end_ns[signal])
    on_stream = (rows.processor == rows.stream[signal]) & (rows.launch != NONE)
    captured = np.flatnonzero(on_stream[:signal])
    return int(measured.end_ns[captured[-1]]) if len(captured) else int(measured.start_ns[signal])


def _with_launches(rows: Rows, host_rows: NDArray[np.intp]) -> NDArray[np.bool_]:
    chosen = np.zeros(len(rows), bool)
    chosen[host_rows] = True
    if (rows.launch[chosen] != NONE).any():
        raise UsageError("blocks are made of host rows; device rows follow the calls that launch them")
    launched = rows.launch != NONE
    chosen[launched] = chosen[rows.launch[launched]]
    return chosen


def _select(program: Program, chosen: NDArray[np.bool_]) -> Program:
    new_row = chosen.cumsum() - 1
    rows = program.rows.take(np.flatnonzero(chosen))
    launch = np.where(rows.launch == NONE, NONE, new_row[rows.launch]).astype(np.int32)
    return replace(program, rows=rows.with_columns(launch=launch))


def _fresh_slots(rows: Rows, first_free: int) -> Rows:
    """New numbers for the slots signalled among `rows`; slots from outside keep theirs."""
    own = np.unique(rows.signal[rows.signal != NONE])
    if not len(own):
        return rows
    renumber = np.arange(max(int(own[-1]), int(rows.awaits.max(initial=0))) + 2, dtype=np.int32)
    renumber[own] = first_free + np.arange(len(own))
    renumber[-1] = NONE  # what NONE indexes
    # a wait for an earlier block's signal still means that one
    inside = (rows.awaits != NONE) & (rows.distance == 0)
    return rows.with_columns(
        signal=renumber[rows.signal], awaits=np.where(inside, renumber[rows.awaits], rows.awaits)
    )


def _concatenate(parts: list[Rows]) -> Rows:
    return Rows(
        **{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Rows)}
    )


def _same_tables(program: Program, other: Program) -> None:
    if (program.names, program.processors, program.collectives) != (
        other.names,
        other.processors,
        other.collectives,
    ):
        raise UsageError("only blocks with the same tables of names and processors can be joined")
