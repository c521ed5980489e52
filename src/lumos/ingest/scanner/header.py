"""The compiled walk over a document's top level: what is a header entry, where the events are."""

from __future__ import annotations

from typing import Any

from lumos.compiled import compiled
from lumos.ingest.scanner.bits import byte_at
from lumos.ingest.scanner.tokens import (
    COLON,
    COMMA,
    LIST,
    OBJECT,
    OBJECT_END,
    QUOTE,
    after_space,
    string_end,
    value_end,
)

# Where in a document the walk stands.
BEGIN, FIRST_ENTRY, NEXT_ENTRY, BEHIND = range(4)
# What `next_entry` found. The other values are those of events.scan_events.
ENTRY, BARE_LIST, EVENT_LIST, DOCUMENT_OPEN, DOCUMENT_END, END_OF_TEXT, WRONG = range(7)

_EVENTS_KEY = b"traceEvents"


@compiled(allocates=False)
def next_entry(buffer: int, end: int, position: int, stage: int, borders: Any) -> int:
    """Read one step of the top level from `position` on; `borders` get begin and end of it.

    WRONG leaves in `borders[1]` the position that was not understood, which is `end` or more
    where the text read so far ends too early to tell.
    """
    position = after_space(buffer, position)
    borders[0], borders[1] = position, position + 1
    first = byte_at(buffer, position)
    if position >= end:
        borders[1] = position
        return END_OF_TEXT
    if stage == BEGIN and first == LIST:
        return BARE_LIST
    if stage == BEGIN and first == OBJECT:
        return DOCUMENT_OPEN
    borders[1] = position
    if stage == BEGIN or stage == BEHIND:
        return WRONG
    if first == OBJECT_END:
        borders[1] = position + 1
        return DOCUMENT_END
    if stage == NEXT_ENTRY:
        if first != COMMA:
            return WRONG
        position = after_space(buffer, position + 1)
    return _entry(buffer, position, borders)


@compiled(allocates=False)
def _entry(buffer: int, position: int, borders: Any) -> int:
    borders[0] = borders[1] = position
    if byte_at(buffer, position) != QUOTE:
        return WRONG
    stop = string_end(buffer, position + 1)
    if stop < 0:
        borders[1] = -1 - stop
        return WRONG
    if stop & 3:
        return WRONG
    key, length = position + 1, (stop >> 2) - position - 1
    position = after_space(buffer, (stop >> 2) + 1)
    borders[1] = position
    if byte_at(buffer, position) != COLON:
        return WRONG
    position = after_space(buffer, position + 1)
    if _is_events_key(buffer, key, length):
        borders[1] = position + 1 if byte_at(buffer, position) == LIST else position
        return EVENT_LIST if byte_at(buffer, position) == LIST else WRONG
    behind = value_end(buffer, position)
    borders[1] = behind if behind >= 0 else -1 - behind
    return ENTRY if behind >= 0 else WRONG


@compiled(allocates=False)
def _is_events_key(buffer: int, position: int, length: int) -> bool:
    if length != len(_EVENTS_KEY):
        return False
    for index in range(len(_EVENTS_KEY)):
        if byte_at(buffer, position + index) != _EVENTS_KEY[index]:
            return False
    return True
