"""How far the replay is off, rank by step: the heat map that says how much to believe."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from lumos.analysis.answers import Answers
from lumos.analysis.replay import RankReplay
from lumos.analysis.sentence import Amount, Name, Sentence, change
from lumos.report.page.panel import Panel, verb

MOST_CELLS = 128
"""Cells in a line, and lines, that there is room for."""
LEVELS_PCT = (1.0, 2.0, 5.0, 10.0)
"""Where one shade ends and the next begins."""
ROOM_FOR_DIGITS = 12
"""Cells in a line up to which the error is written in each."""

MOST_LABELS = 12
"""Labels below the cells."""


@dataclass(frozen=True)
class Cell:
    """The error of one rank in one step; None where the rank did nothing in it."""

    rank: int
    step: str
    error: Amount
    fill: str
    level: int


@dataclass(frozen=True)
class Line:
    """Cells in a line: of one step, or of one rank where there are more steps than ranks."""

    label: str
    is_step: bool
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True)
class View:
    """What the template draws; `columns` are the labels of the cells of every line."""

    lines: tuple[Line, ...]
    columns: tuple[str, ...]
    columns_are: str
    levels: tuple[str, ...]
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


def errors_panel(answers: Answers) -> Panel:
    """All ranks and steps; where there are too many, those of the largest errors."""
    calls = (verb("replay", "[run.figures for run in traces.replays()]"),)
    cells = {
        (place, rank.rank): _cell(
            f"/replay/steps/{place}/ranks/{number}/error_pct", step.step, rank
        )
        for place, step in enumerate(answers.steps)
        for number, rank in enumerate(step.ranks)
    }
    title = "How far the replay is off"
    if not cells:
        return Panel("errors", title, calls, absent="No rank did anything in any step.")
    steps = _worst(sorted({step for step, _ in cells}), cells, 0)
    ranks = _worst(sorted({rank for _, rank in cells}), cells, 1)
    left_out = len(cells) - sum((s, r) in cells for s in steps for r in ranks)
    names = [answers.steps[place].step for place in steps]
    if len(steps) <= len(ranks):
        lines = tuple(
            Line(name, True, tuple(cells.get((s, r)) for r in ranks))
            for s, name in zip(steps, names, strict=True)
        )
        columns, columns_are = tuple(str(rank) for rank in ranks), "rank"
    else:
        lines = tuple(
            Line(f"rank {r}", False, tuple(cells.get((s, r)) for s in steps)) for r in ranks
        )
        columns, columns_are = tuple(names), "step"
    view = View(lines, columns, columns_are, _levels(), left_out)
    return Panel("errors", title, calls, _lead(list(cells.values())), "errors.html", view)


def _cell(at: str, step: str, rank: RankReplay) -> Cell:
    error_pct = rank.error_pct
    level = sum(abs(error_pct or 0.0) > limit for limit in LEVELS_PCT)
    fill = "under" if (error_pct or 0.0) < 0 else "over"
    return Cell(rank.rank, step, change(error_pct, at), fill, level)


def _worst(keys: list[int], cells: dict[tuple[int, int], Cell], axis: int) -> list[int]:
    """The steps or ranks of the largest errors that there is room for, in their order."""
    if len(keys) <= MOST_CELLS:
        return keys
    size = dict.fromkeys(keys, 0.0)
    for key, cell in cells.items():
        size[key[axis]] = max(size[key[axis]], abs(cell.error.value or 0.0))
    return sorted(sorted(keys, key=lambda key: -size[key])[:MOST_CELLS])


def _lead(cells: list[Cell]) -> Sentence:
    known = [cell for cell in cells if cell.error.value is not None]
    if not known:
        return ("The error is unknown: nothing was measured.",)
    worst = max(known, key=lambda cell: abs(cell.error.value or 0.0))
    return (
        "Largest error of a rank in a step, by the rules alone: ", worst.error,
        f" (rank {worst.rank}, ", Name(worst.step), "). ",
        "Orange ran longer in the replay than measured, blue shorter.",
    )  # fmt: skip


def _levels() -> tuple[str, ...]:
    limits = [f"{limit:g}" for limit in LEVELS_PCT]
    between = [f"{low}\u2013{high} %" for low, high in itertools.pairwise(limits)]
    return (f"to {limits[0]} %", *between, f"beyond {limits[-1]} %")
