"""Bars cut into pieces: what several panels draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lumos.analysis.sentence import Amount, share

LEAST_WRITTEN_PCT = 8.0
"""A piece with less of the bar is not written on."""
DARK_INK = frozenset({"idle", "pause", "call", "wait", "host"})
"""Fills on which the page's own ink reads better than its ground."""


@dataclass(frozen=True)
class Piece:
    """A piece of a bar: where it lies and how long it is [% of the room], its time and share."""

    words: str
    fill: str
    left_pct: float
    width_pct: float
    amount: Amount
    share: Amount

    @property
    def written(self) -> bool:
        """Whether its number has room."""
        return self.width_pct >= LEAST_WRITTEN_PCT

    @property
    def ink(self) -> str:
        """The class of what is written on it."""
        return "" if self.fill in DARK_INK else "on"


@dataclass(frozen=True)
class Bar:
    """A span in one run, cut into pieces."""

    run: str
    span: Amount
    pieces: tuple[Piece, ...]


def bar(run: str, span: Amount, parts: Sequence[tuple[str, str, Amount]], room_ns: float) -> Bar:
    """A bar of parts (words, fill, time) that lie one behind the other, where there is room for `room_ns`."""
    pieces, left = [], 0.0
    for words, fill, amount in parts:
        width = 100.0 * (amount.value or 0) / max(room_ns, 1)
        pieces.append(Piece(words, fill, left, width, amount, share(amount, span)))
        left += width
    return Bar(run, span, tuple(pieces))
