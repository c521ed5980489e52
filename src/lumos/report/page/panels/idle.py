"""Why devices were idle: the time without compute or communication by what it waited for."""

from __future__ import annotations

from dataclasses import dataclass

from lumos.analysis.answers import Answers
from lumos.analysis.idle import Cause
from lumos.analysis.sentence import Amount, Name, Sentence, share, time
from lumos.analysis.step_breakdown import RankBreakdown
from lumos.report.page.bars import Bar, bar
from lumos.report.page.panel import Panel, verb
from lumos.report.text.breakdown import CAUSE_WORDS

MOST_RANKS = 8
"""Ranks that are drawn: those whose devices are idle for the longest time."""
FILLS = {
    Cause.HOST_BOUND: "host",
    Cause.LAUNCH_QUEUE: "call",
    Cause.DATA_LOADING: "copy",
    Cause.SYNCHRONIZING_CALL: "wait",
    Cause.EARLIER_STEP: "pause",
    Cause.UNEXPLAINED: "poor",
}


@dataclass(frozen=True)
class RankBars:
    """A rank's idle time, measured and replayed; its waiting for peers and for other stages."""

    rank: int
    bars: tuple[Bar, ...]
    waiting: tuple[tuple[Amount, Amount], ...]


@dataclass(frozen=True)
class View:
    """What the template draws; `waiting` tells whether waiting for other ranks is known."""

    ranks: tuple[RankBars, ...]
    left_out: int
    waiting: bool


def idle_panel(answers: Answers) -> Panel:
    """The idle time of the step that was looked at, rank by rank."""
    name, found = answers.step.step, answers.breakdown.ranks
    calls = (verb("breakdown", f"traces.replay({name!r}).breakdown()", name),)
    title = "Why devices are idle"
    longest = max(
        (run.parts.other_ns for one in found for run in (one.measured, one.replayed)), default=0
    )
    if not longest:
        return Panel("idle", title, calls, absent="No device was idle in this step.")
    order = sorted(range(len(found)), key=lambda place: -found[place].measured.parts.other_ns)
    ranks = []
    for place in sorted(order[:MOST_RANKS]):
        one, at = found[place], f"/breakdown/steps/0/ranks/{place}"
        runs = (("measured", one.measured), ("replayed", one.replayed))
        bars = tuple(_bar(run, side, f"{at}/{run}", longest) for run, side in runs)
        waiting = tuple(_waiting(side, f"{at}/{run}") for run, side in runs)
        ranks.append(RankBars(one.rank, bars, waiting))
    known = any(one.waiting[0][0].value is not None for one in ranks)
    view = View(tuple(ranks), len(found) - len(ranks), known)
    worst, at = found[order[0]], f"/breakdown/steps/0/ranks/{order[0]}/measured"
    return Panel("idle", title, calls, _lead(worst.rank, worst.measured, at), "idle.html", view)


def _bar(run: str, side: RankBreakdown, at: str, longest_ns: int) -> Bar:
    parts = [
        (words, FILLS[cause], time(side.idle_ns[cause], f"{at}/other_by_cause_ms/{cause.value}"))
        for cause, words in CAUSE_WORDS.items()
    ]
    return bar(run, time(side.parts.other_ns, f"{at}/other_ms"), parts, longest_ns)


def _waiting(side: RankBreakdown, at: str) -> tuple[Amount, Amount]:
    return (
        time(side.waiting_for_peers_ns, f"{at}/waiting_for_peers_ms"),
        time(side.bubble_ns, f"{at}/pipeline_bubble_ms"),
    )


def _lead(rank: int, side: RankBreakdown, at: str) -> Sentence:
    """The rank that is idle for the longest time, and its main cause."""
    main = max(Cause, key=lambda cause: side.idle_ns[cause])
    idle = time(side.parts.other_ns, f"{at}/other_ms")
    part = time(side.idle_ns[main], f"{at}/other_by_cause_ms/{main.value}")
    return (
        f"The device of rank {rank} does nothing for ", idle, " of ", time(side.span_ns, f"{at}/span_ms"),
        ": ", Name(CAUSE_WORDS[main]), " for ", share(part, idle), " of that. ",
        "Each stretch goes to what kept the task behind it from starting.",
    )  # fmt: skip
