"""A diff as text: the verdict in words, then the parts with what each changes."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from lumos.analysis.diff import Diff, Part
from lumos.analysis.parts import Kind
from lumos.analysis.replay import percent
from lumos.report.plain import plain
from lumos.report.text.house import name_text, spaced, table
from lumos.report.text.wrapping import Sentences
from lumos.units import ms

TOP = 12
_BAR = 6
"""Cells of a bar on each side of zero."""
_WORDS = {Kind.COMPUTE: "compute", Kind.TRANSFER: "transfer", Kind.HOST: "host"}


def diff_report(diff: Diff, top: int = TOP) -> RenderableType:
    """What `lumos diff` prints."""
    return spaced([_verdict(diff), _parts(diff, top)])


def part_name(part: Part) -> str:
    """A part in words: `compute: gemm, layer 3`."""
    kind = _WORDS.get(part.kind)
    name = part.label if kind is None else f"{kind}: {part.label.replace('_', ' ')}"
    return plain(name if part.layer is None else f"{name}, layer {part.layer}")


def verdict(diff: Diff) -> str:
    """The change and the parts that make most of it, in one or two sentences."""
    change = diff.change_ns
    share = percent(diff.second_measured_ns, diff.first_measured_ns)
    of_first = f" ({share:+z.1f} %)" if share is not None else ""
    much = f"{abs(ms(change)):.2f} ms {'longer' if change >= 0 else 'shorter'}{of_first}"
    sentence = f"{plain(diff.second)} is {much} than {plain(diff.first)}."
    known = [part for part in diff.parts if part.kind != Kind.NOT_REPLAYED and part.change_ns]
    told = [f"{part_name(part)} {ms(part.change_ns):+z.2f} ms" for part in known[:3]]
    return f"{sentence} Largest parts: {'; '.join(told)}." if told else sentence


def _verdict(diff: Diff) -> Text:
    return Sentences(verdict(diff), "bold")


def _parts(diff: Diff, top: int) -> Table:
    note = (
        f"Each part was exchanged between the two in {diff.orders} orders; change: the mean, range: "
        "the least and the most over these orders. The parts add up to the measured change. own: "
        "time of its tasks themselves; waiting: what they wait inside themselves. "
        f"{diff.matched_pct:.1f} % of rows were matched."
    )
    found = table(
        f"What makes the difference: {ms(diff.first_measured_ns):.2f} ms -> "
        f"{ms(diff.second_measured_ns):.2f} ms",
        note=note,
        gap=1,
    )
    found.add_column("part")
    for head in ("change\nms", "range\nms", "own\nms", "waiting\nms"):
        found.add_column(head, justify="right", no_wrap=True)
    found.add_column("", no_wrap=True)
    most = max((abs(part.change_ns) for part in diff.parts), default=0)
    for part in diff.parts[:top]:
        found.add_row(name_text(part_name(part)), *_cells(part), _signed_bar(part.change_ns, most))
    if rest := diff.parts[top:]:
        total = sum(part.change_ns for part in rest)
        found.add_row(
            Text(f"{len(rest)} more parts", "dim"),
            _signed(total),
            "",
            "",
            "",
            _signed_bar(total, most),
        )
    found.add_row("all", _signed(diff.change_ns), style="bold")
    return found


def _cells(part: Part) -> Sequence[Text]:
    wide = part.highest_ns - part.lowest_ns >= 5000  # less would print as twice the same
    own, waiting = (pair[1] - pair[0] for pair in (part.own_ns, part.waiting_ns))
    return (
        _signed(part.change_ns),
        Text(f"{ms(part.lowest_ns):+z.2f}..{ms(part.highest_ns):+z.2f}" if wide else "", "dim"),
        _signed(own) if any(part.own_ns) else Text(""),
        _signed(waiting) if any(part.waiting_ns) else Text(""),
    )


def _signed(time_ns: int) -> Text:
    return Text(f"{ms(time_ns):+z.2f}")


def _signed_bar(time_ns: int, most_ns: int) -> Text:
    """Red to the right for longer, green to the left for shorter."""
    cells = round(_BAR * abs(time_ns) / most_ns) if most_ns else 0
    if time_ns < 0:
        return Text.assemble(" " * (_BAR - cells), ("█" * cells, "green"), "│")
    return Text.assemble(" " * _BAR, "│", ("█" * cells, "red"))
