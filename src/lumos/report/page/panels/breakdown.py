"""Where the time goes: measured beside replayed, rank by rank."""

from __future__ import annotations

from dataclasses import dataclass

from lumos.analysis.answers import Answers
from lumos.analysis.breakdown import Breakdown
from lumos.analysis.sentence import Amount, change, time
from lumos.report.page.bars import Bar, bar
from lumos.report.page.panel import Panel, verb

MOST_RANKS = 8
"""Ranks that are drawn: those that wait for communication the most and the least."""
PARTS = (
    ("exposed compute", "compute", "exposed_compute"),
    ("overlapped", "overlapped", "overlapped"),
    ("exposed communication", "transfer", "exposed_communication"),
    ("other: the device is idle", "idle", "other"),
)


@dataclass(frozen=True)
class RankBars:
    """A rank, measured and replayed."""

    rank: int
    error: Amount
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class View:
    """What the template draws."""

    ranks: tuple[RankBars, ...]
    left_out: int


def breakdown_panel(answers: Answers) -> Panel:
    """The panel of the step that was looked at."""
    step = answers.step
    calls = (verb("replay", f"traces.replay({step.step!r}).figures.ranks"),)
    title = "Where the time goes"
    if not step.ranks:
        return Panel("breakdown", title, calls, absent="No rank did anything in this step.")
    shown = _shown([one.measured_breakdown.exposed_communication_ns for one in step.ranks])
    longest = max(
        max(one.measured_ns, one.replayed_ns) for one in (step.ranks[place] for place in shown)
    )
    ranks = []
    for place in shown:
        one, at = step.ranks[place], f"/replay/steps/{answers.chosen}/ranks/{place}"
        runs = (
            ("measured", one.measured_ns, one.measured_breakdown),
            ("replayed", one.replayed_ns, one.replayed_breakdown),
        )
        bars = tuple(
            bar(run, time(span, f"{at}/{run}_ms"), _parts(parts, at, run), longest)
            for run, span, parts in runs
        )
        ranks.append(RankBars(one.rank, change(one.error_pct, f"{at}/error_pct"), bars))
    view = View(tuple(ranks), len(step.ranks) - len(shown))
    return Panel("breakdown", title, calls, _lead(ranks), "breakdown.html", view)


def _shown(waiting_ns: list[int]) -> list[int]:
    """The places of the ranks that are drawn, in their order."""
    order = sorted(range(len(waiting_ns)), key=lambda place: waiting_ns[place])
    if len(order) > MOST_RANKS:
        order = [*order[: MOST_RANKS // 2], *order[-MOST_RANKS // 2 :]]
    return sorted(order)


def _parts(breakdown: Breakdown, at: str, run: str) -> list[tuple[str, str, Amount]]:
    return [
        (words, fill, time(getattr(breakdown, f"{key}_ns"), f"{at}/breakdown_ms/{run}/{key}"))
        for words, fill, key in PARTS
    ]


def _lead(ranks: list[RankBars]) -> tuple[str | Amount, ...]:
    """The rank whose device is without compute for the longest time, in words."""
    worst = max(ranks, key=lambda one: _of(one, 2).value or 0)
    communication, idle = _of(worst, 2), _of(worst, 3)
    of_rank = f"Rank {worst.rank}" if len(ranks) > 1 else "The device"
    return (
        f"{of_rank} only communicates for ", communication, " and is idle for ", idle, " of ",
        worst.bars[0].span, ". Above as measured, below as replayed from the rules alone.",
    )  # fmt: skip


def _of(rank: RankBars, part: int) -> Amount:
    return rank.bars[0].pieces[part].amount
