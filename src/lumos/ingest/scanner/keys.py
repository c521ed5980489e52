"""The keys that the scanner knows, as a table of 8-byte words it can search without a branch tree."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lumos.compiled import compiled
from lumos.graph.trace import TEXT_ARGUMENTS
from lumos.ingest.scanner.bits import PADDING, word_at
from lumos.ingest.vocabulary import ARGUMENT_OF_KEY, NUMBER_COLUMN_OF_KEY, TEXT_COLUMN_OF_KEY


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
_LONGEST = 64
_MULTIPLIER = -7046029254386353131


class KeyTable(NamedTuple):
    """Open addressing over (first 8 bytes, length, whether inside args)."""

    slots: NDArray[np.int32]
    text: NDArray[np.uint8]
    lengths: NDArray[np.int64]
    inside: NDArray[np.int64]
    codes: NDArray[np.int64]


def key_table() -> KeyTable:
    """The table of all keys in `vocabulary`."""
    keys: list[tuple[str, int, int]] = [(key.name.lower(), 0, IN_EVENT * PLACE + key) for key in EventKey]
    for name, column in NUMBER_COLUMN_OF_KEY.items():
        keys.append((name, 1, IN_NUMBER_COLUMN * PLACE + NUMBER_COLUMNS.index(column)))
    for name, column in TEXT_COLUMN_OF_KEY.items():
        keys.append((name, 1, IN_TEXT_COLUMN * PLACE + TEXT_COLUMNS.index(column)))
    for name, argument in ARGUMENT_OF_KEY.items():
        place = IN_TEXT_ARGUMENT if argument in TEXT_ARGUMENTS else IN_NUMBER_ARGUMENT
        keys.append((name, 1, place * PLACE + argument))
    assert len(keys) < 63, "a set of keys must fit the bits of one word"
    assert all(len(name) <= _LONGEST and code % PLACE < PLACE for name, _, code in keys)
    table = KeyTable(
        slots=np.zeros(_SLOTS, np.int32),
        text=np.zeros(len(keys) * _LONGEST + PADDING, np.uint8),
        lengths=np.array([len(name) for name, _, _ in keys], np.int64),
        inside=np.array([inside for _, inside, _ in keys], np.int64),
        codes=np.array([code for _, _, code in keys], np.int64),
    )
    for entry, (name, inside, _) in enumerate(keys):
        spelled = name.encode()
        table.text[entry * _LONGEST : entry * _LONGEST + len(spelled)] = np.frombuffer(spelled, np.uint8)
        slot = slot_of(table.text, entry * _LONGEST, len(spelled), inside)
        while table.slots[slot]:
            slot = (slot + 1) % _SLOTS
        table.slots[slot] = entry + 1
    return table


@compiled(allocates=False)
def slot_of(buffer: Any, start: int, length: int, inside: int) -> int:
    """Where the search for a key begins."""
    word = word_at(buffer, start)
    if length < 8:
        word &= (1 << (8 * length)) - 1
    code = (word ^ (length * 2 + inside)) * _MULTIPLIER
    return (code >> 40) & (_SLOTS - 1)


@compiled(allocates=False)
def find_key(keys: Any, buffer: Any, start: int, length: int, inside: int) -> int:
    """The entry of the key at `start`, UNKNOWN where it is none of ours."""
    if length > _LONGEST:
        return UNKNOWN
    slot = slot_of(buffer, start, length, inside)
    while keys.slots[slot]:
        entry = keys.slots[slot] - 1
        if keys.lengths[entry] == length and keys.inside[entry] == inside:
            same, place = True, 0
            while place < length and same:
                difference = word_at(buffer, start + place) ^ word_at(keys.text, entry * _LONGEST + place)
                if length - place < 8:
                    difference &= (1 << (8 * (length - place))) - 1
                same = difference == 0
                place += 8
            if same:
                return entry
        slot = (slot + 1) & (_SLOTS - 1)
    return UNKNOWN
