"""How far the replay is off, rank by step: the heat map that says how much to believe."""

from __future__ import annotations

from collections.abc import Sequence

from lumos.analysis.answers import Answers
from lumos.analysis.replay import RankReplay
from lumos.analysis.sentence import Name, Sentence, change
from lumos.report.page.heat import Cell, heat, level, shades
from lumos.report.page.panel import Panel, verb

LIMITS_PCT = (1.0, 2.0, 5.0, 10.0)
"""Where one shade ends and the next begins."""


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
    names = [step.step for step in answers.steps]
    view = heat("replay error", cells, names, ("under", "over"), shades(LIMITS_PCT))
    return Panel("errors", title, calls, _lead(list(cells.values())), "errors.html", view)


def _cell(at: str, step: str, rank: RankReplay) -> Cell:
    error_pct = rank.error_pct
    size = abs(error_pct or 0.0)
    fill = "under" if (error_pct or 0.0) < 0 else "over"
    return Cell(rank.rank, step, change(error_pct, at), fill, level(size, LIMITS_PCT), size)


def _lead(cells: Sequence[Cell]) -> Sentence:
    known = [cell for cell in cells if cell.amount.value is not None]
    if not known:
        return ("The error is unknown: nothing was measured.",)
    worst = max(known, key=lambda cell: cell.weight)
    return (
        "Largest error of a rank in a step, by the rules alone: ", worst.amount,
        f" (rank {worst.rank}, ", Name(worst.step), "). ",
        "Orange ran longer in the replay than measured, blue shorter.",
    )  # fmt: skip
