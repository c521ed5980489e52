"""A table of distinct texts: each gets the number of its first appearance."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lumos.compiled import compiled
from lumos.ingest.scanner.bits import PADDING, word_at

NO_ROOM, GIVE_UP = -1, -2
COUNT, BYTES = 0, 1
_MULTIPLIER = -7046029254386353131  # 2**64 / golden ratio, odd
_MAXIMUM_PROBES = 256
"""Longest search before the scanner gives up: a text made to collide can't stall it."""


class StringTable(NamedTuple):
    """Open addressing: `slots` hold entry + 1, or 0; an entry is a piece of `store` and a flag."""

    slots: NDArray[np.int32]
    hashes: NDArray[np.int64]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    flags: NDArray[np.uint8]
    store: NDArray[np.uint8]
    used: NDArray[np.int64]
    """Two numbers: entries (COUNT) and bytes of `store` (BYTES) in use."""


def new_table(entries: int = 4096, stored_bytes: int = 2**18) -> StringTable:
    """An empty table; `entries` is a power of two."""
    return StringTable(
        slots=np.zeros(2 * entries, np.int32),
        hashes=np.empty(entries, np.int64),
        starts=np.empty(entries, np.int64),
        lengths=np.empty(entries, np.int64),
        flags=np.empty(entries, np.uint8),
        store=np.zeros(stored_bytes + PADDING, np.uint8),
        used=np.zeros(2, np.int64),
    )


def larger(table: StringTable, needed_bytes: int) -> StringTable:
    """The same table with twice the room, and at least `needed_bytes` for new text."""
    count, stored = (int(number) for number in table.used)
    bigger = new_table(2 * len(table.hashes), 2 * len(table.store) + needed_bytes)
    for old, new in zip(table[1:5], bigger[1:5], strict=True):
        new[:count] = old[:count]
    bigger.store[:stored] = table.store[:stored]
    bigger.used[:] = table.used
    _place(bigger.slots, bigger.hashes, count)
    return bigger


@compiled(allocates=False)
def _place(slots: Any, hashes: Any, count: int) -> None:
    last = len(slots) - 1
    for entry in range(count):
        slot = hashes[entry] & last
        while slots[slot]:
            slot = (slot + 1) & last
        slots[slot] = entry + 1


@compiled(allocates=False)
def hash_of(buffer: Any, start: int, length: int, flag: int) -> int:
    """A 64-bit hash of `length` bytes at `start`, and of `flag`."""
    code = (length * 4 + flag) * _MULTIPLIER
    place, end = start, start + length
    while place + 8 <= end:
        code = (code ^ word_at(buffer, place)) * _MULTIPLIER
        code ^= (code >> 32) & 0xFFFFFFFF
        place += 8
    if place < end:
        rest = word_at(buffer, place) & ((1 << (8 * (end - place))) - 1)
        code = (code ^ rest) * _MULTIPLIER
    return code ^ ((code >> 29) & 0x7FFFFFFFF)


@compiled(allocates=False)
def _equal(buffer: Any, start: int, store: Any, stored: int, length: int) -> bool:
    place = 0
    while place + 8 <= length:
        if word_at(buffer, start + place) != word_at(store, stored + place):
            return False
        place += 8
    if place == length:
        return True
    difference = word_at(buffer, start + place) ^ word_at(store, stored + place)
    return difference & ((1 << (8 * (length - place))) - 1) == 0


@compiled(allocates=False)
def intern(table: Any, buffer: Any, start: int, length: int, flag: int) -> int:
    """The number of the text at `start`; NO_ROOM where the table is full, GIVE_UP where it resists."""
    code = hash_of(buffer, start, length, flag)
    last = len(table.slots) - 1
    slot = code & last
    for _ in range(_MAXIMUM_PROBES):
        entry = table.slots[slot] - 1
        if entry < 0:
            return _add(table, buffer, start, length, flag, code, slot)
        if (
            table.hashes[entry] == code
            and table.lengths[entry] == length
            and table.flags[entry] == flag
            and _equal(buffer, start, table.store, table.starts[entry], length)
        ):
            return entry
        slot = (slot + 1) & last
    return GIVE_UP


@compiled(allocates=False)
def _add(
    table: Any, buffer: Any, start: int, length: int, flag: int, code: int, slot: int
) -> int:
    entry, stored = table.used[COUNT], table.used[BYTES]
    if entry >= len(table.hashes) or stored + length + PADDING > len(table.store):
        return NO_ROOM
    for index in range(length):
        table.store[stored + index] = buffer[start + index]
    table.hashes[entry], table.starts[entry] = code, stored
    table.lengths[entry], table.flags[entry] = length, flag
    table.slots[slot] = entry + 1
    table.used[COUNT], table.used[BYTES] = entry + 1, stored + length
    return entry


def texts(table: StringTable) -> list[bytes]:
    """The entries of `table` in order."""
    store = table.store[: table.used[BYTES]].tobytes()
    spans = zip(table.starts.tolist(), table.lengths.tolist(), strict=True)
    return [store[start : start + length] for (start, length), _ in zip(spans, range(table.used[COUNT]), strict=False)]
