"""Several columns as one number: equal exactly where all are, in their order, however wide they are."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lumos.build.combined import combined

WIDE = st.sampled_from([-(2**62), -1, 0, 1, 7, 2**40, 2**62])


@settings(deadline=None, max_examples=200, derandomize=True)
@given(st.lists(st.tuples(WIDE, WIDE, WIDE), max_size=12))
def test_numbers_are_ordered_as_the_rows_are(rows: list[tuple[int, int, int]]) -> None:
    found = combined(np.array(rows, np.int64).reshape(-1, 3).T).tolist()
    for first, one in zip(rows, found, strict=True):
        for second, other in zip(rows, found, strict=True):
            assert (first < second) == (one < other)
