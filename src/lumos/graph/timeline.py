"""Timeline: when each row of a Job ran - the same type for a measured and a simulated run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class RankTimeline:
    """Start, end and waiting of each row of one rank's program; arrays of one entry a row, in ns.

    A row that waits inside itself (a synchronising call, a collective whose peers are late) spans
    the waiting: `wait_ns` of its length is no work. `wait_ns` is 0 where that is unknown.
    """

    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    wait_ns: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.start_ns)


@dataclass(frozen=True)
class Timeline:
    """One RankTimeline a rank, in the order of the placement; times from the run's start [ns]."""

    ranks: tuple[RankTimeline, ...]

    @property
    def start_ns(self) -> int:
        """Start of the first task of all ranks."""
        return min(int(rank.start_ns.min()) for rank in self.ranks if len(rank))

    @property
    def end_ns(self) -> int:
        """End of the last task of all ranks."""
        return max(int(rank.end_ns.max()) for rank in self.ranks if len(rank))

    @property
    def span_ns(self) -> int:
        """From the first task's start to the last one's end."""
        return self.end_ns - self.start_ns if any(len(rank) for rank in self.ranks) else 0


@dataclass(frozen=True)
class TaskTimes:
    """Start and end of every task [ns], and the kernel that kept it from starting (-1: none).

    `held_by` is empty where the ranks' kernels share no GPU.
    """

    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    held_by: NDArray[np.int32]
