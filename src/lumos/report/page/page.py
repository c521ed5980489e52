"""The page of a job: which panels it has, in which order."""

from __future__ import annotations

from lumos.analysis.answers import Answers
from lumos.analysis.baseline import Basis
from lumos.analysis.sentence import Name, Sentence, change, time
from lumos.analysis.verdict import verdict
from lumos.report.page.frame import Figure, Head, render
from lumos.report.page.panels.bounds import bounds_panel
from lumos.report.page.panels.breakdown import breakdown_panel
from lumos.report.page.panels.communication import communication_panel
from lumos.report.page.panels.cost import cost_panel
from lumos.report.page.panels.errors import errors_panel
from lumos.report.page.panels.findings import findings_panel
from lumos.report.page.panels.idle import idle_panel
from lumos.report.page.panels.path import path_panel
from lumos.report.page.panels.stragglers import stragglers_panel
from lumos.report.page.panels.timeline import timeline_panel
from lumos.report.page.panels.utilization import utilization_panel

PANELS = (
    breakdown_panel,
    idle_panel,
    timeline_panel,
    path_panel,
    cost_panel,
    bounds_panel,
    stragglers_panel,
    communication_panel,
    utilization_panel,
    errors_panel,
    findings_panel,
)


def page(answers: Answers, title: str) -> str:
    """The whole page as HTML."""
    return render(_head(answers, title), [panel(answers) for panel in PANELS])


def _head(answers: Answers, title: str) -> Head:
    found = verdict(answers)
    return Head(
        title=title,
        of=_of(answers),
        verdict=[claim.sentence for claim in found.claims],
        reasons=[found.trust],
        figures=_figures(answers),
    )


def _of(answers: Answers) -> Sentence:
    """What the page is of: ranks, hardware, steps."""
    placement, steps = answers.job.placement, len(answers.steps)
    traced = len(placement.ranks)
    gpu: Sentence = (" on ", Name(placement.gpu)) if placement.gpu else ()
    ranks = "rank" if placement.world_size == 1 else "ranks"
    more = f" of {steps} steps" if steps > 1 else ""
    looked: Sentence = (" · ", Name(answers.step.step), more)
    return (f"{traced} of {placement.world_size} {ranks}", *gpu, *looked)


def _figures(answers: Answers) -> list[Figure]:
    step, unchanged = answers.step, answers.costs.unchanged
    at, of = f"/replay/steps/{answers.chosen}", "/cost/steps/0"
    measured = time(step.measured_ns, f"{at}/measured_ms")
    found = [
        Figure("Step as measured", measured, ("from its first task to its last",)),
        Figure(
            "Replay error",
            change(step.error_pct, f"{at}/error_pct"),
            ("replayed in ", time(step.replayed_ns, f"{at}/replayed_ms")),
        ),
    ]
    if unchanged.basis is Basis.BACK_TO_BACK:
        note: Sentence = ("its period is unknown: no step before it",)
        if unchanged.measured_ns is not None:
            words = "period measured " if unchanged.own else "steps like it had a period of "
            note = (words, time(unchanged.measured_ns, f"{of}/measured_ms"))
        found.append(Figure("Run back to back", time(unchanged.length_ns, f"{of}/length_ms"), note))
    return found
