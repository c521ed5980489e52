"""What `lumos stragglers --json` prints, in milliseconds, percent and factors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lumos.analysis.stragglers import Group, StepStragglers, Stragglers
from lumos.graph.finding import Finding
from lumos.report.documents.encoding import Document, finding_document, milliseconds, percentage

STRAGGLERS_SCHEMA = "lumos.stragglers/1"


def stragglers_document(found: Stragglers, findings: Iterable[Finding]) -> Document:
    """What `lumos stragglers --json` prints; schemas/stragglers-1.json describes it."""
    overall = found.overall()
    return {
        "schema": STRAGGLERS_SCHEMA,
        "steps": [_step(step) for step in found.steps],
        "overall": {
            "slowdown": _factor(overall.slowdown),
            "by_dp_rank": _slowdowns(overall, overall.dp_ranks),
            "by_stage": _slowdowns(overall, overall.stages),
            "by_operation": _slowdowns(overall, overall.operations),
        },
        "compared_pct": {
            "other_ranks": percentage(found.compared_pct),
            "own_steps": percentage(found.alone_pct),
        },
        "findings": [finding_document(finding) for finding in findings],
    }


def _step(step: StepStragglers) -> Document:
    return {
        "step": step.step,
        "measured_ms": milliseconds(step.measured_ns),
        "without_delay_ms": milliseconds(step.without_delay_ns),
        "without_stragglers_ms": milliseconds(step.without_stragglers_ns),
        "slowdown": _factor(step.slowdown),
        "by_rank": _slowdowns(step, step.ranks),
        "by_dp_rank": _slowdowns(step, step.dp_ranks),
        "by_stage": _slowdowns(step, step.stages),
        "by_operation": _slowdowns(step, step.operations),
        "ranks": [
            {
                "rank": rank,
                "cost_ms": milliseconds(step.cost_ns(group)),
                "cause": step.causes[rank].value,
            }
            for rank, group in step.ranks.items()
        ],
        "stages": None if step.stages is None else _costs(step, "stage", step.stages),
        "operations": _costs(step, "operation", step.operations),
    }


def _slowdowns(
    step: StepStragglers, groups: Mapping[int, Group] | Mapping[str, Group] | None
) -> Document | None:
    if groups is None:
        return None
    return {str(key): _factor(step.slowdown_of(group)) for key, group in groups.items()}


def _costs(
    step: StepStragglers, name: str, groups: Mapping[int, Group] | Mapping[str, Group]
) -> list[Document]:
    return [
        {name: key, "cost_ms": milliseconds(step.cost_ns(group))} for key, group in groups.items()
    ]


def _factor(slowdown: float | None) -> float | None:
    return None if slowdown is None else round(slowdown, 9)
