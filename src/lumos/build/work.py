"""The work of every device task, from the operator that launched it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lumos.build.collectives import Communication
from lumos.build.combined import combined
from lumos.build.inputs import read_shapes, read_texts
from lumos.build.nesting import Nesting
from lumos.graph.job import NONE, Program, TaskKind
from lumos.graph.trace import MISSING, Argument, EventKind, Trace
from lumos.graph.work import Gemm, Work, WorkKind, kind_of_operator

_TOLD_BY_VALUES = (WorkKind.CONVOLUTION, WorkKind.ATTENTION)
"""Kinds whose work depends on inputs that are no tensors: strides, whether attention is causal."""


@dataclass(frozen=True)
class Works:
    """For each row the number of its work (NONE for host rows) and its part of it; the works."""

    number: NDArray[np.int32]
    share: NDArray[np.float32]
    table: tuple[Work, ...]


def describe_work(
    trace: Trace, nesting: Nesting, program: Program, communications: Sequence[Communication]
) -> Works:
    """The work of each device task; those of equal kind, operator, inputs and bytes have one entry."""
    rows = program.rows
    device = np.flatnonzero(rows.launch != NONE)
    number = np.full(len(rows), NONE, np.int32)
    share = np.zeros(len(rows), np.float32)
    if not len(device):
        return Works(number, share, ())
    launching = rows.event[rows.launch[device]]
    is_operator = trace.kind[launching] == EventKind.OPERATOR
    operator = np.where(is_operator, launching, nesting.parent[launching])
    size = trace.argument_column(Argument.BYTES)[rows.event[device]]
    key = np.stack(
        [
            rows.kind[device].astype(np.int64),
            np.where(operator == NONE, NONE, trace.name[operator]),
            np.where(operator == NONE, NONE, trace.shapes[operator]),
            np.where(operator == NONE, NONE, trace.dtypes[operator]),
            size,
            rows.collective[device].astype(np.int64),
            _values(trace, operator),
        ]
    )
    _, first, number[device] = np.unique(combined(key), return_index=True, return_inverse=True)
    share[device] = shares(rows.kind[device], operator, number[device], rows.duration_ns[device])
    table = tuple(
        _work(trace, communications, *(int(column[place]) for column in key)) for place in first
    )
    return Works(number, share, table)


def shares(
    kind: NDArray[np.uint8],
    operator: NDArray[np.integer],
    work: NDArray[np.integer],
    duration_ns: NDArray[np.int64],
) -> NDArray[np.float64]:
    """The part that each task has in the work of its call of an operator.

    An operator's work is done by all kernels it launches, so it is divided among them by their
    time: their parts add up to one, and all run at one rate. Copies, sets and communication have
    work of their own, and so do tasks of no operator (NONE).
    """
    alone = (kind != TaskKind.KERNEL) | (operator == NONE)
    call = np.where(alone, -2 - np.arange(len(kind)), operator)
    _, group = np.unique(combined(np.stack([call, work])), return_inverse=True)
    tasks, total_ns = np.bincount(group), np.bincount(group, weights=duration_ns)
    even = 1.0 / tasks[group]
    return np.divide(duration_ns, total_ns[group], out=even, where=total_ns[group] > 0)  # type: ignore[no-any-return]


def _values(trace: Trace, operator: NDArray[np.integer]) -> NDArray[np.int64]:
    """The text of the inputs that are no tensors, of operators that need it; else MISSING."""
    names, name = np.unique(
        np.where(operator == NONE, NONE, trace.name[operator]), return_inverse=True
    )
    wanted = [kind_of_operator(trace.text(int(one))) in _TOLD_BY_VALUES for one in names]
    values = trace.argument_column(Argument.INPUT_VALUES)[operator]
    return np.where(np.array(wanted)[name], values, MISSING)


def _work(
    trace: Trace,
    communications: Sequence[Communication],
    kind: int,
    name: int,
    shapes_text: int,
    dtypes_text: int,
    size: int,
    collective: int,
    values_text: int,
) -> Work:
    operator = trace.text(name)
    shapes, dtypes = read_shapes(trace.text(shapes_text)), read_texts(trace.text(dtypes_text))
    moved = None if size == MISSING else size
    if kind == TaskKind.COLLECTIVE:
        one = communications[collective]
        return Work(WorkKind.COLLECTIVE, operator, shapes, dtypes, None, one.in_bytes)
    if kind in (TaskKind.COPY, TaskKind.SET):
        return Work(
            WorkKind.COPY if kind == TaskKind.COPY else WorkKind.SET,
            operator,
            shapes,
            dtypes,
            None,
            moved,
        )
    gemm = read_gemm(operator, shapes)
    values = read_texts(trace.text(values_text))
    return Work(kind_of_operator(operator), operator, shapes, dtypes, gemm, None, values)


def read_gemm(operator: str, shapes: Sequence[tuple[int, ...]]) -> Gemm | None:
    """The matrix product that an operator with these input shapes does, None where it is none."""
    bare = operator.removeprefix("aten::")
    first = {"addmm": 1, "baddbmm": 1, "addbmm": 1}.get(bare, 0)
    if bare not in ("mm", "bmm", "matmul", "linear", "addmm", "baddbmm", "addbmm", "_scaled_mm"):
        return None
    operands = shapes[first : first + 2]
    if len(operands) < 2 or min(len(operands[0]), len(operands[1])) < 2:
        return None
    left, right = operands
    if bare == "linear":  # the weight is stored (out, in)
        right = (right[1], right[0])
    if left[-1] != right[-2]:
        return None
    batch = int(np.prod(left[:-2])) if len(right) > 2 else 1
    m = left[-2] if len(right) > 2 else int(np.prod(left[:-1]))
    return Gemm(batch, m, right[-1], left[-1])
