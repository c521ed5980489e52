"""What `lumos cost --json` prints, in milliseconds and percent."""

from __future__ import annotations

from collections.abc import Iterable

from lumos.analysis.bounds import Bound, StepBounds
from lumos.analysis.cost import Cost, StepCosts
from lumos.graph.finding import Finding
from lumos.graph.job import Placement
from lumos.report.documents.encoding import (
    Document,
    finding_document,
    job_document,
    milliseconds,
    percentage,
)

COST_SCHEMA = "lumos.cost/1"


def cost_document(
    placement: Placement,
    found: Iterable[tuple[StepCosts, StepBounds]],
    findings: Iterable[Finding],
) -> Document:
    """What `lumos cost --json` prints; schemas/cost-1.json describes it."""
    return {
        "schema": COST_SCHEMA,
        "job": job_document(placement),
        "steps": [_step(costs, bounds) for costs, bounds in found],
        "findings": [finding_document(finding) for finding in findings],
    }


def _step(costs: StepCosts, bounds: StepBounds) -> Document:
    unchanged = costs.unchanged
    return {
        "step": unchanged.step,
        "basis": unchanged.basis.value,
        "length_ms": milliseconds(unchanged.length_ns),
        "measured_ms": milliseconds(unchanged.measured_ns),
        "error_pct": percentage(unchanged.error_pct),
        "replay_error_pct": percentage(unchanged.replay_error_pct),
        "fixed_order": costs.fixed_order,
        "costs": [_cost(one) for one in costs.costs],
        "left_out": {by.value: count for by, count in costs.left_out.items()},
        "bounds": [_bound(one, unchanged.length_ns) for one in bounds.bounds],
    }


def _cost(one: Cost) -> Document:
    return {
        "by": one.by.value,
        "label": one.label,
        "tasks": one.tasks,
        "own_ms": milliseconds(one.own_ns),
        "gain_10_pct_ms": milliseconds(one.gain_10_pct_ns),
        "gain_half_ms": milliseconds(one.gain_half_ns),
        "gain_free_ms": milliseconds(one.gain_free_ns),
    }


def _bound(one: Bound, length_ns: int) -> Document:
    alone = one.alone_ns
    return {
        "rung": one.rung.value,
        "alone_ms": milliseconds(alone),
        "alone_gain_ms": None if alone is None else milliseconds(length_ns - alone),
        "together_ms": milliseconds(one.together_ns),
        "together_gain_ms": milliseconds(length_ns - one.together_ns),
        "unknown_pct": percentage(one.unknown_pct),
        "reason": one.reason or None,
    }
