"""What `lumos breakdown --json` prints, in milliseconds and percent."""

from __future__ import annotations

from collections.abc import Sequence

from lumos.analysis.efficiency import KernelClass
from lumos.analysis.idle import Cause
from lumos.analysis.step_breakdown import RankBreakdown, StepBreakdown
from lumos.analysis.utilization import WINDOW_NS
from lumos.catalog.hardware import Hardware
from lumos.graph.finding import Finding
from lumos.graph.job import Placement
from lumos.report.documents.encoding import (
    Document,
    finding_document,
    job_document,
    milliseconds,
    percentage,
    rate,
)

BREAKDOWN_SCHEMA = "lumos.breakdown/1"


def breakdown_document(
    placement: Placement, steps: Sequence[StepBreakdown], findings: Sequence[Finding]
) -> Document:
    """What `lumos breakdown --json` prints; schemas/breakdown-1.json describes it."""
    hardware = steps[0].efficiency.hardware if steps else None
    return {
        "schema": BREAKDOWN_SCHEMA,
        "job": job_document(placement),
        "hardware": None if hardware is None else hardware_document(hardware),
        "utilization_window_ms": milliseconds(WINDOW_NS),
        "steps": [_step(step) for step in steps],
        "findings": [finding_document(finding) for finding in findings],
    }


def hardware_document(hardware: Hardware) -> Document:
    """A GPU of the catalogue: its peaks, and where they stand."""
    return {
        "name": hardware.name,
        "matrix_flops_per_s": {f.value: peak for f, peak in hardware.matrix_flops_per_s.items()},
        "vector_flops_per_s": {f.value: peak for f, peak in hardware.vector_flops_per_s.items()},
        "memory_bytes_per_s": hardware.memory_bytes_per_s,
        "link_bytes_per_s": hardware.link_bytes_per_s,
        "sources": {
            figure: {"document": source.document, "url": source.url, "date": source.date}
            for figure, source in hardware.sources.items()
        },
    }


def _step(step: StepBreakdown) -> Document:
    found = step.efficiency
    return {
        "step": step.step,
        "ranks": [
            {"rank": one.rank, "measured": _run(one.measured), "replayed": _run(one.replayed)}
            for one in step.ranks
        ],
        "mfu_pct": percentage(found.mfu_pct),
        "mfu_formats": [one.value for one in found.formats],
        "mfu_unknown_because": found.reason or None,
        "kernels": [_kernels(one) for one in found.classes],
    }


def _run(one: RankBreakdown) -> Document:
    return {
        "span_ms": milliseconds(one.span_ns),
        "exposed_compute_ms": milliseconds(one.parts.exposed_compute_ns),
        "overlapped_ms": milliseconds(one.parts.overlapped_ns),
        "exposed_communication_ms": milliseconds(one.parts.exposed_communication_ns),
        "waiting_for_peers_ms": milliseconds(one.waiting_for_peers_ns),
        "pipeline_bubble_ms": milliseconds(one.bubble_ns),
        "other_ms": milliseconds(one.parts.other_ns),
        "other_by_cause_ms": {cause.value: milliseconds(one.idle_ns[cause]) for cause in Cause},
        "utilization": [round(fraction, 4) for fraction in one.utilization.tolist()],
    }


def _kernels(one: KernelClass) -> Document:
    return {
        "class": one.name,
        "tasks": one.tasks,
        "time_ms": milliseconds(one.time_ns),
        "flops_per_s": rate(one.flops_per_s),
        "flops_known_pct": percentage(one.flops_known_pct),
        "bytes_per_s": rate(one.bytes_per_s),
        "bytes_known_pct": percentage(one.bytes_known_pct),
        "roofline_pct": percentage(one.roofline_pct),
    }
