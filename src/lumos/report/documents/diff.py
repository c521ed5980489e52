"""What `lumos diff --json` prints, in milliseconds and percent."""

from __future__ import annotations

from lumos.analysis.diff import Diff, Part
from lumos.report.documents.encoding import Document, milliseconds, percentage

DIFF_SCHEMA = "lumos.diff/1"


def diff_document(diff: Diff) -> Document:
    """What `lumos diff --json` prints; schemas/diff-1.json describes it."""
    return {
        "schema": DIFF_SCHEMA,
        "first": {
            "label": diff.first,
            "measured_ms": milliseconds(diff.first_measured_ns),
            "replayed_ms": milliseconds(diff.first_replayed_ns),
        },
        "second": {
            "label": diff.second,
            "measured_ms": milliseconds(diff.second_measured_ns),
            "replayed_ms": milliseconds(diff.second_replayed_ns),
        },
        "change_ms": milliseconds(diff.change_ns),
        "matched_pct": percentage(diff.matched_pct),
        "orders": diff.orders,
        "parts": [_part(part) for part in diff.parts],
    }


def _part(part: Part) -> Document:
    return {
        "kind": part.kind.value,
        "label": part.label,
        "layer": part.layer,
        "change_ms": milliseconds(part.change_ns),
        "lowest_ms": milliseconds(part.lowest_ns),
        "highest_ms": milliseconds(part.highest_ns),
        "tasks": {"first": part.tasks[0], "second": part.tasks[1]},
        "own_ms": {
            "first": milliseconds(part.own_ns[0]),
            "second": milliseconds(part.own_ns[1]),
        },
        "waiting_ms": {
            "first": milliseconds(part.waiting_ns[0]),
            "second": milliseconds(part.waiting_ns[1]),
        },
    }
