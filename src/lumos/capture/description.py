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
        inflation_pct = round(longer_pct(without, during), 2)
    return {"unprofiled": without, "profiled": during, "inflation_pct": inflation_pct}


def success(rank: sidecar.Document) -> str:
    """A complete recording in one line."""
    count = rank["profiled"]["count"]
    line = f"{count} step{'s' * (count > 1)} recorded"
    told = step_time([rank])
    return line if told is None else f"{line}; {told}"


def slowest(ranks: Sequence[sidecar.Document], kind: str) -> sidecar.Document | None:
    """What a step of a job takes, `kind` being "unprofiled" or "profiled": its slowest rank's times.

    That is the rank with the highest median, looked for with and without the profiler anew: where
    ranks are about as fast it is now one and now another.
    """
    known = [rank[kind] for rank in ranks if rank[kind] is not None]
    return max(known, key=lambda times: float(times["median_ms"]), default=None)


def step_time(ranks: Sequence[sidecar.Document]) -> str | None:
    """How long a step takes without and with the profiler, in one line, and if that is a difference.

    None where there is nothing to compare.
    """
    without, during = slowest(ranks, "unprofiled"), slowest(ranks, "profiled")
    if without is None or during is None:
        return None
    noise = "" if apart(without, during) else ", which cannot be told from noise"
    return (
        f"a step takes {_median(without)} without the profiler, {_median(during)} with it: "
        f"{longer_pct(without, during):+.1f} %{noise}"
    )


def longer_pct(without: sidecar.Document, during: sidecar.Document) -> float:
    """By how much the median of the latter is above that of the former [%]."""
    return 100 * float(during["median_ms"] / without["median_ms"] - 1)


def apart(one: sidecar.Document, other: sidecar.Document) -> bool:
    """Whether times differ by more than noise: the middle 80 % of them do not meet."""
    return bool(one["p10_ms"] > other["p90_ms"] or one["p90_ms"] < other["p10_ms"])


def _median(times: sidecar.Document) -> str:
    low, high = times["p10_ms"], times["p90_ms"]
    return f"{times['median_ms']:.2f} ms (10 to 90 %: {low:.2f} to {high:.2f})"


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
