"""A quicker or slower way between host and device, and between tasks: the lags of all rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lumos.errors import UsageError
from lumos.graph.job import Job


def scale_lags(job: Job, factor: float) -> Job:
    """The job with every lag times `factor`; 0 starts each task the moment the rules allow."""
    if not 0 <= factor < float("inf"):
        raise UsageError(f"lags can be scaled by a factor of 0 or more, not {factor}")

    def scaled(lags: Mapping[str, int]) -> dict[str, int]:
        return {name: round(lag * factor) for name, lag in lags.items()}

    lags = job.lags
    return replace(
        job,
        lags=replace(
            lags,
            launch=scaled(lags.launch),
            stream_order=scaled(lags.stream_order),
            event_wait=round(lags.event_wait * factor),
            synchronize=scaled(lags.synchronize),
            hand_off=round(lags.hand_off * factor),
        ),
    )
