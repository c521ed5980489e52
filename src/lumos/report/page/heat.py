"""A heat map of ranks and steps: what several panels draw."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lumos.analysis.sentence import Amount

MOST_CELLS = 128
"""Cells in a line, and lines, that there is room for."""
ROOM_FOR_DIGITS = 12
"""Cells in a line up to which the amount is written in each."""
MOST_LABELS = 12
"""Labels below the cells."""


@dataclass(frozen=True)
class Cell:
    """The amount of one rank in one step: which fill it has, and which of the shades."""

    rank: int
    step: str
    amount: Amount
    fill: str
    level: int
    weight: float


@dataclass(frozen=True)
class Line:
    """Cells in a line: of one step, or of one rank where there are more steps than ranks.

    A cell is None where the rank did nothing in the step.
    """

    label: str
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True)
class Heat:
    """What the template draws: lines of cells of `what`; `columns` are the labels of every line's cells.

    `shades` are the words of each shade, `fills` the fills that have them.
    """

    what: str
    lines: tuple[Line, ...]
    columns: tuple[str, ...]
    columns_are: str
    fills: tuple[str, ...]
    shades: tuple[str, ...]
    left_out: int

    @property
    def axis(self) -> list[tuple[str, float]]:
        """The labels below the columns that there is room for, and where each stands [%]."""
        count = len(self.columns)
        every = -(-count // MOST_LABELS)
        return [
            (self.columns[place], round(100 * (place + 0.5) / count, 3))
            for place in range(0, count, every)
        ]

    @property
    def written(self) -> bool:
        """Whether the digits have room."""
        return len(self.columns) <= ROOM_FOR_DIGITS


def heat(
    what: str,
    cells: Mapping[tuple[int, int], Cell],
    names: Sequence[str],
    fills: Sequence[str],
    shades: Sequence[str],
) -> Heat:
    """The cells by (place of the step, rank); where there are too many, those of the largest weight."""
    steps = _weightiest(sorted({step for step, _ in cells}), cells, 0)
    ranks = _weightiest(sorted({rank for _, rank in cells}), cells, 1)
    left_out = len(cells) - sum((s, r) in cells for s in steps for r in ranks)
    if len(steps) <= len(ranks):
        lines = [Line(names[s], tuple(cells.get((s, r)) for r in ranks)) for s in steps]
        columns, columns_are = tuple(str(rank) for rank in ranks), "rank"
    else:
        lines = [Line(f"rank {r}", tuple(cells.get((s, r)) for s in steps)) for r in ranks]
        columns, columns_are = tuple(names[s] for s in steps), "step"
    return Heat(what, tuple(lines), columns, columns_are, tuple(fills), tuple(shades), left_out)


def shades(limits_pct: Sequence[float]) -> tuple[str, ...]:
    """The words of the shades that lie between these limits."""
    limits = [f"{limit:g}" for limit in limits_pct]
    between = [f"{low}\u2013{high} %" for low, high in itertools.pairwise(limits)]
    return (f"to {limits[0]} %", *between, f"beyond {limits[-1]} %")


def level(size_pct: float, limits_pct: Sequence[float]) -> int:
    """Which shade a size has."""
    return sum(size_pct > limit for limit in limits_pct)


def _weightiest(keys: list[int], cells: Mapping[tuple[int, int], Cell], axis: int) -> list[int]:
    """The steps or ranks of the largest weights that there is room for, in their order."""
    if len(keys) <= MOST_CELLS:
        return keys
    size = dict.fromkeys(keys, 0.0)
    for key, cell in cells.items():
        size[key[axis]] = max(size[key[axis]], cell.weight)
    return sorted(sorted(keys, key=lambda key: -size[key])[:MOST_CELLS])
