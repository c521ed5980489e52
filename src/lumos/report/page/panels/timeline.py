"""One step on its threads and streams, as measured and as replayed, with the critical path through it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lumos.analysis.answers import Answers
from lumos.analysis.path_sums import Part
from lumos.analysis.sentence import Sentence, time
from lumos.graph.job import NONE
from lumos.graph.timeline import Timeline
from lumos.report.lanes import Lane, Shade, lane
from lumos.report.page.panel import Call, Panel
from lumos.report.page.panels.path import path_calls
from lumos.report.page.path import stretches
from lumos.report.page.tracks import SHADE_WORDS, Tracks, tracks_of

MOST_RANKS = 4
MOST_LANES = 8
"""Ranks, and lanes of each, that are drawn: the ones the critical path runs through, then the busiest."""


@dataclass(frozen=True)
class View:
    """What the template draws; `left_out` says what there is no room for."""

    runs: tuple[Tracks, ...]
    keys: tuple[tuple[str, str], ...]
    left_out: str


def timeline_panel(answers: Answers) -> Panel:
    """The step that was looked at."""
    name = answers.step.step
    calls = (*path_calls(name), Call("frame", "", f"traces.frame({name!r})"))
    chosen = _chosen(answers)
    title = "The step as it ran"
    if not chosen:
        return Panel("timeline", title, calls, absent="Nothing ran in this step.")
    sides = (
        ("measured", answers.measured, answers.measured_path),
        ("replayed", answers.replayed, answers.path),
    )
    lanes = [_lanes(answers, run, chosen) for _, run, _ in sides]
    begin = min(int(one.start_ns[0]) for side in lanes for one in side if len(one))
    end = max(int(one.end_ns.max()) for side in lanes for one in side if len(one))
    lane_of = {number: place for place, number in enumerate(chosen)}
    placement = answers.job.placement
    names = [answers.job.programs[placement.role[place]].names for place, _ in chosen.values()]
    runs = tuple(
        tracks_of(word, side, names, stretches(path.path, answers.graph, lane_of), begin, end)
        for (word, _, path), side in zip(sides, lanes, strict=True)
    )
    keys = tuple(
        (SHADE_WORDS[shade], shade.fill)
        for shade in Shade
        if any((one.shade == shade).any() for side in lanes for one in side)
    )
    view = View(runs, keys, _left_out(answers, chosen))
    return Panel("timeline", title, calls, _lead(answers), "timeline.html", view)


def _lead(answers: Answers) -> Sentence:
    found, at = answers.measured_path, "/critical_path_measured/steps/0"
    unexplained = time(found.part_ns(Part.UNEXPLAINED), f"{at}/by_part/unexplained")
    return (
        "The line is the critical path: from the last task back to the first, always to what was "
        "awaited last. No rule explains ", unexplained, " of its ",
        time(found.makespan_ns, f"{at}/makespan_ms"), ".",
    )  # fmt: skip


def _chosen(answers: Answers) -> dict[int, tuple[int, int]]:
    """The lanes that are drawn: numbers of processors in the graph -> place of the rank, processor.

    Of the ranks those that most of the measured path runs through, and of each its busiest lanes.
    """
    graph, path = answers.graph, answers.measured_path.path
    on_path = np.zeros(int(graph.processor.max(initial=NONE)) + 2, np.int64)
    np.add.at(on_path, graph.processor[path.row], path.time_ns)
    ranks = [_processors(answers, place) for place in range(len(answers.job.placement.ranks))]
    weight = [sum(on_path[number] for number in found) for found in ranks]
    places = sorted(range(len(ranks)), key=lambda place: -weight[place])[:MOST_RANKS]
    chosen: dict[int, tuple[int, int]] = {}
    for place in sorted(places):
        busy = {
            n: (on_path[n], time_ns)
            for n, (_, time_ns) in ranks[place].items()
            if on_path[n] or time_ns
        }
        kept = sorted(busy, key=lambda number: busy[number], reverse=True)[:MOST_LANES]
        chosen |= {number: (place, ranks[place][number][0]) for number in sorted(kept)}
    return chosen


def _processors(answers: Answers, place: int) -> dict[int, tuple[int, int]]:
    """The processors of a rank that have rows: numbers in the graph -> number, time of its rows [ns]."""
    rows = answers.job.programs[answers.job.placement.role[place]].rows
    local, first = np.unique(rows.processor, return_index=True)
    numbers = answers.graph.processor[int(answers.graph.row_offset[place]) + first]
    busy = np.bincount(rows.processor, np.where(rows.frozen, 0, rows.duration_ns))
    return {
        int(number): (int(processor), int(busy[processor]))
        for number, processor in zip(numbers, local, strict=True)
    }


def _lanes(answers: Answers, run: Timeline, chosen: dict[int, tuple[int, int]]) -> list[Lane]:
    placement = answers.job.placement
    return [
        lane(
            placement.ranks[place],
            answers.job.programs[placement.role[place]],
            run.ranks[place],
            processor,
        )
        for place, processor in chosen.values()
    ]


def _left_out(answers: Answers, chosen: dict[int, tuple[int, int]]) -> str:
    """What there is no room for, counted."""
    shown = {place for place, _ in chosen.values()}
    ranks = len(answers.job.placement.ranks) - len(shown)
    lanes = sum(len(_processors(answers, place)) for place in shown) - len(chosen)
    parts = [f"{ranks} more ranks, through which less of the critical path runs"] * (ranks > 0)
    parts += [f"{lanes} more threads and streams, which do less"] * (lanes > 0)
    return f"Not drawn: {'; '.join(parts)}." if parts else ""
