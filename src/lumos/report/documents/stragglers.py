"""What `lumos stragglers --json` prints, in milliseconds, percent and factors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lumos.analysis.straggler_causes import Cause
from lumos.analysis.stragglers import Group, StepStragglers, Stragglers
from lumos.graph.finding import Finding
from lumos.graph.job import Placement
from lumos.report.documents.encoding import (
    Document,
    finding_document,
    job_document,
    milliseconds,
    percentage,
)

STRAGGLERS_SCHEMA = "lumos.stragglers/1"


def stragglers_document(
    placement: Placement, found: Stragglers, findings: Iterable[Finding]
) -> Document:
    """What `lumos stragglers --json` prints; schemas/stragglers-1.json describes it.

    Where nothing has a like to be held against, what is typical is unknown: null.
    """
    overall, known = found.overall(), found.compares
    return {
        "schema": STRAGGLERS_SCHEMA,
        "job": job_document(placement),
        "steps": [_step(step, known) for step in found.steps],
        "overall": {
            "slowdown": _factor(overall.slowdown) if known else None,
            "by_dp_rank": _slowdowns(overall, overall.dp_ranks, known),
            "by_stage": _slowdowns(overall, overall.stages, known),
            "by_operation": _slowdowns(overall, overall.operations, known),
        },
        "compared_pct": {
            "other_ranks": percentage(found.compared_pct),
            "own_steps": percentage(found.alone_pct),
        },
        "findings": [finding_document(finding) for finding in findings],
    }


def _step(step: StepStragglers, known: bool) -> Document:
    def cost_ms(group: Group) -> float | None:
        return milliseconds(step.cost_ns(group)) if known else None

    return {
        "step": step.step,
        "measured_ms": milliseconds(step.measured_ns),
        "without_delay_ms": milliseconds(step.without_delay_ns),
        "without_stragglers_ms": milliseconds(step.without_stragglers_ns) if known else None,
        "slowdown": _factor(step.slowdown) if known else None,
        "by_rank": _slowdowns(step, step.ranks, known),
        "by_dp_rank": _slowdowns(step, step.dp_ranks, known),
        "by_stage": _slowdowns(step, step.stages, known),
        "by_operation": _slowdowns(step, step.operations, known),
        "ranks": [
            {
                "rank": rank,
                "cost_ms": cost_ms(group),
                "cause": step.causes[rank].value if known else Cause.NONE.value,
            }
            for rank, group in step.ranks.items()
        ],
        "stages": None
        if step.stages is None
        else [{"stage": key, "cost_ms": cost_ms(group)} for key, group in step.stages.items()],
        "operations": [
            {"operation": key, "cost_ms": cost_ms(group)} for key, group in step.operations.items()
        ],
    }


def _slowdowns(
    step: StepStragglers, groups: Mapping[int, Group] | Mapping[str, Group] | None, known: bool
) -> Document | None:
    if groups is None or not known:
        return None
    return {str(key): _factor(step.slowdown_of(group)) for key, group in groups.items()}


def _factor(slowdown: float | None) -> float | None:
    return None if slowdown is None else round(slowdown, 9)
