"""What `lumos communication --json` prints, in milliseconds and percent."""

from __future__ import annotations

from collections.abc import Sequence

from lumos.analysis.communication import GroupCommunication, StepCommunication
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

COMMUNICATION_SCHEMA = "lumos.communication/1"


def communication_document(
    placement: Placement, steps: Sequence[StepCommunication], findings: Sequence[Finding]
) -> Document:
    """What `lumos communication --json` prints; schemas/communication-1.json describes it."""
    hardware = steps[0].hardware if steps else None
    source = hardware.sources.get("link_bytes_per_s") if hardware is not None else None
    return {
        "schema": COMMUNICATION_SCHEMA,
        "job": job_document(placement),
        "link": None
        if hardware is None or source is None
        else {
            "name": hardware.link,
            "bytes_per_s": hardware.link_bytes_per_s,
            "document": source.document,
            "url": source.url,
        },
        "steps": [
            {
                "step": step.step,
                "measured": [_group(one, step) for one in step.measured],
                "replayed": [_group(one, step) for one in step.replayed],
            }
            for step in steps
        ],
        "findings": [finding_document(finding) for finding in findings],
    }


def _group(one: GroupCommunication, step: StepCommunication) -> Document:
    group = one.group
    return {
        "kind": one.kind.name.lower(),
        "group": None
        if group is None
        else {
            "name": group.name,
            "description": group.description or None,
            "ranks": list(group.ranks),
        },
        "traced_ranks": one.ranks,
        "count": one.count,
        "bytes": one.bytes,
        "time_ms": milliseconds(one.time_ns),
        "transfer_ms": milliseconds(one.transfer_ns),
        "wait_ms": milliseconds(one.wait_ns),
        "unmatched_ms": milliseconds(one.unmatched_ns),
        "exposed_ms": milliseconds(one.exposed_ns),
        "overlapped_pct": percentage(one.overlapped_pct),
        "algorithm_bytes_per_s": rate(one.algorithm_bytes_per_s),
        "bus_bytes_per_s": rate(one.bus_bytes_per_s),
        "bandwidth_includes_waiting": one.wait_ns is None,
        "link_pct": percentage(step.link_pct(one)),
        "skew_ms": None
        if one.skew is None
        else {"p50": milliseconds(one.skew.p50_ns), "max": milliseconds(one.skew.max_ns)},
        "came_last": [
            {
                "rank": late.rank,
                "times": late.times,
                "others_waited_ms": milliseconds(late.waited_ns),
                "behind_ms": milliseconds(late.behind_ns),
            }
            for late in one.latecomers
        ],
    }
