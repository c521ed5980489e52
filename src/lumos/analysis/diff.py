"""Diff: why one run takes longer than another, by exchanging parts between the two jobs.

Rows of both jobs are aligned. A part - the kernels of a class in a layer, the host's operators,
the transfers of a kind, the program's structure, ... - is taken over from the second job into the
first, and the job is run again: the difference is what the part changes, waiting included. What a
part changes depends on what was exchanged before it, so the exchange is done in many orders, each
with its reverse, and the differences are averaged (Shapley, A value for n-person games, 1953; the
sampling of orders: Castro, Gomez and Tejada, 2009). In every order they add up to the whole change,
and so do the averages.

    first  -- gemm --> . -- host --> . -- structure --> second
    first  -- structure --> . -- host --> . -- gemm --> second
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lumos.analysis.exchange import Columns, Exchange, State, exchange_of
from lumos.analysis.parts import DELAYS, NOT_REPLAYED, STRUCTURE, WAITING, Kind, PartName
from lumos.analysis.replay import rank_span, span_of
from lumos.errors import UsageError
from lumos.graph.execution import ExecutionGraph
from lumos.graph.job import Job, TaskKind
from lumos.graph.timeline import Timeline
from lumos.simulate import simulate

MOST_ORDERS = 32
"""Orders of exchange, each beside its reverse."""
TASKS_RUN = 150_000_000
"""Tasks that all runs of a diff may simulate: larger jobs are exchanged in fewer orders (two at least)."""


@dataclass(frozen=True)
class Side:
    """One of the two runs: a replayable job, and the measured span [ns].

    `waiting` holds for each rank the time its rows waited for peers that the job does not hold
    (a rank taken out of a coupled job), None where it holds them all.
    """

    label: str
    job: Job
    measured_ns: int
    waiting: tuple[NDArray[np.int64], ...] | None = None


@dataclass(frozen=True)
class Part:
    """What one part of the program changes. Pairs are (first, second); times in ns.

    `own_ns` is the time its tasks take themselves, `waiting_ns` what they wait inside themselves
    on top; `change_ns` is what the makespan changes because of it, averaged over the orders of
    exchange, `lowest_ns` and `highest_ns` are its extremes over them.
    """

    kind: Kind
    label: str
    layer: int | None
    tasks: tuple[int, int]
    own_ns: tuple[int, int]
    waiting_ns: tuple[int, int]
    change_ns: int
    lowest_ns: int
    highest_ns: int


@dataclass(frozen=True)
class Diff:
    """Two runs and the parts that make the difference; `parts` add up to `change_ns` exactly.

    `first_replayed_ns` and `second_replayed_ns` are runs with the recorded delays that no rule
    explains; what they and the measured spans differ by is a part of its own. `matched_pct` is the
    share of rows with a partner in the other job, `orders` counts the orders of exchange.
    """

    first: str
    second: str
    first_measured_ns: int
    second_measured_ns: int
    first_replayed_ns: int
    second_replayed_ns: int
    parts: tuple[Part, ...]
    matched_pct: float
    orders: int

    @property
    def change_ns(self) -> int:
        """Measured span of the second run minus that of the first."""
        return self.second_measured_ns - self.first_measured_ns


def diff(first: Side, second: Side, *, tasks_run: int = TASKS_RUN) -> Diff:
    """Attribute the change in makespan from `first` to `second` to parts, largest first.

    Raises UsageError where the two do not have the same ranks, unless each is of one rank.
    """
    _same_ranks(first, second)
    exchange = exchange_of((first.job, second.job), (_peers_ns(first), _peers_ns(second)))
    count = len(exchange.players)
    pairs = max(1, min(MOST_ORDERS, tasks_run // (2 * (count + 1) * max(exchange.tasks, 1))))
    orders = _orders(count, pairs)
    nothing, everything = frozenset[int](), frozenset(range(count))
    states = {state for order in orders for state in _states(order)} | {nothing, everything}
    span_ns: dict[State, int] = {}
    runs: dict[State, Timeline] = {}
    for state, job, timeline in exchange.run(states):
        low, high = span_of(job, timeline)
        span_ns[state] = high - low
        if state in (nothing, everything):
            runs[state] = timeline
    changes = _changes(orders, span_ns)
    replayed_ns = span_ns[everything] - span_ns[nothing]
    measured_ns = second.measured_ns - first.measured_ns
    shares = [*_rounded(changes, replayed_ns), measured_ns - replayed_ns]
    sums = _sums(exchange, (runs[nothing], runs[everything]))
    parts = [
        Part(*name, *sums[number], shares[number], int(changes[:, number].min()), int(changes[:, number].max()))
        for number, name in enumerate(exchange.players)
    ]  # fmt: skip
    parts.append(Part(*NOT_REPLAYED, (0, 0), (0, 0), (0, 0), shares[-1], shares[-1], shares[-1]))
    return Diff(
        first.label,
        second.label,
        first.measured_ns,
        second.measured_ns,
        span_ns[nothing],
        span_ns[everything],
        tuple(sorted(parts, key=lambda part: -abs(part.change_ns))),
        exchange.matched_pct,
        len(orders),
    )


def side_of(label: str, job: Job, measured: Timeline) -> Side:
    """A step of a job with all its ranks."""
    low, high = span_of(job, measured)
    return Side(label, job, high - low)


def side_of_rank(
    label: str, job: Job, graph: ExecutionGraph, measured: Timeline, rank: int
) -> Side:
    """One rank of a step on its own: what it waits for its peers is kept as the replay has it.

    Raises UsageError where that rank was not traced.
    """
    placement = job.placement
    if rank not in placement.ranks:
        raise UsageError(f"rank {rank} was not traced; traced are ranks {_some(placement.ranks)}")
    place = placement.ranks.index(rank)
    program = job.programs[placement.role[place]]
    replayed = simulate(graph, delays=True).ranks[place]
    waiting = np.where(program.rows.kind == TaskKind.COLLECTIVE, replayed.wait_ns, 0)
    alone = replace(
        job, programs=(program,), placement=replace(placement, ranks=(rank,), role=(0,))
    )
    low, high = rank_span(program, measured.ranks[place])
    return Side(label, alone, high - low, (waiting,))


def _same_ranks(first: Side, second: Side) -> None:
    mine, theirs = first.job.placement.ranks, second.job.placement.ranks
    if mine != theirs and (len(mine), len(theirs)) != (1, 1):
        raise UsageError(
            f"{first.label} has ranks {_some(mine)}, {second.label} has {_some(theirs)}: "
            "compare traces of the same ranks, or one rank of each"
        )


def _some(ranks: Sequence[int]) -> str:
    return ", ".join(map(str, ranks[:8])) + (", ..." if len(ranks) > 8 else "")


def _peers_ns(side: Side) -> Sequence[NDArray[np.int64]]:
    if side.waiting is not None:
        return side.waiting
    job = side.job
    return [np.zeros(len(job.programs[role].rows), np.int64) for role in job.placement.role]


def _orders(count: int, pairs: int) -> list[tuple[int, ...]]:
    """Orders of the parts, each before its reverse; the same ones at every call."""
    random = np.random.default_rng(0)
    orders: dict[tuple[int, ...], None] = {}
    for _ in range(pairs):
        order = tuple(random.permutation(count).tolist())
        orders |= dict.fromkeys((order, order[::-1]))
    return list(orders)


def _states(order: Sequence[int]) -> list[State]:
    """From nothing to everything, one part after the other."""
    return [frozenset(order[:count]) for count in range(len(order) + 1)]


def _changes(orders: Sequence[tuple[int, ...]], span_ns: Mapping[State, int]) -> NDArray[np.int64]:
    """(orders, parts): what the span changes when a part is exchanged in an order."""
    changes = np.zeros((len(orders), len(orders[0])), np.int64)
    for number, order in enumerate(orders):
        spans = [span_ns[state] for state in _states(order)]
        changes[number, list(order)] = np.diff(spans)
    return changes


def _rounded(changes: NDArray[np.int64], whole_ns: int) -> list[int]:
    """The mean change of each part in whole ns, so that they add up to the whole."""
    mean = changes.mean(axis=0)
    rounded = np.rint(mean).astype(np.int64)
    if len(rounded):
        rounded[np.argmax(np.abs(mean))] += whole_ns - int(rounded.sum())
    return rounded.tolist()  # type: ignore[no-any-return]


Pair = tuple[int, int]


def _sums(exchange: Exchange, runs: tuple[Timeline, Timeline]) -> list[tuple[Pair, Pair, Pair]]:
    """Of each part, in both jobs: tasks, their own time, their waiting [ns]."""
    sides = []
    states = frozenset[int](), frozenset(range(len(exchange.players)))
    for second, (job, columns) in enumerate(zip(exchange.jobs, exchange.columns, strict=True)):
        wait = exchange.waits(states[second], runs[second], second=bool(second))
        delay = np.concatenate([job.programs[role].rows.delay_ns for role in job.placement.role])
        sides.append(
            [
                _sum(part, number, columns, wait, delay)
                for number, part in enumerate(exchange.players)
            ]
        )
    return [
        ((mine[0], theirs[0]), (mine[1], theirs[1]), (mine[2], theirs[2]))
        for mine, theirs in zip(*sides, strict=True)
    ]


def _sum(
    part: PartName, number: int, columns: Columns, wait: NDArray[np.int64], delay: NDArray[np.int64]
) -> tuple[int, int, int]:
    if part == DELAYS:
        return int((delay != 0).sum()), int(delay.sum()), 0
    if part == WAITING:
        return int((columns.peers_ns != 0).sum()), 0, int(columns.peers_ns.sum())
    rows = columns.alone if part == STRUCTURE else columns.part == number
    return int(rows.sum()), int(columns.own_ns[rows].sum()), int(wait[rows].sum())
