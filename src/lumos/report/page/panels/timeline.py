"""One step on its threads and streams, with the critical path drawn through them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lumos.analysis.answers import Answers
from lumos.analysis.critical_path import STARTING_STATE, rule_word
from lumos.analysis.sentence import Amount, Sentence, time
from lumos.graph.execution import Rule
from lumos.graph.job import NONE
from lumos.report.lanes import Lane, Shade, fitted, lane
from lumos.report.page.panel import Panel, verb
from lumos.report.page.path import Stretches, coarse, line, stretches
from lumos.report.page.texts import name_text
from lumos.units import ms

WIDTH = 100_000
"""Units of the drawing from the begin of the step to its end."""
PIXELS = 1000
"""About how many pixels that is: nothing shorter is drawn apart before one zooms in."""
MOST_DRAWN = 4_000
MOST_KEPT = 20_000
"""Pieces in the drawing as it opens, and those that are kept to zoom into."""
MOST_RANKS = 4
MOST_LANES = 8
"""Ranks, and lanes of each, that are drawn: the ones the critical path runs through, then the busiest."""
_MIDDLE, _BAR = 0.69, 0.42
"""Where in its height of 1 a lane has its middle, and where its bar begins."""
_KEYS = {
    Shade.COMPUTE: "kernels",
    Shade.COPY: "copies",
    Shade.TRANSFER: "communication",
    Shade.WAIT: "waiting",
    Shade.HOST: "operators of the host",
    Shade.CALL: "runtime calls",
    Shade.PAUSE: "pauses of the host",
}


@dataclass(frozen=True)
class Track:
    """A lane as it is drawn first: a line of boxes for each shade. `first` of its rank or not."""

    rank: int
    label: str
    first: bool
    lines: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class View:
    """What the template draws, and in `embedded` what the script draws when one zooms in."""

    width: int
    span: Amount
    tracks: tuple[Track, ...]
    path: str
    ticks: tuple[tuple[str, float], ...]
    keys: tuple[tuple[str, str], ...]
    left_out: str
    embedded: dict[str, Any]


def timeline_panel(answers: Answers) -> Panel:
    """The replay of the step that was looked at."""
    name = answers.step.step
    calls = (verb("replay", f"traces.frame({name!r})"),)
    title = "The step, and what its end waited for"
    lanes, lane_of, left_out = _lanes(answers)
    if not lanes:
        return Panel("timeline", title, calls, absent="Nothing ran in this step.")
    begin = min(int(one.start_ns[0]) for one in lanes)
    end = max(int(one.end_ns.max()) for one in lanes)
    found = stretches(answers.path.path, answers.graph, lane_of)
    view = View(
        width=WIDTH,
        span=time(end - begin, f"replay.steps.{answers.chosen}.replayed_ms"),
        tracks=tuple(_tracks(lanes, begin, end)),
        path=line(
            coarse(found, (end - begin) // PIXELS),
            WIDTH / max(end - begin, 1),
            begin,
            [place + _MIDDLE for place in range(len(lanes))],
        ),
        ticks=tuple(_ticks(end - begin)),
        keys=tuple(
            (_KEYS[shade], shade.fill)
            for shade in Shade
            if any((one.shade == shade).any() for one in lanes)
        ),
        left_out=left_out,
        embedded=_embedded(answers, lanes, found, begin, end),
    )
    return Panel("timeline", title, calls, _lead(answers), "timeline.html", view)


def _lead(answers: Answers) -> Sentence:
    times = answers.path.sums.by_rule
    most = next(iter(times))
    share = 100.0 * times[most] / max(sum(times.values()), 1)
    return (
        "The line is the critical path of the replay: each task on it was awaited by the next. "
        f"{share:.0f} % of it is {most.replace('_', ' ')}.",
    )


def _lanes(answers: Answers) -> tuple[list[Lane], dict[int, int], str]:
    """The lanes that are drawn, where each processor of the graph is among them, and what is not."""
    graph, placement = answers.graph, answers.job.placement
    on_path = np.zeros(int(graph.processor.max(initial=NONE)) + 2, np.int64)
    np.add.at(on_path, graph.processor[answers.path.path.row], answers.path.path.time_ns)
    numbers = [_processors(answers, place) for place in range(len(placement.ranks))]
    weight = [sum(on_path[list(found.values())]) for found in numbers]
    ranks = sorted(range(len(numbers)), key=lambda place: (-weight[place], place))[:MOST_RANKS]
    lanes: list[Lane] = []
    lane_of: dict[int, int] = {}
    hidden = 0
    for place in sorted(ranks):
        program = answers.job.programs[placement.role[place]]
        found = {
            number: lane(placement.ranks[place], program, answers.replayed.ranks[place], processor)
            for processor, number in numbers[place].items()
        }
        busy = {number: (on_path[number], one.busy_ns) for number, one in found.items() if len(one)}
        kept = sorted(busy, key=lambda number: busy[number], reverse=True)[:MOST_LANES]
        hidden += len(busy) - len(kept)
        for number in sorted(kept):
            lane_of[number] = len(lanes)
            lanes.append(found[number])
    parts = [f"{count} {what}" for count, what in (
        (len(numbers) - len(ranks), "more ranks, through which less of the critical path runs"),
        (hidden, "threads and streams that do less"),
    ) if count]  # fmt: skip
    return lanes, lane_of, f"Not drawn: {'; '.join(parts)}." if parts else ""


def _processors(answers: Answers, place: int) -> dict[int, int]:
    """The processors of a rank that have rows, and the numbers they have in the graph."""
    rows = answers.job.programs[answers.job.placement.role[place]].rows
    local, first = np.unique(rows.processor, return_index=True)
    numbers = answers.graph.processor[int(answers.graph.row_offset[place]) + first]
    return dict(zip(local.tolist(), numbers.tolist(), strict=True))


def _tracks(lanes: Sequence[Lane], begin_ns: int, end_ns: int) -> Iterator[Track]:
    coarsest, shortest = fitted(lanes, MOST_DRAWN, (end_ns - begin_ns) // PIXELS)
    scale, before = WIDTH / max(end_ns - begin_ns, 1), None
    least = max(round(shortest * scale), WIDTH // PIXELS)
    for one in coarsest:
        yield Track(
            one.rank, one.label, one.rank != before, tuple(_lines(one, scale, begin_ns, least))
        )
        before = one.rank


def _lines(one: Lane, scale: float, begin_ns: int, least: int) -> Iterator[tuple[str, str]]:
    """Boxes of one shade after the other; none narrower than a pixel."""
    left = np.round((one.start_ns - begin_ns) * scale).astype(np.int64)
    width = np.maximum(
        np.round((one.end_ns - one.start_ns) * scale).astype(np.int64), least * 3 // 5
    )
    for shade in reversed(Shade):  # pauses and calls lie below what works
        mine = one.shade == shade
        if mine.any():
            boxes = zip(left[mine].tolist(), width[mine].tolist(), strict=True)
            yield shade.fill, "".join(f"M{x} {_BAR}h{w}v.54h-{w}z" for x, w in boxes)


def _ticks(span_ns: int) -> Iterator[tuple[str, float]]:
    """Round times on the axis, five or so, and where they stand [%]."""
    span = max(ms(span_ns), 1e-6)
    unit = 10.0 ** np.floor(np.log10(span / 4))
    every = next(unit * step for step in (1, 2, 5, 10) if span / (unit * step) <= 6)
    for number in range(int(span / every) + 1):
        at = number * every
        yield f"{at:g} ms", round(100 * at / span, 3)


def _embedded(
    answers: Answers, lanes: Sequence[Lane], path: Stretches, begin_ns: int, end_ns: int
) -> dict[str, Any]:
    """All pieces there is room for, in columns: starts and lengths [ns], shades, names, tasks merged."""
    kept, shortest = fitted(lanes, MOST_KEPT)
    path = coarse(path, shortest)
    place_of = {rank: place for place, rank in enumerate(answers.job.placement.ranks)}
    names: dict[str, int] = {}
    columns = []
    for one in kept:
        place = place_of[one.rank]
        texts = answers.job.programs[answers.job.placement.role[place]].names
        columns.append(
            {
                "rank": one.rank,
                "label": name_text(one.label),
                "start": np.diff(one.start_ns, prepend=begin_ns).tolist(),
                "length": (one.end_ns - one.start_ns).tolist(),
                "shade": "".join(map(str, one.shade.tolist())),
                "name": [names.setdefault(texts[name], len(names)) for name in one.name.tolist()],
                "tasks": {
                    str(piece): int(one.tasks[piece]) for piece in np.flatnonzero(one.tasks > 1)
                },
            }
        )
    return {
        "span": end_ns - begin_ns,
        "merged": shortest,
        "shades": [[shade.fill, _KEYS[shade]] for shade in Shade],
        "lanes": columns,
        "names": [name_text(name) for name in names],
        "rules": [rule_word(rule).replace("_", " ") for rule in (*Rule, STARTING_STATE)],
        "path": {
            "lane": path.lane.tolist(),
            "start": (path.start_ns - begin_ns).tolist(),
            "length": (path.end_ns - path.start_ns).tolist(),
            "rule": path.rule.tolist(),
        },
    }
