"""A finding: something repaired, dropped, missing or assumed, with the time it touches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["info", "warning", "error"]
CUT_OFF = "cut-off"
"""Of a trace whose file ends in the middle: what came last in it may not be all there was."""
CUT_OFF_ADVICE = "let the profiler finish writing before the job ends"


@dataclass(frozen=True)
class Finding:
    """One thing the user should know about the input.

    `affected_ns` is the time it touches [ns], None where that is unknown; `advice` says what to
    change at the next capture.
    """

    code: str
    severity: Severity
    message: str
    affected_ns: int | None = None
    advice: str = ""
