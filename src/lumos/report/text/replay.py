"""A replay as text: tables that hold at 80 columns and use what is there beyond."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from lumos.analysis.breakdown import Breakdown
from lumos.analysis.prediction import Quantity, StepPrediction
from lumos.analysis.replay import RankReplay, StepReplay
from lumos.graph.finding import Finding
from lumos.graph.job import Placement
from lumos.report.plain import plain
from lumos.report.text.critical_path import path_word
from lumos.report.text.house import (
    MOST_LINES,
    bar,
    findings_table,
    name_text,
    percent_text,
    spaced,
    table,
    time_text,
)
from lumos.units import ms

MOST_STEPS = 24
MOST_RANKS = 8
"""Longer tables are shortened; what is left out is counted, and stands in --json."""
_LEAST_SHARE = 0.05
"""A rule with less of the critical path [%] has no line of its own."""


def replay_report(
    placement: Placement,
    steps: Sequence[StepReplay],
    predictions: Sequence[StepPrediction],
    findings: Sequence[Finding],
    *,
    dropped: Sequence[str] = (),
    files: Sequence[Path] = (),
) -> RenderableType:
    """What `lumos replay` prints."""
    parts: list[RenderableType] = [_headline(placement, steps, predictions)]
    if dropped:
        words = ", ".join(word.replace("_", " ") for word in dropped)
        parts.append(
            Text(f"An ablation: without {words}, all else as fitted with every rule.", "yellow")
        )
    if steps:
        parts.append(_errors(steps))
    if filled := [step for step in steps if step.ranks]:
        parts += [_where_time_goes(filled), _critical_path(filled)]
    if predictions:
        parts.append(_predictions(predictions))
    if findings:
        parts.append(findings_table(findings))
    if files:
        parts.append(_files(files))
    return spaced(parts)


def _headline(
    placement: Placement, steps: Sequence[StepReplay], predictions: Sequence[StepPrediction]
) -> Text:
    traced = len(placement.ranks)
    text = Text.assemble(
        (f"{traced} of {placement.world_size} rank{'s' * (placement.world_size > 1)}", "bold")
    )
    if placement.gpu:
        text.append(f" on {plain(placement.gpu)}")
    text.append(f", {len(steps)} step{'s' * (len(steps) != 1)} replayed")
    told = [step.unprofiled_ns for step in steps] + [one.unprofiled_ns for one in predictions]
    unprofiled_ns = next((time_ns for time_ns in told if time_ns is not None), None)
    if unprofiled_ns is not None:
        text.append(f"; a step without the profiler took {ms(unprofiled_ns):.2f} ms")
    return text


def _errors(steps: Sequence[StepReplay]) -> Table:
    shown = _worst(steps)
    note = (
        f"{len(steps) - len(shown)} more steps, replayed closer, with --json. "
        if len(shown) < len(steps)
        else ""
    )
    most = _ranks_shown(shown)
    hidden = sum(max(len(step.ranks) - most, 0) for step in shown)
    if hidden:
        note += f"{hidden} more ranks, replayed closer, with --json. "
    note += (
        "error: by rules alone; +delays: with the unexplained delays as recorded; starts: how far "
        "off 95 % of device tasks start at most; idle: share of device idle time that a rule "
        "explains; frozen: host gaps kept as recorded."
    )
    found = table("Replay by rules alone, against the measured run", note=note, gap=1)
    found.add_column("step")
    for head in (
        "measured\nms",
        "replayed\nms",
        "error\n%",
        "+delays\n%",
        "starts\nms",
        "idle\n%",
        "unexpl.\nms",
        "frozen\nms",
    ):
        found.add_column(head, justify="right", no_wrap=True)
    for step in shown:
        one = step.ranks[0] if len(step.ranks) == 1 else None
        found.add_row(
            name_text(step.step, "bold"),
            time_text(step.measured_ns),
            time_text(step.replayed_ns),
            percent_text(step.error_pct, signed=True, graded=True),
            *(_rank_cells(one) if one is not None else [""] * 5),
        )
        if one is None:
            for rank in _worst_ranks(step, most):
                found.add_row(
                    f"  rank {rank.rank}",
                    time_text(rank.measured_ns),
                    time_text(rank.replayed_ns),
                    percent_text(rank.error_pct, signed=True, graded=True),
                    *_rank_cells(rank),
                )
    return found


def _rank_cells(rank: RankReplay) -> list[Text]:
    return [
        percent_text(rank.with_unexplained_error_pct, signed=True),
        time_text(rank.task_start_error.p95_ns, 3),
        percent_text(rank.idle_explained_pct),
        time_text(rank.unexplained_ns),
        time_text(rank.frozen_gap_ns),
    ]


def _worst(steps: Sequence[StepReplay]) -> list[StepReplay]:
    """At most MOST_STEPS, those with the largest errors, in their order."""
    if len(steps) <= MOST_STEPS:
        return list(steps)
    order = sorted(range(len(steps)), key=lambda number: -abs(steps[number].error_pct or 0))
    return [steps[number] for number in sorted(order[:MOST_STEPS])]


def _ranks_shown(steps: Sequence[StepReplay]) -> int:
    """How many ranks of each step there is room for."""
    return max(1, min(MOST_RANKS, MOST_LINES // max(len(steps), 1)))


def _worst_ranks(step: StepReplay, most: int) -> list[RankReplay]:
    order = sorted(step.ranks, key=lambda rank: -abs(rank.error_pct or 0))[:most]
    return sorted(order, key=lambda rank: rank.rank)


_PARTS = (
    ("exposed compute", "exposed_compute_ns"),
    ("overlapped", "overlapped_ns"),
    ("exposed communication", "exposed_communication_ns"),
    ("other", "other_ns"),
)


def _where_time_goes(steps: Sequence[StepReplay]) -> Table:
    ranks = [rank for step in steps for rank in step.ranks]
    measured = [_mean([rank.measured_breakdown for rank in ranks], part) for _, part in _PARTS]
    replayed = [_mean([rank.replayed_breakdown for rank in ranks], part) for _, part in _PARTS]
    found = table(f"Where the span goes, {_mean_of(steps)}")
    for head in ("", "measured ms", "replayed ms", "measured %"):
        found.add_column(head, justify="right" if head else "left", no_wrap=True)
    found.add_column("", min_width=12, max_width=40, ratio=1)
    whole = sum(measured) or 1.0
    for (word, _), old, new in zip(_PARTS, measured, replayed, strict=True):
        share = 100 * old / whole
        found.add_row(word, time_text(old), time_text(new), f"{share:.1f}", bar(share))
    return found


def _critical_path(steps: Sequence[StepReplay]) -> Table:
    totals: Counter[str] = Counter()
    for step in steps:
        totals.update(step.critical_path_ns)
    whole = sum(totals.values()) or 1
    found = table(
        f"What the end waits for: the replayed critical path, {_mean_of(steps, ranks=False)}"
    )
    for head in ("rule", "ms", "%"):
        found.add_column(head, justify="left" if head == "rule" else "right", no_wrap=True)
    found.add_column("", min_width=12, max_width=40, ratio=1)
    for rule, time_ns in totals.most_common():
        share = 100 * time_ns / whole
        if share < _LEAST_SHARE:
            continue
        found.add_row(path_word(rule), time_text(time_ns / len(steps)), f"{share:.1f}", bar(share))
    return found


def _mean(breakdowns: Sequence[Breakdown], part: str) -> float:
    total = sum(int(getattr(one, part)) for one in breakdowns)
    return total / max(len(breakdowns), 1)


def _mean_of(steps: Sequence[StepReplay], *, ranks: bool = True) -> str:
    count = max(len(step.ranks) for step in steps)
    several = f" and {count} ranks" if ranks and count > 1 else ""
    if len(steps) == 1 and not several:
        return plain(steps[0].step)
    return f"mean of {len(steps)} step{'s' * (len(steps) != 1)}{several}"


def _predictions(predictions: Sequence[StepPrediction]) -> Table:
    shown = predictions[:MOST_LINES]
    note = "naive: the source step's own value taken for the other step."
    if len(shown) < len(predictions):
        note = f"{len(predictions) - len(shown)} more with --json. {note}"
    found = table("Predicted from one step alone, as back-to-back steps", note=note)
    found.add_column("from")
    found.add_column("step")
    for what in ("period", "host"):
        for head in (f"{what}\nms", "pred.\nms", "error\n%", "naive\n%"):
            found.add_column(head, justify="right", no_wrap=True)
    for one in shown:
        found.add_row(
            name_text(_short(one.from_step)), name_text(_short(one.step)),
            *_quantity_cells(one.period), *_quantity_cells(one.host),
        )  # fmt: skip
    return found


def _short(step: str) -> str:
    """`#10` for ProfilerStep#10: two names stand in one line."""
    return step.removeprefix("ProfilerStep")


def _quantity_cells(quantity: Quantity) -> list[Text]:
    return [
        time_text(quantity.measured_ns),
        time_text(quantity.predicted_ns),
        percent_text(quantity.error_pct, signed=True, graded=True),
        percent_text(quantity.naive_error_pct, signed=True),
    ]


def _files(files: Sequence[Path]) -> Text:
    # never broken: a path is copied
    text = Text(
        "Timelines, measured beside replayed, for https://ui.perfetto.dev",
        no_wrap=True,
        overflow="ignore",
    )
    for path in files:
        text.append(f"\n{plain(str(path))}")
    return text
