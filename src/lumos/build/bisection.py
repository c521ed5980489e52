"""Places in sorted columns, for compiled loops: numpy's own search takes seconds to compile."""

from __future__ import annotations

from lumos.compiled import compiled


@compiled()
def first_at_least(values, low, high, value):  # type: ignore[no-untyped-def]
    """The first place of `low:high` that holds `value` or more; `high` where none does."""
    while low < high:
        middle = (low + high) // 2
        if values[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@compiled()
def first_above(values, low, high, value):  # type: ignore[no-untyped-def]
    """The first place of `low:high` that holds more than `value`; `high` where none does."""
    while low < high:
        middle = (low + high) // 2
        if values[middle] <= value:
            low = middle + 1
        else:
            high = middle
    return low
