"""What `lumos replay --json` prints, in milliseconds and percent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lumos.analysis.breakdown import Breakdown
from lumos.analysis.prediction import Quantity, StepPrediction
from lumos.analysis.replay import RankReplay, StepReplay
from lumos.graph.finding import Finding
from lumos.graph.job import Placement
from lumos.report.documents.encoding import (
    Document,
    finding_document,
    job_document,
    milliseconds,
    percentage,
)

REPLAY_SCHEMA = "lumos.replay/1"


def replay_document(
    placement: Placement,
    steps: Iterable[StepReplay],
    predictions: Iterable[StepPrediction],
    findings: Iterable[Finding],
) -> Document:
    """What `lumos replay --json` prints; schemas/replay-1.json describes it."""
    return {
        "schema": REPLAY_SCHEMA,
        "job": job_document(placement),
        "steps": [_step(step) for step in steps],
        "predictions": [_prediction(one) for one in predictions],
        "findings": [finding_document(finding) for finding in findings],
    }


def _step(step: StepReplay) -> Document:
    return {
        "step": step.step,
        "measured_ms": milliseconds(step.measured_ns),
        "replayed_ms": milliseconds(step.replayed_ns),
        "error_pct": percentage(step.error_pct),
        "ranks": [_rank(rank) for rank in step.ranks],
        "unprofiled_ms": milliseconds(step.unprofiled_ns),
        "critical_path_ms": _path(step.critical_path_ns),
    }


def _path(by_rule: Mapping[str, int]) -> Document:
    return {rule: milliseconds(time_ns) for rule, time_ns in by_rule.items()}


def _rank(rank: RankReplay) -> Document:
    return {
        "rank": rank.rank,
        "measured_ms": milliseconds(rank.measured_ns),
        "replayed_ms": milliseconds(rank.replayed_ns),
        "error_pct": percentage(rank.error_pct),
        "task_start_error_ms": {
            "p50": milliseconds(rank.task_start_error.p50_ns),
            "p95": milliseconds(rank.task_start_error.p95_ns),
            "max": milliseconds(rank.task_start_error.max_ns),
        },
        "breakdown_ms": {
            "measured": _breakdown(rank.measured_breakdown),
            "replayed": _breakdown(rank.replayed_breakdown),
        },
        "with_unexplained_error_pct": percentage(rank.with_unexplained_error_pct),
        "idle_explained_pct": percentage(rank.idle_explained_pct),
        "frozen_gap_ms": milliseconds(rank.frozen_gap_ns),
        "unexplained_ms": milliseconds(rank.unexplained_ns),
        "critical_path_ms": _path(rank.critical_path_ns),
    }


def _breakdown(parts: Breakdown) -> Document:
    return {
        "exposed_compute": milliseconds(parts.exposed_compute_ns),
        "overlapped": milliseconds(parts.overlapped_ns),
        "exposed_communication": milliseconds(parts.exposed_communication_ns),
        "other": milliseconds(parts.other_ns),
    }


def _prediction(one: StepPrediction) -> Document:
    return {
        "from_step": one.from_step,
        "step": one.step,
        "period_ms": _quantity(one.period),
        "host_ms": _quantity(one.host),
        "unprofiled_ms": milliseconds(one.unprofiled_ns),
    }


def _quantity(quantity: Quantity) -> Document:
    return {
        "measured": milliseconds(quantity.measured_ns),
        "predicted": milliseconds(quantity.predicted_ns),
        "error_pct": percentage(quantity.error_pct),
        "naive_error_pct": percentage(quantity.naive_error_pct),
    }
