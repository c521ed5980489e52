"""Clocks: ranks whose collectives end together tell how far their clocks are apart.

rank 0 |===== all-reduce =====|
rank 1       |== all-reduce ==|      ends agree within microseconds, starts do not

Ranks that share no collective, stages of a pipeline, say, have their messages: none can arrive
before it was sent.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

DRIFT_SPAN_NS = 200_000_000
"""A drift is fitted only where the shared collectives spread over at least this long."""
DRIFT_CASES = 8
SIGNIFICANT = 2 * 1.4826 * 1.2533
"""Two standard errors of a median, from the median absolute deviation of n cases, over sqrt(n):
1.4826 makes a standard deviation of the latter, 1.2533 = sqrt(pi / 2) that of the median."""
DISAGREEMENT_NS = 1_000_000
"""Messages may contradict any one offset by this much, which a drift explains."""
UNBOUNDED_NS = 2**62


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


class Message(NamedTuple):
    """A message between the ranks at two places, each end by its own clock."""

    sender: int
    receiver: int
    sent_ns: int
    received_ns: int


def align_clocks(
    ends: Sequence[Ends], messages: Sequence[Message] = (), hosts: Sequence[str] = ()
) -> list[Clock | None]:
    """The clock of each rank against the first one; None where nothing links it.

    `hosts` names for each rank the host whose clock timed all of it, "" where unknown: ranks of one
    host have one clock. The others are linked pair by pair through collectives they share; where
    that ends, through the pair with the most messages.
    """
    if not ends:
        return []
    found = _Clocks(ends, hosts or [""] * len(ends))
    found.give(0, Clock(0.0, 0.0, 0))
    exchanged = Counter(frozenset(one[:2]) for one in messages)
    pairs = [pair for pair, _ in exchanged.most_common()]
    while any(_link(found, pair, messages) for pair in pairs):
        pass
    return found.of


class _Clocks:
    """The clocks that are known so far: of each place, None where not yet."""

    def __init__(self, ends: Sequence[Ends], hosts: Sequence[str]) -> None:
        self.ends, self.hosts = ends, hosts
        self.of: list[Clock | None] = [None] * len(ends)

    def give(self, first: int, clock: Clock) -> None:
        """A rank's clock is its host's; so are those of ranks that share collectives with any of them."""
        queue = deque(self._take(first, clock))
        while queue:
            known = queue.popleft()
            for other in range(len(self.of)):
                if self.of[other] is None and (fitted := self._fit(known, other)) is not None:
                    queue.extend(self._take(other, fitted))

    def _take(self, place: int, clock: Clock) -> list[int]:
        """The places of the ranks that this clock is given to: one, and all of its host."""
        host = self.hosts[place]
        taken = [
            one
            for one, known in enumerate(self.of)
            if one == place or (known is None and self.hosts[one] == host != "")
        ]
        for one in taken:
            self.of[one] = clock
        return taken

    def _fit(self, known: int, other: int) -> Clock | None:
        """The clock of a rank by the collectives that it shares with a known one."""
        reference, shared = self.of[known], self.ends[known].keys() & self.ends[other].keys()
        if reference is None or not shared:
            return None
        keys = sorted(shared, key=lambda key: self.ends[known][key])
        here = np.array([self.ends[other][key] for key in keys], np.int64)
        there = np.array([self.ends[known][key] for key in keys], np.int64)
        return _fit(here, reference.correct(there))


def _link(clocks: _Clocks, pair: Collection[int], messages: Sequence[Message]) -> bool:
    """Whether the messages of a pair of ranks gave a clock to one that had none."""
    known, other = sorted(pair, key=lambda place: clocks.of[place] is None)
    reference = clocks.of[known]
    if reference is None or clocks.of[other] is not None:
        return False
    clock = _bounded(reference, known, other, messages)
    if clock is not None:
        clocks.give(other, clock)
    return clock is not None


def _bounded(reference: Clock, known: int, other: int, messages: Sequence[Message]) -> Clock | None:
    """The clock of the rank at `other` by its messages with the rank at `known`, whose clock is known.

    A message arrives after it was sent: each way bounds the offset from one side (Cristian 1989).
    Clocks that contradict no message are left as they are; else the offset is the middle of what is
    possible, or the bound where messages go one way only. None where no offset is possible: then
    they are not pairs of sends and receives.
    """
    shared = [one for one in messages if {one.sender, one.receiver} == {known, other}]
    outward = np.array([one.sender == known for one in shared])
    sent = np.array([one.sent_ns for one in shared], np.int64)
    received = np.array([one.received_ns for one in shared], np.int64)
    there = reference.correct(np.where(outward, sent, received))
    apart = np.where(outward, received, sent) - there
    highest = int(apart[outward].min(initial=UNBOUNDED_NS))
    lowest = int(apart[~outward].max(initial=-UNBOUNDED_NS))
    if lowest - highest > DISAGREEMENT_NS:
        return None
    if lowest <= 0 <= highest:
        return Clock(0.0, 0.0, 0)
    bounds = [bound for bound in (lowest, highest) if abs(bound) < UNBOUNDED_NS]
    return Clock(sum(bounds) / len(bounds), 0.0, 0)


def _fit(here: NDArray[np.int64], there: NDArray[np.int64]) -> Clock:
    """Offset, and drift where enough is known: median slope and median rest (Theil 1950, Sen 1968).

    An offset that the scatter of the ends explains alone is none: gloo's ends lie ms apart where
    cores are short, on one host with one clock.
    """
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
    offset = float(np.median(difference - drift * elapsed))
    spread = float(np.median(np.abs(difference - drift * elapsed - offset)))
    if drift == 0 and abs(offset) <= SIGNIFICANT * spread / len(here) ** 0.5:
        offset = 0.0
    return Clock(offset, drift, origin)
