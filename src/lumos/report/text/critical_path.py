"""The critical path as text: the verdict, the path in order, what it is made of, what comes next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from lumos.analysis.path_segments import Segment
from lumos.analysis.path_sums import UNKNOWN, Part
from lumos.analysis.step_path import NEAR_PCT, Ran, StepPath
from lumos.graph.finding import Finding
from lumos.graph.labels import HOST, OTHER_WORK
from lumos.report.plain import plain
from lumos.report.text.house import (
    MOST_LINES,
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

TOP = 12
"""Segments of the path that are shown; of each sum half as many lines."""
_LEAST_SHARE = 0.05
"""What makes less of the path [%] has no line of its own."""
_TOLD_SHARE = 2.0
"""What makes less of a segment [%] is not named beside it."""
_LONGEST_NAME = 40
"""Longer names, mostly templates of C++, are cut in a segment's line: they would fill the screen."""
_UNTELLING = (HOST, OTHER_WORK)
"""Classes that say less than the names of their operators."""
_WORDS = {Part.STARTING_STATE.value: "earlier work", UNKNOWN: "(not told)"}
_SUMS = (
    ("kind", "by_kind"),
    ("rule", "by_rule"),
    ("rank", "by_rank"),
    ("thread or stream", "by_stream"),
    ("phase", "by_phase"),
    ("layer", "by_layer"),
    ("operator", "by_operator"),
)


def critical_path_report(
    steps: Sequence[StepPath], findings: Sequence[Finding] = (), top: int = TOP
) -> RenderableType:
    """What `lumos critical-path` prints: one step whole, and of several a line each."""
    parts: list[RenderableType] = []
    if steps:
        parts += _whole(_median(steps), top)
    if len(steps) > 1:
        parts.append(_all_steps(steps))
    if findings:
        parts.append(findings_table(findings))
    return spaced(parts)


def verdict(found: StepPath) -> str:
    """What the end of a step waits for, in one or two sentences."""
    how = "measured" if found.ran is Ran.MEASURED else "as replayed"
    first = f"{plain(found.step)}, {how}, takes {ms(found.makespan_ns):.2f} ms"
    parts = [(part, time) for part, time in found.sums.by_part.items() if time]
    if not parts:
        return f"{first}: no task, no path."
    told = [
        f"{path_word(part.value)} {found.share_pct(time):.1f} %"
        for part, time in parts
        if found.share_pct(time) >= 1 or (part, time) == parts[0]
    ]
    sentence = f"{first}; its critical path: {', '.join(told)}."
    rank, time = next(iter(found.sums.by_rank.items()))
    if len(found.sums.by_rank) > 1:
        sentence += f" {found.share_pct(time):.0f} % of it is on rank {rank}."
    return sentence


def path_word(key: str) -> str:
    """A kind, rule or part in words."""
    return _WORDS.get(key, key.replace("_", " "))


def _median(steps: Sequence[StepPath]) -> StepPath:
    """The step of median length, of an even number the shorter of the middle two."""
    order = sorted(range(len(steps)), key=lambda place: (steps[place].makespan_ns, place))
    return steps[order[(len(steps) - 1) // 2]]


def _all_steps(steps: Sequence[StepPath]) -> Table:
    shown = steps[:MOST_LINES]
    note = "Above stands the step of median length; --step shows another."
    if len(shown) < len(steps):
        note = f"{len(steps) - len(shown)} more steps with --json. {note}"
    found = table("Critical path of each step, in % of it", note=note, gap=1)
    found.add_column("step")
    for head in ("path\nms", "compute\n%", "commun.\n%", "host\n%", "lags\n%", "unexpl.\n%",
                 "earlier\n%", "most on\nrank"):  # fmt: skip
        found.add_column(head, justify="right", no_wrap=True)
    for step in shown:
        found.add_row(
            name_text(step.step),
            time_text(step.makespan_ns),
            *(percent_text(step.share_pct(step.part_ns(part))) for part in Part),
            str(next(iter(step.sums.by_rank), "-")),
        )
    return found


def _whole(found: StepPath, top: int) -> list[RenderableType]:
    words = [(verdict(found), "bold")]
    if found.error_pct is not None:
        words.append((f"\nReplay error of the step: {found.error_pct:+z.2f} %.", "dim"))
    parts: list[RenderableType] = [Sentences.assemble(*words)]
    if found.segments:
        parts.append(_story(found, top))
    for what, name in _SUMS:
        sums: Mapping[str | int, int] = getattr(found.sums, name)
        if len(sums) > 1 or what == "kind":
            parts.append(_sum(found, what, sums, top))
    if found.near:
        parts.append(_near(found, top))
    return parts


def _story(found: StepPath, top: int) -> Table:
    longest = sorted(found.segments, key=lambda one: -one.length_ns)[:top]
    shown = sorted(longest, key=lambda one: one.number)
    note = (
        "by: the dependency by which the path comes there; behind it the classes of tasks that take "
        "longest, or the operators where a class says little, with their ms."
    )
    title = f"The path from start to end, {found.segment_count} stretches"
    found_table = table(title, note=note, gap=1)
    for head in ("at ms", "ms"):
        found_table.add_column(head, justify="right", no_wrap=True)
    found_table.add_column("by", no_wrap=True)
    found_table.add_column("rank", justify="right", no_wrap=True)
    found_table.add_column("thread or stream")
    found_table.add_column("", min_width=24, ratio=1)
    begin = found.path.begin_ns
    for before, one in pairwise((None, *shown)):
        assert one is not None
        _add_skipped(found_table, *_gap(begin, before, one))
        found_table.add_row(
            time_text(one.start_ns - begin), time_text(one.length_ns), path_word(one.rule),
            str(one.rank), label_text(one.stream), Text(plain(_content(one)), overflow="fold"),
        )  # fmt: skip
    last = shown[-1]
    rest = begin + found.path.length_ns - last.end_ns
    _add_skipped(found_table, found.segment_count - 1 - last.number, rest)
    return found_table


def _gap(begin_ns: int, before: Segment | None, one: Segment) -> tuple[int, int]:
    """How many segments lie between two that are shown, and their time [ns]."""
    if before is None:
        return one.number, one.start_ns - begin_ns
    return one.number - before.number - 1, one.start_ns - before.end_ns


def _add_skipped(into: Table, count: int, time_ns: int) -> None:
    if count:
        words = f"{count} shorter stretch{'es' * (count != 1)}"
        into.add_row("", time_text(time_ns), "", "", "", Text(words), style="dim")


def _content(one: Segment) -> str:
    """What a segment's time is spent on: `forward: gemm 31.20, elementwise 8.10`."""
    kinds = [(path_word(name), time) for name, time in one.kinds]
    named = one.operators if one.kinds and one.kinds[0][0] in _UNTELLING else kinds
    between = [
        (path_word(Part.STARTING_STATE.value), one.earlier_ns),
        (Part.LAG.value, one.lag_ns),
        (Part.UNEXPLAINED.value, one.unexplained_ns),
    ]
    told = sorted([*named, *between], key=lambda pair: -pair[1])
    least = one.length_ns * _TOLD_SHARE / 100
    words = ", ".join(
        f"{_short(name)} {ms(time):.2f}" for name, time in told if time and time >= least
    )
    return f"{path_word(one.phase)}: {words}" if one.phase else words


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _sum(found: StepPath, what: str, sums: Mapping[str | int, int], top: int) -> Table:
    lines = max(top // 2, 1)
    shown = [pair for pair in sums.items() if found.share_pct(pair[1]) >= _LEAST_SHARE][:lines]
    hidden = len(sums) - len(shown)
    rest = sum(sums.values()) - sum(time for _, time in shown)
    result = table(f"By {what}", gap=2)
    result.add_column("", min_width=24, max_width=44)
    for head in ("ms", "%"):
        result.add_column(head, justify="right", no_wrap=True)
    result.add_column("", min_width=12, max_width=40, ratio=1)
    for name, time in shown:
        words = f"rank {name}" if what == "rank" else _WORDS.get(str(name), str(name))
        words = path_word(words) if what in ("kind", "rule") else words
        share = found.share_pct(time)
        label = label_text(words) if what == "thread or stream" else name_text(words)
        result.add_row(label, time_text(time), f"{share:.1f}", bar(share))
    if rest:
        result.add_row(
            f"{hidden} more", time_text(rest), f"{found.share_pct(rest):.1f}", "", style="dim"
        )
    return result


def _near(found: StepPath, top: int) -> Table:
    shown = found.near[:top]
    note = (
        f"Tasks off the path that could run at most {NEAR_PCT:g} % of the step "
        f"({ms(int(found.makespan_ns * NEAR_PCT / 100)):.2f} ms) later: what to mind when the path "
        "is made shorter. slack: that of the nearest."
    )
    if len(shown) < len(found.near):
        note = f"{len(found.near) - len(shown)} more with --json. {note}"
    result = table("Nearly critical", note=note, gap=2)
    result.add_column("rank", justify="right", no_wrap=True)
    result.add_column("thread or stream")
    result.add_column("", max_width=18)
    for head in ("tasks", "ms", "slack ms"):
        result.add_column(head, justify="right", no_wrap=True)
    for one in shown:
        result.add_row(
            str(one.rank), label_text(one.stream), name_text(one.kind.replace("_", " ")),
            str(one.tasks), time_text(one.own_ns), time_text(one.least_slack_ns, 3),
        )  # fmt: skip
    return result
