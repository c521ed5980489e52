"""Hand-offs: one host thread goes on when another one has finished its part.

main      | forward |................| optimizer |
autograd            | backward ops   |
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lumos.build.bisection import first_above, first_at_least
from lumos.build.threads import Segments
from lumos.compiled import compiled
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
    count = int(segments.thread.max(initial=-1)) + 1
    if count < 2:
        return []
    pauses = np.flatnonzero(segments.event == NONE)
    begun = pauses[np.argsort(segments.start_ns[pauses], kind="stable")]
    found = _find(
        segments.event != NONE, segments.thread, segments.start_ns, segments.end_ns,
        np.searchsorted(segments.thread, np.arange(count + 1)), pauses,
        segments.start_ns[begun], segments.thread[begun],
    )  # fmt: skip
    return [HandOff(*row) for row in found.tolist()]


@compiled()
def _find(works, thread, start, end, bounds, pauses, begun_ns, begun_thread):  # type: ignore[no-untyped-def]
    """(waiter, signaller, time) of each hand-off; `begun_*` are the pauses in order of time."""
    found = np.empty((len(pauses), 3), np.int64)
    tried = np.full(len(bounds), -1, np.int64)
    n = 0
    for waiter in pauses:
        begin, stop = start[waiter], end[waiter]
        if stop - begin < MINIMUM_GAP_NS:
            continue
        if (
            _busy(works, start, end, bounds, thread[waiter], stop, stop + NEARBY_NS)
            < WORTH_AWAITING_NS
        ):
            continue
        best_ns, best = np.int64(-1), np.int64(-1)
        # threads that paused a reaction time before the end
        earliest = max(float(begin), stop - _reaction_ns(begin, stop))
        low = first_at_least(begun_ns, 0, len(begun_ns), earliest)
        high = first_above(begun_ns, low, len(begun_ns), stop)
        for place in range(low, high):
            other = begun_thread[place]
            if other == thread[waiter] or tried[other] == waiter:
                continue
            tried[other] = waiter
            pause = _pause_at(works, start, end, bounds, other, stop)
            if pause <= bounds[other]:
                continue
            if _signals(works, thread, start, end, bounds, waiter, other, pause):
                work = pause - 1
                if start[pause] > best_ns or (start[pause] == best_ns and work > best):
                    best_ns, best = start[pause], work
        if best >= 0:
            found[n, 0], found[n, 1], found[n, 2] = waiter, best, best_ns
            n += 1
    return found[:n]


@compiled()
def _signals(works, thread, start, end, bounds, waiter, other, pause):  # type: ignore[no-untyped-def]
    """Whether the work of thread `other` in front of its `pause` ends the pause `waiter`."""
    begin, stop = start[waiter], end[waiter]
    time_ns, until = start[pause], end[pause]
    if not begin < time_ns <= stop or stop - time_ns > _reaction_ns(begin, stop):
        return False
    if _busy(works, start, end, bounds, other, time_ns - NEARBY_NS, time_ns) < WORTH_AWAITING_NS:
        return False
    taken_up = _busy(works, start, end, bounds, thread[waiter], stop, until)
    if taken_up >= BUSY_SHARE * (until - time_ns):
        return True
    worked = _busy(works, start, end, bounds, other, begin, stop)
    return until - time_ns >= MINIMUM_GAP_NS and worked >= BUSY_SHARE * (stop - begin)


@compiled()
def _reaction_ns(begin, end):  # type: ignore[no-untyped-def]
    """How long after another thread's end a pause from `begin` to `end` may go on."""
    return max(float(REACTION_NS), REACTION_SHARE * (end - begin))


@compiled()
def _pause_at(works, start, end, bounds, thread, time_ns):  # type: ignore[no-untyped-def]
    """The pause in which `thread` is at `time_ns`, or that begins there; -1 without one."""
    low, high = bounds[thread], bounds[thread + 1]
    place = first_above(end, low, high, time_ns)
    if place < high and not works[place] and start[place] <= time_ns:
        return place
    return -1


@compiled()
def _busy(works, start, end, bounds, thread, begin, stop):  # type: ignore[no-untyped-def]
    """How long `thread` works in [begin, stop]."""
    low, high = bounds[thread], bounds[thread + 1]
    place = first_above(end, low, high, begin)
    total = np.int64(0)
    while place < high and start[place] < stop:
        if works[place]:
            total += min(end[place], stop) - max(start[place], begin)
        place += 1
    return total
