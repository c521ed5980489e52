"""What all documents share: JSON text, times in ms, percentages, findings."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from lumos.graph.finding import Finding
from lumos.graph.job import Placement
from lumos.units import ms

Document = dict[str, Any]


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


def rate(value_per_s: float | None) -> int | None:
    """Bytes or operations a second, as a whole number."""
    return None if value_per_s is None else round(value_per_s)


def job_document(placement: Placement) -> Document:
    """The traced job, as all documents name it."""
    return {
        "world_size": placement.world_size,
        "ranks": list(placement.ranks),
        "gpu": placement.gpu or None,
    }


def finding_document(finding: Finding) -> Document:
    """The message ends with the advice: it has no place of its own in this document."""
    advice = f"; {finding.advice}" if finding.advice else ""
    return {
        "code": finding.code,
        "severity": finding.severity,
        "message": finding.message + advice,
        "affected_ms": milliseconds(finding.affected_ns),
    }
