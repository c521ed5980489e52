"""Records as plain dictionaries: the documents that `--json` prints, in milliseconds and percent."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lumos.analysis.breakdown import Breakdown
from lumos.analysis.prediction import Quantity, StepPrediction
from lumos.analysis.replay import RankReplay, StepReplay
from lumos.graph.finding import Finding
from lumos.graph.job import Placement
from lumos.units import ms

REPLAY_SCHEMA = "lumos.replay/1"

Document = dict[str, Any]


def replay_document(
    placement: Placement,
    steps: Iterable[StepReplay],
    predictions: Iterable[StepPrediction],
    findings: Iterable[Finding],
) -> Document:
    """What `lumos replay --json` prints; schemas/replay-1.json describes it."""
    return {
        "schema": REPLAY_SCHEMA,
        "job": {
            "world_size": placement.world_size,
            "ranks": list(placement.ranks),
            "gpu": placement.gpu or None,
        },
        "steps": [_step(step) for step in steps],
        "predictions": [_prediction(one) for one in predictions],
        "findings": [_finding(finding) for finding in findings],
    }


def encode(document: Mapping[str, Any]) -> str:
    """The JSON text of a document: what is not finite is null, text is plain ASCII."""
    return json.dumps(_finite(document), indent=2, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return [_finite(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def milliseconds(time_ns: float | None) -> float | None:
    """`time_ns` [ns] in ms, to the ns."""
    return None if time_ns is None else round(ms(time_ns), 6)


def percentage(value_pct: float | None) -> float | None:
    """A percentage to six digits behind the point."""
    return None if value_pct is None else round(value_pct, 6)


def _step(step: StepReplay) -> Document:
    return {
        "step": step.step,
        "measured_ms": milliseconds(step.measured_ns),
        "replayed_ms": milliseconds(step.replayed_ns),
        "error_pct": percentage(step.error_pct),
        "ranks": [_rank(rank) for rank in step.ranks],
        "unprofiled_ms": milliseconds(step.unprofiled_ns),
    }


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
        "critical_path_ms": {
            rule: milliseconds(time_ns) for rule, time_ns in rank.critical_path_ns.items()
        },
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
    }


def _quantity(quantity: Quantity) -> Document:
    return {
        "measured": milliseconds(quantity.measured_ns),
        "predicted": milliseconds(quantity.predicted_ns),
        "error_pct": percentage(quantity.error_pct),
        "naive_error_pct": percentage(quantity.naive_error_pct),
    }


def _finding(finding: Finding) -> Document:
    """The message ends with the advice: it has no place of its own in this document."""
    advice = f"; {finding.advice}" if finding.advice else ""
    return {
        "code": finding.code,
        "severity": finding.severity,
        "message": finding.message + advice,
        "affected_ms": milliseconds(finding.affected_ns),
    }
