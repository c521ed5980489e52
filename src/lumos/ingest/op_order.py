"""Which operation of a rank awaits which, and which steps of a trace hold all that belongs together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lumos.graph.job import NONE, CollectiveKind
from lumos.graph.trace import ProcessGroup
from lumos.ingest.op_types import COLLECTIVES, COMPUTE, FORWARD, OPERATION_TYPES
from lumos.ingest.operations import Operations, Sizes

Places = NDArray[np.int64]
Chosen = NDArray[np.bool_]
WAYS = ("forward", "backward")


def awaited_operations(own: Operations, step: Places, sizes: Sizes) -> tuple[Places, Places]:
    """(waiting, awaited): the waits between streams among one rank's operations in whole steps.

    `step` numbers the step of each operation; operations are sorted by step and start.
    """
    found = []
    for way in WAYS:
        (receives, fed), (sends, carried) = _messages(own, way, sizes)
        again = step[receives[1:]] == step[receives[:-1]]
        found += [
            (fed, receives),
            (sends, carried),
            (receives[1:][again], fed[:-1][again]),  # posted when what the last one fed is done
        ]
    gathers, scatters = _called(own, "params-all-gather"), _called(own, "grads-reduce-scatter")
    forward, backward = _called(own, "forward-compute"), _called(own, "backward-compute")
    for chunk in np.unique(own.chunk[gathers | scatters]):
        collective, compute = own.chunk == chunk, (own.chunk == chunk) | (chunk < 0)
        found.append(_in_each_step(forward & compute, gathers & collective, step))
        found.append(_in_each_step(scatters & collective, backward & compute, step))
    optimizer = _called(own, "optimizer")
    computes, collectives = _on_stream(own, COMPUTE) & ~optimizer, _on_stream(own, COLLECTIVES)
    found.append(_in_each_step(collectives & ~gathers & ~scatters, computes, step))
    found.append(_in_each_step(optimizer, collectives & ~gathers, step))
    waiting, awaited = (np.concatenate(side) for side in zip(*found, strict=True))
    return waiting, awaited


def awaited_before(own: Operations, step: Places) -> tuple[Places, Places]:
    """The first gathering of parameters in each step, and the optimizer of each step.

    Parameters are gathered when the optimizer of the step before has updated them.
    """
    updates = np.flatnonzero(_called(own, "optimizer"))
    gathers = np.flatnonzero(_called(own, "params-all-gather"))
    last = updates[np.append(np.diff(step[updates]) > 0, np.ones(len(updates[-1:]), bool))]
    first = gathers[np.append(np.ones(len(gathers[:1]), bool), np.diff(step[gathers]) > 0)]
    return first[np.isin(step[first] - 1, [NONE, *step[last].tolist()])], last


def whole_steps(
    operations: Operations, sizes: Sizes, groups: Sequence[ProcessGroup]
) -> tuple[Operations, list[str]]:
    """The operations of the steps that are whole, and for each other step what it lacks.

    Whole: each receive feeds a compute and is sent by somebody, each send carries a compute, all
    members of a group ran its collectives equally often.
    """
    steps, step = np.unique(operations.step, return_inverse=True)
    ranks, place = np.unique(operations.rank, return_inverse=True)

    def count(chosen: Chosen) -> Places:
        """(steps, ranks): how many of the chosen operations each rank ran in each step."""
        cell = step[chosen] * len(ranks) + place[chosen]
        return np.bincount(cell, minlength=len(steps) * len(ranks)).reshape(len(steps), len(ranks))

    lacks: dict[int, str] = {}

    def expect(good: Chosen, members: Places, words: str) -> None:
        for bad, member in np.argwhere(~good).tolist():
            lacks.setdefault(bad, f"step {steps[bad]}: rank {ranks[members[member]]} {words}")

    everybody = np.arange(len(ranks))
    expect(count(np.ones(len(step), bool)) > 0, everybody, "is missing")
    for way in WAYS:
        for what, served in zip(("recv", "send"), _served(operations, way, sizes), strict=True):
            good = count(_called(operations, f"{way}-{what}")) == count(served)
            expect(
                good, everybody, f"ran not one {way}-{what} for each {way}-compute that needs it"
            )
    for group in groups:
        members = np.searchsorted(ranks, group.ranks)
        for name in operations.types:
            one = OPERATION_TYPES[name]
            if one.group != group.description:
                continue
            mine = count(_called(operations, name))[:, members]
            theirs = mine[:, :1]
            if one.communication is CollectiveKind.SEND:
                receives = _called(operations, name.replace("send", "recv"))
                ahead = -1 if one.group == FORWARD else 1
                theirs = np.roll(count(receives)[:, members], ahead, axis=1)
            elif one.communication is CollectiveKind.RECEIVE:
                continue
            expect(mine == theirs, members, f"and its group ran {name} unequally often")
    return operations.take(~np.isin(step, list(lacks))), [lacks[bad] for bad in sorted(lacks)]


def served_by_messages(own: Operations, sizes: Sizes) -> list[tuple[Places, Places]]:
    """Receives with the computes they feed, sends with those they carry; one rank's, whole steps."""
    return [pair for way in WAYS for pair in _messages(own, way, sizes)]


def _messages(own: Operations, way: str, sizes: Sizes) -> list[tuple[Places, Places]]:
    """The k-th receive feeds the k-th compute that needs one; sends likewise."""
    return [
        (np.flatnonzero(_called(own, f"{way}-{what}")), np.flatnonzero(served))
        for what, served in zip(("recv", "send"), _served(own, way, sizes), strict=True)
    ]


def _called(operations: Operations, name: str) -> Chosen:
    known = operations.types.index(name) if name in operations.types else len(operations.types)
    return operations.type == known  # type: ignore[no-any-return]


def _on_stream(operations: Operations, stream: str) -> Chosen:
    of_type = np.array([OPERATION_TYPES[name].stream == stream for name in operations.types], bool)
    return of_type[operations.type]


def _served(operations: Operations, way: str, sizes: Sizes) -> tuple[Chosen, Chosen]:
    """Which computes need a receive before them, and which a send behind them: all but the ends."""
    last = sizes.pipeline * sizes.chunks - 1
    behind, ahead = operations.model_chunk > 0, operations.model_chunk < last
    fed, carried = (behind, ahead) if way == "forward" else (ahead, behind)
    computes = _called(operations, f"{way}-compute")
    return computes & fed, computes & carried


def _in_each_step(waiting: Chosen, awaited: Chosen, step: Places) -> tuple[Places, Places]:
    """The first waiting operation of each step with the last awaited one of that step."""
    ours, theirs = np.flatnonzero(waiting), np.flatnonzero(awaited)[::-1]
    _, first, last = np.intersect1d(step[ours], step[theirs], return_indices=True)
    return ours[first], theirs[last]
