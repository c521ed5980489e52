"""The look of all terminal views: tables that hold at 80 columns, numbers, names, bars, findings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.box import Box
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lumos.graph.finding import Finding
from lumos.report.plain import plain
from lumos.report.text.wrapping import Label, Sentences
from lumos.units import ms

_LINE_BELOW_HEAD = Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)
UNKNOWN = Text("-", "dim")
MOST_LINES = 40
"""Longer tables are shortened; what is left out is counted, and stands in --json."""


def spaced(parts: Iterable[RenderableType]) -> RenderableType:
    """Parts below each other with an empty line between them."""
    lines: list[RenderableType] = []
    for part in parts:
        lines += ["", part] if lines else [part]
    return Group(*lines)


def table(title: str, *, note: str = "", gap: int = 2) -> Table:
    """A table of the house: no frame, a line below the head, the title at the left."""
    caption = Sentences(note, "dim") if note else None
    return Table(
        title=Text(title, "bold"),
        title_justify="left",
        min_width=min(len(title), 78),  # else a long title over a narrow table is broken
        caption=caption,
        caption_justify="left",
        box=_LINE_BELOW_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, gap - 1, 0, 0),
    )


def noted(found: Table, *notes: str) -> RenderableType:
    """A table and below it what its reader has to know, as wide as the terminal."""
    words = " ".join(note for note in notes if note)
    return Group(found, Sentences(words, "dim")) if words else found


def name_text(name: str, style: str = "") -> Text:
    """A name from a trace, harmless, cut where there is no room."""
    return Text(plain(name), style, no_wrap=True, overflow="ellipsis")


def label_text(label: str) -> Text:
    """The label of a thread or stream, harmless, cut in its middle where there is no room."""
    return Label(plain(label), no_wrap=True)


def time_text(time_ns: float | None, digits: int = 2) -> Text:
    """A time in ms."""
    return UNKNOWN if time_ns is None else Text(f"{ms(time_ns):z.{digits}f}")


def percent_text(value_pct: float | None, *, signed: bool = False, graded: bool = False) -> Text:
    """A percentage; a graded one is green to 1, yellow to 5, then red."""
    if value_pct is None:
        return UNKNOWN
    size = abs(value_pct)
    style = ("green" if size <= 1 else "yellow" if size <= 5 else "red") if graded else ""
    digits = 2 if size < 100 else 0
    return Text(f"{value_pct:+z.{digits}f}" if signed else f"{value_pct:z.1f}", style)


def rate_text(value: float | None, unit: float, digits: int) -> Text:
    """A rate in multiples of `unit` a second."""
    if value is None:
        return UNKNOWN
    least = 10.0**-digits
    if 0 < value < unit * least:
        return Text(f"<{least:.{digits}f}")
    return Text(f"{value / unit:.{digits}f}", "" if value else "dim")


def findings_table(findings: Sequence[Finding]) -> Table:
    """Findings with the time they touch and what to change."""
    found = Table(
        title=Text("Findings", "bold"),
        title_justify="left",
        box=None,
        pad_edge=False,
        show_header=False,
    )
    found.add_column(no_wrap=True)
    found.add_column(ratio=1)
    colours = {"info": "cyan", "warning": "yellow", "error": "red"}
    for finding in findings[:MOST_LINES]:
        text = Sentences(plain(finding.message))
        if finding.affected_ns is not None:
            text.append(f" [{ms(finding.affected_ns):.2f} ms]")
        if finding.advice:
            text.append(f"\nnext time: {plain(finding.advice)}", "dim")
        found.add_row(Text(finding.severity, colours[finding.severity]), text)
    if len(findings) > MOST_LINES:
        found.add_row("", Text(f"and {len(findings) - MOST_LINES} more, all with --json", "dim"))
    return found


def ranks_text(ranks: Sequence[int]) -> str:
    """Ranks as ranges: 0-3, 8."""
    parts: list[str] = []
    numbers = sorted(ranks)
    for place, rank in enumerate(numbers):
        if place and rank == numbers[place - 1] + 1:
            parts[-1] = f"{parts[-1].partition('-')[0]}-{rank}"
        else:
            parts.append(str(rank))
    return ", ".join(parts)


def bar(share_pct: float) -> ProgressBar:
    """A bar for a share of the whole [%]."""
    return ProgressBar(
        100, share_pct, complete_style="cyan", finished_style="cyan", style="bar.back"
    )
