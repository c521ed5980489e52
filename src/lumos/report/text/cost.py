"""What the parts of a step cost, and the bounds ladder, as text."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lumos.analysis.baseline import Basis, Unchanged
from lumos.analysis.bounds import Rung, StepBounds
from lumos.analysis.cost import Cost, Grouping, StepCosts
from lumos.graph.finding import Finding
from lumos.report.plain import plain
from lumos.report.text.house import (
    bar,
    findings_table,
    label_text,
    name_text,
    percent_text,
    spaced,
    table,
    time_text,
)
from lumos.report.text.wrapping import Sentences
from lumos.units import ms

TOP = 8
"""Parts of a grouping that are shown."""
_TITLES = {
    Grouping.CLASS: "class",
    Grouping.OPERATOR: "operator",
    Grouping.KERNEL: "kernel",
    Grouping.LAYER: "layer",
    Grouping.PHASE: "phase",
    Grouping.STREAM: "thread or stream",
    Grouping.RANK: "rank, communication apart",
    Grouping.HOST: "host of a rank",
}
_BAR = 10
"""Cells of the bar beside a part's gain, twice as fast: the whole is the step."""
RUNG_WORDS = {
    Rung.NO_COMMUNICATION_WAIT: "no communication wait",
    Rung.PERFECT_OVERLAP: "perfect overlap",
    Rung.NO_BUBBLE: "no bubble",
    Rung.NO_STRAGGLER: "no straggler",
    Rung.FAST_HOST: "infinitely fast host",
    Rung.ROOFLINE: "kernels at roofline",
}


def cost_report(
    found: Sequence[tuple[StepCosts, StepBounds]],
    findings: Sequence[Finding] = (),
    top: int = TOP,
) -> RenderableType:
    """What `lumos cost` prints: for each step the verdict, its parts, its bounds."""
    parts: list[RenderableType] = []
    for costs, bounds in found:
        parts.append(_headline(costs))
        parts += [_gains(costs, by, top) for by in costs.left_out if costs.of(by)]
        parts.append(_ladder(bounds))
    if findings:
        parts.append(findings_table(findings))
    return spaced(parts)


def verdict(costs: StepCosts) -> str:
    """How long the step takes, and the part whose speed matters most, in two sentences."""
    unchanged = costs.unchanged
    how = "back to back" if unchanged.basis is Basis.BACK_TO_BACK else "from its recorded start"
    first = f"{plain(unchanged.step)} takes {ms(unchanged.length_ns):.2f} ms {how}."
    by = [one for one in costs.costs if one.by is Grouping.CLASS] or list(costs.costs)
    if not by or by[0].gain_half_ns <= 0:
        return f"{first} No part by itself makes it shorter."
    best = by[0]
    return (
        f"{first} What gains most: {part_name(best)} twice as fast, "
        f"{ms(best.gain_half_ns):.2f} ms ({unchanged.share_pct(best.gain_half_ns):.1f} %)."
    )


def part_name(part: Cost) -> str:
    """A part in words."""
    if part.by is Grouping.CLASS:
        return plain(part.label.replace("_", " "))
    return plain(part.label)


def basis_words(unchanged: Unchanged) -> str:
    """What the run is that changes are held against, and how far it is off."""
    words = []
    if unchanged.measured_ns is not None and unchanged.error_pct is not None:
        period = "its period" if unchanged.own else "the median period of steps like it"
        what = period if unchanged.basis is Basis.BACK_TO_BACK else "its span"
        words.append(
            f"Measured: {ms(unchanged.measured_ns):.2f} ms, {what}; the run is "
            f"{unchanged.error_pct:+z.2f} % off: gains below {ms(unchanged.error_ns or 0):.2f} ms "
            "are within its error."
        )
    else:
        words.append("Its measured period is unknown: no step before it, or like it, was recorded.")
    if unchanged.replay_error_pct is not None:
        words.append(f"Replay error of the step by rules: {unchanged.replay_error_pct:+z.2f} %.")
    return " ".join(words)


def _headline(costs: StepCosts) -> Text:
    return Sentences.assemble((verdict(costs), "bold"), "\n", (basis_words(costs.unchanged), "dim"))


def _gains(costs: StepCosts, by: Grouping, top: int) -> Table:
    every = costs.of(by)
    shown, unchanged = every[:top], costs.unchanged
    hidden, left_out = len(every) - len(shown), costs.left_out[by]
    notes = [f"{hidden} more with --top"] * (hidden > 0)
    notes += [f"{left_out} of less own time were not tried"] * (left_out > 0)
    found = table(f"What the step gains from a faster {_TITLES[by]}", note="; ".join(notes), gap=1)
    found.add_column("", ratio=1, min_width=16)
    for head in ("tasks", "own\nms", "10 %\nms", "twice\nms", "free\nms", "\n%"):
        found.add_column(head, justify="right", no_wrap=True)
    found.add_column("", min_width=6, max_width=_BAR)
    for one in shown:
        share = unchanged.share_pct(one.gain_half_ns)
        found.add_row(
            (label_text if by is Grouping.STREAM else name_text)(part_name(one)),
            str(one.tasks),
            time_text(one.own_ns),
            *(
                _gain(gain, unchanged)
                for gain in (one.gain_10_pct_ns, one.gain_half_ns, one.gain_free_ns)
            ),
            percent_text(unchanged.share_pct(one.gain_free_ns)),
            bar(max(share, 0.0)),
        )
    return found


def _gain(gain_ns: int, unchanged: Unchanged) -> Text:
    """A gain; a small one, within the error of the run, is dim."""
    within = abs(gain_ns) <= (unchanged.error_ns or 0)
    return Text(f"{ms(gain_ns):z.2f}", "dim" if within else "")


def _ladder(ladder: StepBounds) -> RenderableType:
    """A line for each limit that the job has, and in words why it has not the others."""
    unchanged = ladder.unchanged
    passed = [one for one in ladder.bounds if one.alone_ns is None]
    notes = [f"{RUNG_WORDS[one.rung]} does not apply: {one.reason}." for one in passed]
    notes += [
        f"{RUNG_WORDS[one.rung]}: for {one.unknown_pct:.1f} % of the time no bound is known."
        for one in ladder.bounds
        if one.unknown_pct
    ]
    title = "Bounds: how long the step takes without one limit, and without all so far"
    if len(passed) == len(ladder.bounds):
        return Group(Text(title, "bold"), Sentences(" ".join(notes), "dim"))
    found = table(title, note=" ".join(notes), gap=1)
    found.add_column("")
    for head in ("alone\nms", "gain\n%", "so far\nms", "gain\n%"):
        found.add_column(head, justify="right", no_wrap=True)
    found.add_column("", min_width=12, max_width=40, ratio=1)
    found.add_row("as it is", *_length(unchanged.length_ns, unchanged), "", "", bar(100.0))
    for one in ladder.bounds:
        if one.alone_ns is None:
            continue
        found.add_row(
            RUNG_WORDS[one.rung],
            *_length(one.alone_ns, unchanged),
            *_length(one.together_ns, unchanged),
            bar(100 - unchanged.share_pct(unchanged.length_ns - one.together_ns)),
        )
    return found


def _length(length_ns: int, unchanged: Unchanged) -> tuple[Text, Text]:
    gain = unchanged.length_ns - length_ns
    return time_text(length_ns), percent_text(unchanged.share_pct(gain))
