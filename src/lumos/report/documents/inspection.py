"""What `lumos inspect --json` prints, in milliseconds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from lumos.analysis.grade import Shortfall
from lumos.analysis.inspection import Inspection, RankInspection
from lumos.graph.trace import CaptureNotes, StepTimes
from lumos.report.documents.encoding import (
    Document,
    finding_document,
    milliseconds,
    percentage,
)

INSPECT_SCHEMA = "lumos.inspect/1"


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
            {**finding_document(replace(finding, advice="")), "advice": finding.advice}
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
        "capture": None if rank.capture is None else _capture(rank.capture),
    }


def _capture(notes: CaptureNotes) -> Document:
    return {
        "unprofiled_ms": _times(notes.unprofiled),
        "profiled_ms": _times(notes.profiled),
        "inflation_pct": percentage(notes.inflation_pct),
        "peak_allocated_bytes": notes.peak_allocated_bytes,
        "peak_reserved_bytes": notes.peak_reserved_bytes,
        "peak_resident_bytes": notes.peak_resident_bytes,
    }


def _times(times: StepTimes | None) -> Document | None:
    if times is None:
        return None
    return {
        "median": milliseconds(times.median_ns),
        "p10": milliseconds(times.p10_ns),
        "p90": milliseconds(times.p90_ns),
        "count": times.count,
    }
