"""Cost by re-simulation: what a step gains if a part of it were faster, twice as fast, free.

Adding up the time of a kernel's tasks says what it takes, not what it costs: much of it runs beside
something else. Here each part is made faster and the step is run again, so that what hides behind
what, and who then waits for whom, decides.

    host   | l | l |              gemm twice as fast      | l | l |
    stream     |== gemm ==|= b =|                             |= gemm =|= b =|
    other          |===== c =====|                                |===== c =====|   gain: c hides it
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from lumos.analysis.baseline import Baseline, Unchanged
from lumos.errors import UsageError
from lumos.graph.job import NONE, Job, Program, TaskKind
from lumos.graph.labels import HOST, By, Labels, labels
from lumos.simulate.batch import Scenarios, ends_of_each
from lumos.whatif.selection import is_host_overhead, loads_data

FACTORS = (0.9, 0.5, 0.0)
"""10 % faster, twice as fast, free."""
MOST_PARTS = 20
"""Parts of a grouping that are tried, by their own time; more can be asked for."""
DATA_LOADING = "data_loading"
"""Rows inside the data loader's operators: no host overhead, a class of their own here."""


class Grouping(Enum):
    """Ways to divide a step into parts."""

    CLASS = "class"
    OPERATOR = "operator"
    KERNEL = "kernel"
    LAYER = "layer"
    PHASE = "phase"
    STREAM = "stream"
    RANK = "rank"  # all that a rank does, communication apart: that is everybody's
    HOST = "host"  # the host overhead of each rank


@dataclass(frozen=True)
class Cost:
    """A part of a step, its own time, and what the step gains if it is made faster [ns].

    `tasks` and `own_ns` are sums over one step of all ranks, waiting apart. A negative gain is a
    step that takes longer: where streams share a GPU, an earlier kernel can come in another's way.
    """

    by: Grouping
    label: str
    tasks: int
    own_ns: int
    gain_10_pct_ns: int
    gain_half_ns: int
    gain_free_ns: int


@dataclass(frozen=True)
class StepCosts:
    """The parts of a step by what it would gain, and the step that the gains are held against.

    `left_out` counts the parts of a grouping that were not tried, those of least own time.
    `fixed_order` tells whether all scenarios keep the order in which tasks ran.
    """

    unchanged: Unchanged
    costs: tuple[Cost, ...]
    left_out: dict[Grouping, int]
    fixed_order: bool

    def of(self, by: Grouping) -> list[Cost]:
        """The parts of one grouping, largest gain first."""
        return [one for one in self.costs if one.by is by]


@dataclass(frozen=True)
class _Parts:
    """The parts of one grouping: the part of each task, and each part's size in one step."""

    by: Grouping
    number: NDArray[np.int32]
    texts: tuple[str, ...]
    tasks: NDArray[np.int64]
    own_ns: NDArray[np.int64]


def default_groupings(job: Job) -> tuple[Grouping, ...]:
    """Classes, operators and layers; of several ranks each rank and its host too."""
    several = (Grouping.RANK, Grouping.HOST) if len(job.placement.ranks) > 1 else ()
    return (Grouping.CLASS, Grouping.OPERATOR, Grouping.LAYER, *several)


def parse_groupings(words: Iterable[str]) -> tuple[Grouping, ...]:
    """Groupings by their names, each once; UsageError for any other."""
    known = {grouping.value: grouping for grouping in Grouping}
    found: dict[Grouping, None] = {}
    for word in words:
        if word not in known:
            raise UsageError(f"a step has no parts by {word!r}; they are by {', '.join(known)}")
        found[known[word]] = None
    return tuple(found)


def costs(base: Baseline, by: Sequence[Grouping], most: int = MOST_PARTS) -> StepCosts:
    """What the step gains from each part made faster, all scenarios in one batch.

    Of each grouping the `most` parts of largest own time are tried. Base and scenarios alike keep
    the recorded delays that no rule explains.
    """
    groupings = [_parts(base, one) for one in dict.fromkeys(by)]
    tried = [_largest(parts, most) for parts in groupings]
    pairs = [(place, part) for place, chosen in enumerate(tried) for part in chosen]
    ends = _ends(base, groupings, pairs)
    found = []
    for (place, part), of_part in zip(pairs, ends, strict=True):
        parts = groupings[place]
        gains = [base.unchanged.length_ns - base.length_ns(end) for end in of_part]
        found.append(
            Cost(
                parts.by, parts.texts[part], int(parts.tasks[part]), int(parts.own_ns[part]), *gains
            )
        )
    found.sort(key=lambda one: (-one.gain_half_ns, -one.gain_free_ns, -one.own_ns))
    left_out = {
        parts.by: int((parts.own_ns > 0).sum()) - len(chosen)
        for parts, chosen in zip(groupings, tried, strict=True)
    }
    return StepCosts(base.unchanged, tuple(found), left_out, not base.graph.shares_gpus)


def _ends(
    base: Baseline, groupings: Sequence[_Parts], pairs: Sequence[tuple[int, int]]
) -> NDArray[np.int64]:
    """Ends of the copies for each (grouping, part) and factor: (pairs, factors, copies) [ns]."""
    each = np.array(pairs, np.int32).reshape(-1, 2).repeat(len(FACTORS), axis=0)
    scenarios = Scenarios(
        np.stack([parts.number for parts in groupings])
        if groupings
        else np.empty((0, len(base.graph)), np.int32),
        each[:, 0],
        each[:, 1],
        np.tile(np.array(FACTORS), len(pairs)),
    )
    ends = ends_of_each(base.graph, scenarios, base.mark, marks=base.copies, delays=True)
    return ends.reshape(len(pairs), len(FACTORS), base.copies)


def _largest(parts: _Parts, most: int) -> list[int]:
    order = np.argsort(-parts.own_ns, kind="stable")
    return order[parts.own_ns[order] > 0][:most].tolist()  # type: ignore[no-any-return]


def _parts(base: Baseline, by: Grouping) -> _Parts:
    """The parts of the step by one grouping; those of one name on several ranks are one."""
    graph, job = base.graph, base.job
    number = np.full(len(graph), NONE, np.int32)
    place_of: dict[str, int] = {}
    for place, role in enumerate(job.placement.role):
        own = slice(int(graph.row_offset[place]), int(graph.row_offset[place + 1]))
        found = _LABELS[by](job.programs[role], f"rank {job.placement.ranks[place]}")
        new = [place_of.setdefault(text, len(place_of)) for text in found.texts]
        number[own] = np.array([*new, NONE], np.int32)[found.number]
    known = np.flatnonzero(number != NONE)
    counted = known[graph.duration_ns[known] > 0]
    size = len(place_of)
    tasks = np.bincount(number[counted], minlength=size)
    own_ns = np.zeros(size, np.int64)
    np.add.at(own_ns, number[counted], graph.duration_ns[counted])
    return _Parts(by, number, tuple(place_of), tasks // base.copies, own_ns // base.copies)


def _by_class(program: Program, _: str) -> Labels:
    """Classes, the host's rows told apart: overhead, data loading, and idle threads of no class."""
    known = labels(program, By.CLASS)
    number = known.number.copy()
    number[known.rows_of(HOST) & ~is_host_overhead(program)] = NONE
    number[loads_data(program)] = len(known.texts)
    return Labels(number, (*known.texts, DATA_LOADING))


def _one(chosen: NDArray[np.bool_], text: str) -> Labels:
    return Labels(np.where(chosen, 0, NONE).astype(np.int32), (text,))


def _by_rank(program: Program, rank: str) -> Labels:
    return _one(program.rows.kind != TaskKind.COLLECTIVE, rank)


def _by_host(program: Program, rank: str) -> Labels:
    return _one(is_host_overhead(program), rank)


_LABELS: dict[Grouping, Callable[[Program, str], Labels]] = {
    Grouping.CLASS: _by_class,
    Grouping.OPERATOR: lambda program, _: labels(program, By.OPERATOR),
    Grouping.KERNEL: lambda program, _: labels(program, By.KERNEL),
    Grouping.LAYER: lambda program, _: labels(program, By.LAYER),
    Grouping.PHASE: lambda program, _: labels(program, By.PHASE),
    Grouping.STREAM: lambda program, _: labels(program, By.STREAM),
    Grouping.RANK: _by_rank,
    Grouping.HOST: _by_host,
}
