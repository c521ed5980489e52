"""A table of distinct texts: each gets the number of its first appearance."""

from __future__ import annotations

import numpy as np

from lumos.compiled import compiled
from lumos.ingest.scanner.bits import (
    PADDING,
    byte_at,
    number_at,
    put_byte,
    put_number,
    word_at,
)

NO_ROOM, GIVE_UP = -1, -2
_MULTIPLIER = -7046029254386353131  # 2**64 / golden ratio, odd
_MAXIMUM_PROBES = 256
"""Longest search before the scanner gives up: a text made to collide can't stall it."""


# An entry is 4 numbers; the head of a table is the 8 below.
_ENTRY, _HASH, _START, _LENGTH, _FLAG = 4, 0, 1, 2, 3
_SLOTS, _LAST_SLOT, _ENTRIES, _CAPACITY, _STORE, _STORE_BYTES, _COUNT, _USED_BYTES = range(8)


class StringTable:
    """Open addressing: `slots` hold entry + 1, or 0; an entry is a piece of `store` and a flag.

    Compiled code takes the address of `head`, which holds the sizes and the other addresses.
    """

    def __init__(self, entries: int = 4096, stored_bytes: int = 2**18) -> None:
        """An empty table; `entries` is a power of two."""
        self.slots = np.zeros(2 * entries, np.int64)
        self.entries = np.zeros((entries, _ENTRY), np.int64)
        self.store = np.zeros(stored_bytes + PADDING, np.uint8)
        self.head = np.zeros(8, np.int64)
        self.head[_SLOTS], self.head[_LAST_SLOT] = self.slots.ctypes.data, len(self.slots) - 1
        self.head[_ENTRIES], self.head[_CAPACITY] = self.entries.ctypes.data, entries
        self.head[_STORE], self.head[_STORE_BYTES] = self.store.ctypes.data, stored_bytes

    def __len__(self) -> int:
        return int(self.head[_COUNT])

    @property
    def address(self) -> int:
        """What compiled code takes."""
        return int(self.head.ctypes.data)

    def larger(self, needed_bytes: int) -> StringTable:
        """The same table with twice the room, and at least `needed_bytes` for new text."""
        bigger = StringTable(2 * len(self.entries), 2 * len(self.store) + needed_bytes)
        stored = int(self.head[_USED_BYTES])
        bigger.entries[: len(self)] = self.entries[: len(self)]
        bigger.store[:stored] = self.store[:stored]
        bigger.head[_COUNT], bigger.head[_USED_BYTES] = len(self), stored
        _place(bigger.address)
        return bigger

    def texts(self) -> list[tuple[bytes, int]]:
        """Text and flag of each entry in order."""
        store = self.store[: self.head[_USED_BYTES]].tobytes()
        entries = self.entries[: len(self)].tolist()
        return [(store[start : start + length], flag) for _, start, length, flag in entries]


@compiled(allocates=False)
def _place(table: int) -> None:
    """Fill the empty slots of a table whose entries are there."""
    slots, last = number_at(table, _SLOTS), number_at(table, _LAST_SLOT)
    for entry in range(number_at(table, _COUNT)):
        slot = number_at(number_at(table, _ENTRIES), entry * _ENTRY + _HASH) & last
        while number_at(slots, slot):
            slot = (slot + 1) & last
        put_number(slots, slot, entry + 1)


@compiled(allocates=False)
def hash_of(buffer: int, start: int, length: int, flag: int) -> int:
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
def _equal(buffer: int, start: int, store: int, stored: int, length: int) -> bool:
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
def intern(table: int, buffer: int, start: int, length: int, flag: int) -> int:
    """The number of the text at `start`; NO_ROOM where the table is full, GIVE_UP where it resists."""
    code = hash_of(buffer, start, length, flag)
    slots, last = number_at(table, _SLOTS), number_at(table, _LAST_SLOT)
    entries, store = number_at(table, _ENTRIES), number_at(table, _STORE)
    slot = code & last
    for _ in range(_MAXIMUM_PROBES):
        entry = number_at(slots, slot) - 1
        if entry < 0:
            return _add(table, buffer, start, length, flag, code, slot)
        at = entry * _ENTRY
        if (
            number_at(entries, at + _HASH) == code
            and number_at(entries, at + _LENGTH) == length
            and number_at(entries, at + _FLAG) == flag
            and _equal(buffer, start, store, number_at(entries, at + _START), length)
        ):
            return entry
        slot = (slot + 1) & last
    return GIVE_UP


@compiled(allocates=False)
def _add(table: int, buffer: int, start: int, length: int, flag: int, code: int, slot: int) -> int:
    entry, stored = number_at(table, _COUNT), number_at(table, _USED_BYTES)
    if entry >= number_at(table, _CAPACITY) or stored + length > number_at(table, _STORE_BYTES):
        return NO_ROOM
    store, at = number_at(table, _STORE), number_at(table, _ENTRIES) + 8 * _ENTRY * entry
    for index in range(length):
        put_byte(store, stored + index, byte_at(buffer, start + index))
    put_number(at, _HASH, code)
    put_number(at, _START, stored)
    put_number(at, _LENGTH, length)
    put_number(at, _FLAG, flag)
    put_number(number_at(table, _SLOTS), slot, entry + 1)
    put_number(table, _COUNT, entry + 1)
    put_number(table, _USED_BYTES, stored + length)
    return entry
