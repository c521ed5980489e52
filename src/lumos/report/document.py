"""Records as plain dictionaries: what `--json` prints, in milliseconds and percent."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lumos.analysis.breakdown import Breakdown
from lumos.analysis.grade import Shortfall
from lumos.analysis.inspection import Inspection, RankInspection
from lumos.analysis.prediction import Quantity, StepPrediction
from lumos.analysis.replay import RankReplay, StepReplay
from lumos.graph.finding import Finding
from lumos.graph.job import Placement
from lumos.units import ms

REPLAY_SCHEMA = "lumos.replay/1"
INSPECT_SCHEMA = "lumos.inspect/1"

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


def inspect_document(
    inspection: Inspection, grade: str, shortfalls: Iterable[Shortfall]
) -> Document:
    """What `lumos inspect --json` prints; schemas/inspect-1.json describes it."""
    layout = inspection.layout
    return {
        "schema": INSPECT_SCHEMA,
        "grade": grade,
        "shortfalls": [
            {"code": s.code, "grade": s.grade, "message": s.message, "advice": s.advice}
            for s in shortfalls
        ],
        "job": {
            "world_size": layout.world_size,
            "ranks": list(layout.ranks),
            "gpu": next((rank.gpu for rank in inspection.ranks if rank.gpu), None),
            "backend": layout.backend or None,
        },
        "process_groups": [
            {"name": g.name, "description": g.description, "ranks": list(g.ranks)}
            for g in layout.groups
        ],
        "ranks": [_inspected(rank) for rank in inspection.ranks],
        "findings": [
            {**_finding(replace(finding, advice="")), "advice": finding.advice}
            for finding in inspection.findings
        ],
    }


def _inspected(rank: RankInspection) -> Document:
    return {
        "rank": rank.rank,
        "file": rank.file,
        "gpu": rank.gpu or None,
        "span_ms": milliseconds(rank.span_ns),
        "device_busy_ms": milliseconds(rank.device_busy_ns),
        "events": dict(rank.events),
        "threads": [
            {
                "process": thread.process,
                "thread": thread.thread,
                "name": thread.name or None,
                "events": thread.events,
                "busy_ms": milliseconds(thread.busy_ns),
            }
            for thread in rank.threads
        ],
        "streams": [
            {
                "device": stream.device,
                "stream": stream.stream,
                "tasks": stream.tasks,
                "busy_ms": milliseconds(stream.busy_ns),
            }
            for stream in rank.streams
        ],
        "steps_from": rank.steps_from or None,
        "steps": [
            {"step": step.name, "host_ms": milliseconds(step.host_ns)} for step in rank.steps
        ],
        "collectives": [
            {
                "kind": one.kind,
                "group": one.group,
                "description": one.description or None,
                "tasks": one.tasks,
                "bytes": one.known_bytes if one.without_bytes < one.tasks else None,
                "tasks_without_bytes": one.without_bytes,
                "busy_ms": milliseconds(one.busy_ns),
            }
            for one in rank.collectives
        ],
        "profiler": {
            "shapes": rank.profiler.shapes,
            "stacks": rank.profiler.stacks,
            "sync_events": rank.profiler.sync_events,
            "event_records": rank.profiler.event_records,
            "collective_metadata": rank.profiler.collective_metadata,
            "overhead_ms": milliseconds(rank.overhead_ns),
        },
        "waits": dict(rank.waits),
        "unresolved_waits": rank.unresolved_waits,
        "graph_launches": rank.graph_launches,
        "tasks_without_launch": {
            "tasks": rank.without_launch,
            "busy_ms": milliseconds(rank.without_launch_ns),
        },
        "not_used": dict(rank.skipped),
        "dropped": dict(rank.dropped),
    }
