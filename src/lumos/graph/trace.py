"""Trace: what one rank recorded, as columns, one row an event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lumos.graph.finding import Finding

MISSING = -1
ALL_STREAMS = -2
"""Stream of a call that concerns the whole context (Kineto writes 4294967295)."""


class EventKind(IntEnum):
    """What an event is, whatever the file called it."""

    OPERATOR = 0
    ANNOTATION = 1
    CALL = 2
    KERNEL = 3
    COPY = 4
    SET = 5
    SYNC = 6
    PYTHON = 7
    DEVICE_ANNOTATION = 8
    OVERHEAD = 9


DEVICE_KINDS = (EventKind.KERNEL, EventKind.COPY, EventKind.SET)


class Argument(IntEnum):
    """Rare arguments of events, kept in a sparse table (row, argument, value)."""

    BYTES = 0
    COLLECTIVE_NAME = 1  # text
    IN_ELEMENTS = 2
    OUT_ELEMENTS = 3
    GROUP_SIZE = 4
    DTYPE = 5  # text
    GROUP_NAME = 6  # text
    GROUP_RANKS = 7  # text
    COLLECTIVE_SEQUENCE = 8
    WAIT_ON_STREAM = 9
    WAIT_ON_RECORD_CORRELATION = 10
    WAIT_ON_EVENT = 11
    GRAPH_ID = 12
    PEER_SOURCE = 13
    PEER_DESTINATION = 14
    WARPS_PER_SM = 15  # of a kernel's whole grid, fraction cut off
    OCCUPANCY_PCT = 16
    REGISTERS_PER_THREAD = 17
    SHARED_MEMORY_BYTES = 18
    BLOCK = 19  # text: threads of a block in three directions
    INPUT_VALUES = 20  # text: an operator's inputs that are no tensors, a list of texts


TEXT_ARGUMENTS = frozenset(
    {
        Argument.COLLECTIVE_NAME,
        Argument.DTYPE,
        Argument.GROUP_NAME,
        Argument.GROUP_RANKS,
        Argument.BLOCK,
        Argument.INPUT_VALUES,
    }
)


class ColumnSpec(NamedTuple):
    """Name, dtype and meaning of one dense column."""

    name: str
    dtype: type[np.generic]
    meaning: str


EVENT_COLUMNS: tuple[ColumnSpec, ...] = (
    ColumnSpec("kind", np.uint8, "EventKind"),
    ColumnSpec("start_ns", np.int64, "absolute start [ns]"),
    ColumnSpec("duration_ns", np.int64, "duration [ns]"),
    ColumnSpec("name", np.int32, "index into strings"),
    ColumnSpec("process", np.int32, "pid as text, index into strings"),
    ColumnSpec("thread", np.int32, "tid as text, index into strings"),
    ColumnSpec("device", np.int32, "device ordinal, MISSING where absent"),
    ColumnSpec("stream", np.int64, "device stream, MISSING or ALL_STREAMS"),
    ColumnSpec("correlation", np.int64, "links a call with its device tasks, MISSING where absent"),
    ColumnSpec("external_id", np.int64, "id of the enclosing operator, MISSING where absent"),
    ColumnSpec("sequence", np.int64, "autograd sequence number, MISSING where absent"),
    ColumnSpec("forward_thread", np.int32, "autograd's id of the forward thread, or MISSING"),
    ColumnSpec("shapes", np.int32, "raw text of the input shapes, index into strings, or MISSING"),
    ColumnSpec("dtypes", np.int32, "raw text of the input types, index into strings, or MISSING"),
)


@dataclass(frozen=True)
class ProcessGroup:
    """One process group of the job: its name, its description (`mesh_dp`, ...) and its ranks."""

    name: str
    description: str
    ranks: tuple[int, ...]


@dataclass(frozen=True)
class StepTimes:
    """How long steps of one rank took: median and scatter of `count` of them [ns]."""

    median_ns: int
    p10_ns: int
    p90_ns: int
    count: int


@dataclass(frozen=True)
class CaptureNotes:
    """What was measured beside a rank's trace, in the same run; None where it was not.

    `unprofiled` steps ran without the profiler, `profiled` ones are those of the trace, by the same
    clock; `inflation_pct` is by how much the latter are longer. Peak memory in bytes: what the
    caching allocator gave out and what it held on the GPU, what the process held on the host.
    """

    unprofiled: StepTimes | None = None
    profiled: StepTimes | None = None
    inflation_pct: float | None = None
    peak_allocated_bytes: int | None = None
    peak_reserved_bytes: int | None = None
    peak_resident_bytes: int | None = None


@dataclass(frozen=True)
class Trace:
    """What one rank recorded.

    `columns` holds one numpy array for each of EVENT_COLUMNS, all of the same length; `strings`
    is the table that the text columns index. The sparse arguments are three parallel arrays:
    `argument_row`, `argument_key` (Argument) and `argument_value` (a number, or an index into
    `strings` for TEXT_ARGUMENTS). Times are int64 ns.
    """

    source: str
    columns: Mapping[str, NDArray[Any]]
    strings: tuple[str, ...]
    argument_row: NDArray[np.int64]
    argument_key: NDArray[np.uint8]
    argument_value: NDArray[np.int64]
    rank: int | None = None
    world_size: int | None = None
    backend: str = ""
    host: str = ""
    gpu: str = ""
    process_groups: tuple[ProcessGroup, ...] = ()
    thread_names: Mapping[tuple[str, str], str] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    capture: CaptureNotes | None = None

    def __len__(self) -> int:
        return len(self.columns["start_ns"])

    def __getattr__(self, name: str) -> NDArray[Any]:
        columns = self.__dict__.get("columns", {})
        if name in columns:
            return columns[name]  # type: ignore[no-any-return]
        raise AttributeError(name)

    def text(self, index: int) -> str:
        """The string at `index`, "" where it is MISSING."""
        return "" if index < 0 else self.strings[index]

    def argument(self, key: Argument) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows that carry `key`, and the values there."""
        chosen = self.argument_key == key
        return self.argument_row[chosen], self.argument_value[chosen]

    def argument_column(self, key: Argument) -> NDArray[np.int64]:
        """`key` as a dense column, MISSING where absent."""
        dense = np.full(len(self), MISSING, np.int64)
        rows, values = self.argument(key)
        dense[rows] = values
        return dense

    def take(self, rows: NDArray[np.intp]) -> Trace:
        """Only these rows, in this order, with their sparse arguments."""
        new_row = np.full(len(self), MISSING, np.int64)
        new_row[rows] = np.arange(len(rows))
        kept = np.flatnonzero(new_row[self.argument_row] != MISSING)
        return replace(
            self,
            columns={name: column[rows] for name, column in self.columns.items()},
            argument_row=new_row[self.argument_row[kept]],
            argument_key=self.argument_key[kept],
            argument_value=self.argument_value[kept],
        )

    def self_check(self) -> None:
        """Raise AssertionError where the columns disagree with each other."""
        for spec in EVENT_COLUMNS:
            column = self.columns[spec.name]
            assert len(column) == len(self), spec.name
            assert column.dtype == spec.dtype, spec.name
        for name in ("name", "process", "thread", "shapes", "dtypes"):
            column = self.columns[name]
            assert not len(column) or (column.min() >= MISSING and column.max() < len(self.strings))
        assert not len(self) or self.columns["duration_ns"].min() >= 0
        assert len(self.argument_row) == len(self.argument_key) == len(self.argument_value)
