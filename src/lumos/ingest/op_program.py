"""The program of one rank of an operation-level trace: around each operation what makes it wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumos.graph.job import (
    NONE,
    Collective,
    CollectiveKind,
    Processor,
    Program,
    Provenance,
    Rows,
    StartingState,
    TaskKind,
)
from lumos.graph.timeline import RankTimeline
from lumos.graph.trace import ProcessGroup
from lumos.graph.work import Phase, Work, WorkKind
from lumos.ingest.op_order import awaited_before, awaited_operations, served_by_messages
from lumos.ingest.op_types import BACKWARD, FORWARD, OPERATION_TYPES, STREAMS, OperationType
from lumos.ingest.operations import Operations, Sizes

Places = NDArray[np.int64]
HOST = "host"


@dataclass(frozen=True)
class Steps:
    """The steps of a trace in ascending order: their numbers, begins and lengths [ns]."""

    number: Places
    begin_ns: Places
    length_ns: Places


class Part(IntEnum):
    """What a row does for its operation, in host order."""

    WAIT = 0
    LAUNCH = 1
    OPERATION = 2
    RECORD = 3


_OWN_NAMES = ("(wait)", "(launch)", "(record)")
_NAME_OF_PART = np.array([0, 1, NONE, 2])
_KIND_OF_PART = np.array(
    [TaskKind.WAIT_EVENT, TaskKind.LAUNCH, TaskKind.KERNEL, TaskKind.RECORD], np.uint8
)


@dataclass(frozen=True)
class _Table:
    """One entry a row: its operation, its part, what it awaits or records (NONE).

    A slot is the operation recorded, but `updated` for the optimizer of each step: the next step's
    parameters are gathered from what it wrote.
    """

    operation: Places
    part: Places
    slot: Places
    updated: int


def program_of(
    own: Operations, steps: Steps, groups: Sequence[ProcessGroup], sizes: Sizes
) -> tuple[Program, RankTimeline]:
    """The program of one rank, whose operations are `own`, and its measured run."""
    step = np.searchsorted(steps.number, own.step)
    table = _table(own, step, sizes)
    types = [OPERATION_TYPES[name] for name in own.types]
    collectives, collective_of_type = _collectives(own, groups)
    program = Program(
        _rows(own, step, table, types, collective_of_type, _micro_batches(own, sizes)),
        (*own.types, *_OWN_NAMES),
        (Processor(False, HOST), *(Processor(True, one, 0, n) for n, one in enumerate(STREAMS))),
        tuple(str(number) for number in steps.number.tolist()),
        collectives,
        StartingState(np.zeros(1 + len(STREAMS), np.int64), {table.updated: 0}),
        provenance=Provenance("step", tuple(steps.length_ns.tolist())),
        works=tuple(_work(name, one) for name, one in zip(own.types, types, strict=True)),
    )
    runs = table.part == Part.OPERATION
    begin = steps.begin_ns[step[table.operation]]
    start = begin + np.where(runs, own.start_ns[table.operation], 0)
    end = begin + np.where(runs, own.end_ns[table.operation], 0)
    return program, RankTimeline(start, end, np.zeros(len(start), np.int64))


def _table(own: Operations, step: Places, sizes: Sizes) -> _Table:
    waiting, awaited = awaited_operations(own, step, sizes)
    first, updating = awaited_before(own, step)
    every, recorded, updated = np.arange(len(own)), np.unique(awaited), len(own)
    nothing = np.full(len(own), NONE)
    operation = np.concatenate([waiting, first, every, every, recorded, updating])
    slot = np.concatenate(
        [awaited, 0 * first + updated, nothing, nothing, recorded, 0 * updating + updated]
    )
    part = np.repeat(
        [*Part], [len(waiting) + len(first), len(own), len(own), len(recorded) + len(updating)]
    )
    order = np.lexsort((slot, part, operation))
    return _Table(operation[order], part[order], slot[order], updated)


def _rows(
    own: Operations,
    step: Places,
    table: _Table,
    types: Sequence[OperationType],
    collective_of_type: Places,
    micro_batch: Places,
) -> Rows:
    of, part, slot = table.operation, table.part, table.slot
    runs, launches = part == Part.OPERATION, np.flatnonzero(part == Part.LAUNCH)
    kind, called = own.type[of], np.array([1 + STREAMS.index(one.stream) for one in types])
    communicates = runs & (collective_of_type[kind] != NONE)

    def of_operation(values: NDArray[Any], dtype: type[Any]) -> NDArray[Any]:
        return np.where(runs, values, NONE).astype(dtype)

    count = len(of)
    return Rows(
        kind=np.where(communicates, np.uint8(TaskKind.COLLECTIVE), _KIND_OF_PART[part]),
        name=np.where(runs, kind, len(own.types) + _NAME_OF_PART[part]).astype(np.int32),
        processor=np.where(runs, called[kind], 0).astype(np.int32),
        duration_ns=np.where(runs, (own.end_ns - own.start_ns)[of], 0),
        delay_ns=np.zeros(count, np.int64),
        launch=of_operation(launches[of], np.int32),
        stream=np.where(slot != NONE, called[kind], NONE).astype(np.int32),
        signal=np.where(part == Part.RECORD, slot, NONE).astype(np.int32),
        awaits=np.where(part == Part.WAIT, slot, NONE).astype(np.int32),
        distance=((part == Part.WAIT) & (slot == table.updated)).astype(np.int32),
        block=step[of].astype(np.int32),
        collective=of_operation(collective_of_type[kind], np.int32),
        event=of_operation(own.row[of], np.int64),
        frozen=np.zeros(count, bool),
        waves=np.zeros(count, np.float32),
        work=of_operation(kind, np.int32),
        work_share=np.ones(count, np.float32),
        phase=np.where(runs, np.array([one.phase for one in types])[kind], 0).astype(np.uint8),
        layer=np.full(count, NONE, np.int16),
        micro_batch=of_operation(micro_batch[of], np.int16),
    )


def _micro_batches(own: Operations, sizes: Sizes) -> Places:
    """The micro-batch of each compute, and of the messages before and behind it."""
    computes = np.array([name.endswith("-compute") for name in own.types], bool)[own.type]
    found = np.where(computes, own.micro_batch, NONE)
    for messages, served in served_by_messages(own, sizes):
        found[messages] = found[served]
    return found


def _collectives(
    own: Operations, groups: Sequence[ProcessGroup]
) -> tuple[tuple[Collective, ...], Places]:
    """The communications of one rank, one a type, and the entry of each type (NONE: computes)."""
    rank = int(own.rank[0])
    found: list[Collective] = []
    entry = np.full(len(own.types), NONE)
    for place, name in enumerate(own.types):
        one = OPERATION_TYPES[name]
        if one.communication is None:
            continue
        entry[place] = len(found)
        mine = (n for n, g in enumerate(groups) if g.description == one.group and rank in g.ranks)
        group = next(mine, NONE)
        peer = NONE
        if one.group in {FORWARD, BACKWARD}:
            onward = (one.group == FORWARD) == (one.communication is CollectiveKind.SEND)
            members = groups[group].ranks
            peer = members[(members.index(rank) + (1 if onward else -1)) % len(members)]
        found.append(Collective(one.communication, group, peer=peer, synchronous=peer != NONE))
    return tuple(found), entry


def _work(name: str, one: OperationType) -> Work:
    if one.communication is not None:
        return Work(WorkKind.COLLECTIVE, name)
    return Work(WorkKind.OPTIMIZER if one.phase == Phase.OPTIMIZER else WorkKind.OTHER, name)
