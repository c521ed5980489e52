"""The keys that the scanner knows, as a table of 8-byte words it can search without a branch tree."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from lumos.compiled import compiled
from lumos.graph.trace import TEXT_ARGUMENTS
from lumos.ingest.scanner.bits import PADDING, number_at, put_number, word_at
from lumos.ingest.scanner.tokens import QUOTE
from lumos.ingest.vocabulary import (
    ARGUMENT_OF_KEY,
    NUMBER_COLUMN_OF_KEY,
    TEXT_COLUMN_OF_KEY,
)


class EventKey(IntEnum):
    """Keys of an event itself."""

    PH = 0
    CAT = 1
    NAME = 2
    PID = 3
    TID = 4
    TS = 5
    DUR = 6
    ARGS = 7


NUMBER_COLUMNS = ("device", "stream", "correlation", "external_id", "sequence", "forward_thread")
TEXT_COLUMNS = ("shapes", "dtypes")

# A key's code: where its value goes, and which one it is there.
PLACE = 32
IN_EVENT, IN_NUMBER_COLUMN, IN_TEXT_COLUMN, IN_NUMBER_ARGUMENT, IN_TEXT_ARGUMENT = range(5)
UNKNOWN = -1

_SLOTS = 512
_ROOM = 128
NO_KEY = _ROOM
"""What comes before an event's first key, and instead of one there is no room for."""
_LONGEST = 64
_MULTIPLIER = -7046029254386353131


# An entry is 16 numbers: 8 for the text and its closing quote, then these.
_ENTRY, _LENGTH, _INSIDE, _CODE, _FOLLOWING = 16, 8, 9, 10, 11
_SLOTS_AT = (_ROOM + 1) * _ENTRY
_COUNT_AT = _SLOTS_AT + _SLOTS


def key_table() -> NDArray[np.int64]:
    """The table of all keys in `vocabulary`: open addressing over (first 8 bytes, length, inside).

    Behind our keys come others met in the file, code UNKNOWN, as long as there is room. An entry
    knows which key came after it the last time: events are alike, so it comes again, and to
    compare with it is cheaper than to find where a key ends and which it is. Compiled code takes
    the address of the table.
    """
    keys: list[tuple[str, int, int]] = [
        (key.name.lower(), 0, IN_EVENT * PLACE + key) for key in EventKey
    ]
    for name, column in NUMBER_COLUMN_OF_KEY.items():
        keys.append((name, 1, IN_NUMBER_COLUMN * PLACE + NUMBER_COLUMNS.index(column)))
    for name, column in TEXT_COLUMN_OF_KEY.items():
        keys.append((name, 1, IN_TEXT_COLUMN * PLACE + TEXT_COLUMNS.index(column)))
    for name, argument in ARGUMENT_OF_KEY.items():
        place = IN_TEXT_ARGUMENT if argument in TEXT_ARGUMENTS else IN_NUMBER_ARGUMENT
        keys.append((name, 1, place * PLACE + argument))
    assert len(keys) < 63, "a set of keys must fit the bits of one word"
    assert all(len(name) < _LONGEST and code % PLACE < PLACE for name, _, code in keys)
    table = np.zeros(_COUNT_AT + 1, np.int64)
    entries = table[:_SLOTS_AT].reshape(-1, _ENTRY)
    entries[:, _INSIDE], entries[:, _CODE], entries[:, _FOLLOWING] = -1, UNKNOWN, NO_KEY
    for name, inside, code in keys:
        spelled = np.zeros(_LONGEST + PADDING, np.uint8)
        spelled[: len(name)] = np.frombuffer(name.encode(), np.uint8)
        entry = find_key(table.ctypes.data, spelled.ctypes.data, 0, len(name), inside)
        entries[entry, _CODE] = code
    return table


@compiled(allocates=False)
def _slot_of(buffer: int, start: int, length: int, inside: int) -> int:
    """Where the search for a key begins."""
    word = word_at(buffer, start)
    if length < 8:
        word &= (1 << (8 * length)) - 1
    code = (word ^ (length * 2 + inside)) * _MULTIPLIER
    return (code >> 40) & (_SLOTS - 1)


@compiled(allocates=False)
def find_key(keys: int, buffer: int, start: int, length: int, inside: int) -> int:
    """The entry of the key at `start`, a new one for a new key, NO_KEY where there is no room."""
    if length >= _LONGEST or not length:
        return NO_KEY
    slot = _slot_of(buffer, start, length, inside)
    while number_at(keys, _SLOTS_AT + slot):
        entry = number_at(keys, _SLOTS_AT + slot) - 1
        if (
            number_at(keys, entry * _ENTRY + _LENGTH) == length
            and number_at(keys, entry * _ENTRY + _INSIDE) == inside
            and _same_text(keys, entry, buffer, start, length)
        ):
            return entry
        slot = (slot + 1) & (_SLOTS - 1)
    entry = number_at(keys, _COUNT_AT)
    if entry == _ROOM:
        return NO_KEY
    for place in range(0, length + 1, 8):
        word = word_at(buffer, start + place)
        if place + 8 > length:
            rest = 8 * (length - place)
            word = (word & ((1 << rest) - 1)) | QUOTE << rest
        put_number(keys, entry * _ENTRY + place // 8, word)
    put_number(keys, entry * _ENTRY + _LENGTH, length)
    put_number(keys, entry * _ENTRY + _INSIDE, inside)
    put_number(keys, _SLOTS_AT + slot, entry + 1)
    put_number(keys, _COUNT_AT, entry + 1)
    return entry


@compiled(allocates=False)
def code_of(keys: int, entry: int) -> int:
    """Where the value of `entry` goes, UNKNOWN for a key that is not ours."""
    return number_at(keys, entry * _ENTRY + _CODE)


@compiled(allocates=False)
def foretold(keys: int, last: int, buffer: int, start: int, inside: int) -> int:
    """The key that followed `last` the last time if it is the one at `start`, else NO_KEY."""
    entry = number_at(keys, last * _ENTRY + _FOLLOWING)
    if number_at(keys, entry * _ENTRY + _INSIDE) != inside:
        return NO_KEY
    length = number_at(keys, entry * _ENTRY + _LENGTH)
    return entry if _same_text(keys, entry, buffer, start, length + 1) else NO_KEY


@compiled(allocates=False)
def remember(keys: int, last: int, entry: int) -> None:
    """Expect `entry` after `last` from now on."""
    put_number(keys, last * _ENTRY + _FOLLOWING, entry)


@compiled(allocates=False)
def key_length(keys: int, entry: int) -> int:
    """The bytes of the key's text."""
    return number_at(keys, entry * _ENTRY + _LENGTH)


@compiled(allocates=False)
def _same_text(keys: int, entry: int, buffer: int, start: int, length: int) -> bool:
    place, stored = 0, entry * _ENTRY
    while place + 8 < length:
        if word_at(buffer, start + place) != number_at(keys, stored):
            return False
        place += 8
        stored += 1
    difference = word_at(buffer, start + place) ^ number_at(keys, stored)
    return difference << (64 - 8 * (length - place)) == 0
