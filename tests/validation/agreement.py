"""Where a recording and its capture.json say different things, or capture.json alone does.

The lengths of profiled steps stand in the traces too. Those of steps without the profiler stand nowhere
else, so of them only this can be found out:

* median, percentiles and inflation that the listed times do not give;
* times of one rank that are of another run, or were scaled, where there are other ranks: ranks that
  wait for each other in every step need the same time for many of them, up to a step at either end.

What nobody can find out: times of the only rank, or of all ranks, that were replaced or scaled
together with their median, percentiles and inflation; memory; the texts of model and batch.
"""

from __future__ import annotations

import gzip
import json
import math
import statistics
from pathlib import Path
from typing import Any

CLOSE = 0.05
"""Our clock stands around a step, the profiler's inside it: they may differ by this share ..."""
CLOSE_MS = 0.5
"""... or this much, where a step is short."""
ROUNDED_MS = 1e-4


def disagreements(folder: Path, close_ms: float = CLOSE_MS) -> list[str]:
    """One line for each; a recording that is as capture.json says has none."""
    capture = json.loads((folder / "capture.json").read_text("utf-8"))
    found = []
    files = {path.name for path in folder.glob("rank*.json.gz")}
    told = {rank["file"] for rank in capture["ranks"]}
    if files != told:
        found.append(f"files are {sorted(files)}, told are {sorted(map(str, told))}")
    if capture["layout"] and math.prod(capture["layout"].values()) != capture["world_size"]:
        found.append(f"a layout {capture['layout']} of {capture['world_size']} ranks")
    if not capture["fake_world"] and len(capture["ranks"]) != capture["world_size"]:
        found.append(f"{len(capture['ranks'])} ranks of {capture['world_size']}")
    for rank in capture["ranks"]:
        if rank["status"] != "complete":
            found.append(f"rank {rank['rank']} is {rank['status']}")
        elif rank["file"] in files:
            found += _of_rank(folder / rank["file"], rank, capture, close_ms)
            found += _of_times(rank)
    return found + _of_ranks_together(capture["ranks"])


def _of_times(rank: dict[str, Any]) -> list[str]:
    """What a rank's listed times do not give."""
    found, who = [], f"rank {rank['rank']}"
    for kind in ("unprofiled", "profiled"):
        told = rank[kind]
        listed = told[f"{told['clock']}_ms"]
        several = len(listed) > 1
        tenths = statistics.quantiles(listed, n=10, method="inclusive") if several else 2 * listed
        figures = {
            "median_ms": statistics.median(listed), "p10_ms": tenths[0], "p90_ms": tenths[-1],
            "min_ms": min(listed), "max_ms": max(listed), "count": len(listed),
        }  # fmt: skip
        found += [
            f"{who}: {kind} {name} is {told[name]}, its times give {figure:.4f}"
            for name, figure in figures.items()
            if abs(told[name] - figure) > ROUNDED_MS
        ]
    ratio = rank["profiled"]["median_ms"] / rank["unprofiled"]["median_ms"]
    if abs(rank["inflation_pct"] - 100 * (ratio - 1)) > 1e-2:
        found.append(f"{who}: inflation is {rank['inflation_pct']}, its times give {ratio - 1:.2%}")
    return found


def _of_ranks_together(ranks: list[dict[str, Any]]) -> list[str]:
    """Ranks that wait for each other, and yet need different times for the same steps."""
    found = []
    for kind in ("unprofiled", "profiled"):
        times = {rank["rank"]: rank[kind]["host_ms"] for rank in ranks if rank[kind]}
        if len(times) < 2:
            continue
        longest = max(map(max, times.values()))
        sums = {rank: sum(one) for rank, one in times.items()}
        slow, fast = max(sums, key=lambda r: sums[r]), min(sums, key=lambda r: sums[r])
        if sums[slow] - sums[fast] > 2 * longest:
            found.append(
                f"{kind} steps took {sums[slow]:.0f} ms on rank {slow}, {sums[fast]:.0f} on rank {fast}"
            )
    return found


def _of_rank(
    path: Path, rank: dict[str, Any], capture: dict[str, Any], close_ms: float
) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        trace = json.load(stream)
    where, found = path.name, []
    job = trace.get("distributedInfo")
    if job is not None and (job["rank"], job["world_size"]) != (
        rank["rank"],
        capture["world_size"],
    ):
        found.append(f"{where}: rank {job['rank']} of {job['world_size']} in the trace")
    steps_ms = [
        event["dur"] / 1e3
        for event in trace["traceEvents"]
        if event.get("ph") == "X"
        and str(event.get("name", "")).startswith("ProfilerStep#")
        and event.get("cat") == "user_annotation"
    ]
    measured_ms = rank["profiled"]["host_ms"]
    if len(steps_ms) != capture["steps"]["profiled"] or len(measured_ms) != len(steps_ms):
        found.append(f"{where}: {len(steps_ms)} steps, told are {capture['steps']['profiled']}")
        return found
    for traced, told in zip(steps_ms, measured_ms, strict=True):
        if abs(traced - told) > max(CLOSE * told, close_ms):
            found.append(f"{where}: a step of {traced:.2f} ms, told are {told:.2f} ms")
    if len(rank["unprofiled"]["host_ms"]) != capture["steps"]["timed"]:
        found.append(f"{where}: {len(rank['unprofiled']['host_ms'])} steps without the profiler")
    return found
