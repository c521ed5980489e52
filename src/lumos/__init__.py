"""lumos: performance model of large-scale LLM training, from real PyTorch traces.

traces = lumos.load("traces/")      # files, folders or globs of one job
traces.replay("ProfilerStep#10")    # measured, replayed, error
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lumos.errors import (
    GateTripped,
    LumosError,
    UnfinishableScheduleError,
    UnusableInputError,
    UsageError,
)

if TYPE_CHECKING:
    from lumos.api import JobTraces, StepDiff, StepRun, diff, load

__all__ = [
    "GateTripped",
    "JobTraces",
    "LumosError",
    "StepDiff",
    "StepRun",
    "UnfinishableScheduleError",
    "UnusableInputError",
    "UsageError",
    "diff",
    "load",
]

_FROM_API = frozenset({"JobTraces", "StepDiff", "StepRun", "diff", "load"})


def __getattr__(name: str) -> Any:
    """What needs numpy and numba is loaded when it is first used."""
    if name in _FROM_API:
        from lumos import api

        return getattr(api, name)
    raise AttributeError(f"module 'lumos' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
