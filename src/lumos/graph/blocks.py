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
    rows, count = program.rows, len(program.rows)
    if not 0 <= at_row <= count or (at_row < count and rows.launch[at_row] != NONE):
        raise UsageError(f"rows can be inserted before a host row or at the end, not at {at_row}")
    block = int(rows.block[min(at_row, count - 1)]) if count else 0
    return _insert(program, at_row, segment, block)


def _insert(program: Program, at_row: int, segment: Program, block: int) -> Program:
    """The rows of `segment` before row `at_row`, as rows of `block`."""
    _same_tables(program, segment)
    rows, new, count = program.rows, segment.rows, len(program.rows)
    taken = rows.signal[rows.block == block]
    new = _fresh_slots(
        new, taken, int(max(rows.signal.max(initial=0), rows.awaits.max(initial=0))) + 1
    )
    new = new.with_columns(
        block=np.full(len(new), block, np.int32),
        launch=np.where(new.launch == NONE, NONE, new.launch + at_row).astype(np.int32),
    )
    moved = np.where(rows.launch >= at_row, rows.launch + len(new), rows.launch).astype(np.int32)
    old = rows.with_columns(launch=moved)
    joined = concatenate([old.take(slice(0, at_row)), new, old.take(slice(at_row, count))])
    return replace(program, rows=joined)


def run_twice(program: Program, host_rows: NDArray[np.intp]) -> Program:
    """These host rows and their tasks a second time, right behind the last of them."""
    rows = program.rows
    behind = int(np.flatnonzero(_with_launches(rows, host_rows))[-1]) + 1
    while behind < len(rows) and rows.launch[behind] != NONE:
        behind += 1
    return _insert(program, behind, take(program, host_rows), int(rows.block[behind - 1]))


def replace_rows(program: Program, host_rows: NDArray[np.intp], segment: Program) -> Program:
    """`segment` in the place of these host rows and their tasks; what it signals it signals alone."""
    first = int(np.min(host_rows))
    gone, again = _with_launches(program.rows, host_rows), segment.rows.signal
    signalled_again = gone & np.isin(program.rows.signal, again[again != NONE])
    kept = _kept(program, host_rows) & ~signalled_again
    block = int(program.rows.block[first])
    return _insert(_select(program, kept), int(kept[:first].sum()), segment, block)


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
        rows=concatenate([program.rows, behind]),
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
    names = tuple(
        name if turn == 0 else f"{name} ({turn + 1})"
        for turn in range(count)
        for name in program.blocks
    )
    return replace(program, rows=tiled.with_columns(launch=launch, block=block), blocks=names)


def starting_state(program: Program, measured: RankTimeline, block: int) -> StartingState:
    """What was under way when `block` began, as recorded: busy processors, slots signalled before."""
    rows = program.rows
    begin = block_begin_ns(program, measured, block)
    first = block_begin_ns(program, measured, int(rows.block[0]) if len(rows) else block)
    free = np.zeros(len(program.processors), np.int64)
    slots: dict[int, int] = {}
    if program.start is not None:
        free = np.maximum(program.start.free_ns + first - begin, 0)
        slots = {slot: time + first - begin for slot, time in program.start.slot_ns.items()}
    earlier = np.flatnonzero(rows.block < block)
    np.maximum.at(free, rows.processor[earlier], measured.end_ns[earlier] - begin)
    passed, signalled = _waited_before(program, measured, block, first)
    free = np.maximum(free, passed - begin)
    for row in np.flatnonzero((rows.block == block) & (rows.awaits != NONE) & (rows.distance > 0)):
        slot = int(rows.awaits[row])
        time = signalled.get((block - int(rows.distance[row]), slot))
        if time is not None:
            slots[slot] = time - begin
    return StartingState(free, slots)


def block_begin_ns(program: Program, measured: RankTimeline, block: int) -> int:
    """When `block` began: the first start of its host rows [ns].

    One without any begins with the next that has some, or where the program ends.
    """
    rows = program.rows
    host = rows.launch == NONE
    chosen = host & (rows.block == block)
    if not chosen.any():
        chosen = host & (rows.block > block)
    if not chosen.any():
        return int(measured.end_ns.max(initial=0))
    return int(measured.start_ns[chosen].min())


def _waited_before(
    program: Program, measured: RankTimeline, block: int, first_ns: int
) -> tuple[NDArray[np.int64], dict[tuple[int, int], int]]:
    """Before `block`: when each stream had got past its waits, and what (block, slot) captured."""
    rows = program.rows
    passed = np.full(len(program.processors), first_ns, np.int64)
    known: dict[int, int] = {}
    if program.start is not None:
        passed = first_ns + program.start.free_ns
        known = {slot: first_ns + time for slot, time in program.start.slot_ns.items()}
    device = np.flatnonzero((rows.launch != NONE) & (rows.block < block))
    tasks = {
        stream: device[rows.processor[device] == stream]
        for stream in np.unique(rows.processor[device])
    }
    signalled: dict[tuple[int, int], int] = {}
    waits = (rows.kind == TaskKind.WAIT_EVENT) & (rows.awaits != NONE)
    for row in np.flatnonzero((rows.block < block) & (waits | (rows.signal != NONE))).tolist():
        own, stream = int(rows.block[row]), int(rows.stream[row])
        if waits[row]:
            slot = int(rows.awaits[row])
            time = signalled.get((own - int(rows.distance[row]), slot), known.get(slot))
            passed[stream] = max(int(passed[stream]), time if time is not None else first_ns)
        elif rows.kind[row] == TaskKind.RECORD:
            given = tasks.get(stream, device[:0])
            place = int(np.searchsorted(given, row))
            last = given[place - 1 : place]
            done = int(measured.end_ns[last[0]] if len(last) else measured.start_ns[row])
            signalled[own, int(rows.signal[row])] = max(int(passed[stream]), done)
        else:
            signalled[own, int(rows.signal[row])] = int(measured.end_ns[row])
    return passed, signalled


def _with_launches(rows: Rows, host_rows: NDArray[np.intp]) -> NDArray[np.bool_]:
    chosen = np.zeros(len(rows), bool)
    chosen[host_rows] = True
    if (rows.launch[chosen] != NONE).any():
        raise UsageError(
            "blocks are made of host rows; device rows follow the calls that launch them"
        )
    launched = rows.launch != NONE
    chosen[launched] = chosen[rows.launch[launched]]
    return chosen


def _select(program: Program, chosen: NDArray[np.bool_]) -> Program:
    new_row = chosen.cumsum() - 1
    rows = program.rows.take(np.flatnonzero(chosen))
    launch = np.where(rows.launch == NONE, NONE, new_row[rows.launch]).astype(np.int32)
    return replace(program, rows=rows.with_columns(launch=launch))


def _fresh_slots(rows: Rows, taken: NDArray[np.int32], first_free: int) -> Rows:
    """New numbers for the slots signalled among `rows` that are `taken`; all others keep theirs.

    A block that was taken apart is so put together again: a slot that nobody else signals is what
    the rest awaits.
    """
    own = np.intersect1d(rows.signal[rows.signal != NONE], taken)
    if not len(own):
        return rows
    most = max(int(rows.signal.max(initial=0)), int(rows.awaits.max(initial=0)))
    renumber = np.arange(most + 2, dtype=np.int32)
    renumber[own] = max(first_free, most + 1) + np.arange(len(own))
    renumber[-1] = NONE  # what NONE indexes
    # a wait for an earlier block's signal still means that one
    inside = (rows.awaits != NONE) & (rows.distance == 0)
    return rows.with_columns(
        signal=renumber[rows.signal], awaits=np.where(inside, renumber[rows.awaits], rows.awaits)
    )


def concatenate(parts: list[Rows]) -> Rows:
    """Rows one behind the other, columns only: local ids are not renumbered."""
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
