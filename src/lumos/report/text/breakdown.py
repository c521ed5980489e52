"""Where the time of steps goes, as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from lumos.analysis.efficiency import KernelClass
from lumos.analysis.idle import Cause
from lumos.analysis.step_breakdown import RankBreakdown, RankWhere, StepBreakdown
from lumos.graph.finding import Finding
from lumos.report.plain import plain
from lumos.report.text.house import (
    UNKNOWN,
    bar,
    findings_table,
    name_text,
    noted,
    percent_text,
    rate_text,
    spaced,
    table,
    time_text,
)
from lumos.report.text.wrapping import Sentences
from lumos.units import ms

MOST_RANKS = 16
MOST_STEPS = 24
MOST_CLASSES = 12
"""Longer tables are shortened; what is left out is counted, and stands in --json."""
CAUSE_WORDS = {
    Cause.HOST_BOUND: "host-bound",
    Cause.LAUNCH_QUEUE: "launch queue",
    Cause.DATA_LOADING: "data loading",
    Cause.SYNCHRONIZING_CALL: "synchronising call",
    Cause.EARLIER_STEP: "earlier step",
    Cause.UNEXPLAINED: "unexplained",
}
_LEVELS = " ▁▂▃▄▅▆▇█"
_CURVE = 60
"""Cells of a utilisation curve."""
Time = Callable[[RankBreakdown], int | None]


def breakdown_report(
    steps: Sequence[StepBreakdown], findings: Sequence[Finding] = ()
) -> RenderableType:
    """What `lumos breakdown` prints: the verdict, the parts, ranks or steps, kernels, utilisation."""
    filled = [step for step in steps if step.ranks]
    parts: list[RenderableType] = [Sentences(verdict(filled or steps), "bold")]
    if filled:
        shown = _median(filled)
        parts.append(_parts(filled))
        if len(filled) > 1:
            parts.append(_lines("Step by step, mean of the ranks", "step", *_of_steps(filled)))
        elif len(shown.ranks) > 1:
            parts.append(_lines("Rank by rank", "rank", *_of_ranks(shown.ranks)))
        if shown.efficiency.classes:
            parts.append(_kernels(shown))
        parts.append(_curves(shown))
    if findings:
        parts.append(findings_table(findings))
    return spaced(parts)


def _median(steps: Sequence[StepBreakdown]) -> StepBreakdown:
    """The step of median span: one that stands for all."""
    order = sorted(steps, key=lambda step: max(one.measured.span_ns for one in step.ranks))
    return order[(len(order) - 1) // 2]


def verdict(steps: Sequence[StepBreakdown]) -> str:
    """What takes the most of the span, in one sentence, and MFU where it is known."""
    runs = [one.measured for step in steps for one in step.ranks]
    span = sum(run.span_ns for run in runs)
    name = plain(steps[0].step) if len(steps) == 1 else f"A step, mean of {len(steps)},"
    if not span:
        return f"{name} takes no time."
    shares = sorted(
        ((sum(time(run) or 0 for run in runs), word) for word, time in _told()), reverse=True
    )
    words = [f"{100 * time / span:.0f} % {word}" for time, word in shares[:3] if time > span / 200]
    of = f" a rank, mean of {len(steps[0].ranks)}" if len(steps[0].ranks) > 1 else ""
    length = f"{name} takes {ms(span / len(runs)):.2f} ms{of}: {', '.join(words)}."
    return " ".join(filter(None, (length, _mfu(steps))))


def _mfu(steps: Sequence[StepBreakdown]) -> str:
    """MFU over these steps and what it is held against; nothing where one of them has none."""
    known = [step.efficiency.mfu_pct for step in steps]
    spans = [sum(one.measured.span_ns for one in step.ranks) for step in steps]
    found = steps[0].efficiency
    if None in known or found.hardware is None:
        return ""
    share = sum((one or 0.0) * span for one, span in zip(known, spans, strict=True)) / sum(spans)
    formats = " and ".join(one.value for one in found.formats[:2])
    return f"MFU {share:.2g} % of the {formats} peak of the {found.hardware.name}."


def _told() -> list[tuple[str, Time]]:
    """What a span consists of, each moment once."""
    return [
        ("compute", lambda run: run.parts.exposed_compute_ns + run.parts.overlapped_ns),
        ("communication alone", lambda run: run.transfer_ns),
        ("waiting for peers", lambda run: run.waiting_for_peers_ns),
        ("pipeline bubble", lambda run: run.bubble_ns),
        *((f"idle: {word}", _idle(cause)) for cause, word in CAUSE_WORDS.items()),
    ]


def _idle(cause: Cause) -> Time:
    return lambda run: run.idle_ns[cause]


_PARTS: tuple[tuple[str, Time], ...] = (
    ("exposed compute", lambda run: run.parts.exposed_compute_ns),
    ("overlapped", lambda run: run.parts.overlapped_ns),
    ("exposed communication", lambda run: run.parts.exposed_communication_ns),
    ("  waiting for peers", lambda run: run.waiting_for_peers_ns),
    ("  pipeline bubble", lambda run: run.bubble_ns),
    ("other", lambda run: run.parts.other_ns),
    *((f"  {word}", _idle(cause)) for cause, word in CAUSE_WORDS.items()),
)


def _parts(steps: Sequence[StepBreakdown]) -> RenderableType:
    ranks = [one for step in steps for one in step.ranks]
    span = _mean([one.measured for one in ranks], lambda run: run.span_ns) or 1.0
    alone = all(one.measured.waiting_for_peers_ns is None for one in ranks)
    unmatched = alone and any(_communicates(one.measured) for one in ranks)
    found = table(f"Where the span goes, {_mean_of(steps)}")
    for head in ("", "measured ms", "replayed ms", "measured %"):
        found.add_column(head, justify="right" if head else "left", no_wrap=True)
    found.add_column("", min_width=12, max_width=40, ratio=1)
    for word, time in _PARTS:
        measured = _mean([one.measured for one in ranks], time)
        replayed = _mean([one.replayed for one in ranks], time)
        detail = word.startswith(" ")
        if detail and not measured and not replayed:
            continue
        share = 100 * (measured or 0) / span
        style = "dim" if detail else ""
        found.add_row(
            Text(word, style), time_text(measured), time_text(replayed),
            Text(f"{share:.1f}", style), "" if detail else bar(share),
        )  # fmt: skip
    unknown = (
        "Waiting for peers is unknown, and part of the exposed communication: no collective was "
        "matched across ranks."
    )
    return noted(found, unknown if unmatched else "")


def _mean_of(steps: Sequence[StepBreakdown]) -> str:
    name = plain(steps[0].step) if len(steps) == 1 else f"mean of {len(steps)} steps"
    ranks = len(steps[0].ranks)
    return f"{name} and {ranks} ranks" if ranks > 1 else name


def _mean(runs: Sequence[RankBreakdown], time: Time) -> float | None:
    """The mean over the runs in which it is known."""
    known = [one for one in map(time, runs) if one is not None]
    return sum(known) / len(known) if known else None


Lines = dict[str, Sequence[RankBreakdown]]


def _of_ranks(ranks: Sequence[RankWhere]) -> tuple[Lines, str]:
    """Measured ranks; of too many those that compute least of their time, and what is left out."""
    worst = sorted(ranks, key=_computing)[:MOST_RANKS]
    shown = sorted(worst, key=lambda one: one.rank)
    left_out = len(ranks) - len(shown)
    more = f"{left_out} more ranks compute more of their time." if left_out else ""
    return {f"rank {one.rank}": [one.measured] for one in shown}, more


def _computing(one: RankWhere) -> float:
    parts = one.measured.parts
    return (parts.exposed_compute_ns + parts.overlapped_ns) / max(one.measured.span_ns, 1)


def _of_steps(steps: Sequence[StepBreakdown]) -> tuple[Lines, str]:
    """Measured steps, the longest where there are too many, and what is left out."""
    runs = {step.step: [one.measured for one in step.ranks] for step in steps}
    longest = sorted(runs, key=lambda name: -max(run.span_ns for run in runs[name]))[:MOST_STEPS]
    left_out = len(runs) - len(longest)
    more = f"{left_out} more steps are shorter." if left_out else ""
    return {name: runs[name] for name in runs if name in longest}, more


def _lines(title: str, head: str, lines: Lines, more: str) -> RenderableType:
    found = table(f"{title}, measured", gap=1)
    found.add_column(head)
    communicates = any(_communicates(run) for runs in lines.values() for run in runs)
    columns = [time for time in _COLUMNS if communicates or time not in _OF_COMMUNICATION]
    for time in columns:
        found.add_column(f"{_COLUMNS[time]}\nms", justify="right", no_wrap=True)
    found.add_column("busy\n%", justify="right", no_wrap=True)
    found.add_column("idle for", no_wrap=True)
    for name, runs in lines.items():
        causes = {cause: _mean(runs, _idle(cause)) or 0.0 for cause in Cause}
        most = max(causes, key=lambda cause: causes[cause])
        found.add_row(
            name_text(name), *(time_text(_mean(runs, time)) for time in columns),
            percent_text(_busy_pct(runs)), Text(CAUSE_WORDS[most] if causes[most] else ""),
        )  # fmt: skip
    words = "busy: at least one stream works. idle for: the cause of most of it."
    return noted(found, words, more)


def _communicates(run: RankBreakdown) -> bool:
    return bool(run.parts.exposed_communication_ns or run.parts.overlapped_ns)


def _busy_pct(runs: Sequence[RankBreakdown]) -> float:
    """How much of their spans the devices worked."""
    span = sum(run.span_ns for run in runs)
    return 100 * (1 - sum(run.parts.other_ns for run in runs) / max(span, 1))


def _waiting(run: RankBreakdown) -> int | None:
    if run.waiting_for_peers_ns is None or run.bubble_ns is None:
        return None
    return run.waiting_for_peers_ns + run.bubble_ns


_COLUMNS: dict[Time, str] = {
    lambda run: run.span_ns: "span",
    lambda run: run.parts.exposed_compute_ns: "compute",
    lambda run: run.parts.overlapped_ns: "overl.",
    lambda run: run.parts.exposed_communication_ns: "comm.",
    _waiting: "waiting",
    lambda run: run.parts.other_ns: "other",
}
_OF_COMMUNICATION = list(_COLUMNS)[2:5]


def _kernels(step: StepBreakdown) -> RenderableType:
    """Classes of kernels, longest first."""
    found = step.efficiency
    shown = found.classes[:MOST_CLASSES]
    notes = ["known: share of the time for which the trace tells operations, or bytes."]
    lines = table(f"Kernels of {plain(step.step)}, measured, all ranks", gap=1)
    lines.add_column("class", min_width=12)
    for head in ("tasks", "ms", "TFLOP/s", "known\n%", "GB/s", "known\n%"):
        lines.add_column(head, justify="right", no_wrap=True)
    if found.hardware is not None:
        notes.append(
            "roofline: share of that time that the kernels would need at the peak rates of the "
            f"{found.hardware.name}."
        )
        lines.add_column("roofline\n%", justify="right", no_wrap=True)
        lines.add_column("", min_width=8, max_width=20, ratio=1)
    if found.mfu_pct is None:
        notes.append(f"MFU is unknown: {plain(found.reason)}.")
    if len(found.classes) > len(shown):
        notes.append(f"{len(found.classes) - len(shown)} more classes with --json.")
    for kernels in shown:
        cells = _rates(kernels)
        lines.add_row(name_text(kernels.name.replace("_", " ")), *cells[: len(lines.columns) - 1])
    return noted(lines, *notes)


def _rates(one: KernelClass) -> list[RenderableType]:
    return [
        f"{one.tasks}",
        time_text(one.time_ns),
        rate_text(one.flops_per_s, 1e12, 2),
        UNKNOWN if one.flops_per_s is None else percent_text(one.flops_known_pct),
        rate_text(one.bytes_per_s, 1e9, 1),
        UNKNOWN if one.bytes_per_s is None else percent_text(one.bytes_known_pct),
        percent_text(one.roofline_pct),
        "" if one.roofline_pct is None else bar(one.roofline_pct),
    ]


def _curves(step: StepBreakdown) -> Table:
    """How busy the devices are, over the step: the mean of the ranks."""
    windows = len(step.ranks[0].measured.utilization)
    found = table(
        f"Utilisation of {plain(step.step)}, {windows} windows of 1 ms"
        + (f", mean of {len(step.ranks)} ranks" if len(step.ranks) > 1 else ""),
        gap=2,
    )
    found.add_column("")
    found.add_column("busy\n%", justify="right")
    found.add_column("from the first task to the last", no_wrap=True)
    for run in ("measured", "replayed"):
        sides = [getattr(one, run) for one in step.ranks]
        mean = np.mean(np.stack([one.utilization for one in sides]), axis=0)
        found.add_row(run, percent_text(_busy_pct(sides)), curve(mean))
    return found


def curve(values: NDArray[np.float64], cells: int = _CURVE) -> Text:
    """Fractions as a line of blocks, at most `cells` of them."""
    cells = min(cells, len(values))
    borders = np.linspace(0, len(values), cells + 1).round().astype(int)
    means = [values[low:high].mean() for low, high in pairwise(borders)]
    return Text("".join(_LEVELS[round(8 * float(mean))] for mean in means), "cyan")
