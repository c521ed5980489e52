"""The bounds ladder as a waterfall: how fast the step could be with one limit after another gone."""

from __future__ import annotations

from dataclasses import dataclass

from lumos.analysis.answers import Answers
from lumos.analysis.sentence import Amount, Sentence, percent, share, time
from lumos.report.page.panel import Panel, verb
from lumos.report.text.cost import RUNG_WORDS


@dataclass(frozen=True)
class Step:
    """One rung: what is left with it and all before it gone [% of the step], and what it took off."""

    words: str
    together: Amount
    gain: Amount
    alone: Amount
    left_pct: float
    taken_pct: float
    reason: str
    unknown: Amount


@dataclass(frozen=True)
class View:
    """What the template draws."""

    length: Amount
    steps: tuple[Step, ...]


def bounds_panel(answers: Answers) -> Panel:
    """The ladder of the step that was looked at."""
    found, name = answers.bounds, answers.step.step
    calls = (verb("cost", f"traces.bounds({name!r})", name),)
    length_ns = max(found.unchanged.length_ns, 1)
    length = time(found.unchanged.length_ns, "/cost/steps/0/length_ms")
    steps, before = [], 100.0
    for place, one in enumerate(found.bounds):
        at = f"/cost/steps/0/bounds/{place}"
        left = 100.0 * one.together_ns / length_ns
        gain_ns = None if one.alone_ns is None else found.unchanged.length_ns - one.alone_ns
        steps.append(
            Step(
                words=RUNG_WORDS[one.rung],
                together=time(one.together_ns, f"{at}/together_ms"),
                gain=share(
                    time(found.unchanged.length_ns - one.together_ns, f"{at}/together_gain_ms"),
                    length,
                ),
                alone=share(time(gain_ns, f"{at}/alone_gain_ms"), length),
                left_pct=min(left, before),
                taken_pct=max(before - left, 0.0),
                reason=one.reason,
                unknown=percent(one.unknown_pct, f"{at}/unknown_pct"),
            )
        )
        before = left
    title = "How fast it could be"
    view = View(length, tuple(steps))
    return Panel("bounds", title, calls, _lead(view), "bounds.html", view)


def _lead(view: View) -> Sentence:
    last = view.steps[-1]
    return (
        "With one limit after another gone the step would take ", last.together, " instead of ",
        view.length, ". None of them is a plan; they say where time can be looked for at all.",
    )  # fmt: skip
