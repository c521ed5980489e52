"""What a stream-wait call was found to mean, and on what evidence."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Evidence(IntEnum):
    """Why a wait is taken to mean what it does, strongest first."""

    EXPLICIT = 0  # the trace says so
    CALL_PATTERN = 1  # inside a communication operator, before its launch
    TIMES = 2  # another step's tasks start as the awaited ones end
    OWN_TIMES = 3  # the same, but of the very step it is used in
    ORDER = 4  # nothing but the order of the calls


@dataclass(frozen=True)
class Wait:
    """One resolved cudaStreamWaitEvent: stream `waiting` waits for device task `awaited` of `source`.

    For EXPLICIT and CALL_PATTERN evidence the record stands right before host segment `record`;
    for the others right behind the launch of `awaited`.
    """

    segment: int
    waiting: int
    source: int
    awaited: int
    record: int
    evidence: Evidence
