"""Pieces of own time on a host thread -> the nested spans that they were cut from.

pieces  A | call | A | b | A |        spans   A |====================|
                                        call     |====|   b    |==|
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lumos.graph.job import NONE, Rows, TaskKind

_NOT_DRAWN = (TaskKind.GAP, TaskKind.RECORD, TaskKind.SIGNAL)
_OPERATORS = (TaskKind.OPERATOR, TaskKind.COLLECTIVE)


class Span(NamedTuple):
    """From the begin of row `first` to the end of row `last`; `pieces` are the rows of its own."""

    first: int
    last: int
    pieces: tuple[int, ...]


class _Open:
    """A span whose last piece is still to come."""

    def __init__(self, key: tuple[int, int] | None, place: int) -> None:
        self.key, self.place, self.pieces = key, place, list[int]()


def is_drawn(rows: Rows) -> NDArray[np.bool_]:
    """Which rows show something: all but gaps, and records and signals that are no calls."""
    is_call = (rows.kind == TaskKind.RECORD) & (rows.event != NONE)
    shows: NDArray[np.bool_] = is_call | ~np.isin(rows.kind, _NOT_DRAWN)
    return shows


def host_spans(
    rows: Rows, thread_rows: NDArray[np.intp], *, join_calls: bool = False
) -> list[Span]:
    """Spans of the rows of one thread, given in host order; outer spans come before inner ones.

    Pieces of one operator become one span with what ran in between nested in it; with
    `join_calls`, the pieces of one call do too. A gap closes all spans, and copies of an
    operator in several blocks stay apart. Spans never cross, whatever the rows.
    """
    drawn = is_drawn(rows)[thread_rows].tolist()
    joined = (rows.event[thread_rows] != NONE) & (
        join_calls | np.isin(rows.kind[thread_rows], _OPERATORS)
    )
    pairs = zip(rows.block[thread_rows].tolist(), rows.event[thread_rows].tolist(), strict=True)
    keys = [pair if join else None for pair, join in zip(pairs, joined.tolist(), strict=True)]
    last_piece = {key: place for place, key in enumerate(keys)}
    is_gap = (rows.kind[thread_rows] == TaskKind.GAP).tolist()
    spans: list[Span] = []
    stack: list[_Open] = []
    before = NONE

    def close(last: int) -> None:
        one = stack.pop()
        spans[one.place] = Span(one.pieces[0], last, tuple(one.pieces))

    for place, row in enumerate(thread_rows.tolist()):
        key = keys[place]
        if is_gap[place]:
            while stack:
                close(before)
            continue
        if not drawn[place]:
            continue
        if key is not None and any(one.key == key for one in stack):
            while stack[-1].key != key:
                close(before)
        else:
            stack.append(_Open(key, len(spans)))
            spans.append(Span(row, row, (row,)))
        stack[-1].pieces.append(row)
        before = row
        while stack and (stack[-1].key is None or last_piece[stack[-1].key] <= place):
            close(row)
    while stack:
        close(before)
    return spans
