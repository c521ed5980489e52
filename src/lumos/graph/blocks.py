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

from lumos.compiled import compiled
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
    signaller = _signalled_by(rows)
    passed, signalled = _waited_before(program, measured, block, first, signaller)
    free = np.maximum(free, passed - begin)
    awaiting = (rows.block == block) & (rows.awaits != NONE) & (rows.distance > 0)
    for row in np.flatnonzero(awaiting & (signaller != NONE)).tolist():
        slots[int(rows.awaits[row])] = int(signalled[signaller[row]]) - begin
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


def _signalled_by(rows: Rows) -> NDArray[np.int64]:
    """For each row the last row before it that signals what it awaits, NONE without one."""
    count = np.int64(len(rows) + 1)
    slots = np.int64(max(rows.signal.max(initial=0), rows.awaits.max(initial=0)) + 1)
    signals, awaiting = np.flatnonzero(rows.signal != NONE), np.flatnonzero(rows.awaits != NONE)
    found = np.full(len(rows), NONE, np.int64)
    if not len(signals) or not len(awaiting):
        return found
    slot = rows.block[signals].astype(np.int64) * slots + rows.signal[signals]
    wanted_block = rows.block[awaiting].astype(np.int64) - rows.distance[awaiting]
    wanted = wanted_block * slots + rows.awaits[awaiting]
    order = np.lexsort((signals, slot))
    place = np.searchsorted((slot * count + signals)[order], wanted * count + awaiting) - 1
    candidate = order[np.maximum(place, 0)]
    known = (place >= 0) & (slot[candidate] == wanted)
    found[awaiting[known]] = signals[candidate[known]]
    return found


def _waited_before(
    program: Program,
    measured: RankTimeline,
    block: int,
    first_ns: int,
    signaller: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Before `block`: when each stream had got past its waits, and what each signalling row captured."""
    rows = program.rows
    count = int(np.searchsorted(rows.block, block))
    passed = np.full(len(program.processors), first_ns, np.int64)
    before = np.full(len(rows), first_ns, np.int64)
    if program.start is not None:
        passed = first_ns + program.start.free_ns
        for slot, time in program.start.slot_ns.items():
            before[rows.awaits == slot] = first_ns + time
    waits = (rows.kind == TaskKind.WAIT_EVENT) & (rows.awaits != NONE)
    records = (rows.kind == TaskKind.RECORD) & (rows.signal != NONE)
    signalled = _walk(
        count, rows.processor, rows.stream, rows.on_device, waits, records, signaller, before,
        measured.start_ns, measured.end_ns, passed,
    )  # fmt: skip
    return passed, signalled


@compiled()
def _walk(  # type: ignore[no-untyped-def]
    count, processor, stream, device, waits, records, signaller, before, start, end, passed
):
    """When each of the first rows signalled what it may signal; brings `passed` up to date."""
    signalled = end[:count].copy()
    last = np.full(len(passed), -1, np.int64)
    for row in range(count):
        if device[row]:
            last[processor[row]] = row
        elif waits[row]:
            held = signalled[signaller[row]] if signaller[row] >= 0 else before[row]
            passed[stream[row]] = max(passed[stream[row]], held)
        elif records[row]:
            given = last[stream[row]]
            done = end[given] if given >= 0 else start[row]
            signalled[row] = max(passed[stream[row]], done)
    return signalled


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
