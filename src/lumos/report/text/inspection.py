"""An inspection as text: the grade and what to change first, then what is in the traces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.columns import Columns
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from lumos.analysis.grade import Shortfall
from lumos.analysis.inspection import Inspection, Layout, RankInspection
from lumos.graph.trace import CaptureNotes, StepTimes
from lumos.report.plain import plain
from lumos.report.text.house import (
    UNKNOWN,
    findings_table,
    label_text,
    name_text,
    percent_text,
    ranks_text,
    spaced,
    table,
    time_text,
)
from lumos.report.text.wrapping import Sentences
from lumos.units import ms

MOST_LINES = 16
_GRADE_STYLE = {"A": "bold green", "B": "bold cyan", "C": "bold yellow", "D": "bold red"}
_GRADE_MEANING = {
    "A": "the profiler told all that a replay needs",
    "B": "something is inferred, or cannot be answered",
    "C": "figures depend on guesses, or parts are missing",
    "D": "this cannot be replayed",
}
_EVIDENCE = {
    "explicit": "told by the trace",
    "call_pattern": "told by the pattern of calls around a communication launch",
    "times": "inferred from times, and checked on other steps",
    "own_times": "inferred from this step's own times",
    "order": "by the order of calls; held nothing back here",
}


def inspect_report(
    inspection: Inspection, grade: str, shortfalls: Sequence[Shortfall]
) -> RenderableType:
    """What `lumos inspect` prints."""
    ranks = inspection.ranks
    parts: list[RenderableType] = [_headline(inspection), _grade(grade, shortfalls), _ranks(ranks)]
    if any(rank.capture for rank in ranks):
        parts.append(_captures(ranks))
    if inspection.layout.groups:
        parts.append(_groups(inspection.layout))
    parts += [_beside(_steps(ranks), _events(ranks)), _beside(_threads(ranks), _profiler(ranks))]
    if any(rank.streams for rank in ranks):
        parts.append(_beside(_streams(ranks), *_communication(ranks)))
    else:
        parts += _communication(ranks)
    if inspection.findings:
        parts.append(findings_table(inspection.findings))
    return spaced(parts)


def _beside(*tables: Table) -> RenderableType:
    """Tables beside each other where there is room, else below each other."""
    return Columns(tables, padding=(1, 6))


def _communication(ranks: Sequence[RankInspection]) -> list[Table]:
    found = []
    if any(rank.collectives for rank in ranks):
        found.append(_collectives(ranks))
    if any(rank.waits or rank.unresolved_waits for rank in ranks):
        found.append(_waits(ranks))
    return found


def _headline(inspection: Inspection) -> Text:
    layout = inspection.layout
    gpu = next((rank.gpu for rank in inspection.ranks if rank.gpu), "")
    text = Text.assemble(
        (f"{len(layout.ranks)} of {layout.world_size} rank{'s' * (layout.world_size > 1)}", "bold")
    )
    if gpu:
        text.append(f" on {plain(gpu)}")
    if layout.backend:
        text.append(f", {plain(layout.backend)}")
    return text


def _grade(grade: str, shortfalls: Sequence[Shortfall]) -> Table:
    found = Table(box=None, pad_edge=False, show_header=False)
    found.add_column(no_wrap=True)
    found.add_column(ratio=1)
    found.add_row(
        Text("Grade", "bold"),
        Text.assemble((grade, _GRADE_STYLE[grade]), f": {_GRADE_MEANING[grade]}"),
    )
    for one in shortfalls:
        text = Sentences(plain(one.message))
        if one.advice:
            text.append(f"\nnext time: {plain(one.advice)}", "dim")
        found.add_row(Text(f"  {one.grade}", _GRADE_STYLE[one.grade]), text)
    return found


def _columns(found: Table, *heads: str, left: int = 1) -> Table:
    """Add columns: the first `left` hold names, the others numbers."""
    for place, head in enumerate(heads):
        if place < left:
            found.add_column(head)
        else:
            found.add_column(head, justify="right", no_wrap=True)
    return found


def _ranks(ranks: Sequence[RankInspection]) -> Table:
    shown = ranks[:MOST_LINES]
    note = _left_out(len(ranks) - len(shown), "ranks")
    found = table("Ranks", note=note)
    found.add_column("rank", justify="right")
    found.add_column("file")
    for head in ("events", "span ms", "device busy %", "steps"):
        found.add_column(head, justify="right", no_wrap=True)
    for rank in shown:
        found.add_row(
            str(rank.rank),
            name_text(Path(rank.file).name),
            f"{sum(rank.events.values()):,}",
            time_text(rank.span_ns),
            _share(rank.device_busy_ns, rank.span_ns) if rank.streams else UNKNOWN,
            str(len(rank.steps)),
        )
    return found


_MEMORY = (
    ("allocated\nGB", "peak_allocated_bytes"),
    ("reserved\nGB", "peak_reserved_bytes"),
    ("resident\nGB", "peak_resident_bytes"),
)


def _captures(ranks: Sequence[RankInspection]) -> Table:
    shown = [(rank.rank, rank.capture or CaptureNotes()) for rank in ranks[:MOST_LINES]]
    found = table(
        "Measured beside the traces: steps without the profiler, and with it",
        note="longer: the median step with the profiler against that without. Memory: the most "
        f"until the profiler began. {_left_out(len(ranks) - len(shown), 'ranks')}",
    )
    memory = [one for one in _MEMORY if any(getattr(notes, one[1]) for _, notes in shown)]
    heads = ("without\nms", "p10\nms", "p90\nms", "steps", "with\nms", "longer\n%")
    for head in ("rank", *heads, *(head for head, _ in memory)):
        found.add_column(head, justify="right", no_wrap=True)
    for rank, notes in shown:
        found.add_row(
            str(rank),
            *_unprofiled_cells(notes.unprofiled),
            time_text(None if notes.profiled is None else notes.profiled.median_ns),
            percent_text(notes.inflation_pct, signed=True),
            *(_gigabytes(getattr(notes, name)) for _, name in memory),
        )
    return found


def _unprofiled_cells(times: StepTimes | None) -> list[Text]:
    if times is None:
        return [UNKNOWN] * 4
    figures = (times.median_ns, times.p10_ns, times.p90_ns)
    return [*(time_text(time_ns) for time_ns in figures), Text(str(times.count))]


def _gigabytes(size_bytes: int | None) -> Text:
    return UNKNOWN if size_bytes is None else Text(f"{size_bytes / 1e9:.2f}")


def _groups(layout: Layout) -> Table:
    shown = layout.groups[:MOST_LINES]
    note = _left_out(len(layout.groups) - len(shown), "groups")
    found = _columns(table("Process groups", note=note), "name", "description", "ranks", left=3)
    for group in shown:
        ranks = Text(ranks_text(group.ranks), overflow="ellipsis", no_wrap=True)
        found.add_row(name_text(group.name), name_text(group.description), ranks)
    return found


_STEPS_FROM = {
    "ProfilerStep": "marked by the profiler",
    "annotation": "recognised by an annotation that repeats",
    "repetition": "recognised by operators that repeat",
    "whole": "none marked or recognised: the trace counts as one",
}


def _steps(ranks: Sequence[RankInspection]) -> Table:
    first = ranks[0]
    shown = first.steps[:MOST_LINES]
    found = table(
        f"Steps: {_STEPS_FROM.get(first.steps_from, first.steps_from)}",
        note=_left_out(len(first.steps) - len(shown), "steps"),
    )
    _columns(found, "step", f"host ms{_on(ranks)}")
    for step in shown:
        found.add_row(name_text(step.name), time_text(step.host_ns))
    return found


def _events(ranks: Sequence[RankInspection]) -> Table:
    totals: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    unused: Counter[str] = Counter()
    for rank in ranks:
        totals.update(rank.events)
        dropped.update(rank.dropped)
        unused.update(rank.skipped)
    found = _columns(table("Events of all ranks"), "kind", "count")
    for kind, count in totals.most_common():
        found.add_row(kind.replace("_", " "), f"{count:,}")
    for why, count in dropped.items():
        found.add_row(Text(f"left out: {plain(why)}", "yellow"), f"{count:,}")
    if unused:
        found.add_row(Text("no use for (flows, marks, other kinds)", "dim"), f"{unused.total():,}")
    return found


def _streams(ranks: Sequence[RankInspection]) -> Table:
    first = next(rank for rank in ranks if rank.streams)
    shown = first.streams[:MOST_LINES]
    note = _left_out(len(first.streams) - len(shown), "streams")
    if first.without_launch:
        note = (
            f"{first.without_launch} tasks ({ms(first.without_launch_ns):.2f} ms) have no launch in "
            f"the trace. {note}"
        )
    found = table(f"Device streams{_on(ranks, first)}", note=note)
    _columns(found, "stream", "tasks", "busy ms", "% of span")
    several = len({stream.device for stream in first.streams}) > 1
    for stream in shown:
        label = f"device {stream.device}, {stream.stream}" if several else str(stream.stream)
        found.add_row(
            label,
            f"{stream.tasks:,}",
            time_text(stream.busy_ns),
            _share(stream.busy_ns, first.span_ns),
        )
    return found


def _threads(ranks: Sequence[RankInspection]) -> Table:
    first = ranks[0]
    shown = first.threads[:8]
    found = table(
        f"Host threads{_on(ranks)}", note=_left_out(len(first.threads) - len(shown), "threads")
    )
    _columns(found, "thread", "operators and calls", "busy ms", "% of span")
    for thread in shown:
        label = thread.name if thread.thread in thread.name else f"{thread.thread} {thread.name}"
        found.add_row(
            label_text(label.strip()), f"{thread.events:,}",
            time_text(thread.busy_ns), _share(thread.busy_ns, first.span_ns),
        )  # fmt: skip
    return found


def _collectives(ranks: Sequence[RankInspection]) -> Table:
    tasks: Counter[tuple[str, str | None, str | None]] = Counter()
    size: Counter[tuple[str, str | None, str | None]] = Counter()
    unsized: Counter[tuple[str, str | None, str | None]] = Counter()
    busy: Counter[tuple[str, str | None, str | None]] = Counter()
    for rank in ranks:
        for one in rank.collectives:
            key = one.kind, one.group, one.description
            tasks[key] += one.tasks
            size[key] += one.known_bytes
            unsized[key] += one.without_bytes
            busy[key] += one.busy_ns
    found = table(
        "Communication of all ranks",
        note="ms include waiting for others. Sizes: the larger of input and output.",
    )
    _columns(found, "kind", "group", "tasks", "MB", "without size", "ms", left=2)
    for key, _ in busy.most_common(MOST_LINES):
        kind, group, description = key
        label = UNKNOWN if group is None else name_text(f"{group} {description or ''}".strip())
        known = Text(f"{size[key] / 1e6:,.2f}") if unsized[key] < tasks[key] else UNKNOWN
        found.add_row(
            kind.replace("_", " "), label, f"{tasks[key]:,}", known,
            f"{unsized[key]:,}" if unsized[key] else "", time_text(busy[key]),
        )  # fmt: skip
    return found


def _waits(ranks: Sequence[RankInspection]) -> Table:
    totals: Counter[str] = Counter()
    for rank in ranks:
        totals.update(rank.waits)
    found = _columns(table("Which event a stream waits for, all ranks"), "evidence", "waits")
    for evidence, words in _EVIDENCE.items():
        if totals[evidence]:
            found.add_row(words, f"{totals[evidence]:,}")
    if left := sum(rank.unresolved_waits for rank in ranks):
        found.add_row(Text("without effect, or the library's own affair", "dim"), f"{left:,}")
    return found


_FACTS = (
    ("shapes of operators", "shapes"),
    ("Python stacks", "stacks"),
    ("synchronisation events", "sync_events"),
    ("calls that record events", "event_records"),
    ("groups and sizes of communication", "collective_metadata"),
)


def _profiler(ranks: Sequence[RankInspection]) -> Table:
    found = _columns(table("Recorded by the profiler"), "what", "recorded", left=2)
    for words, name in _FACTS:
        values = {getattr(rank.profiler, name) for rank in ranks} - {None}
        if not values:
            continue
        text = (
            Text("on some ranks", "yellow")
            if len(values) > 1
            else Text("yes" if values.pop() else "no")
        )
        found.add_row(words, text)
    if graphs := sum(rank.graph_launches for rank in ranks):
        found.add_row("launches of CUDA graphs", f"{graphs:,}")
    if cost := sum(rank.overhead_ns for rank in ranks):
        found.add_row("its own cost, all ranks", f"{ms(cost):.2f} ms")
    return found


def _on(ranks: Sequence[RankInspection], one: RankInspection | None = None) -> str:
    return f", rank {(one or ranks[0]).rank}" if len(ranks) > 1 else ""


def _share(part_ns: int, whole_ns: int) -> Text:
    return Text(f"{100 * part_ns / whole_ns:.1f}") if whole_ns else UNKNOWN


def _left_out(count: int, what: str) -> str:
    return f"{count} more {what} with --json." if count > 0 else ""
