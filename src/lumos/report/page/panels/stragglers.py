"""Who makes the job slower than is typical: ranks step by step, and what each costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lumos.analysis.answers import Answers
from lumos.analysis.sentence import Amount, Sentence, Unit, key, share, time
from lumos.analysis.straggler_causes import Cause
from lumos.analysis.stragglers import Group, StepStragglers
from lumos.graph.job import Grain
from lumos.report.page.heat import Cell, Heat, heat, level, shades
from lumos.report.page.panel import Panel, verb
from lumos.report.text.stragglers import CAUSE_WORDS

LIMITS_PCT = (2.0, 5.0, 10.0, 25.0)
"""Where one shade ends and the next begins."""
MOST_ROWS = 12
"""Ranks and operations that are shown, the dearest first."""


@dataclass(frozen=True)
class Row:
    """One group: what it costs, its share of the step, how much it slows an even job, why."""

    label: str
    cost: Amount
    share: Amount
    alone: Amount
    cause: str


@dataclass(frozen=True)
class Table:
    """The groups of one kind; `left_out` counts those that are not shown."""

    title: str
    rows: tuple[Row, ...]
    left_out: int

    @property
    def caused(self) -> bool:
        """Whether any of them has a cause."""
        return any(row.cause for row in self.rows)


@dataclass(frozen=True)
class View:
    """What the template draws; `typical` says what the ranks are held against."""

    heat: Heat
    tables: tuple[Table, ...]
    typical: str


def stragglers_panel(answers: Answers) -> Panel:
    """All ranks in all steps, and the costs in the step that was looked at."""
    found = answers.stragglers
    calls = (verb("stragglers", "traces.stragglers()"),)
    title = "Who is slower than is typical"
    if len(found.steps[0].ranks) < 2:
        return Panel("stragglers", title, calls, absent="One rank was traced: there is no other one to hold it against.")  # fmt: skip
    cells = {
        (place, rank): _cell(place, step, rank, group)
        for place, step in enumerate(found.steps)
        for rank, group in step.ranks.items()
    }
    names = [step.step for step in found.steps]
    ranks = heat("slows an even job", cells, names, ("over",), shades(LIMITS_PCT))
    step, at = found.steps[answers.chosen], f"/stragglers/steps/{answers.chosen}"
    tables = [_table("By rank", step, at, "rank", step.ranks)]
    if step.stages is not None and len(step.stages) > 1:
        tables.append(_table("By stage", step, at, "stage", step.stages))
    tables.append(_table("By kind of operation", step, at, "operation", step.operations))
    whole_operations = found.grain is Grain.OPERATION
    typical = (
        "the mean of all computes of a type, the median of its transfers"
        if whole_operations
        else "the median rank's median step, row by row (of two the faster one)"
    )
    view = View(ranks, tuple(one for one in tables if one.rows), typical)
    return Panel("stragglers", title, calls, _lead(step, at), "stragglers.html", view)


def _cell(place: int, step: StepStragglers, rank: int, group: Group) -> Cell:
    slowdown = step.slowdown_of(group)
    slower_pct = 0.0 if slowdown is None else 100.0 * (slowdown - 1.0)
    amount = Amount(slowdown, Unit.RATIO, f"/stragglers/steps/{place}/by_rank/{rank}")
    return Cell(rank, step.step, amount, "over", level(slower_pct, LIMITS_PCT), slower_pct)


def _table(
    title: str,
    step: StepStragglers,
    at: str,
    what: str,
    groups: Mapping[int, Group] | Mapping[str, Group],
) -> Table:
    whole = time(step.without_delay_ns, f"{at}/without_delay_ms")
    rows = []
    for place, (name, group) in enumerate(groups.items()):
        cost = time(step.cost_ns(group), f"{at}/{what}s/{place}/cost_ms")
        alone = Amount(
            step.slowdown_of(group), Unit.RATIO, f"{at}/by_{what}/{key(str(name))}"
        )  # fmt: skip
        cause = step.causes[int(name)] if what == "rank" else Cause.NONE  # type: ignore[call-overload]
        label = str(name).replace("_", " ") if what == "operation" else f"{what} {name}"
        rows.append(Row(label, cost, share(cost, whole), alone, CAUSE_WORDS[cause]))
    rows.sort(key=lambda row: (-(row.cost.value or 0), -(row.alone.value or 0)))
    return Table(title, tuple(rows[:MOST_ROWS]), len(rows[MOST_ROWS:]))


def _lead(step: StepStragglers, at: str) -> Sentence:
    """How much slower than with everything typical, and what is compared."""
    real = time(step.without_delay_ns, f"{at}/without_delay_ms")
    even = time(step.without_stragglers_ns, f"{at}/without_stragglers_ms")
    return (
        "Were every rank as fast as the typical one in all it does, the step would take ", even,
        " instead of ", real, ". Each field: by how much that rank alone would slow such an even job.",
    )  # fmt: skip
