"""How busy a device is from one moment to the next (Lumos, MLSys 2025, section 5: SM utilisation)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lumos.analysis.breakdown import Intervals
from lumos.compiled import compiled
from lumos.units import NS_PER_MS

WINDOW_NS = NS_PER_MS
"""The paper's windows: one millisecond."""


def utilization(
    busy: Intervals, begin_ns: int, end_ns: int, window_ns: int = WINDOW_NS
) -> NDArray[np.float64]:
    """The fraction of each window in which at least one stream is busy, windows from `begin_ns` on.

    `busy` are disjoint, sorted intervals inside [begin_ns, end_ns]; the last window ends with it.
    """
    count = -(-max(end_ns - begin_ns, 0) // window_ns)
    spent = np.zeros(count, np.int64)
    _spend(busy, begin_ns, window_ns, spent)
    lengths = np.full(count, window_ns, np.int64)
    if count:
        lengths[-1] = end_ns - begin_ns - (count - 1) * window_ns
    return spent / lengths


@compiled()
def _spend(busy, begin, window, spent):  # type: ignore[no-untyped-def]
    for number in range(len(busy)):
        low, high = busy[number, 0] - begin, busy[number, 1] - begin
        while low < high:
            place = low // window
            border = min((place + 1) * window, high)
            spent[place] += border - low
            low = border
