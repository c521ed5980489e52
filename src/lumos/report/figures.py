"""Figures for notebooks: where the time goes, communication, errors, timeline, costs, by plotly.

plotly is an extra (`pip install '.[notebook]'` in the checkout) and is loaded by the first figure.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lumos.analysis.communication import StepCommunication
from lumos.analysis.cost import Grouping, StepCosts
from lumos.analysis.idle import Cause
from lumos.analysis.replay import StepReplay
from lumos.analysis.step_breakdown import StepBreakdown
from lumos.analysis.stragglers import Stragglers
from lumos.analysis.utilization import WINDOW_NS
from lumos.errors import UsageError
from lumos.graph.job import Job
from lumos.graph.timeline import Timeline
from lumos.report.lanes import Lane, Shade, fitted, lane
from lumos.report.page.texts import name_text
from lumos.report.palette import PALETTE
from lumos.report.text.breakdown import CAUSE_WORDS
from lumos.report.text.communication import group_words
from lumos.units import ms

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

MOST_PIECES = 20_000
"""Pieces of a timeline: notebooks slow down beyond."""
_COLOURS = {colour.name: colour.light for colour in PALETTE}
_PARTS = (
    ("exposed compute", "compute", "exposed_compute_ns"),
    ("overlapped", "overlapped", "overlapped_ns"),
    ("exposed communication", "transfer", "exposed_communication_ns"),
    ("other", "idle", "other_ns"),
)
_CAUSES = {
    Cause.HOST_BOUND: "host",
    Cause.LAUNCH_QUEUE: "call",
    Cause.DATA_LOADING: "copy",
    Cause.SYNCHRONIZING_CALL: "fair",
    Cause.EARLIER_STEP: "pause",
    Cause.UNEXPLAINED: "poor",
}


def breakdown_figure(step: StepReplay) -> Figure:
    """Where the time of a step goes [ms]: a bar for each rank, measured beside replayed."""
    sides = [
        side for one in step.ranks for side in (one.measured_breakdown, one.replayed_breakdown)
    ]
    parts = [
        (words, colour, [ms(getattr(side, part)) for side in sides])
        for words, colour, part in _PARTS
    ]
    title = f"Where the time of {_text(step.step)} goes"
    return _stacked(title, [f"rank {one.rank}" for one in step.ranks], parts)


def causes_figure(found: StepBreakdown) -> Figure:
    """The same with waiting told from transfer, and idle time by cause [ms]."""
    sides = [side for one in found.ranks for side in (one.measured, one.replayed)]
    parts = [
        ("exposed compute", "compute", [ms(side.parts.exposed_compute_ns) for side in sides]),
        ("overlapped", "overlapped", [ms(side.parts.overlapped_ns) for side in sides]),
        ("communication alone", "transfer", [ms(side.transfer_ns) for side in sides]),
        ("waiting for peers", "wait", [ms(side.waiting_for_peers_ns or 0) for side in sides]),
        ("pipeline bubble", "path", [ms(side.bubble_ns or 0) for side in sides]),
    ]
    parts += [
        (f"idle: {CAUSE_WORDS[cause]}", colour, [ms(side.idle_ns[cause]) for side in sides])
        for cause, colour in _CAUSES.items()
    ]
    title = f"Where the time of {_text(found.step)} goes, and why devices are idle"
    return _stacked(title, [f"rank {one.rank}" for one in found.ranks], parts)


def utilization_figure(found: StepBreakdown) -> Figure:
    """The share of each millisecond in which a device works, mean of the ranks [%]."""
    figure = _figure(f"How busy the devices are in {_text(found.step)}")
    for run, colour in (("measured", "compute"), ("replayed", "transfer")):
        curves = [getattr(one, run).utilization for one in found.ranks]
        mean = np.mean(np.stack(curves), axis=0) if curves else np.empty(0)
        figure.add_scatter(
            name=run,
            x=ms(WINDOW_NS) * np.arange(len(mean)),
            y=100 * mean,
            line={"shape": "hv", "color": _COLOURS[colour]},
            hovertemplate="from %{x:.0f} ms: %{y:.1f} %",
        )
    figure.update_layout(xaxis_title="ms", yaxis_title="%")
    figure.update_yaxes(range=[0, 100])
    return figure


def communication_figure(found: StepCommunication) -> Figure:
    """Transfer against waiting by kind and group [ms], sums over the ranks, measured beside replayed."""
    replayed = {(one.kind, one.group): one for one in found.replayed}
    sides = [side for one in found.measured for side in (one, replayed[one.kind, one.group])]
    parts = [
        (words, colour, [ms(getattr(side, part) or 0) for side in sides])
        for words, colour, part in (
            ("transfer", "transfer", "transfer_ns"),
            ("waiting for others", "wait", "wait_ns"),
            ("either: not matched across ranks", "idle", "unmatched_ns"),
        )
    ]
    names = [_text(group_words(one)) for one in found.measured]
    return _stacked(f"Communication of {_text(found.step)}", names, parts)


def errors_figure(steps: Sequence[StepReplay]) -> Figure:
    """Replay errors [%], rank by step; white is none."""
    ranks = sorted({rank.rank for step in steps for rank in step.ranks})
    errors = [
        [next((r.error_pct for r in step.ranks if r.rank == rank), None) for step in steps]
        for rank in ranks
    ]
    most = max((abs(e) for row in errors for e in row if e is not None), default=0.0) or 1.0
    figure = _figure("How far the replay is off [%]")
    figure.add_heatmap(
        z=errors,
        x=[_text(step.step) for step in steps],
        y=[f"rank {rank}" for rank in ranks],
        zmin=-most,
        zmax=most,
        colorscale=[[0, _COLOURS["under"]], [0.5, "#ffffff"], [1, _COLOURS["over"]]],
        hovertemplate="%{y}, %{x}: %{z:+.2f} %<extra></extra>",
    )
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_xaxes(type="category")
    return figure


def costs_figure(found: StepCosts, by: Grouping, most: int = 20) -> Figure:
    """What the step gains [ms] from each part of a grouping made faster, largest gain first."""
    parts = found.of(by)[:most]
    figure = _figure(f"What {_text(found.unchanged.step)} gains from a faster {by.value}")
    for words, colour, gain in (
        ("free", "idle", "gain_free_ns"),
        ("twice as fast", "compute", "gain_half_ns"),
        ("10 % faster", "overlapped", "gain_10_pct_ns"),
    ):
        figure.add_bar(
            name=words,
            y=[_text(one.label) for one in parts],
            x=[ms(getattr(one, gain)) for one in parts],
            orientation="h",
            marker_color=_COLOURS[colour],
            hovertemplate="%{x:.3f} ms",
        )
    figure.update_layout(barmode="overlay", xaxis_title="ms")
    figure.update_yaxes(autorange="reversed", type="category")
    return figure


def stragglers_figure(found: Stragglers) -> Figure:
    """How much each rank alone slows an even job [%], rank by step; white is not at all."""
    ranks = sorted({rank for step in found.steps for rank in step.ranks})
    factors = [
        [step.slowdown_of(step.ranks[rank]) if rank in step.ranks else None for step in found.steps]
        for rank in ranks
    ]
    slower = [[None if one is None else 100 * (one - 1) for one in row] for row in factors]
    most = max((one for row in slower for one in row if one is not None), default=0.0)
    figure = _figure("How much each rank alone slows an even job [%]")
    figure.add_heatmap(
        z=slower,
        x=[_text(step.step) for step in found.steps],
        y=[f"rank {rank}" for rank in ranks],
        zmin=0,
        zmax=max(most, 1.0),
        colorscale=[[0, "#ffffff"], [1, _COLOURS["over"]]],
        hovertemplate="%{y}, %{x}: %{z:+.2f} %<extra></extra>",
    )
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_xaxes(type="category")
    return figure


def timeline_figure(
    step: str, job: Job, run: Timeline, ranks: Sequence[int] | None = None
) -> Figure:
    """Threads and streams of a run, of all ranks or some; short tasks are merged beyond MOST_PIECES."""
    chosen = job.placement.ranks if ranks is None else tuple(ranks)
    if unknown := [rank for rank in chosen if rank not in job.placement.ranks]:
        known = ", ".join(map(str, job.placement.ranks[:8]))
        raise UsageError(f"rank {unknown[0]} was not traced; traced are {known}")
    lanes, names = [], []
    for rank in chosen:
        place = job.placement.ranks.index(rank)
        program = job.programs[job.placement.role[place]]
        for processor in range(len(program.processors)):
            one = lane(rank, program, run.ranks[place], processor)
            if len(one):
                lanes.append(one)
                names.append(program.names)
    figure = _figure(_text(step))
    pieces, _ = fitted(lanes, MOST_PIECES)
    for shade in reversed(Shade):
        bars = [_bars(one, shade, texts) for one, texts in zip(pieces, names, strict=True)]
        columns = [np.concatenate(column) for column in zip(*bars, strict=True)] if bars else []
        if columns and len(columns[0]):
            start, length, labels, texts = columns
            figure.add_bar(
                name=shade.fill,
                y=labels.tolist(),
                base=start,
                x=length,
                customdata=texts,
                orientation="h",
                marker_color=_COLOURS[shade.fill],
                marker_line_width=0,
                hovertemplate="%{customdata}<br>from %{base:.3f} ms, for %{x:.3f} ms",
            )
    figure.update_layout(barmode="overlay", bargap=0.25, xaxis_title="ms")
    figure.update_yaxes(
        autorange="reversed", type="category", categoryarray=[_label(one) for one in lanes]
    )
    return figure


def _bars(one: Lane, shade: Shade, names: Sequence[str]) -> tuple[Any, ...]:
    """Starts and lengths [ms], lane and task of each piece of a shade."""
    mine = one.shade == shade
    texts = [_text(names[name]) for name in one.name[mine].tolist()]
    return (
        one.start_ns[mine] / 1e6,
        (one.end_ns - one.start_ns)[mine] / 1e6,
        np.full(int(mine.sum()), _label(one), dtype=object),
        np.array(texts, dtype=object),
    )


def _label(one: Lane) -> str:
    return f"rank {one.rank} {_text(one.label)}"


def _stacked(
    title: str, rows: Sequence[str], parts: Sequence[tuple[str, str, Sequence[float]]]
) -> Figure:
    """Bars of `parts`: words, colour, and lengths [ms], for each row measured and then replayed."""
    figure = _figure(title)
    for words, colour, lengths in parts:
        figure.add_bar(
            name=words,
            y=[[row for row in rows for _ in range(2)], ["measured", "replayed"] * len(rows)],
            x=lengths,
            orientation="h",
            marker_color=_COLOURS[colour],
            hovertemplate="%{x:.3f} ms",
        )
    figure.update_layout(barmode="stack", xaxis_title="ms")
    figure.update_yaxes(autorange="reversed")
    return figure


def _text(name: str) -> str:
    """A name from a trace: plotly would read markup in it."""
    return html.escape(name_text(name))


def _figure(title: str) -> Figure:
    try:
        from plotly.graph_objects import Figure  # noqa: PLC0415 - an extra, loaded when it is used
    except ImportError as error:
        raise UsageError(
            "figures need plotly: pip install '.[notebook]' in the checkout of lumos"
        ) from error
    figure = Figure()
    figure.update_layout(title=title, template="plotly_white", legend_traceorder="normal")
    return figure
