"""Numbers as Kineto writes them, exact: integers, and microseconds as nanoseconds.

The text has passed `tokens.number_end`, so it is [-]digits[.digits] without a leading zero.
"""

from __future__ import annotations

from lumos.compiled import compiled
from lumos.ingest.scanner.bits import byte_at, word_at
from lumos.ingest.scanner.tokens import MINUS, POINT, ZERO, digits_end

NO_NUMBER = -(2**63)
"""No number that the columns could hold. As a number, the typed reader's range excludes it too."""
UNDECIDED = NO_NUMBER + 1
"""The scanner can't tell; the typed reader decides."""
_LARGEST = 2**63 - 1
_LARGEST_NS = 2**62
_EXACT_FRACTION = 9


@compiled(allocates=False)
def _eight_digits(word: int) -> int:
    """The number that 8 digits spell, one byte each, the first one lowest; 0 counts as '0'."""
    word = ((word & 0x0F0F0F0F0F0F0F0F) * 2561) >> 8
    word = ((word & 0x00FF00FF00FF00FF) * 6553601) >> 16
    return ((word & 0x0000FFFF0000FFFF) * 42949672960001) >> 32


@compiled(allocates=False)
def _digits(buffer: int, position: int, count: int) -> int:
    """The number spelled by the `count` digits at `position`, NO_NUMBER where it is too large."""
    if count <= 8:
        return _eight_digits(word_at(buffer, position) << (64 - 8 * count)) if count else 0
    if count <= 16:
        high = _eight_digits(word_at(buffer, position) << (128 - 8 * count))
        return high * 100_000_000 + _eight_digits(word_at(buffer, position + count - 8))
    if count > 19:
        return NO_NUMBER
    number = 0
    for place in range(position, position + count):
        digit = byte_at(buffer, place) - ZERO
        if number > (_LARGEST - digit) // 10:
            return NO_NUMBER
        number = number * 10 + digit
    return number


@compiled(allocates=False)
def integer(buffer: int, position: int) -> int:
    """The number at `position`, its fraction cut off; NO_NUMBER beyond int64."""
    negative = byte_at(buffer, position) == MINUS
    if negative:
        position += 1
    end = digits_end(buffer, position)
    number = _digits(buffer, position, end - position)
    if number == NO_NUMBER:
        return UNDECIDED if negative else NO_NUMBER
    return -number if negative else number


@compiled(allocates=False)
def nanoseconds(buffer: int, position: int) -> int:
    """The microseconds at `position` in ns, rounded half up; NO_NUMBER beyond 2**62 ns."""
    negative = byte_at(buffer, position) == MINUS
    if negative:
        position += 1
    end = digits_end(buffer, position)
    whole, thousandths = _digits(buffer, position, end - position), 0
    if byte_at(buffer, end) == POINT:
        position = end + 1
        count = digits_end(buffer, position) - position
        if count > _EXACT_FRACTION:
            return UNDECIDED
        for place in range(position, position + 3):
            digit = byte_at(buffer, place) - ZERO if place < position + count else 0
            thousandths = thousandths * 10 + digit
        if count > 3 and byte_at(buffer, position + 3) >= ZERO + 5:
            thousandths += 1
    if whole == NO_NUMBER or whole > _LARGEST_NS // 1000:
        return NO_NUMBER
    number = whole * 1000 + thousandths
    if number >= _LARGEST_NS:
        return NO_NUMBER
    return -number if negative else number
