"""Several columns as one: equal numbers where all values are equal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def combined(columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """One number for each combination of values, ordered as the columns are."""
    mixed, size = np.zeros(columns.shape[1], np.int64), 1
    for column in columns if len(mixed) else ():
        low, high = int(column.min()), int(column.max())
        if size * (high - low + 1) >= 2**62:  # numbers without holes, then there is room
            mixed, column = (np.unique(c, return_inverse=True)[1] for c in (mixed, column))  # noqa: PLW2901
            size, low, high = int(mixed.max()) + 1, 0, int(column.max())
        mixed = mixed * (high - low + 1) + (column - low)
        size *= high - low + 1
    return mixed
