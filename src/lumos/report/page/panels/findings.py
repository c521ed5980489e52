"""What was repaired, dropped, missing or assumed."""

from __future__ import annotations

from dataclasses import dataclass

from lumos.analysis.answers import Answers
from lumos.analysis.sentence import Amount, Sentence, time
from lumos.report.page.panel import Panel, verb

MOST_FINDINGS = 30


@dataclass(frozen=True)
class Item:
    """One finding."""

    severity: str
    message: str
    advice: str
    affected: Amount


@dataclass(frozen=True)
class View:
    """What the template draws."""

    items: tuple[Item, ...]
    left_out: int


def findings_panel(answers: Answers) -> Panel:
    """The gravest first."""
    calls = (verb("replay", "traces.findings"),)
    title = "Findings and assumptions"
    order = ("error", "warning", "info")
    items = [
        Item(
            one.severity, one.message, one.advice,
            time(one.affected_ns, f"/replay/findings/{place}/affected_ms"),
        )
        for place, one in enumerate(answers.findings)
    ]  # fmt: skip
    items.sort(key=lambda item: order.index(item.severity))
    if not items:
        absent = "Nothing was repaired, dropped, missing or assumed."
        return Panel("findings", title, calls, absent=absent)
    view = View(tuple(items[:MOST_FINDINGS]), len(items) - len(items[:MOST_FINDINGS]))
    lead: Sentence = ("What was repaired, dropped, missing or assumed, and the time it touches.",)
    return Panel("findings", title, calls, lead, "findings.html", view)
