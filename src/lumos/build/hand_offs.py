"""Hand-offs: one host thread goes on when another one has finished its part.

main      | forward |................| optimizer |
autograd            | backward ops   |
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lumos.build.threads import Segments
from lumos.graph.job import NONE
from lumos.units import NS_PER_US

MINIMUM_GAP_NS = 50 * NS_PER_US
"""Shorter pauses are not searched for another thread's work."""
BUSY_SHARE = 0.5
"""One of the two threads must be busy for this share of the other one's pause."""
NEARBY_NS = 200 * NS_PER_US
WORTH_AWAITING_NS = 10 * NS_PER_US
"""Both threads work for at least this much of the time just before and just after the hand-off:
a helper thread that makes a stray call every now and then decides nothing."""
REACTION_NS = 1000 * NS_PER_US
REACTION_SHARE = 0.1
"""A thread takes up the work within this time, or this share of its pause, of the other's end."""


@dataclass(frozen=True)
class HandOff:
    """Segment `waiter` (a pause) ends because `signaller`, on another thread, ended at `time_ns`."""

    waiter: int
    signaller: int
    time_ns: int


def find_hand_offs(segments: Segments) -> list[HandOff]:
    """Pauses of one thread whose end another thread decides by pausing in its turn.

    The two must take turns: the signaller works through most of the waiter's pause, or the
    waiter through most of the signaller's pause that follows.
    """
    threads = _Threads(segments)
    if threads.count < 2:
        return []
    found = []
    pause = (segments.event == NONE) & (segments.end_ns - segments.start_ns >= MINIMUM_GAP_NS)
    for waiter in np.flatnonzero(pause):
        if not threads.works_behind(int(waiter)):
            continue
        signals = [
            signal
            for other in threads.that_paused_before_the_end_of(int(waiter))
            if (signal := threads.signal(int(waiter), other)) is not None
        ]
        if signals:
            time_ns, work = max(signals)
            found.append(HandOff(int(waiter), work, time_ns))
    return found


def _reaction_ns(begin: int, end: int) -> float:
    """How long after another thread's end a pause from `begin` to `end` may go on."""
    return max(REACTION_NS, REACTION_SHARE * (end - begin))


class _Threads:
    """The segments thread by thread."""

    def __init__(self, segments: Segments) -> None:
        self.segments = segments
        self.count = int(segments.thread.max(initial=-1)) + 1
        self.bounds = np.searchsorted(segments.thread, np.arange(self.count + 1))
        pauses = np.flatnonzero(segments.event == NONE)
        pauses = pauses[np.argsort(segments.start_ns[pauses], kind="stable")]
        self.pause_start_ns, self.pause_thread = segments.start_ns[pauses], segments.thread[pauses]

    def works_behind(self, pause: int) -> bool:
        """Whether the thread has work right behind its `pause` that is worth awaiting."""
        end = int(self.segments.end_ns[pause])
        return (
            self._busy(int(self.segments.thread[pause]), end, end + NEARBY_NS) >= WORTH_AWAITING_NS
        )

    def that_paused_before_the_end_of(self, waiter: int) -> list[int]:
        """Other threads with a pause that began a reaction time before the end of `waiter`."""
        begin, end = int(self.segments.start_ns[waiter]), int(self.segments.end_ns[waiter])
        low = int(np.searchsorted(self.pause_start_ns, max(begin, end - _reaction_ns(begin, end))))
        high = int(np.searchsorted(self.pause_start_ns, end, side="right"))
        threads = np.unique(self.pause_thread[low:high])
        return threads[threads != self.segments.thread[waiter]].tolist()  # type: ignore[no-any-return]

    def signal(self, waiter: int, other: int) -> tuple[int, int] | None:
        """(time, segment) of the work of thread `other` that ends the pause `waiter`, or None."""
        segments = self.segments
        begin, end = int(segments.start_ns[waiter]), int(segments.end_ns[waiter])
        pause = self._pause_at(other, end)
        low = self.bounds[other]
        if pause is None or pause == low:
            return None
        work, time_ns, until = pause - 1, int(segments.start_ns[pause]), int(segments.end_ns[pause])
        if not begin < time_ns <= end or end - time_ns > _reaction_ns(begin, end):
            return None
        mine = int(segments.thread[waiter])
        if self._busy(other, time_ns - NEARBY_NS, time_ns) < WORTH_AWAITING_NS:
            return None
        if self._busy(mine, end, until) >= BUSY_SHARE * (until - time_ns):
            return time_ns, work
        worthwhile = until - time_ns >= MINIMUM_GAP_NS and self._busy(
            other, begin, end
        ) >= BUSY_SHARE * (end - begin)
        return (time_ns, work) if worthwhile else None

    def _pause_at(self, thread: int, time_ns: int) -> int | None:
        """The pause in which `thread` is at `time_ns`, or that begins there."""
        segments, low, high = self.segments, self.bounds[thread], self.bounds[thread + 1]
        place = int(low + np.searchsorted(segments.end_ns[low:high], time_ns, side="right"))
        if place < high and segments.event[place] == NONE and segments.start_ns[place] <= time_ns:
            return place
        return None

    def _busy(self, thread: int, begin: int, end: int) -> int:
        """How long `thread` works in [begin, end]."""
        segments, low, high = self.segments, self.bounds[thread], self.bounds[thread + 1]
        first = low + int(np.searchsorted(segments.end_ns[low:high], begin, side="right"))
        last = low + int(np.searchsorted(segments.start_ns[low:high], end))
        inside = slice(first, last)
        overlap = np.minimum(segments.end_ns[inside], end) - np.maximum(
            segments.start_ns[inside], begin
        )
        return int(overlap[segments.event[inside] != NONE].sum())
