"""The parts into which two aligned programs are taken apart, and the part of every row."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lumos.analysis.alignment import Alignment
from lumos.graph.job import NONE, Program, TaskKind
from lumos.graph.labels import By, host_computes, labels


class Kind(Enum):
    """What a part of a difference is."""

    COMPUTE = "compute"  # durations of device tasks, of operators where the host computes
    TRANSFER = "transfer"  # durations of communication, waiting taken out
    HOST = "host"  # durations of operators, calls and gaps on the host
    WAITING = "waiting_for_peers"  # on ranks that neither job holds
    STRUCTURE = "structure"  # rows that only one of the programs has, and the order of all
    ORDER = "order"  # of the same rows: in which order, on which of the queues, by what pauses cut
    LAGS = "lags"  # launch latencies and the like
    START = "start"  # what was under way when the run began
    DELAYS = "delays"  # recorded delays of device tasks that no rule explains
    NOT_REPLAYED = "not_replayed"  # measured, and not reproduced by either replay


class PartName(NamedTuple):
    """A part: its kind, what it is called, and its layer where rows of one layer make it."""

    kind: Kind
    label: str
    layer: int | None = None


WAITING = PartName(Kind.WAITING, "waiting for peers")
STRUCTURE = PartName(Kind.STRUCTURE, "program structure")
ORDER = PartName(Kind.ORDER, "order and queues")
LAGS = PartName(Kind.LAGS, "launch and other lags")
START = PartName(Kind.START, "under way at the start")
DELAYS = PartName(Kind.DELAYS, "unexplained delays")
NOT_REPLAYED = PartName(Kind.NOT_REPLAYED, "not reproduced by the replay")


_ROW_KINDS = (Kind.COMPUTE, Kind.TRANSFER, Kind.HOST)
_HOST_WORDS = ("operators", "gaps", "runtime calls")
_LAYERS = 2**16


def parts_of(
    programs: list[list[Program]], alignments: Sequence[Alignment]
) -> tuple[list[PartName], tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]]:
    """Names of the parts of durations, and for both jobs the part of each rank's rows.

    A pair of rows is in the part of the first one.
    """
    numbers: dict[PartName, int] = {}
    both: tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]] = [], []
    for mine, theirs, alignment in zip(*programs, alignments, strict=True):
        named = [_named(program, numbers) for program in (mine, theirs)]
        first = np.full(len(mine.rows), NONE, np.int64)
        second = np.full(len(theirs.rows), NONE, np.int64)
        first[alignment.first] = named[0][alignment.first]
        second[alignment.second] = named[0][alignment.first]
        for part, own, program in ((first, named[0], mine), (second, named[1], theirs)):
            passing = _passing(program, part != NONE)
            part[passing] = own[passing]
        both[0].append(first)
        both[1].append(second)
    return list(numbers), both


def _named(program: Program, numbers: dict[PartName, int]) -> NDArray[np.int64]:
    """The part of each row; new names are given numbers."""
    rows, classes = program.rows, labels(program, By.CLASS)
    computes = rows.on_device & (rows.kind != TaskKind.COLLECTIVE)
    if host_computes(program):
        computes |= rows.kind == TaskKind.OPERATOR
    kind = np.full(len(rows), 2, np.int64)
    kind[computes] = 0
    kind[rows.kind == TaskKind.COLLECTIVE] = 1
    host_word = np.full(len(TaskKind), 2, np.int64)
    host_word[[TaskKind.OPERATOR, TaskKind.GAP]] = 0, 1
    word = np.where(kind == 2, host_word[rows.kind], classes.number)
    layer = np.where(computes, rows.layer.astype(np.int64), NONE)
    code = (kind * (len(classes.texts) + 3) + word) * _LAYERS + layer + 1
    part = np.empty(len(rows), np.int64)
    for one in np.unique(code).tolist():
        which, place = divmod(one // _LAYERS, len(classes.texts) + 3)
        text = _HOST_WORDS[place] if which == 2 else classes.texts[place]
        number = one % _LAYERS - 1
        name = PartName(_ROW_KINDS[which], text, None if number == NONE else number)
        part[code == one] = numbers.setdefault(name, len(numbers))
    return part


def _passing(program: Program, matched: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Rows without a partner that are no other program: they took no time in the other run.

    Those are pauses that wait for nothing, and pieces of operators and calls of which another piece
    has a partner.
    """
    rows = program.rows
    known = matched & (rows.event != NONE)
    cut = (rows.kind == TaskKind.OPERATOR) | (rows.kind == TaskKind.CALL)
    piece = cut & np.isin(rows.event, rows.event[known])
    pause = (rows.kind == TaskKind.GAP) & (rows.awaits == NONE)
    return ~matched & (piece | pause)
