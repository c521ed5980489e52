"""What capture.json says, of the job and of a rank's step times."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from typing import Any

from lumos.capture import sidecar, surroundings
from lumos.capture.laps import Laps
from lumos.capture.plan import Plan


def of_job(
    torch: Any,
    world_size: int,
    plan: Plan,
    steps_end_with: str,
    *,
    model: Any,
    batch: Any,
    layout: Any,
) -> sidecar.Document:
    """What holds for all ranks; what nothing tells is None."""
    return {
        "schema": sidecar.SCHEMA,
        "versions": surroundings.versions(torch),
        "gpu": surroundings.gpu(torch),
        "world_size": world_size,
        "fake_world": surroundings.fake_world(torch),
        "layout": surroundings.layout_of(layout, torch),
        "model": _plain(model),
        "batch": _plain(batch),
        "steps": {
            "skipped": plan.skip_steps,
            "timed": plan.timed_steps,
            "warm_up": plan.warm_up_steps,
            "profiled": plan.profiled_steps,
            "end_with": steps_end_with,
        },
    }


def of_times(unprofiled: Laps, profiled: Laps) -> sidecar.Document:
    """Step times without and with the profiler, and how much longer the latter are [%]."""
    without, during = _times(unprofiled), _times(profiled)
    inflation_pct = None
    if without and during and without["clock"] == during["clock"] and without["median_ms"] > 0:
        inflation_pct = round(100 * (during["median_ms"] / without["median_ms"] - 1), 2)
    return {"unprofiled": without, "profiled": during, "inflation_pct": inflation_pct}


def success(rank: sidecar.Document) -> str:
    """A complete recording in one line."""
    line = f"{rank['profiled']['count']} steps recorded"
    if rank["unprofiled"] is None:
        return line
    return (
        f"{line}; a step takes {rank['unprofiled']['median_ms']:.2f} ms without the profiler, "
        f"{rank['profiled']['median_ms']:.2f} ms with it ({rank['inflation_pct']:+.1f} %)"
    )


def shortcoming(rank: sidecar.Document) -> str:
    """Why a recording is not complete, in one line."""
    what = "cut short" if rank["status"] == "partial" else "no trace"
    return f"{what}: {rank['reason']}"


def spread(times_ms: Sequence[float]) -> sidecar.Document:
    """Median and scatter of step times [ms].

    Percentiles are interpolated between the two nearest times (the method of numpy's default).
    """
    ordered = sorted(times_ms)
    return {
        "median_ms": round(statistics.median(ordered), 4),
        "p10_ms": round(_percentile(ordered, 0.1), 4),
        "p90_ms": round(_percentile(ordered, 0.9), 4),
        "min_ms": ordered[0],
        "max_ms": ordered[-1],
        "count": len(ordered),
    }


def _percentile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    low, high = math.floor(place), math.ceil(place)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def _times(laps: Laps) -> sidecar.Document | None:
    """Spread and raw times of steps, by the GPU's clock where there is one."""
    host_ms, gpu_ms = laps.host_ms(), laps.gpu_ms()
    if not host_ms:
        return None
    clock = "host" if gpu_ms is None else "gpu"
    return {**spread(gpu_ms or host_ms), "clock": clock, "host_ms": host_ms, "gpu_ms": gpu_ms}


def _plain(value: Any) -> Any:
    """`value` as JSON can hold it; what it cannot hold, as its text."""
    return json.loads(json.dumps(value, default=str))
