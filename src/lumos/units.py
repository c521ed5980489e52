"""Units of time: everything inside is int64 nanoseconds, everything shown is milliseconds."""

from __future__ import annotations

NS_PER_US = 1_000
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000


def ms(time_ns: float) -> float:
    """`time_ns` [ns] in milliseconds."""
    return float(time_ns) / NS_PER_MS
