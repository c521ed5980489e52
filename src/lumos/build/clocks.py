"""Clocks: ranks whose collectives end together tell how far their clocks are apart.

rank 0 |===== all-reduce =====|
rank 1       |== all-reduce ==|      ends agree within microseconds, starts do not
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRIFT_SPAN_NS = 200_000_000
"""A drift is fitted only where the shared collectives spread over at least this long."""
DRIFT_CASES = 8


@dataclass(frozen=True)
class Clock:
    """Clock of one rank against the reference: reference time = time - offset - drift * (time - origin)."""

    offset_ns: float
    drift: float
    origin_ns: int

    def correct(self, time_ns: NDArray[np.int64]) -> NDArray[np.int64]:
        """Times of this rank in the reference's clock [ns]."""
        elapsed = (time_ns - self.origin_ns).astype(np.float64)
        return time_ns - np.rint(self.offset_ns + self.drift * elapsed).astype(np.int64)


Ends = Mapping[tuple[object, ...], int]
"""End [ns] of each collective that waits for all its members, by its identity across ranks."""


def align_clocks(ends: Sequence[Ends]) -> list[Clock | None]:
    """The clock of each rank against the first rank it is linked to; None where nothing links it.

    Ranks are linked pair by pair through collectives they share, the best-linked first.
    """
    clocks: list[Clock | None] = [None] * len(ends)
    if not ends:
        return clocks
    clocks[0] = Clock(0.0, 0.0, 0)
    queue = deque([0])
    while queue:
        known = queue.popleft()
        reference = clocks[known]
        assert reference is not None
        for other in range(len(ends)):
            if clocks[other] is None and (shared := ends[known].keys() & ends[other].keys()):
                keys = sorted(shared, key=lambda key: ends[known][key])
                here = np.array([ends[other][key] for key in keys], np.int64)
                there = reference.correct(np.array([ends[known][key] for key in keys], np.int64))
                clocks[other] = _fit(here, there)
                queue.append(other)
    return clocks


def _fit(here: NDArray[np.int64], there: NDArray[np.int64]) -> Clock:
    """Offset, and drift where enough is known: median slope and median rest (Theil 1950, Sen 1968)."""
    origin = int(here[0])
    difference = (here - there).astype(np.float64)
    elapsed = (here - origin).astype(np.float64)
    drift = 0.0
    if len(here) >= DRIFT_CASES and elapsed[-1] >= DRIFT_SPAN_NS:
        chosen = np.unique(np.linspace(0, len(here) - 1, min(len(here), 400)).astype(int))
        x, y = elapsed[chosen], difference[chosen]
        first, second = np.triu_indices(len(x), 1)
        far = x[second] - x[first] > elapsed[-1] / 4
        drift = float(np.median((y[second] - y[first])[far] / (x[second] - x[first])[far]))
    return Clock(float(np.median(difference - drift * elapsed)), drift, origin)
