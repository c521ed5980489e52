"""How busy the devices are from one millisecond to the next, and how well kernels use them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lumos.analysis.answers import Answers
from lumos.analysis.efficiency import KernelClass
from lumos.analysis.sentence import Amount, Sentence, Unit, count, percent, share, time
from lumos.analysis.step_breakdown import RankBreakdown
from lumos.analysis.utilization import WINDOW_NS
from lumos.report.page.panel import Panel, verb
from lumos.units import ms

MOST_RANKS = 8
"""Ranks that are drawn: evenly spread over those traced."""
MOST_CLASSES = 12
"""Classes of kernels, the longest first."""
MOST_WINDOWS = 600
"""Points of a curve; of longer steps it is drawn in the mean of several windows."""
HEIGHT = 100


@dataclass(frozen=True)
class Curve:
    """A rank: the measured run as a filled outline, the replayed one as a line, in a box of HEIGHT.

    `idle` is the share of the rank's own span in which it did nothing.
    """

    rank: int
    measured: str
    replayed: str
    idle: Amount


@dataclass(frozen=True)
class Row:
    """A class of kernels, as measured."""

    name: str
    tasks: Amount
    time: Amount
    flops: Amount
    bytes: Amount
    roofline: Amount


@dataclass(frozen=True)
class View:
    """What the template draws; `windows` is the width of a curve's box, `end_ms` the step's length."""

    curves: tuple[Curve, ...]
    left_out: int
    windows: int
    height: int
    window_ms: str
    end_ms: str
    rows: tuple[Row, ...]
    rows_left_out: int
    reason: str


def utilization_panel(answers: Answers) -> Panel:
    """The step that was looked at."""
    name, found = answers.step.step, answers.breakdown
    calls = (verb("breakdown", f"traces.replay({name!r}).breakdown()", name),)
    title = "How busy the devices are"
    if not found.ranks:
        return Panel("utilization", title, calls, absent="No rank did anything in this step.")
    places = _spread(len(found.ranks))
    longest = max(
        len(run.utilization) for one in found.ranks for run in (one.measured, one.replayed)
    )
    every = max(-(-longest // MOST_WINDOWS), 1)
    curves = [
        Curve(
            rank=found.ranks[place].rank,
            measured=_area(_means(found.ranks[place].measured.utilization, every)),
            replayed=_line(_means(found.ranks[place].replayed.utilization, every)),
            idle=_idle(found.ranks[place].measured, place),
        )
        for place in places
    ]
    classes = found.efficiency.classes
    rows = [_row(place, one) for place, one in enumerate(classes[:MOST_CLASSES])]
    view = View(
        curves=tuple(curves),
        left_out=len(found.ranks) - len(curves),
        windows=max(-(-longest // every), 1),
        height=HEIGHT,
        window_ms=f"{ms(every * WINDOW_NS):g}",
        end_ms=f"{ms(longest * WINDOW_NS):,.0f}",
        rows=tuple(rows),
        rows_left_out=len(classes) - len(rows),
        reason=found.efficiency.reason,
    )
    return Panel("utilization", title, calls, _lead(answers), "utilization.html", view)


def _spread(ranks: int) -> list[int]:
    if ranks <= MOST_RANKS:
        return list(range(ranks))
    return sorted(set(np.linspace(0, ranks - 1, MOST_RANKS).round().astype(int).tolist()))


def _means(busy: NDArray[np.float64], every: int) -> NDArray[np.float64]:
    if not len(busy):
        return busy
    first = np.arange(0, len(busy), every)
    return np.add.reduceat(busy, first) / np.diff(np.append(first, len(busy)))


def _area(busy: NDArray[np.float64]) -> str:
    return f"M0 {HEIGHT}{_steps(busy)}V{HEIGHT}Z" if len(busy) else ""


def _line(busy: NDArray[np.float64]) -> str:
    return f"M0 {_height(busy[0])}{_steps(busy)}" if len(busy) else ""


def _steps(busy: NDArray[np.float64]) -> str:
    """One step of the outline a window, runs of equal height as one."""
    heights = [_height(one) for one in busy.tolist()]
    ends = [n for n in range(1, len(heights)) if heights[n] != heights[n - 1]] + [len(heights)]
    return "".join(f"V{heights[end - 1]}H{end}" for end in ends)


def _height(fraction: float) -> int:
    return round(HEIGHT * (1.0 - min(max(fraction, 0.0), 1.0)))


def _idle(run: RankBreakdown, place: int) -> Amount:
    at = f"/breakdown/steps/0/ranks/{place}/measured"
    return share(time(run.parts.other_ns, f"{at}/other_ms"), time(run.span_ns, f"{at}/span_ms"))


def _row(place: int, one: KernelClass) -> Row:
    at = f"/breakdown/steps/0/kernels/{place}"
    return Row(
        name=one.name.replace("_", " "),
        tasks=count(one.tasks, f"{at}/tasks"),
        time=time(one.time_ns, f"{at}/time_ms"),
        flops=Amount(one.flops_per_s, Unit.FLOPS_PER_S, f"{at}/flops_per_s"),
        bytes=Amount(one.bytes_per_s, Unit.BYTES_PER_S, f"{at}/bytes_per_s"),
        roofline=percent(one.roofline_pct, f"{at}/roofline_pct"),
    )


def _lead(answers: Answers) -> Sentence:
    found = answers.breakdown.efficiency
    picture = (
        "The share of each moment in which at least one stream works: filled as measured, "
        "the line as replayed."
    )
    if found.mfu_pct is None:
        return (picture,)
    return (
        "Of what its matrix units can do the step uses ",
        percent(found.mfu_pct, "/breakdown/steps/0/mfu_pct"), " (MFU). ", picture,
    )  # fmt: skip
