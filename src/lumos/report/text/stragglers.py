"""Stragglers as text: the verdict in words, rank by step as blocks, then who costs how much."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from lumos.analysis.straggler_causes import Cause
from lumos.analysis.stragglers import LEAST_COST, Group, StepStragglers, Stragglers
from lumos.graph.finding import Finding
from lumos.graph.job import Grain
from lumos.report.plain import plain
from lumos.report.text.house import (
    bar,
    findings_table,
    name_text,
    noted,
    percent_text,
    spaced,
    table,
    time_text,
)
from lumos.report.text.wrapping import Sentences
from lumos.units import ms

TOP = 10
"""Ranks, stages and operations that are shown."""
MOST_STEPS, MOST_RANKS = 60, 32
"""Columns and lines of the picture: of more steps several share a column, of more ranks the slowest
are shown."""
CAUSE_WORDS = {
    Cause.HOST_STALL: "its host stalls",
    Cause.SLOW_COMPUTE: "it computes slowly",
    Cause.SLOW_LINK: "its transfers are slow",
    Cause.IMBALANCE: "it has more to do than others",
    Cause.NONE: "",
}
_SHADES = (
    (2.0, "·", "dim"),
    (10.0, "░", "green"),
    (25.0, "▒", "yellow"),
    (50.0, "▓", "red"),
    (math.inf, "█", "bold red"),
)
"""Slow-downs [%] below which a block is drawn so."""
Groups = Mapping[int, Group] | Mapping[str, Group]


def stragglers_report(
    found: Stragglers, findings: Sequence[Finding] = (), top: int = TOP
) -> RenderableType:
    """What `lumos stragglers` prints."""
    overall = found.overall()
    parts: list[RenderableType] = [_headline(found, overall)]
    if found.compares:
        parts += _tables(found, overall, top)
    if findings:
        parts.append(findings_table(findings))
    return spaced(parts)


def _tables(found: Stragglers, overall: StepStragglers, top: int) -> list[RenderableType]:
    parts: list[RenderableType] = []
    if len(overall.ranks) > 1:
        if len(found.steps) > 1:
            parts.append(_picture(found, overall))
        parts.append(_ranks(found, overall, top))
    for title, shared in _shared(overall):
        parts.append(_groups(found, overall, title, shared, top))
    if overall.operations:
        parts.append(_groups(found, overall, "kind of operation", overall.operations, top))
    return [*parts, _words(found)]


def verdict(found: Stragglers) -> str:
    """How much slower than typical, and who makes it so, in a few sentences."""
    overall, count = found.overall(), len(found.steps)
    slower = _share(
        overall.without_delay_ns - overall.without_stragglers_ns, overall.without_stragglers_ns
    )
    what = f"The mean of {count} steps" if count > 1 else plain(found.steps[0].step)
    if not found.compares:
        return (
            f"{what} takes {ms(overall.without_delay_ns) / count:.2f} ms. What is typical is unknown, "
            "nothing here has a like to be held against: record several steps, or several ranks."
        )
    much = f"{abs(slower):.1f} % {'slower' if slower >= 0 else 'faster'} than"
    if abs(slower) < 0.05:
        much = "as long as"
    real, even = (
        ms(time) / count for time in (overall.without_delay_ns, overall.without_stragglers_ns)
    )
    sentences = [f"{what} is {much} it typically would be: {real:.2f} ms against {even:.2f} ms."]
    return " ".join([*sentences, *_who(found, overall)])


def _who(found: Stragglers, overall: StepStragglers) -> list[str]:
    """Who costs most: a rank by itself, and where it is dearer a stage or data-parallel rank.

    Of one rank alone it is a step: nothing there is held against other ranks.
    """
    if len(overall.ranks) == 1 < len(found.steps):
        return [_slow_steps(found, overall)]
    rank, cost = _dearest(overall, overall.ranks)
    least = LEAST_COST * overall.without_delay_ns
    sentences = []
    if cost > least:
        why = CAUSE_WORDS[overall.causes[int(rank)]]
        sentences.append(f"Rank {rank} costs most, {_much(found, overall, cost)}: {why}.")
    else:
        sentences.append(f"No rank by itself costs {100 * LEAST_COST:.0f} %{_over_steps(found)}.")
    together = []
    for title, groups in _shared(overall):
        number, cost_ns = _dearest(overall, groups)
        together.append((cost_ns, f"{title} {number}"))
    dearest, name = max(together, default=(0, ""))
    if dearest > max(cost, least):
        sentences.append(f"All ranks of {name} together cost {_much(found, overall, dearest)}.")
    return sentences


def _slow_steps(found: Stragglers, overall: StepStragglers) -> str:
    """Which steps of a single rank are slow, and why the slowest is."""
    (rank,) = overall.ranks
    costs = {step.step: step.cost_ns(step.ranks[rank]) for step in found.steps}
    slow = [step for step in found.steps if step.causes[rank] is not Cause.NONE]
    said = "With one rank only its steps can be compared:"
    if not slow:
        return f"{said} none of {len(found.steps)} costs {100 * LEAST_COST:.0f} %."
    worst = max(slow, key=lambda step: costs[step.step])
    share = _share(costs[worst.step], worst.without_delay_ns)
    why = CAUSE_WORDS[worst.causes[rank]]
    more = len(slow) - 1
    others = (
        f"; {more} more of {len(found.steps)} cost{'s' * (more == 1)} 1 % or more" if more else ""
    )
    return (
        f"{said} {plain(worst.step)} costs most, {ms(costs[worst.step]):.2f} ms ({share:.1f} % of "
        f"it), {why}{others}."
    )


def _over_steps(found: Stragglers) -> str:
    return f" over all {len(found.steps)} steps" if len(found.steps) > 1 else ""


def _shared(overall: StepStragglers) -> list[tuple[str, Mapping[int, Group]]]:
    """Groups of ranks, where there are several and they are not single ranks."""
    named = ("stage", overall.stages), ("data-parallel rank", overall.dp_ranks)
    return [
        (title, groups)
        for title, groups in named
        if groups is not None and 1 < len(groups) < len(overall.ranks)
    ]


def _headline(found: Stragglers, overall: StepStragglers) -> Text:
    delay = overall.measured_ns - overall.without_delay_ns
    share = _share(delay, overall.without_delay_ns)
    measured = ms(overall.measured_ns) / len(found.steps)
    words = (
        f"Measured: {measured:.2f} ms, {share:+z.2f} % beyond the run by rules alone, in which "
        "durations were exchanged."
    )
    return Sentences.assemble(
        (verdict(found), "bold"), "\n", (words + _reasons(found, overall), "dim")
    )


def _reasons(found: Stragglers, overall: StepStragglers) -> str:
    """How often a rank costs a step something, and for which causes."""
    causes = Counter(
        cause for step in found.steps for cause in step.causes.values() if cause is not Cause.NONE
    )
    if not causes or len(found.steps) == 1 or not found.compares or len(overall.ranks) == 1:
        return ""
    often = {1: "once", 2: "twice"}.get(causes.total(), f"{causes.total()} times")
    each = ", ".join(
        _cause(cause) + (f" {count}" if len(causes) > 1 else "")
        for cause, count in causes.most_common()
    )
    return f" In single steps a rank costs 1 % of the step or more {often}: {each}."


def _cause(cause: Cause) -> str:
    return "" if cause is Cause.NONE else cause.value.replace("_", " ")


def _picture(found: Stragglers, overall: StepStragglers) -> RenderableType:
    every = -(-len(found.steps) // MOST_STEPS)
    columns = [found.steps[first : first + every] for first in range(0, len(found.steps), every)]
    slowest = sorted(overall.ranks, key=lambda rank: -overall.ranks[rank].only_ns)[:MOST_RANKS]
    legend = ", ".join(
        f"{shade} " + (f"below {limit:.0f} %" if math.isfinite(limit) else "more")
        for limit, shade, _ in _SHADES
    )
    shown = f"steps {plain(found.steps[0].step)} to {plain(found.steps[-1].step)}"
    shown += f", the worst of each {every}" if every > 1 else ""
    hidden = len(overall.ranks) - len(slowest)
    rest = f"; {hidden} ranks that slow it less are not shown" if hidden else ""
    title = "How much each rank alone slows an even job, step by step"
    drawn = table(title)
    drawn.add_column("rank", justify="right", no_wrap=True)
    # else the first column takes the room that the title needs
    drawn.add_column("", no_wrap=True, min_width=len(title) - len("rank  "))
    for rank in sorted(slowest):
        drawn.add_row(str(rank), Text.assemble(*(_block(column, rank) for column in columns)))
    return noted(drawn, f"{shown}: {legend}{rest}")


def _block(steps: Sequence[StepStragglers], rank: int) -> tuple[str, str]:
    factors = [step.slowdown_of(step.ranks[rank]) for step in steps if rank in step.ranks]
    slowdown = max((one for one in factors if one is not None), default=None)
    if slowdown is None:
        return " ", ""
    slower = 100 * (slowdown - 1)
    return next((shade, style) for limit, shade, style in _SHADES if slower < limit)


def _ranks(found: Stragglers, overall: StepStragglers, top: int) -> Table:
    many = len(found.steps) > 1
    hidden = max(len(overall.ranks) - top, 0)
    drawn = table("What each rank costs", note=f"{hidden} more with --top" if hidden else "", gap=1)
    drawn.add_column("rank", justify="right", no_wrap=True)
    for head in ("cost\nms", "\n%", *(("worst step\nms",) if many else ()), "alone\n%"):
        drawn.add_column(head, justify="right", no_wrap=True)
    drawn.add_column("cause", no_wrap=True)
    drawn.add_column("", min_width=6, ratio=1, max_width=24)
    for rank in _by_cost(overall, overall.ranks)[:top]:
        worst = max(step.cost_ns(step.ranks[int(rank)]) for step in found.steps)
        cause = overall.causes[int(rank)]
        drawn.add_row(
            str(rank),
            *_cost(found, overall, overall.ranks[int(rank)]),
            *((time_text(worst),) if many else ()),
            _alone(overall, overall.ranks[int(rank)]),
            Text(_cause(cause)),
            _bar(overall, overall.ranks[int(rank)]),
        )
    return drawn


def _groups(
    found: Stragglers, overall: StepStragglers, title: str, groups: Groups, top: int
) -> Table:
    hidden = max(len(groups) - top, 0)
    drawn = table(
        f"What each {title} costs", note=f"{hidden} more with --top" if hidden else "", gap=1
    )
    drawn.add_column("", min_width=12)
    for head in ("cost\nms", "\n%", "alone\n%"):
        drawn.add_column(head, justify="right", no_wrap=True)
    drawn.add_column("", min_width=6, ratio=1, max_width=24)
    for key in _by_cost(overall, groups)[:top]:
        group = groups[key]  # type: ignore[index]
        drawn.add_row(
            name_text(str(key).replace("_", " ")),
            *_cost(found, overall, group),
            _alone(overall, group),
            _bar(overall, group),
        )
    return drawn


def _words(found: Stragglers) -> Text:
    each = " (means over the steps)" if len(found.steps) > 1 else ""
    words = (
        f"cost: what the step gains where this alone is typical{each}; alone: how much it slows a job "
        "that is typical otherwise. "
    )
    if found.grain is Grain.OPERATION:
        words += "Typical is the mean of all computes of a type, the median of its transfers."
    else:
        words += (
            "Typical is the median rank's median step, row by row (of two the faster one): "
            f"{found.compared_pct:.1f} % of the time is held against other ranks, "
            f"{found.alone_pct:.1f} % only against other steps of the same rank."
        )
    return Sentences(words, "dim")


def _by_cost(overall: StepStragglers, groups: Groups) -> list[int | str]:
    """The dearest first; of those that cost the same, the one that slows most alone."""
    return sorted(
        groups,
        key=lambda key: (-overall.cost_ns(groups[key]), -groups[key].only_ns),  # type: ignore[index]
    )


def _dearest(overall: StepStragglers, groups: Groups) -> tuple[int | str, int]:
    key = _by_cost(overall, groups)[0]
    return key, overall.cost_ns(groups[key])  # type: ignore[index]


def _much(found: Stragglers, overall: StepStragglers, cost_ns: int) -> str:
    each = " a step" if len(found.steps) > 1 else ""
    share = _share(cost_ns, overall.without_delay_ns)
    return f"{ms(cost_ns) / len(found.steps):.2f} ms{each} ({share:.1f} %)"


def _cost(found: Stragglers, overall: StepStragglers, group: Group) -> tuple[Text, Text]:
    cost = overall.cost_ns(group)
    share = _share(cost, overall.without_delay_ns)
    return time_text(cost / len(found.steps)), percent_text(share)


def _alone(overall: StepStragglers, group: Group) -> Text:
    slowdown = overall.slowdown_of(group)
    return percent_text(None if slowdown is None else 100 * (slowdown - 1))


def _bar(overall: StepStragglers, group: Group) -> RenderableType:
    return bar(max(_share(overall.cost_ns(group), overall.without_delay_ns), 0.0))


def _share(part_ns: float, whole_ns: float) -> float:
    return 100 * part_ns / whole_ns if whole_ns else 0.0
