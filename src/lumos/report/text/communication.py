"""The communication of steps, as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import RenderableType
from rich.text import Text

from lumos.analysis.communication import GroupCommunication, StepCommunication
from lumos.graph.finding import Finding
from lumos.report.plain import plain
from lumos.report.text.house import (
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

MOST_LINES = 16
"""Longer tables are shortened; what is left out is counted, and stands in --json."""


def communication_report(
    steps: Sequence[StepCommunication], findings: Sequence[Finding] = ()
) -> RenderableType:
    """What `lumos communication` prints: for each step the verdict, the groups, who came last."""
    parts: list[RenderableType] = []
    for step in steps:
        parts.append(Sentences(verdict(step), "bold"))
        if step.measured:
            parts.append(_groups(step))
        if any(one.latecomers for one in step.measured):
            parts.append(_arrivals(step))
    if findings:
        parts.append(findings_table(findings))
    return spaced(parts)


def verdict(step: StepCommunication) -> str:
    """How much of the communication waited, and for whom most, in one or two sentences."""
    name = plain(step.step)
    time = sum(one.time_ns for one in step.measured)
    if not time:
        return f"{name} does not communicate."
    known = [one for one in step.measured if one.wait_ns is not None]
    if not known:
        ranks = max(one.ranks for one in step.measured)
        return (
            f"{name} communicates for {ms(time / ranks):.2f} ms; how much of that is waiting is "
            "unknown: nothing was matched across ranks."
        )
    waited = sum(one.wait_ns or 0 for one in known)
    first = (
        f"{name}: {100 * waited / time:.0f} % of the communication's time is waiting for others."
    )
    late = _by_rank(step)
    if not late:
        return first
    rank, times, others = late[0]
    return (
        f"{first} They waited most for rank {rank}, {ms(others):.2f} ms in all: it came last "
        f"{times} time{'s' * (times != 1)} of {sum(one[1] for one in late)}."
    )


def group_words(one: GroupCommunication, alike: int = 1) -> str:
    """Kind, group and how many ranks it has; `alike`: of how many groups like this one."""
    kind = one.kind.name.lower().replace("_", " ")
    if one.group is None:
        return f"{kind}, group unknown"
    many = f"{alike} x " if alike > 1 else ""
    return f"{kind}, {many}{one.group.description or one.group.name} ({len(one.group.ranks)})"


def _by_rank(step: StepCommunication) -> list[tuple[int, int, int]]:
    """Rank, how often it came last, how long others waited for it [ns]; longest first."""
    found: dict[int, tuple[int, int]] = {}
    for one in step.measured:
        for late in one.latecomers:
            times, waited = found.get(late.rank, (0, 0))
            found[late.rank] = times + late.times, waited + late.waited_ns
    return sorted(((r, *v) for r, v in found.items() if v[1]), key=lambda one: -one[2])


@dataclass(frozen=True)
class _Line:
    """Groups that are alike, in one line: of one kind, description and size."""

    groups: tuple[GroupCommunication, ...]

    @property
    def name(self) -> str:
        return group_words(self.groups[0], len(self.groups))

    def mean(self, figure: str) -> float | None:
        """A figure of one rank, in the mean; None where it is unknown."""
        values = [getattr(one, figure) for one in self.groups]
        known = None not in values
        return sum(values) / sum(one.ranks for one in self.groups) if known else None

    @property
    def bytes(self) -> float | None:
        """Bytes of one rank, in the mean."""
        sizes = [None if one.bytes is None else one.bytes * one.ranks for one in self.groups]
        if any(size is None for size in sizes):
            return None
        return sum(size or 0 for size in sizes) / sum(one.ranks for one in self.groups)

    def rate(self, bandwidth: str) -> float | None:
        """A bandwidth of all together [bytes/s]."""
        rates = [getattr(one, bandwidth) for one in self.groups]
        time = sum(one.timed_ns for one in self.groups)
        if None in rates or not time:
            return None
        moved = sum(rate * one.timed_ns for rate, one in zip(rates, self.groups, strict=True))
        return float(moved / time)

    @property
    def overlapped_pct(self) -> float | None:
        """Share of the time in which its rank computed."""
        time = sum(one.time_ns for one in self.groups)
        return 100 * (1 - sum(one.exposed_ns for one in self.groups) / time) if time else None

    def link_pct(self, link: float) -> float | None:
        """Bus bandwidth in % of `link` [bytes/s]."""
        rate = self.rate("bus_bytes_per_s")
        return None if rate is None else 100 * rate / link


def _alike(step: StepCommunication) -> list[_Line]:
    lines: dict[tuple[object, ...], list[GroupCommunication]] = {}
    for one in step.measured:
        group = one.group
        key = (one.kind, group and (group.description or group.name), group and len(group.ranks))
        lines.setdefault(key, []).append(one)
    return [_Line(tuple(groups)) for groups in lines.values()]


def _groups(step: StepCommunication) -> RenderableType:
    lines = _alike(step)
    columns: dict[str, Callable[[_Line], Text]] = {
        "n": lambda line: Text(f"{line.mean('tasks') or 0:.0f}"),
        "time\nms": lambda line: time_text(line.mean("time_ns")),
        "transf.\nms": lambda line: time_text(line.mean("transfer_ns")),
        "waiting\nms": lambda line: time_text(line.mean("wait_ns")),
        "overl.\n%": lambda line: percent_text(line.overlapped_pct),
    }
    notes = [
        "In brackets: ranks of a group. n, MB, times: of one rank, in the mean. overl.: the rank "
        "computes beside it."
    ]
    if any(one.wait_ns is None for line in lines for one in line.groups):
        notes.append(
            "Where waiting is unknown it is inside the time, and the bandwidth a lower bound."
        )
    columns |= _rates(step, lines, notes)
    if len(lines) > MOST_LINES:
        notes.append(f"{len(lines) - MOST_LINES} more with --json.")
    found = table(f"Communication of {plain(step.step)}, measured", gap=1)
    found.add_column("", min_width=16)
    for head in columns:
        found.add_column(head, justify="right", no_wrap=True)
    for line in lines[:MOST_LINES]:
        found.add_row(name_text(line.name), *(text(line) for text in columns.values()))
    return noted(found, *notes)


def _rates(
    step: StepCommunication, lines: Sequence[_Line], notes: list[str]
) -> dict[str, Callable[[_Line], Text]]:
    """Columns of sizes and bandwidths, as far as they are known; what they mean goes to `notes`."""
    if all(line.bytes is None for line in lines):
        notes.append("Sizes are not in the trace, so bandwidths are unknown.")
        return {}
    columns: dict[str, Callable[[_Line], Text]] = {
        "MB": lambda line: rate_text(line.bytes, 1e6, 2),
    }
    if all(line.rate("bus_bytes_per_s") is None for line in lines):
        notes.append("algor.: size over time; without the size of the group no bus bandwidth.")
        columns["algor.\nGB/s"] = lambda line: rate_text(line.rate("algorithm_bytes_per_s"), 1e9, 2)
        return columns
    notes.append("bus: bandwidth as nccl-tests count it, over the transfer alone.")
    columns["bus\nGB/s"] = lambda line: rate_text(line.rate("bus_bytes_per_s"), 1e9, 2)
    gpu = step.hardware
    link = None if gpu is None else gpu.link_bytes_per_s
    if gpu is not None and link is not None:
        notes.append(
            f"link: share of the {link / 1e9:.0f} GB/s that one {gpu.name} sends over {gpu.link}; "
            "it concerns groups inside one machine."
        )
        columns["link\n%"] = lambda line: percent_text(line.link_pct(link))
    return columns


def _arrivals(step: StepCommunication) -> RenderableType:
    """Who came last, those that others waited longest for first."""
    found = table("Who came last, measured", gap=1)
    found.add_column("rank", justify="right")
    found.add_column("", min_width=16)
    for head in ("last\ntimes", "waited\nms", "behind\nms", "skew\nms", "worst\nms"):
        found.add_column(head, justify="right", no_wrap=True)
    found.add_column("", width=8)
    lines = [
        (late, one) for one in step.measured for late in one.latecomers if one.skew is not None
    ]
    lines.sort(key=lambda pair: -pair[0].waited_ns)
    most = max((late.waited_ns for late, _ in lines), default=0) or 1
    for late, one in lines[:MOST_LINES]:
        skew = one.skew
        found.add_row(
            f"{late.rank}",
            name_text(group_words(one)),
            f"{late.times}",
            time_text(late.waited_ns),
            time_text(late.behind_ns),
            time_text(None if skew is None else skew.p50_ns),
            time_text(None if skew is None else skew.max_ns),
            bar(100 * late.waited_ns / most),
        )
    if len(lines) > MOST_LINES:
        found.add_row("", Text(f"{len(lines) - MOST_LINES} more with --json", "dim"))
    return noted(
        found,
        "waited: all others together. behind: what the group would have gained if this rank had come "
        "with the last but one. skew: from the first to the last, the middle case and the worst.",
    )
