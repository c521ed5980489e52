"""What the critical path is made of, measured beside replayed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lumos.analysis.answers import Answers
from lumos.analysis.path_sums import Part
from lumos.analysis.sentence import Amount, Name, Sentence, key, share, time
from lumos.analysis.step_path import StepPath
from lumos.report.page.bars import Bar, bar
from lumos.report.page.panel import Call, Panel, verb

MOST_ROWS = 10
"""Lines of a sum."""
LEAST_PCT = 0.05
"""A line with less of the path is left out."""
_PARTS = (
    (Part.COMPUTE, "compute", "compute"),
    (Part.COMMUNICATION, "communication", "transfer"),
    (Part.HOST, "host", "host"),
    (Part.LAG, "latencies between tasks", "call"),
    (Part.UNEXPLAINED, "unexplained", "poor"),
    (Part.STARTING_STATE, "work begun before the step", "pause"),
)
_SUMS = (
    ("by_kind", "By class of task"),
    ("by_rule", "By what was waited for"),
    ("by_rank", "By rank"),
    ("by_operator", "By operator"),
    ("by_layer", "By layer"),
)


@dataclass(frozen=True)
class Row:
    """One line of a sum: measured, its share of the path, replayed."""

    label: str
    measured: Amount
    share: Amount
    replayed: Amount


@dataclass(frozen=True)
class Table:
    """One way to sum the path; `left_out` counts lines that are not shown."""

    title: str
    rows: tuple[Row, ...]
    left_out: int


@dataclass(frozen=True)
class View:
    """What the template draws."""

    bars: tuple[Bar, ...]
    tables: tuple[Table, ...]


def path_calls(step: str) -> tuple[Call, Call]:
    """The calls that give the two paths of a step."""
    python = f"traces.replay({step!r}).critical_path"
    command = verb("critical_path", f"{python}()", step)
    measured = command.command.replace(" --json", " --measured --json")
    return Call("critical_path_measured", measured, f"{python}(measured=True)"), command


def path_panel(answers: Answers) -> Panel:
    """The paths of the step that was looked at."""
    calls = path_calls(answers.step.step)
    title = "What its end waited for"
    measured, replayed = answers.measured_path, answers.path
    if not len(measured.path):
        return Panel("path", title, calls, absent="Nothing ran in this step.")
    longest = max(measured.makespan_ns, replayed.makespan_ns, 1)
    bars = tuple(
        _bar(run, found, longest) for run, found in (("measured", measured), ("replayed", replayed))
    )
    tables = [_table(measured, replayed, way, words) for way, words in _SUMS]
    view = View(bars, tuple(one for one in tables if len(one.rows) > 1))
    return Panel("path", title, calls, _lead(bars[0]), "path.html", view)


def _at(run: str) -> str:
    return "/critical_path_measured/steps/0" if run == "measured" else "/critical_path/steps/0"


def _bar(run: str, found: StepPath, longest_ns: int) -> Bar:
    parts = [
        (words, fill, time(found.part_ns(part), f"{_at(run)}/by_part/{part.value}"))
        for part, words, fill in _PARTS
    ]
    return bar(run, time(found.makespan_ns, f"{_at(run)}/makespan_ms"), parts, longest_ns)


def _lead(one: Bar) -> Sentence:
    """The two largest parts, in words."""
    first, second = sorted(one.pieces, key=lambda piece: -(piece.amount.value or 0))[:2]
    return (
        "Of ", one.span, " from its first task to its last the step waited for ", Name(first.words), " for ",
        first.amount, " (", first.share, "), for ", Name(second.words), " for ", second.amount, " (", second.share,
        "). What is not on this path can be slower for free.",
    )  # fmt: skip


def _table(measured: StepPath, replayed: StepPath, way: str, title: str) -> Table:
    sums: Mapping[str | int, int] = getattr(measured.sums, way)
    others: Mapping[str | int, int] = getattr(replayed.sums, way)
    span = time(measured.makespan_ns, f"{_at('measured')}/makespan_ms")
    rows = []
    for label, time_ns in sums.items():
        place = f"{way}/{key(str(label))}"
        amount = time(time_ns, f"{_at('measured')}/{place}")
        # what is not on the replayed path has no place in its document
        at = f"{_at('replayed')}/{place if label in others else ''}"
        rows.append(
            Row(
                _words(way, label),
                amount,
                share(amount, span),
                Amount(others.get(label), span.unit, at),
            )
        )
    shown = [row for row in rows if (row.share.value or 0) >= LEAST_PCT][:MOST_ROWS]
    return Table(title, tuple(shown), len(rows) - len(shown))


def _words(way: str, label: str | int) -> str:
    if way == "by_rank":
        return f"rank {label}"
    return str(label).replace("_", " ") if way in ("by_kind", "by_rule") else str(label)
