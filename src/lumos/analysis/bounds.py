"""The bounds ladder: how fast the step could be if one thing after another were no limit any more.

Each rung takes one limit away, by itself and together with all rungs before it. None of them is a
plan: together they say where time can be looked for at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumos.analysis.baseline import Baseline, Unchanged
from lumos.analysis.typical import typical, with_typical_durations
from lumos.catalog.hardware import find_hardware
from lumos.estimate.roofline import roofline_of_rows
from lumos.graph.execution import ExecutionGraph, Rule
from lumos.graph.job import NONE, POINT_TO_POINT, CollectiveKind, Program, TaskKind
from lumos.graph.labels import host_computes
from lumos.whatif.selection import is_host_overhead

_COMPUTING = (TaskKind.KERNEL, TaskKind.COPY, TaskKind.SET)


class Rung(Enum):
    """What is no limit any more, in the order of the ladder."""

    NO_COMMUNICATION_WAIT = "no_communication_wait"
    PERFECT_OVERLAP = "perfect_overlap"
    NO_BUBBLE = "no_bubble"
    NO_STRAGGLER = "no_straggler"
    FAST_HOST = "fast_host"
    ROOFLINE = "roofline"


@dataclass(frozen=True)
class Bound:
    """One rung: how long the step takes with this limit gone, and with all rungs so far [ns].

    A rung that does not apply has no `alone_ns` and says why in `reason`; the ladder passes it over.
    `unknown_pct` is the share of the time it is about for which no bound is known, so that the
    recorded durations stay.
    """

    rung: Rung
    alone_ns: int | None
    together_ns: int
    reason: str = ""
    unknown_pct: float | None = None


@dataclass(frozen=True)
class StepBounds:
    """The ladder of a step, and the step unchanged."""

    unchanged: Unchanged
    bounds: tuple[Bound, ...]

    def gain_pct(self, bound: Bound) -> float | None:
        """What the step gains from one rung alone [%]; None where the rung does not apply."""
        if bound.alone_ns is None:
            return None
        return self.unchanged.share_pct(self.unchanged.length_ns - bound.alone_ns)


def bounds(base: Baseline) -> StepBounds:
    """All rungs of a step. Recorded delays that no rule explains are kept throughout."""
    unfreed = together = _Freed(base.graph)
    found = []
    for rung, free in _RUNGS:
        try:
            alone, together = free(base, unfreed), free(base, together)
        except _NotApplicableError as reason:
            found.append(Bound(rung, None, _length_ns(base, together), str(reason)))
        else:
            lengths = _length_ns(base, alone), _length_ns(base, together)
            found.append(Bound(rung, *lengths, unknown_pct=alone.unknown_pct))
    return StepBounds(base.unchanged, tuple(found))


@dataclass(frozen=True)
class _Freed:
    """A graph with limits taken away, and what the step takes at least, whatever the graph says."""

    graph: ExecutionGraph
    least_ns: int = 0
    unknown_pct: float | None = None


class _NotApplicableError(Exception):
    """The step does not have this limit; says why."""


def _length_ns(base: Baseline, freed: _Freed) -> int:
    return max(base.length_in(freed.graph), freed.least_ns)


def _no_communication_wait(base: Baseline, freed: _Freed) -> _Freed:
    """The members of a collective all arrive at once: each costs its transfer.

    rank 0 | op |...wait...|= transfer =|        | op |= transfer =|
    rank 1 | op ...........|= transfer =|   ->   | op ...........|= transfer =|
    """
    meets = _meets(base)
    if not _rendezvous(base.graph, meets).any():
        if not _communicates(base).any():
            raise _NotApplicableError("no communication was recorded")
        if len(base.job.placement.ranks) == 1:
            raise _NotApplicableError(
                "one rank was traced: its waiting for others is inside the transfers"
            )
        raise _NotApplicableError("no collective was matched across ranks")
    return replace(freed, graph=_without_rendezvous(freed.graph, meets))


def _perfect_overlap(base: Baseline, freed: _Freed) -> _Freed:
    """Communication takes no time where something else waits for it, and waits for nobody.

    compute | op |         | op |        | op | op |
    network      |= a =|= b =|      ->   |= a =|= b =|    the longer of the two is the step

    The step then lasts as long as its busiest communication stream transfers, at least. A message
    arrives as soon as it is sent; to wait for that is the pipeline's bubble.
    """
    communicates = _communicates(base)
    if not communicates.any():
        raise _NotApplicableError("no communication was recorded")
    graph = _without_rendezvous(freed.graph, _meets(base))
    busy = np.bincount(graph.processor[communicates], weights=graph.duration_ns[communicates])
    least = round(float(busy.max()) / base.copies)
    delay = np.where(communicates, 0, graph.delay_ns)
    delay[graph.opening[: graph.rows][communicates[: graph.rows]]] = 0
    graph = replace(graph, duration_ns=np.where(communicates, 0, graph.duration_ns), delay_ns=delay)
    return replace(freed, graph=graph, least_ns=max(freed.least_ns, least))


def _no_bubble(base: Baseline, freed: _Freed) -> _Freed:
    """No stage of the pipeline waits for another: a message is there when it is received.

    stage 0 | F0 | F1 |         | B0 |      | F0 | F1 | B0 |
    stage 1      | F0 | B0 |           ->   | F0 | B0 |
    """
    messages = _is_message(base)
    if not _rendezvous(base.graph, messages).any():
        kinds = {one.kind for program in base.job.programs for one in program.collectives}
        if CollectiveKind.SEND_RECEIVE in kinds:
            raise _NotApplicableError("waiting is inside the recorded sends and receives")
        raise _NotApplicableError("no message between ranks was recorded: no pipeline")
    return replace(freed, graph=_without_rendezvous(freed.graph, messages))


def _no_straggler(base: Baseline, freed: _Freed) -> _Freed:
    """Every rank takes what is typical of those that run the same program, row by row.

    rank 0 | op |..wait..|= a =|        | op ..|= a =|
    rank 1 | op .........|= a =|   ->   | op ..|= a =|
    """
    if len(base.job.placement.ranks) == 1:
        raise _NotApplicableError("one rank was traced")
    if not typical(base.step).compared_pct:
        raise _NotApplicableError("no two of the traced ranks run the same program")
    usual = base.durations_of(with_typical_durations(base.step))
    # what an earlier rung made free stays free
    untouched = freed.graph.duration_ns == base.graph.duration_ns
    duration = np.where(untouched, usual, freed.graph.duration_ns)
    return replace(freed, graph=replace(freed.graph, duration_ns=duration))


def _fast_host(base: Baseline, freed: _Freed) -> _Freed:
    """The host takes no time: operators, calls and pauses are free, data loading is not.

    host   | op | l | gap | l |        |l|l|
    stream      |= k =|   |= k =|  ->  |= k =|= k =|
    """
    if all(host_computes(program) for program in base.job.programs):
        raise _NotApplicableError("the host computes: no device task but communication")
    host = _tasks(base, is_host_overhead)
    if not base.graph.duration_ns[host].any():
        raise _NotApplicableError("no host task was recorded")
    return replace(
        freed,
        graph=replace(freed.graph, duration_ns=np.where(host, 0, freed.graph.duration_ns)),
    )


def _roofline(base: Baseline, freed: _Freed) -> _Freed:
    """Kernels take the least time that their operations and bytes need on this GPU.

    stream |==== gemm ====|== norm ==|   ->   |== gemm ==|= norm =|

    What nothing is known of, and what beats its bound (caches), keeps its recorded duration.
    """
    gpu = base.job.placement.gpu
    kernels = _tasks(base, lambda program: np.isin(program.rows.kind, _COMPUTING))
    if not base.graph.duration_ns[kernels].any():
        raise _NotApplicableError("no kernel was recorded")
    if (hardware := find_hardware(gpu)) is None:
        name = f"{gpu!r} is not in the catalogue of hardware" if gpu else "the GPU is not named"
        raise _NotApplicableError(name)
    least = _tasks(base, lambda program: roofline_of_rows(program, hardware), NONE)
    known = kernels & (least != NONE)
    total = int(base.graph.duration_ns[kernels].sum())
    unknown = 100.0 * (1 - int(base.graph.duration_ns[known].sum()) / total)
    duration = freed.graph.duration_ns
    graph = replace(freed.graph, duration_ns=np.where(known, np.minimum(duration, least), duration))
    return replace(freed, graph=graph, unknown_pct=unknown)


_RUNGS: tuple[tuple[Rung, Callable[[Baseline, _Freed], _Freed]], ...] = (
    (Rung.NO_COMMUNICATION_WAIT, _no_communication_wait),
    (Rung.PERFECT_OVERLAP, _perfect_overlap),
    (Rung.NO_BUBBLE, _no_bubble),
    (Rung.NO_STRAGGLER, _no_straggler),
    (Rung.FAST_HOST, _fast_host),
    (Rung.ROOFLINE, _roofline),
)


def _communicates(base: Baseline) -> NDArray[np.bool_]:
    return _tasks(base, lambda program: program.rows.kind == TaskKind.COLLECTIVE)


def _tasks(base: Baseline, of: Callable[[Program], NDArray[Any]], marker: int = 0) -> NDArray[Any]:
    """Columns of programs as one of the graph's tasks; `marker` for those that are no rows."""
    columns = [of(program) for program in base.job.programs]
    found = np.full(len(base.graph), marker, columns[0].dtype)
    for place, role in enumerate(base.job.placement.role):
        own = slice(int(base.graph.row_offset[place]), int(base.graph.row_offset[place + 1]))
        found[own] = columns[role]
    return found


def _is_message(base: Baseline) -> NDArray[np.bool_]:
    def messages(program: Program) -> NDArray[np.bool_]:
        kinds = [one.kind in POINT_TO_POINT for one in program.collectives]
        known = program.rows.collective
        return (known != NONE) & np.array([*kinds, False])[known]  # type: ignore[no-any-return]

    return _tasks(base, messages)


def _meets(base: Baseline) -> NDArray[np.bool_]:
    """Communication of several members at once."""
    return _communicates(base) & ~_is_message(base)


def _rendezvous(graph: ExecutionGraph, waiting: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The dependencies by which these tasks wait for other ranks."""
    after = np.repeat(np.arange(len(graph)), np.diff(graph.first))
    return (graph.rule == Rule.RENDEZVOUS) & waiting[after]


def _without_rendezvous(graph: ExecutionGraph, waiting: NDArray[np.bool_]) -> ExecutionGraph:
    kept = ~_rendezvous(graph, waiting)
    after = np.repeat(np.arange(len(graph)), np.diff(graph.first))[kept]
    first = np.zeros(len(graph) + 1, np.int64)
    np.cumsum(np.bincount(after, minlength=len(graph)), out=first[1:])
    return replace(
        graph,
        first=first,
        before=graph.before[kept],
        lag_ns=graph.lag_ns[kept],
        from_start=graph.from_start[kept],
        rule=graph.rule[kept],
    )
