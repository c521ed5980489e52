"""Where a recording and its capture.json say different things."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

CLOSE = 0.05
"""Our clock stands around a step, the profiler's inside it: they may differ by this share ..."""
CLOSE_MS = 0.5
"""... or this much, where a step is short."""


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
