"""The compiled loop over the events of a document: one pass over the text, rows into columns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lumos.compiled import compiled
from lumos.graph.trace import ALL_STREAMS, EVENT_COLUMNS, MISSING
from lumos.ingest.scanner.bits import (
    byte_at,
    number_at,
    put_byte,
    put_int32,
    put_number,
    trailing_zeros,
)
from lumos.ingest.scanner.keys import (
    IN_EVENT,
    IN_NUMBER_COLUMN,
    IN_TEXT_ARGUMENT,
    IN_TEXT_COLUMN,
    NO_KEY,
    NUMBER_COLUMNS,
    PLACE,
    UNKNOWN,
    EventKey,
    code_of,
    find_key,
    foretold,
    key_length,
    remember,
)
from lumos.ingest.scanner.numbers import NO_NUMBER, UNDECIDED, integer, nanoseconds
from lumos.ingest.scanner.strings import NO_ROOM, intern
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
_DEVICE_NUMBER, _FORWARD_NUMBER = (NUMBER_COLUMNS.index(n) for n in ("device", "forward_thread"))
_CORRELATION_NUMBER = NUMBER_COLUMNS.index("correlation")
_COMPLETE, _METADATA = ord("X"), ord("M")
_THREAD_NAME = b"thread_name"
# Places of the texts of one event: its own keys, the text columns, the arguments.
_TEXT_COLUMN_AT = 8
_ARGUMENT_AT = 16
_TEXTS = _ARGUMENT_AT + ARGUMENTS_PER_EVENT
# Bytes that a string can hold and still be a number to Python's Decimal ("1_0", "inf", " 7").
_IN_NUMBERS = np.array(
    [byte > 127 or chr(byte) in "0123456789+-._ eEiInNfFtTyYaAsS\\" for byte in range(256)]
)
_ALWAYS = 1 << _NAME | 1 << _PID | 1 << _TID


# Where events go: an array with the room there is (rows, arguments, names of threads), then the
# addresses of the columns in the order of EVENT_COLUMNS, of the three sparse ones, and of the
# borders in the text of events that name threads.
ROOM_ROWS, ROOM_ARGUMENTS, ROOM_THREADS, COLUMNS_AT = range(4)
_COLUMN = {spec.name: COLUMNS_AT + index for index, spec in enumerate(EVENT_COLUMNS)}
_KIND, _START_NS, _DURATION_NS = (_COLUMN[n] for n in ("kind", "start_ns", "duration_ns"))
_NAME_ID, _PROCESS, _THREAD = (_COLUMN[n] for n in ("name", "process", "thread"))
_DEVICE, _STREAM_COLUMN, _FORWARD = (_COLUMN[n] for n in ("device", "stream", "forward_thread"))
_CORRELATION, _SHAPES = _COLUMN["correlation"], _COLUMN["shapes"]
assert _COLUMN["sequence"] == _CORRELATION + 2, "three number columns are written as one run"
assert _COLUMN["dtypes"] == _SHAPES + 1, "two text columns are written as one run"
SPARSE_AT = COLUMNS_AT + len(EVENT_COLUMNS)
_THREADS_AT = SPARSE_AT + 3

# Categories: an array with the address of the table of `cat` and `ph`, of the counts of its
# entries, and how many known categories it begins with; their kinds; which kinds have a stream.
CATEGORY_TABLE, CATEGORY_COUNTS, KNOWN_CATEGORIES, KINDS_AT = range(4)


# Scratch of one event, an array of numbers: where its texts start (a number argument: its value),
# how long they are, their flags, their numbers in the table; the number columns; which arguments
# are there, as two sets of bits.
_STARTS, _LENGTHS, _FLAGS, _IDS, _NUMBERS = (_TEXTS * part for part in range(5))
_TEXT_SET = _NUMBERS + len(NUMBER_COLUMNS)
_NUMBER_SET = _TEXT_SET + 1


def new_event() -> NDArray[np.int64]:
    """Scratch for `scan_events`, which takes its address."""
    return np.zeros(_NUMBER_SET + 1, np.int64)


@compiled(allocates=False)
def scan_events(
    buffer: int,
    end: int,
    keys: int,
    categories: int,
    strings: int,
    rows: int,
    event: int,
    state: int,
) -> int:
    """Read events from state's POSITION on, up to the end of the list or of the text.

    All but `end` are addresses. An event counts when it is read as a whole: `state` always stands
    at the border of one, and a call that ends early can be repeated with more text or more room.
    """
    while True:
        position = after_space(buffer, number_at(state, POSITION))
        if byte_at(buffer, position) == LIST_END:
            put_number(state, POSITION, position + 1)
            return LIST_DONE
        if number_at(state, EVENTS_BEFORE):
            if byte_at(buffer, position) != COMMA:
                return NOT_OURS if position < end else NEED_TEXT
            position = after_space(buffer, position + 1)
        if byte_at(buffer, position) != OBJECT:
            return NOT_OURS if position < end else NEED_TEXT
        if (
            number_at(state, ROWS) >= number_at(rows, ROOM_ROWS)
            or number_at(state, ARGUMENTS) + ARGUMENTS_PER_EVENT > number_at(rows, ROOM_ARGUMENTS)
            or number_at(state, THREADS) >= number_at(rows, ROOM_THREADS)
        ):
            return NEED_ROOM
        behind = _read_event(buffer, position, keys, event)
        if behind < 0:
            return NOT_OURS if -1 - behind < end else NEED_TEXT
        status = _add_event(buffer, position, behind, categories, strings, rows, event, state)
        if status != LIST_DONE:
            return status
        put_number(state, POSITION, behind)
        put_number(state, EVENTS_BEFORE, 1)


@compiled(allocates=False)
def _read_event(buffer: int, position: int, keys: int, event: int) -> int:
    """Fill `event` from the object at `position`; the position behind it, or as in tokens."""
    for place in range(_ARGUMENT_AT):
        put_number(event, _LENGTHS + place, MISSING)
        put_number(event, _FLAGS + place, 0)
    for column in range(_NUMBERS, _TEXT_SET):
        put_number(event, column, MISSING)
    put_number(event, _TEXT_SET, 0)
    put_number(event, _NUMBER_SET, 0)
    inside, seen, last = 0, 0, NO_KEY
    position = after_space(buffer, position + 1)
    closing = byte_at(buffer, position) == OBJECT_END
    while True:
        if not closing:
            # a key
            if byte_at(buffer, position) != QUOTE:
                return -1 - position
            key = position + 1
            entry = foretold(keys, last, buffer, key, inside)
            if entry != NO_KEY:
                behind_key = key + key_length(keys, entry) + 1
            else:
                stop = string_end(buffer, key)
                if stop < 0:
                    return stop
                if stop & 3:  # a key in escapes, or in bytes that may be no text
                    return -1 - position
                entry = find_key(keys, buffer, key, (stop >> 2) - key, inside)
                remember(keys, last, entry)
                behind_key = (stop >> 2) + 1
            last = entry
            position = after_space(buffer, behind_key)
            if byte_at(buffer, position) != COLON:
                return -1 - position
            start = after_space(buffer, position + 1)
            code = code_of(keys, entry)
            if code != UNKNOWN:
                if (seen >> entry) & 1:  # the last one would win; rare enough to leave alone
                    return -1 - key
                seen |= 1 << entry
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
def _keep(buffer: int, start: int, end: int, flags: int, code: int, event: int) -> bool:
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
        put_number(event, _TEXT_SET, number_at(event, _TEXT_SET) | 1 << which)
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
            put_number(event, _STARTS + which, number)
            put_number(event, _LENGTHS + which, 0)
        elif place == IN_NUMBER_COLUMN:
            put_number(event, _NUMBERS + which, _fitting(which, number))
        elif number != NO_NUMBER:
            put_number(event, _NUMBER_SET, number_at(event, _NUMBER_SET) | 1 << which)
            put_number(event, _STARTS + _ARGUMENT_AT + which, number)
        else:
            put_number(event, _NUMBER_SET, number_at(event, _NUMBER_SET) & ~(1 << which))
    return True


@compiled(allocates=False)
def _number_in_string(buffer: int, start: int, end: int, is_time: bool) -> int:
    """The number that a string holds; UNDECIDED for spellings that JSON does not have."""
    if number_end(buffer, start) == end:
        return nanoseconds(buffer, start) if is_time else integer(buffer, start)
    for place in range(start, end):
        if not _IN_NUMBERS[byte_at(buffer, place)]:
            return NO_NUMBER
    return UNDECIDED if end > start else NO_NUMBER


@compiled(allocates=False)
def _keep_text(start: int, end: int, flags: int, is_string: bool, place: int, event: int) -> None:
    """A string's content, anything else as it is spelled."""
    quotes = 1 if is_string else 0
    put_number(event, _STARTS + place, start + quotes)
    put_number(event, _LENGTHS + place, end - start - 2 * quotes)
    put_number(event, _FLAGS + place, flags)


@compiled(allocates=False)
def _fitting(column: int, number: int) -> int:
    """`number` as its column stores it: MISSING where it does not fit."""
    if number == NO_NUMBER:
        return MISSING
    if column == _STREAM and number == WHOLE_CONTEXT_STREAM:
        return ALL_STREAMS
    if (column == _DEVICE_NUMBER or column == _FORWARD_NUMBER) and not -(2**31) <= number < 2**31:
        return MISSING
    return number


@compiled(allocates=False)
def _names_thread(buffer: int, event: int) -> bool:
    """Whether the event's name is `thread_name`, or one in escapes, which could be."""
    if number_at(event, _FLAGS + _NAME) & ESCAPED:
        return True
    if number_at(event, _LENGTHS + _NAME) != len(_THREAD_NAME):
        return False
    for index in range(len(_THREAD_NAME)):
        if byte_at(buffer, number_at(event, _STARTS + _NAME) + index) != _THREAD_NAME[index]:
            return False
    return True


@compiled(allocates=False)
def _intern(buffer: int, event: int, place: int, table: int, extra_flag: int) -> int:
    flag = (number_at(event, _FLAGS + place) & ESCAPED) | extra_flag
    length = max(number_at(event, _LENGTHS + place), 0)
    return intern(table, buffer, number_at(event, _STARTS + place), length, flag)


@compiled(allocates=False)
def _is_phase(buffer: int, event: int, letter: int) -> bool:
    start = number_at(event, _STARTS + _PH)
    return number_at(event, _LENGTHS + _PH) == 1 and byte_at(buffer, start) == letter


@compiled(allocates=False)
def _has_time(event: int, place: int) -> bool:
    has_number = number_at(event, _STARTS + place) != NO_NUMBER
    return number_at(event, _LENGTHS + place) >= 0 and has_number


@compiled(allocates=False)
def _add_event(
    buffer: int,
    begin: int,
    behind: int,
    categories: int,
    strings: int,
    rows: int,
    event: int,
    state: int,
) -> int:
    """Append `event` as a row, or count why not; LIST_DONE where that worked."""
    if (number_at(event, _FLAGS + _PH) | number_at(event, _FLAGS + _CAT)) & ESCAPED:
        return NOT_OURS
    table, kind = number_at(categories, CATEGORY_TABLE), MISSING
    if _is_phase(buffer, event, _COMPLETE):
        category = _intern(buffer, event, _CAT, table, 0)
        if 0 <= category < number_at(categories, KNOWN_CATEGORIES):
            kind = number_at(categories, KINDS_AT + category)
            if _has_time(event, _TS) and _has_time(event, _DUR):
                return _add_row(buffer, kind, categories, strings, rows, event, state)
    else:
        category = _intern(buffer, event, _PH, table, PHASE_FLAG)
        if number_at(event, _FLAGS + _CAT) & NOT_ASCII:  # not used, but it must be text
            if _intern(buffer, event, _CAT, table, 0) < 0:
                return NOT_OURS
    if category < 0:
        return NOT_OURS
    if number_at(event, _FLAGS + _NAME):  # not used, but it must be text
        status = _intern(buffer, event, _NAME, strings, 0)
        if status < 0:
            return NEED_STRINGS if status == NO_ROOM else NOT_OURS
    if kind != MISSING:
        put_number(state, NO_TIME, number_at(state, NO_TIME) + 1)
        return LIST_DONE
    if _is_phase(buffer, event, _METADATA) and _names_thread(buffer, event):
        count = number_at(state, THREADS)
        put_number(number_at(rows, _THREADS_AT), 2 * count, begin)
        put_number(number_at(rows, _THREADS_AT), 2 * count + 1, behind)
        put_number(state, THREADS, count + 1)
    counts = number_at(categories, CATEGORY_COUNTS)
    put_number(counts, category, number_at(counts, category) + 1)
    return LIST_DONE


@compiled(allocates=False)
def _add_row(
    buffer: int, kind: int, categories: int, strings: int, rows: int, event: int, state: int
) -> int:
    """Append a row; first every text, which may lack room, then the columns."""
    texts = number_at(event, _TEXT_SET) << _ARGUMENT_AT | _ALWAYS
    for place in (_TEXT_COLUMN_AT, _TEXT_COLUMN_AT + 1):
        put_number(event, _IDS + place, MISSING)
        if number_at(event, _LENGTHS + place) >= 0:
            texts |= 1 << place
    while texts:
        place = trailing_zeros(texts)
        texts &= texts - 1
        number = _intern(buffer, event, place, strings, 0)
        if number < 0:
            return NEED_STRINGS if number == NO_ROOM else NOT_OURS
        put_number(event, _IDS + place, number)
    row = number_at(state, ROWS)
    has_stream = number_at(categories, KINDS_AT + number_at(categories, KNOWN_CATEGORIES) + kind)
    put_byte(number_at(rows, _KIND), row, kind)
    put_number(number_at(rows, _START_NS), row, number_at(event, _STARTS + _TS))
    put_number(number_at(rows, _DURATION_NS), row, number_at(event, _STARTS + _DUR))
    put_int32(number_at(rows, _NAME_ID), row, number_at(event, _IDS + _NAME))
    put_int32(number_at(rows, _PROCESS), row, number_at(event, _IDS + _PID))
    put_int32(number_at(rows, _THREAD), row, number_at(event, _IDS + _TID))
    put_int32(number_at(rows, _DEVICE), row, number_at(event, _NUMBERS + _DEVICE_NUMBER))
    stream = number_at(event, _NUMBERS + _STREAM) if has_stream else MISSING
    put_number(number_at(rows, _STREAM_COLUMN), row, stream)
    for column in range(_CORRELATION_NUMBER, _FORWARD_NUMBER):
        address = number_at(rows, _CORRELATION + column - _CORRELATION_NUMBER)
        put_number(address, row, number_at(event, _NUMBERS + column))
    put_int32(number_at(rows, _FORWARD), row, number_at(event, _NUMBERS + _FORWARD_NUMBER))
    put_int32(number_at(rows, _SHAPES), row, number_at(event, _IDS + _TEXT_COLUMN_AT))
    put_int32(number_at(rows, _SHAPES + 1), row, number_at(event, _IDS + _TEXT_COLUMN_AT + 1))
    put_number(state, ARGUMENTS, _add_arguments(rows, event, row, number_at(state, ARGUMENTS)))
    put_number(state, ROWS, row + 1)
    return LIST_DONE


@compiled(allocates=False)
def _add_arguments(rows: int, event: int, row: int, position: int) -> int:
    """Append the sparse arguments of `event`; the position behind them."""
    numbers = number_at(event, _NUMBER_SET)
    present = numbers | number_at(event, _TEXT_SET)
    while present:
        which = trailing_zeros(present)
        present &= present - 1
        part = _STARTS if (numbers >> which) & 1 else _IDS
        put_number(number_at(rows, SPARSE_AT), position, row)
        put_byte(number_at(rows, SPARSE_AT + 1), position, which)
        put_number(
            number_at(rows, SPARSE_AT + 2), position, number_at(event, part + _ARGUMENT_AT + which)
        )
        position += 1
    return position
