"""The classes whose lags are one value each: by call and by kind of task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lumos.graph.job import Program, TaskKind


def launch_classes(program: Program, rows: NDArray[np.intp]) -> list[str]:
    """`call|KIND` of each device row in `rows`."""
    table = program.rows
    call = table.name[table.launch[rows]]
    kind = table.kind[rows]
    text: dict[tuple[int, int], str] = {}
    for pair in set(zip(call.tolist(), kind.tolist(), strict=True)):
        text[pair] = f"{program.names[pair[0]]}|{TaskKind(pair[1]).name}"
    return [text[pair] for pair in zip(call.tolist(), kind.tolist(), strict=True)]


def kind_classes(kind: NDArray[np.uint8]) -> list[str]:
    """The kind of each row, as text."""
    text = [TaskKind(value).name for value in range(len(TaskKind))]
    return [text[value] for value in kind.tolist()]


def call_names(program: Program, rows: NDArray[np.intp]) -> list[str]:
    """The name of each row."""
    return [program.names[name] for name in program.rows.name[rows].tolist()]


def values_of(table: Mapping[str, int], classes: Sequence[str]) -> NDArray[np.int64]:
    """The value of each class; the median of the table for a class it does not hold."""
    fallback = int(np.median(list(table.values()))) if table else 0
    return np.array([table.get(name, fallback) for name in classes], np.int64)
