"""What a row is counted under: its class, operator, kernel, stream, layer or phase.

Every analysis that sums by something, and every change that picks rows by something, takes its
names from here, so that a name in one table finds the same rows in another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from lumos.graph.job import NONE, Program, TaskKind
from lumos.graph.work import Phase, WorkKind, kind_of_kernel, kind_of_operator

HOST = "host"
"""The class of host rows beside a GPU: operators, calls and gaps."""
OTHER_WORK = "other_work"
"""The class of WorkKind.OTHER; by itself "other" is the idle part of a breakdown."""


class By(Enum):
    """What rows can be counted by."""

    CLASS = "class"  # gemm, attention, ..., copy; all_reduce, ...; host
    OPERATOR = "operator"  # the innermost operator around a launch; of a host row its own
    KERNEL = "kernel"  # the name of the row itself
    STREAM = "stream"  # the host thread or device stream
    LAYER = "layer"
    PHASE = "phase"


@dataclass(frozen=True)
class Labels:
    """The label of each row of a program: `texts[number[row]]`, none where the number is NONE."""

    number: NDArray[np.int32]
    texts: tuple[str, ...]

    def rows_of(self, text: str) -> NDArray[np.bool_]:
        """Which rows go by this label."""
        return self.number == (self.texts.index(text) if text in self.texts else len(self.texts))


def labels(program: Program, by: By) -> Labels:
    """What each row of `program` is called when rows are counted by `by`.

    A kernel whose operator tells no class (torch.compile, CUDA graphs) has that of its own name. A
    job whose hosts compute (its streams only communicate) has its operators in the classes of
    their families; beside a GPU every host row is of the class `host`.
    """
    return _LABELS[by](program)


def host_computes(program: Program) -> bool:
    """Whether the work of this program is done by its host: no device task but communication.

    A GPU that only communicates, or does nothing in a step, makes no computer of its host.
    """
    rows = program.rows
    computes = rows.on_device & (rows.kind != TaskKind.COLLECTIVE)
    return not computes.any() and all(one.device < 0 for one in program.processors)


def _class(program: Program) -> Labels:
    rows = program.rows
    words = [HOST, OTHER_WORK, *(kind.name.lower() for kind in list(WorkKind)[1:])]
    first_collective = len(words)
    words += [one.kind.name.lower() for one in program.collectives]
    number = np.zeros(len(rows), np.int32)
    if host_computes(program):
        family = [1 + int(kind_of_operator(name)) for name in program.names]
        computes = rows.kind == TaskKind.OPERATOR
        number[computes] = np.array(family or [0], np.int32)[rows.name[computes]]
    device = rows.on_device
    kinds = np.array([1 + int(work.kind) for work in program.works] or [1], np.int32)
    untold = np.full(len(TaskKind), 1 + int(WorkKind.OTHER), np.int32)
    untold[[TaskKind.COPY, TaskKind.SET]] = 1 + int(WorkKind.COPY), 1 + int(WorkKind.SET)
    number[device] = np.where(
        rows.work[device] == NONE, untold[rows.kind[device]], kinds[rows.work[device]]
    )
    other = np.flatnonzero((number == 1 + int(WorkKind.OTHER)) & (rows.kind == TaskKind.KERNEL))
    names, own = np.unique(rows.name[other], return_inverse=True)
    of_name = [1 + int(kind_of_kernel(program.names[name])) for name in names.tolist()]
    number[other] = np.array(of_name, np.int32)[own]
    communicates = rows.kind == TaskKind.COLLECTIVE
    collective = rows.collective[communicates]
    number[communicates] = np.where(
        collective == NONE, 1 + int(WorkKind.COLLECTIVE), first_collective + collective
    )
    return _merged(number, words)


def _operator(program: Program) -> Labels:
    rows = program.rows
    operators = [work.operator for work in program.works]
    texts = [*program.names, *operators]
    told = rows.on_device & (rows.work != NONE)
    told[told] = np.array([bool(text) for text in operators] or [False])[rows.work[told]]
    return _merged(np.where(told, len(program.names) + rows.work, rows.name), texts)


def _kernel(program: Program) -> Labels:
    return _merged(program.rows.name, program.names)


def _stream(program: Program) -> Labels:
    return _merged(program.rows.processor, [one.label for one in program.processors])


def _layer(program: Program) -> Labels:
    layer = program.rows.layer
    return _merged(layer, [f"layer {number}" for number in range(int(layer.max(initial=-1)) + 1)])


def _phase(program: Program) -> Labels:
    known = program.rows.phase.astype(np.int32) - 1  # UNKNOWN becomes NONE
    return _merged(known, [phase.name.lower() for phase in list(Phase)[1:]])


def _merged(number: NDArray[np.integer], texts: Sequence[str]) -> Labels:
    """Labels of distinct texts that occur, in the order in which they first stand in `texts`."""
    used = np.zeros(len(texts) + 1, bool)
    used[number] = True  # NONE marks the last place
    place: dict[str, int] = {}
    new = np.full(len(texts) + 1, NONE, np.int32)
    for old, text in enumerate(texts):
        if used[old]:
            new[old] = place.setdefault(text, len(place))
    return Labels(new[number], tuple(place))


_LABELS: dict[By, Callable[[Program], Labels]] = {
    By.CLASS: _class,
    By.OPERATOR: _operator,
    By.KERNEL: _kernel,
    By.STREAM: _stream,
    By.LAYER: _layer,
    By.PHASE: _phase,
}
