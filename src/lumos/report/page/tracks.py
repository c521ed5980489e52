"""A timeline as it is drawn: lanes as lines of boxes, the path through them, the axis.

What the page opens with is plain SVG with no more boxes than pixels. Beside it lies what the script
draws from when one zooms in: the same pieces in columns, as many as there is room for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lumos.report.lanes import Lane, Shade, fitted
from lumos.report.page.path import RULE_WORDS, UNEXPLAINED, Stretches, coarse, line
from lumos.report.page.texts import name_text
from lumos.units import ms

WIDTH = 100_000
"""Units of the drawing from the begin of the step to its end."""
PIXELS = 1000
"""About how many pixels that is: nothing shorter is drawn apart before one zooms in."""
MOST_DRAWN = 4_000
MOST_KEPT = 15_000
"""Pieces in the drawing as it opens, and those that are kept to zoom into."""
MOST_TICKS = 6
MIDDLE, BAR = 0.69, 0.42
"""Where in its height of 1 a lane has its middle, and where its bar begins."""
SHADE_WORDS = {
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
    """A lane as it is drawn first: a line of boxes for each shade; `first` of its rank or not."""

    rank: int
    label: str
    first: bool
    lines: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Tracks:
    """A drawn run: its lanes, the path and the unexplained parts of it, and what is kept to zoom into."""

    run: str
    width: int
    tracks: tuple[Track, ...]
    path: str
    unexplained: str
    ticks: tuple[tuple[str, float], ...]
    embedded: dict[str, Any]


def tracks_of(
    run: str,
    lanes: Sequence[Lane],
    names: Sequence[Sequence[str]],
    path: Stretches,
    begin_ns: int,
    end_ns: int,
) -> Tracks:
    """The lanes of a run drawn from `begin_ns` to `end_ns`; `names` are those their pieces index."""
    span = max(end_ns - begin_ns, 1)
    pixel, scale = span // PIXELS, WIDTH / span
    middles = [place + MIDDLE for place in range(len(lanes))]
    late = path.take((path.rule == UNEXPLAINED) & (path.end_ns - path.start_ns >= pixel))
    return Tracks(
        run,
        WIDTH,
        tuple(_tracks(lanes, begin_ns, span)),
        line(coarse(path, pixel), scale, begin_ns, middles),
        line(late, scale, begin_ns, middles),
        tuple(_ticks(span)),
        _embedded(lanes, names, path, begin_ns, span),
    )


def _tracks(lanes: Sequence[Lane], begin_ns: int, span_ns: int) -> Iterator[Track]:
    coarsest, shortest = fitted(lanes, MOST_DRAWN, span_ns // PIXELS)
    scale, before = WIDTH / span_ns, None
    least = max(round(shortest * scale), WIDTH // PIXELS) * 3 // 5
    for one in coarsest:
        lines = tuple(_lines(one, scale, begin_ns, least))
        yield Track(one.rank, one.label, one.rank != before, lines)
        before = one.rank


def _lines(one: Lane, scale: float, begin_ns: int, least: int) -> Iterator[tuple[str, str]]:
    """Boxes of one shade after the other; none narrower than what is seen."""
    left = np.round((one.start_ns - begin_ns) * scale).astype(np.int64)
    width = np.round((one.end_ns - one.start_ns) * scale).astype(np.int64)
    width = np.maximum(width, least)
    for shade in reversed(Shade):  # pauses and calls lie below what works
        mine = one.shade == shade
        if mine.any():
            boxes = zip(left[mine].tolist(), width[mine].tolist(), strict=True)
            yield shade.fill, "".join(f"M{x} {BAR}h{w}v.54h-{w}z" for x, w in boxes)


def _ticks(span_ns: int) -> Iterator[tuple[str, float]]:
    """Round times on the axis, and where they stand [%]."""
    span = ms(span_ns)
    unit = 10.0 ** np.floor(np.log10(span / 4))
    every = next(unit * step for step in (1, 2, 5, 10, 20) if span / (unit * step) <= MOST_TICKS)
    for number in range(int(span / every) + 1):
        yield f"{number * every:g} ms", round(100 * number * every / span, 3)


def _embedded(
    lanes: Sequence[Lane],
    names: Sequence[Sequence[str]],
    path: Stretches,
    begin_ns: int,
    span_ns: int,
) -> dict[str, Any]:
    """Pieces in columns: starts as differences and lengths [ns], shades, names, tasks merged."""
    kept, shortest = fitted(lanes, MOST_KEPT)
    path = coarse(path, shortest)
    place_of: dict[str, int] = {}
    columns = []
    for one, texts in zip(kept, names, strict=True):
        merged = np.flatnonzero(one.tasks > 1).tolist()
        columns.append(
            {
                "rank": one.rank,
                "label": name_text(one.label),
                "start": np.diff(one.start_ns, prepend=begin_ns).tolist(),
                "length": (one.end_ns - one.start_ns).tolist(),
                "shade": "".join(map(str, one.shade.tolist())),
                "name": [
                    place_of.setdefault(texts[name], len(place_of)) for name in one.name.tolist()
                ],
                "tasks": {str(piece): int(one.tasks[piece]) for piece in merged},
            }
        )
    return {
        "span": span_ns,
        "shades": [[shade.fill, SHADE_WORDS[shade]] for shade in Shade],
        "lanes": columns,
        "names": [name_text(name) for name in place_of],
        "rules": [word.replace("_", " ") for word in RULE_WORDS],
        "path": {
            "lane": path.lane.tolist(),
            "start": (path.start_ns - begin_ns).tolist(),
            "length": (path.end_ns - path.start_ns).tolist(),
            "rule": path.rule.tolist(),
        },
    }
