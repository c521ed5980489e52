"""The grade of a capture: what it lacks, what that costs, what to change at the next one.

A   everything that a replay needs was told by the profiler
B   something is inferred, or cannot be answered
C   figures depend on guesses, or parts are missing
D   cannot be replayed
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from lumos.analysis.inspection import Inspection, RankInspection
from lumos.units import ms

Grade = Literal["A", "B", "C", "D"]

REPAIRED_PCT = 2.0
"""A step with more of its time repaired than this is left out of accuracy tables."""
UNSURE_WAITS = 0.05
GUESSED_WAITS = 0.25
"""Shares of the stream waits that may be inferred at all, or from the very step they matter in."""


@dataclass(frozen=True)
class Shortfall:
    """One thing the capture lacks: the best grade it still allows, and how to have it next time."""

    code: str
    grade: Grade
    message: str
    advice: str


def shortfalls(inspection: Inspection) -> tuple[Shortfall, ...]:
    """What the capture lacks, worst first; none for a capture of grade A."""
    found = [shortfall for check in CHECKS for shortfall in check(inspection)]
    return tuple(sorted(found, key=lambda one: -ord(one.grade)))


def grade(found: tuple[Shortfall, ...]) -> Grade:
    """The best grade that all shortfalls allow."""
    return max((one.grade for one in found), default="A")


def _unreadable(inspection: Inspection) -> Iterator[Shortfall]:
    for finding in inspection.findings:
        if finding.code == "not-replayable":
            yield Shortfall("not-replayable", "D", finding.message, finding.advice)
        if finding.code == "cut-off":
            yield Shortfall("cut-off", "C", finding.message, finding.advice)
        if finding.code in ("collectives-unmatched", "clock-unlinked"):
            yield Shortfall(finding.code, "B", finding.message, finding.advice)


def _one_side(inspection: Inspection) -> Iterator[Shortfall]:
    blind = [r for r in inspection.ranks if not r.events.keys() & {"operator", "call"}]
    if blind:
        yield Shortfall(
            "no-host-events", "D",
            f"{_which(blind, inspection)} no operators and no runtime calls, so no launch is known",
            "profile with activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]",
        )  # fmt: skip
    gpu_job = inspection.layout.backend.startswith("nccl")
    idle = [
        r for r in inspection.ranks if not r.streams and (gpu_job or r.gpu or "call" in r.events)
    ]
    if idle:
        yield Shortfall(
            "no-device-tasks", "D",
            f"{_which(idle, inspection)} no device tasks although a GPU was in use",
            "profile with activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]; "
            "CUPTI may be in use by another tool",
        )  # fmt: skip


def _repaired(inspection: Inspection) -> Iterator[Shortfall]:
    codes = ("negative-duration", "impossible-duration")
    touched = sum(f.affected_ns or 0 for f in inspection.findings if f.code in codes)
    span = sum(rank.span_ns for rank in inspection.ranks)
    if touched and 100 * touched > REPAIRED_PCT * span:
        yield Shortfall(
            "repaired-time", "C",
            f"{ms(touched):.1f} ms of impossible durations were repaired, more than "
            f"{REPAIRED_PCT:g} % of what was recorded",
            "update PyTorch and the driver, and record again",
        )  # fmt: skip
    dropped = sum(sum(rank.dropped.values()) for rank in inspection.ranks)
    if dropped:
        yield Shortfall(
            "dropped-events", "C",
            f"{dropped} events could not be read and were left out",
            "record again, and let the profiler finish writing",
        )  # fmt: skip


def _steps(inspection: Inspection) -> Iterator[Shortfall]:
    sources = {rank.steps_from for rank in inspection.ranks}
    count = min(len(rank.steps) for rank in inspection.ranks)
    advice = "call profiler.step() behind every training step"
    if "whole" in sources:
        message = "no steps are marked and none were recognised: the trace counts as one"
        yield Shortfall("no-steps", "C", message, advice)
    elif sources & {"annotation", "repetition"}:
        message = "steps are not marked by the profiler; they were recognised by what repeats"
        yield Shortfall("steps-recognised", "B", message, advice)
    if count == 1 and "whole" not in sources:
        message = "one step alone: waits cannot be checked on another, and periods are unknown"
        advice = "record three steps or more: schedule(wait=1, warmup=2, active=3)"
        yield Shortfall("one-step", "B", message, advice)


def _missing_ranks(inspection: Inspection) -> Iterator[Shortfall]:
    traced, world = len(inspection.layout.ranks), inspection.layout.world_size
    if traced < world:
        message = (
            f"{traced} of {world} ranks are traced: waiting for the others "
            "cannot be told from transfer"
        )
        yield Shortfall("ranks-missing", "B", message, "profile the same steps on all ranks")


def _inferred_waits(inspection: Inspection) -> Iterator[Shortfall]:
    waits = [rank.waits for rank in inspection.ranks]
    total = sum(sum(counts.values()) for counts in waits)
    own = sum(counts.get("own_times", 0) for counts in waits)
    times = sum(counts.get("times", 0) for counts in waits)
    idle = sum(counts.get("order", 0) for counts in waits)  # held nothing back in any step
    if total and own + times + idle > UNSURE_WAITS * total:
        alone = min(len(rank.steps) for rank in inspection.ranks) == 1
        yield Shortfall(
            "waits-inferred", "C" if own > GUESSED_WAITS * total else "B",
            f"which stream waits for which event was inferred for {own + times + idle} of {total} "
            f"waits: {times} checked on other steps, {own} on the same step, {idle} that held "
            "nothing back here",
            "record with experimental_config=_ExperimentalConfig(enable_cuda_sync_events=True)"
            + (", and several steps" if alone else ""),
        )  # fmt: skip


def _collective_metadata(inspection: Inspection) -> Iterator[Shortfall]:
    blank = [rank for rank in inspection.ranks if rank.profiler.collective_metadata is False]
    if blank:
        yield Shortfall(
            "no-collective-metadata", "B",
            f"{_which(blank, inspection)} collectives without group and size: "
            "groups are assumed, bytes partly unknown",
            "gloo tells neither; NCCL does with a PyTorch of 2.4 or newer"
            if inspection.layout.backend.startswith("gloo")
            else "record with a PyTorch of 2.4 or newer",
        )  # fmt: skip


def _shapes(inspection: Inspection) -> Iterator[Shortfall]:
    blank = [rank for rank in inspection.ranks if rank.profiler.shapes is False]
    if blank:
        message = (
            f"{_which(blank, inspection)} operators without shapes: work cannot be priced anew"
        )
        yield Shortfall("no-shapes", "B", message, "profile with record_shapes=True")


def _without_launch(inspection: Inspection) -> Iterator[Shortfall]:
    span = sum(rank.device_busy_ns for rank in inspection.ranks)
    tasks = sum(rank.without_launch for rank in inspection.ranks)
    length = sum(rank.without_launch_ns for rank in inspection.ranks)
    if tasks and 50 * length > span:
        message = (
            f"{tasks} device tasks ({ms(length):.1f} ms) have no launch in the trace: "
            "they were under way before it began, or the call was not recorded"
        )
        yield Shortfall("tasks-without-launch", "B", message, "profile with a warm-up step")


def _overhead(inspection: Inspection) -> Iterator[Shortfall]:
    cost = sum(rank.overhead_ns for rank in inspection.ranks)
    span = sum(rank.span_ns for rank in inspection.ranks)
    if 50 * cost > span:
        message = f"the profiler itself took {ms(cost):.1f} ms of {ms(span):.1f} ms"
        advice = "give the profiler warm-up steps: schedule(wait=1, warmup=2, active=3)"
        yield Shortfall("profiler-overhead", "B", message, advice)


CHECKS = (
    _unreadable,
    _one_side,
    _repaired,
    _steps,
    _missing_ranks,
    _inferred_waits,
    _collective_metadata,
    _shapes,
    _without_launch,
    _overhead,
)


def _which(ranks: list[RankInspection], inspection: Inspection) -> str:
    """The subject of a message: the capture, or some of its ranks."""
    if len(ranks) == len(inspection.ranks):
        return "the capture has"
    numbers = ", ".join(str(rank.rank) for rank in ranks[:8])
    return f"rank {numbers}{', ...' if len(ranks) > 8 else ''}: has"
