"""Strict JSON, token by token: where a string, a number, a value ends.

Positions are indices into a padded buffer (see bits.PADDING). A function that meets what it does
not accept at position p returns the negative number -1 - p; the caller takes it for invalid text,
or, where p is the end of what has been read so far, for a token that goes on behind it.
"""

from __future__ import annotations

from lumos.compiled import compiled
from lumos.ingest.scanner.bits import (
    beyond_ascii,
    byte_at,
    no_digits,
    no_spaces,
    string_stops,
    trailing_zeros,
)

QUOTE, BACKSLASH, COMMA, COLON, MINUS, POINT, ZERO, NINE = (ord(c) for c in '"\\,:-.09')
LIST, LIST_END, OBJECT, OBJECT_END = (ord(c) for c in "[]{}")
EXPONENTS = (ord("e"), ord("E"))
ESCAPED, NOT_ASCII = 1, 2
"""Flags of a string: holds escapes; holds bytes above 127 (checked where it becomes text)."""
MAXIMUM_DEPTH = 60

_ESCAPES = tuple(ord(c) for c in '"\\/bfnrt')
_UNICODE = ord("u")
_TRUE, _FALSE, _NULL = b"true", b"false", b"null"


@compiled(allocates=False)
def after_space(buffer: int, position: int) -> int:
    """The first position from `position` on that is no white space."""
    if byte_at(buffer, position) > 32:
        return position
    if byte_at(buffer, position + 1) > 32 and byte_at(buffer, position) == 32:
        return position + 1
    while True:
        solid = no_spaces(buffer, position)
        if solid != 0:
            return position + trailing_zeros(solid)
        position += 32


@compiled(allocates=False)
def string_end(buffer: int, position: int) -> int:
    """4 * (position of the closing quote) + flags, for the string whose content starts here."""
    flags = 0
    while True:
        stops = string_stops(buffer, position)
        high = beyond_ascii(buffer, position)
        if stops == 0:
            if high != 0:
                flags |= NOT_ASCII
            position += 64
            continue
        step = trailing_zeros(stops)
        if trailing_zeros(high) < step:
            flags |= NOT_ASCII
        position += step
        if byte_at(buffer, position) == QUOTE:
            return 4 * position + flags
        if byte_at(buffer, position) != BACKSLASH:
            return -1 - position
        flags |= ESCAPED
        position = _escape_end(buffer, position + 1)
        if position < 0:
            return position


@compiled(allocates=False)
def _escape_end(buffer: int, position: int) -> int:
    """The position behind an escape; `position` is behind its backslash. No surrogates."""
    letter = byte_at(buffer, position)
    for known in _ESCAPES:
        if letter == known:
            return position + 1
    if letter != _UNICODE:
        return -1 - position
    code = 0
    for place in range(position + 1, position + 5):
        digit = byte_at(buffer, place)
        if ZERO <= digit <= NINE:
            code = code * 16 + digit - 48
        elif 97 <= (digit | 32) <= 102:
            code = code * 16 + (digit | 32) - 87
        else:
            return -1 - place
    if 0xD800 <= code <= 0xDFFF:
        return -1 - position
    return position + 5


@compiled(allocates=False)
def digits_end(buffer: int, position: int) -> int:
    """The first position from `position` on that is no digit."""
    while True:
        other = no_digits(buffer, position)
        if other != 0:
            return position + trailing_zeros(other)
        position += 16


@compiled(allocates=False)
def number_end(buffer: int, position: int) -> int:
    """The position behind the number that starts here. Numbers with an exponent are refused."""
    if byte_at(buffer, position) == MINUS:
        position += 1
    end = digits_end(buffer, position)
    if end == position or (byte_at(buffer, position) == ZERO and end != position + 1):
        return -1 - position
    if byte_at(buffer, end) == POINT:
        position = end + 1
        end = digits_end(buffer, position)
        if end == position:
            return -1 - position
    if byte_at(buffer, end) == EXPONENTS[0] or byte_at(buffer, end) == EXPONENTS[1]:
        return -1 - end
    return end


@compiled(allocates=False)
def _literal_end(buffer: int, position: int) -> int:
    first = byte_at(buffer, position)
    word = _TRUE if first == _TRUE[0] else _FALSE if first == _FALSE[0] else _NULL
    for index in range(len(word)):
        if byte_at(buffer, position + index) != word[index]:
            return -1 - position - index
    return position + len(word)


@compiled(allocates=False)
def scalar_end(buffer: int, position: int) -> int:
    """The position behind the number, true, false or null that starts here."""
    first = byte_at(buffer, position)
    if ZERO <= first <= NINE or first == MINUS:
        return number_end(buffer, position)
    return _literal_end(buffer, position)


@compiled(allocates=False)
def _value_behind_key(buffer: int, position: int) -> int:
    """The position of the value whose key starts here."""
    if byte_at(buffer, position) != QUOTE:
        return -1 - position
    end = string_end(buffer, position + 1)
    if end < 0:
        return end
    position = after_space(buffer, (end >> 2) + 1)
    if byte_at(buffer, position) != COLON:
        return -1 - position
    return after_space(buffer, position + 1)


@compiled(allocates=False)
def value_end(buffer: int, position: int) -> int:
    """The position behind the value that starts here, whatever it is."""
    inside_object, depth = 0, 0  # one bit for each list or object that is open
    while True:
        first = byte_at(buffer, position)
        if first == LIST or first == OBJECT:
            if depth == MAXIMUM_DEPTH:
                return -1 - position
            is_object = 1 if first == OBJECT else 0
            inside_object = (inside_object << 1) | is_object
            depth += 1
            position = after_space(buffer, position + 1)
            if byte_at(buffer, position) != (OBJECT_END if is_object else LIST_END):
                if is_object:
                    position = _value_behind_key(buffer, position)
                    if position < 0:
                        return position
                continue
            position += 1
            inside_object >>= 1
            depth -= 1
        elif first == QUOTE:
            end = string_end(buffer, position + 1)
            if end < 0:
                return end
            position = (end >> 2) + 1
        else:
            position = scalar_end(buffer, position)
            if position < 0:
                return position
        while depth:
            position = after_space(buffer, position)
            if byte_at(buffer, position) != (OBJECT_END if inside_object & 1 else LIST_END):
                break
            position += 1
            inside_object >>= 1
            depth -= 1
        if not depth:
            return position
        if byte_at(buffer, position) != COMMA:
            return -1 - position
        position = after_space(buffer, position + 1)
        if inside_object & 1:
            position = _value_behind_key(buffer, position)
            if position < 0:
                return position
