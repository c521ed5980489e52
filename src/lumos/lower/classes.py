"""The classes whose lags are one value each: by call and by kind of task.

Rows name their class by number, an index into a short list of texts, so that millions of rows
cost one look-up each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lumos.graph.job import Program, TaskKind

KINDS = tuple(kind.name for kind in TaskKind)


@dataclass(frozen=True)
class Classes:
    """The class of each of some rows: `texts[number[i]]`."""

    number: NDArray[np.integer]
    texts: Sequence[str]


def launch_classes(program: Program, rows: NDArray[np.intp]) -> Classes:
    """`call|KIND` of each device row in `rows`."""
    table = program.rows
    pair = table.name[table.launch[rows]].astype(np.int64) * len(KINDS) + table.kind[rows]
    seen = np.flatnonzero(np.bincount(pair))
    texts = [
        f"{program.names[one // len(KINDS)]}|{KINDS[one % len(KINDS)]}" for one in seen.tolist()
    ]
    short = np.zeros(int(seen.max(initial=0)) + 1, np.int32)
    short[seen] = np.arange(len(seen))
    return Classes(short[pair], texts)


def kind_classes(kind: NDArray[np.uint8]) -> Classes:
    """The kind of each row."""
    return Classes(kind, KINDS)


def call_names(program: Program, rows: NDArray[np.intp]) -> Classes:
    """The name of each row."""
    return Classes(program.rows.name[rows], program.names)


def values_of(table: Mapping[str, int], classes: Classes) -> NDArray[np.int64]:
    """The value of each row's class; the median of the table for a class it does not hold."""
    fallback = int(np.median(list(table.values()))) if table else 0
    values = np.array([table.get(text, fallback) for text in classes.texts], np.int64)
    return values[classes.number]  # type: ignore[no-any-return]
