"""ExecutionGraph: the lowered form that the simulator runs - tasks, processors, dependencies.

Tasks come in two parts: one for every row of every rank, in the order of the rows, and markers
(points on a stream that take no time) behind them. Dependencies are stored by the task that
waits: those of task `t` are `first[t]:first[t+1]`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Rule(IntEnum):
    """Why one task waits for another."""

    PROGRAM_ORDER = 0
    LAUNCH = 1
    STREAM_ORDER = 2
    EVENT_WAIT = 3
    SYNCHRONIZE = 4
    BACK_PRESSURE = 5
    HAND_OFF = 6
    RENDEZVOUS = 7
    CONTENTION = 8

    @property
    def word(self) -> str:
        """Its name as users write it."""
        return self.name.lower()


DROPPABLE = tuple(Rule)
SATURATING_WAVES = 2
"""A kernel that fills its GPU this many times over keeps kernels of other streams from starting.

With fewer waves the whole grid is handed out at once or nearly so. In the traces with several
compute streams every kernel of two waves or more held the others back (docs/accuracy.md).
"""


@dataclass(frozen=True)
class Edges:
    """Dependencies as parallel arrays: `after` starts no earlier than `lag_ns` after `before`.

    `from_start` tells which point of `before` counts: its start, else its end.
    """

    before: NDArray[np.int32]
    after: NDArray[np.int32]
    lag_ns: NDArray[np.int64]
    from_start: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.before)

    @staticmethod
    def of(
        before: NDArray[np.integer],
        after: NDArray[np.integer],
        lag_ns: NDArray[np.int64] | int = 0,
        *,
        from_start: bool = False,
    ) -> Edges:
        """Edges with one lag for all or one each; all from starts or all from ends."""
        lag = np.zeros(len(before), np.int64)  # untouched zeros cost no memory
        if not isinstance(lag_ns, int) or lag_ns:
            lag[:] = lag_ns
        return Edges(
            np.asarray(before, np.int32),
            np.asarray(after, np.int32),
            lag,
            np.full(len(before), from_start),
        )


@dataclass(frozen=True)
class ExecutionGraph:
    """Tasks and what each waits for; arrays `(tasks,)` and `(dependencies,)`, times in ns.

    `processor` numbers host threads and streams of all ranks; `rank` is the place of the task's
    rank in the placement; `release_ns` is the earliest start that the recorded starting state
    allows. `order` is one order in which the tasks can be run. `row_offset[r]` is the first task
    of rank `r`; `opening[t]` is the task at which a row's time begins (itself, or the marker in
    front of it where the row waits for other ranks): there its delay stands. `device` numbers the
    GPUs of kernels that take part in contention, NONE for all other tasks; `waves` says how many
    times over a kernel fills its GPU.
    """

    duration_ns: NDArray[np.int64]
    delay_ns: NDArray[np.int64]
    release_ns: NDArray[np.int64]
    processor: NDArray[np.int32]
    rank: NDArray[np.int32]
    first: NDArray[np.int64]
    before: NDArray[np.int32]
    lag_ns: NDArray[np.int64]
    from_start: NDArray[np.bool_]
    rule: NDArray[np.uint8]
    order: NDArray[np.int32]
    row_offset: NDArray[np.int64]
    opening: NDArray[np.int32]
    on_host: NDArray[np.bool_]
    device: NDArray[np.int32]
    waves: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.duration_ns)

    @property
    def rows(self) -> int:
        """How many tasks are rows; markers follow them."""
        return int(self.row_offset[-1])

    @property
    def shares_gpus(self) -> bool:
        """Whether a kernel can keep one of another stream waiting."""
        return bool((self.device >= 0).any())

    def self_check(self) -> None:
        """Raise AssertionError where order and dependencies disagree."""
        place = np.empty(len(self), np.int64)
        place[self.order] = np.arange(len(self))
        after = np.repeat(np.arange(len(self)), np.diff(self.first))
        assert (place[self.before] < place[after]).all(), "the order runs what is awaited first"
        assert self.duration_ns.min(initial=0) >= 0
