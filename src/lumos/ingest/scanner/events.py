"""The compiled loop over the events of a document: one pass over the text, rows into columns."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lumos.compiled import compiled
from lumos.graph.trace import ALL_STREAMS, MISSING
from lumos.ingest.scanner.bits import byte_at, trailing_zeros
from lumos.ingest.scanner.keys import (
    IN_EVENT,
    IN_NUMBER_ARGUMENT,
    IN_NUMBER_COLUMN,
    IN_TEXT_ARGUMENT,
    IN_TEXT_COLUMN,
    NUMBER_COLUMNS,
    PLACE,
    UNKNOWN,
    EventKey,
    find_key,
)
from lumos.ingest.scanner.numbers import NO_NUMBER, UNDECIDED, integer, nanoseconds
from lumos.ingest.scanner.strings import GIVE_UP, NO_ROOM, StringTable, intern
from lumos.ingest.scanner.tokens import (
    COLON,
    COMMA,
    ESCAPED,
    LIST,
    LIST_END,
    MINUS,
    NINE,
    NOT_ASCII,
    OBJECT,
    OBJECT_END,
    QUOTE,
    ZERO,
    after_space,
    number_end,
    scalar_end,
    string_end,
    value_end,
)
from lumos.ingest.vocabulary import WHOLE_CONTEXT_STREAM

# Why the loop came back.
LIST_DONE, NEED_TEXT, NEED_ROOM, NEED_STRINGS, NOT_OURS = range(5)
# Numbers that live from call to call.
POSITION, EVENTS_BEFORE, ROWS, ARGUMENTS, THREADS, NO_TIME, STATE_LENGTH = range(7)

PHASE_FLAG = 4
"""Flag of a phase among the categories: `ph` and `cat` are counted in one table."""
ARGUMENTS_PER_EVENT = 32

_PH, _CAT, _NAME, _PID, _TID = (
    int(key) for key in (EventKey.PH, EventKey.CAT, EventKey.NAME, EventKey.PID, EventKey.TID)
)
_TS, _DUR, _ARGS = int(EventKey.TS), int(EventKey.DUR), int(EventKey.ARGS)
_STREAM = NUMBER_COLUMNS.index("stream")
_NARROW = (NUMBER_COLUMNS.index("device"), NUMBER_COLUMNS.index("forward_thread"))
_COMPLETE, _METADATA = ord("X"), ord("M")
_THREAD_NAME = np.frombuffer(b"thread_name", np.uint8)
# Places of the texts of one event: its own keys, the text columns, the arguments.
_TEXT_COLUMN_AT = 8
_ARGUMENT_AT = 16
_TEXTS = _ARGUMENT_AT + ARGUMENTS_PER_EVENT
# Bytes that a string can hold and still be a number to Python's Decimal ("1_0", "inf", " 7").
_IN_NUMBERS = np.array(
    [byte > 127 or chr(byte) in "0123456789+-._ eEiInNfFtTyYaAsS\\" for byte in range(256)]
)
_ALWAYS = 1 << _NAME | 1 << _PID | 1 << _TID
_AS_TEXT, _AS_NUMBER = 0, 1


class Rows(NamedTuple):
    """Where events go: the columns of EVENT_COLUMNS, the three of the sparse arguments, and the
    borders in the text of events that name threads."""

    kind: NDArray[np.uint8]
    start_ns: NDArray[np.int64]
    duration_ns: NDArray[np.int64]
    name: NDArray[np.int32]
    process: NDArray[np.int32]
    thread: NDArray[np.int32]
    device: NDArray[np.int32]
    stream: NDArray[np.int64]
    correlation: NDArray[np.int64]
    external_id: NDArray[np.int64]
    sequence: NDArray[np.int64]
    forward_thread: NDArray[np.int32]
    shapes: NDArray[np.int32]
    dtypes: NDArray[np.int32]
    argument_row: NDArray[np.int64]
    argument_key: NDArray[np.uint8]
    argument_value: NDArray[np.int64]
    threads: NDArray[np.int64]


class Categories(NamedTuple):
    """Texts of `cat` and `ph`; the first ones are the known categories, with their kinds."""

    table: StringTable
    kinds: NDArray[np.uint8]
    on_stream: NDArray[np.bool_]
    counts: NDArray[np.int64]


class Event(NamedTuple):
    """Scratch of one event: where its texts are, its numbers, which of its arguments are there."""

    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    flags: NDArray[np.int64]
    numbers: NDArray[np.int64]
    present: NDArray[np.int64]
    """Two sets of arguments, a bit each: those that are texts and those that are numbers."""
    ids: NDArray[np.int64]


def new_event() -> Event:
    """Scratch for `scan_events`."""
    return Event(
        starts=np.zeros(_TEXTS, np.int64),
        lengths=np.zeros(_TEXTS, np.int64),
        flags=np.zeros(_TEXTS, np.int64),
        numbers=np.zeros(len(NUMBER_COLUMNS), np.int64),
        present=np.zeros(2, np.int64),
        ids=np.zeros(_TEXTS, np.int64),
    )


@compiled(allocates=False)
def scan_events(
    buffer: Any,
    end: int,
    keys: Any,
    categories: Any,
    strings: Any,
    rows: Any,
    event: Any,
    state: Any,
) -> int:
    """Read events from `state[POSITION]` on, up to the end of the list or of the text.

    An event counts when it is read as a whole: `state` always stands at the border of one, and a
    call that ends early can be repeated with more text or more room.
    """
    while True:
        position = after_space(buffer, state[POSITION])
        if byte_at(buffer, position) == LIST_END:
            state[POSITION] = position + 1
            return LIST_DONE
        if state[EVENTS_BEFORE]:
            if byte_at(buffer, position) != COMMA:
                return NOT_OURS if position < end else NEED_TEXT
            position = after_space(buffer, position + 1)
        if byte_at(buffer, position) != OBJECT:
            return NOT_OURS if position < end else NEED_TEXT
        if (
            state[ROWS] >= len(rows.kind)
            or state[ARGUMENTS] + ARGUMENTS_PER_EVENT > len(rows.argument_row)
            or 2 * state[THREADS] + 2 > len(rows.threads)
        ):
            return NEED_ROOM
        behind = _read_event(buffer, position, keys, event)
        if behind < 0:
            return NOT_OURS if -1 - behind < end else NEED_TEXT
        status = _add_event(buffer, position, behind, categories, strings, rows, event, state)
        if status != LIST_DONE:
            return status
        state[POSITION] = behind
        state[EVENTS_BEFORE] = 1


@compiled(allocates=False)
def _read_event(buffer: Any, position: int, keys: Any, event: Any) -> int:
    """Fill `event` from the object at `position`; the position behind it, or as in tokens."""
    event.lengths[:_ARGUMENT_AT] = MISSING
    event.flags[:_ARGUMENT_AT] = 0
    event.numbers[:] = MISSING
    event.present[:] = 0
    inside, seen = 0, 0
    position = after_space(buffer, position + 1)
    closing = byte_at(buffer, position) == OBJECT_END
    while True:
        if not closing:
            # a key
            if byte_at(buffer, position) != QUOTE:
                return -1 - position
            key = position + 1
            stop = string_end(buffer, key)
            if stop < 0:
                return stop
            if stop & 3:  # a key in escapes, or in bytes that may be no text
                return -1 - position
            position = after_space(buffer, (stop >> 2) + 1)
            if byte_at(buffer, position) != COLON:
                return -1 - position
            start = after_space(buffer, position + 1)
            entry = find_key(keys, buffer, key, (stop >> 2) - key, inside)
            code = UNKNOWN
            if entry != UNKNOWN:
                if (seen >> entry) & 1:  # the last one would win; rare enough to leave alone
                    return -1 - key
                seen |= 1 << entry
                code = keys.codes[entry]
            # its value
            first = byte_at(buffer, start)
            if first == OBJECT and code == _ARGS:
                inside = 1
                position = after_space(buffer, start + 1)
                closing = byte_at(buffer, position) == OBJECT_END
                continue
            if first == QUOTE:
                stop = string_end(buffer, start + 1)
                position = stop if stop < 0 else (stop >> 2) + 1
            elif first == LIST or first == OBJECT:
                position = value_end(buffer, start)
            else:
                position = scalar_end(buffer, start)
            if position < 0:
                return position
            if code != UNKNOWN:
                flags = stop & 3 if first == QUOTE else 0
                if not _keep(buffer, start, position, flags, code, event):
                    return -1 - key
            position = after_space(buffer, position)
        closing = byte_at(buffer, position) == OBJECT_END
        if closing:
            if not inside:
                return position + 1
            inside = 0
            position = after_space(buffer, position + 1)
            if byte_at(buffer, position) == OBJECT_END:
                return position + 1
            closing = False
        if byte_at(buffer, position) != COMMA:
            return -1 - position
        position = after_space(buffer, position + 1)


@compiled(allocates=False)
def _keep(buffer: Any, start: int, end: int, flags: int, code: int, event: Any) -> bool:
    """Put the value of a known key into `event`; False where the typed reader has to judge it."""
    place, which = code // PLACE, code % PLACE
    first = byte_at(buffer, start)
    is_string = first == QUOTE
    if place == IN_EVENT and which < _TS:
        if which <= _NAME and not is_string:
            return False
        _keep_text(start, end, flags, is_string, which, event)
    elif place == IN_TEXT_COLUMN:
        _keep_text(start, end, 0, False, _TEXT_COLUMN_AT + which, event)
    elif place == IN_TEXT_ARGUMENT:
        event.present[_AS_TEXT] |= 1 << which
        _keep_text(start, end, flags, is_string, _ARGUMENT_AT + which, event)
    elif place == IN_EVENT and which == _ARGS:
        return False  # args that are no object
    else:
        number = NO_NUMBER
        if is_string:
            number = _number_in_string(buffer, start + 1, end - 1, place == IN_EVENT)
        elif first == MINUS or ZERO <= first <= NINE:
            number = nanoseconds(buffer, start) if place == IN_EVENT else integer(buffer, start)
        if number == UNDECIDED:
            return False
        if place == IN_EVENT:
            event.starts[which], event.lengths[which] = number, 0
        elif place == IN_NUMBER_COLUMN:
            event.numbers[which] = _fitting(which, number)
        elif number != NO_NUMBER:
            event.present[_AS_NUMBER] |= 1 << which
            event.starts[_ARGUMENT_AT + which] = number
        else:
            event.present[_AS_NUMBER] &= ~(1 << which)
    return True


@compiled(allocates=False)
def _number_in_string(buffer: Any, start: int, end: int, is_time: bool) -> int:  # noqa: FBT001
    """The number that a string holds; UNDECIDED for spellings that JSON does not have."""
    if number_end(buffer, start) == end:
        return nanoseconds(buffer, start) if is_time else integer(buffer, start)
    for place in range(start, end):
        if not _IN_NUMBERS[byte_at(buffer, place)]:
            return NO_NUMBER
    return UNDECIDED if end > start else NO_NUMBER


@compiled(allocates=False)
def _keep_text(start: int, end: int, flags: int, is_string: bool, place: int, event: Any) -> None:
    """A string's content, anything else as it is spelled."""
    quotes = 1 if is_string else 0
    event.starts[place] = start + quotes
    event.lengths[place] = end - start - 2 * quotes
    event.flags[place] = flags


@compiled(allocates=False)
def _fitting(column: int, number: int) -> int:
    """`number` as its column stores it: MISSING where it does not fit."""
    if number == NO_NUMBER:
        return MISSING
    if column == _STREAM and number == WHOLE_CONTEXT_STREAM:
        return ALL_STREAMS
    if (column == _NARROW[0] or column == _NARROW[1]) and not -(2**31) <= number < 2**31:
        return MISSING
    return number


@compiled(allocates=False)
def _is(buffer: Any, event: Any, place: int, text: Any) -> bool:
    if event.lengths[place] != len(text):
        return False
    for index in range(len(text)):
        if byte_at(buffer, event.starts[place] + index) != text[index]:
            return False
    return True


@compiled(allocates=False)
def _intern(buffer: Any, event: Any, place: int, table: Any, extra_flag: int) -> int:
    flag = event.flags[place] & ESCAPED
    return intern(table, buffer, event.starts[place], max(event.lengths[place], 0), flag | extra_flag)


@compiled(allocates=False)
def _add_event(
    buffer: Any,
    begin: int,
    behind: int,
    categories: Any,
    strings: Any,
    rows: Any,
    event: Any,
    state: Any,
) -> int:
    """Append `event` as a row, or count why not; LIST_DONE where that worked."""
    if (event.flags[_PH] | event.flags[_CAT]) & ESCAPED:
        return NOT_OURS
    is_span = event.lengths[_PH] == 1 and byte_at(buffer, event.starts[_PH]) == _COMPLETE
    kind, times = MISSING, True
    if is_span:
        category = _intern(buffer, event, _CAT, categories.table, 0)
        if 0 <= category < len(categories.kinds):
            kind = categories.kinds[category]
            times = _has_time(event, _TS) and _has_time(event, _DUR)
    else:
        category = _intern(buffer, event, _PH, categories.table, PHASE_FLAG)
        if (event.flags[_CAT] & NOT_ASCII) and _intern(
            buffer, event, _CAT, categories.table, 0
        ) < 0:
            return NOT_OURS
    if category < 0:
        return NOT_OURS
    if kind >= 0 and times:
        return _add_row(buffer, kind, categories, strings, rows, event, state)
    if event.flags[_NAME]:  # its text is not used, but must be text
        status = _intern(buffer, event, _NAME, strings, 0)
        if status < 0:
            return NEED_STRINGS if status == NO_ROOM else NOT_OURS
    if kind >= 0:
        state[NO_TIME] += 1
        return LIST_DONE
    if event.lengths[_PH] == 1 and byte_at(buffer, event.starts[_PH]) == _METADATA:
        if _is(buffer, event, _NAME, _THREAD_NAME) or event.flags[_NAME] & ESCAPED:
            rows.threads[2 * state[THREADS]] = begin
            rows.threads[2 * state[THREADS] + 1] = behind
            state[THREADS] += 1
    categories.counts[category] += 1
    return LIST_DONE


@compiled(allocates=False)
def _has_time(event: Any, place: int) -> bool:
    return event.lengths[place] >= 0 and event.starts[place] != NO_NUMBER


@compiled(allocates=False)
def _add_row(
    buffer: Any, kind: int, categories: Any, strings: Any, rows: Any, event: Any, state: Any
) -> int:
    """Append a row; first every text, which may lack room, then the columns."""
    texts = event.present[_AS_TEXT] << _ARGUMENT_AT | _ALWAYS
    for place in (_TEXT_COLUMN_AT, _TEXT_COLUMN_AT + 1):
        event.ids[place] = MISSING
        if event.lengths[place] >= 0:
            texts |= 1 << place
    while texts:
        place = trailing_zeros(texts)
        texts &= texts - 1
        number = _intern(buffer, event, place, strings, 0)
        if number < 0:
            return NEED_STRINGS if number == NO_ROOM else NOT_OURS
        event.ids[place] = number
    row = state[ROWS]
    rows.kind[row] = kind
    rows.start_ns[row] = event.starts[_TS]
    rows.duration_ns[row] = event.starts[_DUR]
    rows.name[row] = event.ids[_NAME]
    rows.process[row] = event.ids[_PID]
    rows.thread[row] = event.ids[_TID]
    rows.device[row] = event.numbers[0]
    rows.stream[row] = event.numbers[1] if categories.on_stream[kind] else MISSING
    rows.correlation[row] = event.numbers[2]
    rows.external_id[row] = event.numbers[3]
    rows.sequence[row] = event.numbers[4]
    rows.forward_thread[row] = event.numbers[5]
    rows.shapes[row] = event.ids[_TEXT_COLUMN_AT]
    rows.dtypes[row] = event.ids[_TEXT_COLUMN_AT + 1]
    argument = state[ARGUMENTS]
    numbers = event.present[_AS_NUMBER]
    present = numbers | event.present[_AS_TEXT]
    while present:
        which = trailing_zeros(present)
        present &= present - 1
        place = _ARGUMENT_AT + which
        is_number = (numbers >> which) & 1
        rows.argument_row[argument] = row
        rows.argument_key[argument] = which
        rows.argument_value[argument] = event.starts[place] if is_number else event.ids[place]
        argument += 1
    state[ROWS], state[ARGUMENTS] = row + 1, argument
    return LIST_DONE
