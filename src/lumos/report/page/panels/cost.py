"""What each part of the step costs: what it gains if the part were faster."""

from __future__ import annotations

from dataclasses import dataclass

from lumos.analysis.answers import Answers
from lumos.analysis.baseline import Basis
from lumos.analysis.cost import Cost, Grouping
from lumos.analysis.sentence import Amount, Name, Sentence, change, count, share, time
from lumos.report.page.panel import Panel, verb

MOST_PARTS = 12
"""Parts of a grouping that are shown, largest gain first."""
_TITLES = {
    Grouping.CLASS: "By class of task",
    Grouping.OPERATOR: "By operator",
    Grouping.KERNEL: "By kernel",
    Grouping.LAYER: "By layer",
    Grouping.PHASE: "By phase",
    Grouping.STREAM: "By thread and stream",
    Grouping.RANK: "By rank, communication apart",
    Grouping.HOST: "By host of a rank",
}


@dataclass(frozen=True)
class Row:
    """A part, its tasks, and the gains."""

    label: str
    tasks: Amount
    own: Amount
    gains: tuple[Amount, Amount, Amount]
    half: Amount
    within_error: bool


@dataclass(frozen=True)
class Table:
    """The parts of one grouping; `left_out` counts those that are not shown."""

    title: str
    rows: tuple[Row, ...]
    left_out: int


@dataclass(frozen=True)
class View:
    """What the template draws."""

    tables: tuple[Table, ...]
    error: Amount
    length: Amount


def cost_panel(answers: Answers) -> Panel:
    """The parts of the step that was looked at, by every grouping that was tried."""
    found, name = answers.costs, answers.step.step
    calls = (verb("cost", f"traces.cost({name!r})", name),)
    title = "What would make it faster"
    if not found.costs:
        return Panel("cost", title, calls, absent="Nothing in this step takes time.")
    unchanged = found.unchanged
    length = time(unchanged.length_ns, "/cost/steps/0/length_ms")
    error = unchanged.error_ns or 0
    tables = []
    for by in found.left_out:
        rows = [
            _row(place, one, length, error) for place, one in enumerate(found.costs) if one.by is by
        ]
        if rows:
            left_out = len(rows) - len(rows[:MOST_PARTS]) + found.left_out[by]
            tables.append(Table(_TITLES[by], tuple(rows[:MOST_PARTS]), left_out))
    view = View(
        tuple(tables),
        change(unchanged.error_pct, "/cost/steps/0/error_pct"),
        length,
    )
    return Panel("cost", title, calls, _lead(answers, tables[0].rows[0], length), "cost.html", view)


def _row(place: int, one: Cost, length: Amount, error_ns: int) -> Row:
    at = f"/cost/steps/0/costs/{place}"
    tenth, half, free = (
        time(one.gain_10_pct_ns, f"{at}/gain_10_pct_ms"),
        time(one.gain_half_ns, f"{at}/gain_half_ms"),
        time(one.gain_free_ns, f"{at}/gain_free_ms"),
    )
    label = one.label.replace("_", " ") if one.by is Grouping.CLASS else one.label
    return Row(
        label,
        count(one.tasks, f"{at}/tasks"),
        time(one.own_ns, f"{at}/own_ms"),
        (tenth, half, free),
        share(half, length),
        abs(one.gain_half_ns) <= error_ns,
    )


def _lead(answers: Answers, best: Row, length: Amount) -> Sentence:
    back_to_back = answers.costs.unchanged.basis is Basis.BACK_TO_BACK
    how = ", back to back as in training" if back_to_back else " from its recorded start"
    return (
        f"Each part is made faster and the step is run again{how}; it takes ", length, ". ",
        Name(best.label), " twice as fast gains ", best.gains[1], " (", best.half, ").",
    )  # fmt: skip
