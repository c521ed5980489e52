"""Job: what the program does - role programs, and a placement of ranks on them.

A role program holds one row a task, in host order. Host rows (parts of operators, gaps, calls)
stand in the order in which the host runs them; a device row stands behind the call that launched
it. Rows name each other by local ids only, so that a block of rows can be taken, repeated and
spliced; what must wait for what is derived from the rows when the Job is lowered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum, IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumos.graph.finding import Finding
from lumos.graph.trace import ProcessGroup
from lumos.graph.work import Work

NONE = -1
WHOLE_DEVICE = -2
"""Stream of a synchronising call that waits for everything its device was given."""


class TaskKind(IntEnum):
    """What a row does. Host kinds come first."""

    OPERATOR = 0  # a piece of an operator's own time
    GAP = 1  # time between operators: Python, the data loader, another thread's turn
    CALL = 2  # a runtime call that neither launches nor waits
    LAUNCH = 3  # a call that gives the device tasks
    RECORD = 4  # an event is recorded on a stream
    WAIT_EVENT = 5  # a stream is told to wait for an event; the host goes on
    SYNCHRONIZE = 6  # the host waits for an event, a stream or the whole device
    SIGNAL = 7  # the point of a host thread for which another thread waits
    KERNEL = 8
    COPY = 9
    SET = 10
    COLLECTIVE = 11  # communication on a device stream, or a host span that plays one


DEVICE_TASKS = (TaskKind.KERNEL, TaskKind.COPY, TaskKind.SET, TaskKind.COLLECTIVE)
FIRST_DEVICE_KIND = TaskKind.KERNEL


@dataclass(frozen=True)
class Rows:
    """Columns of a role program; all arrays have one entry a row.

    `launch`, `signal`, `awaits` and `collective` are local ids; NONE where a row has none.
    """

    kind: NDArray[np.uint8]
    name: NDArray[np.int32]  # index into Program.names
    processor: NDArray[np.int32]  # index into Program.processors
    duration_ns: NDArray[np.int64]  # recorded; after fit: own, waits removed
    delay_ns: NDArray[np.int64]  # of a device row: the delay that no rule explains (fit)
    launch: NDArray[np.int32]  # of a device row: the row of the call that launched it
    stream: NDArray[np.int32]  # of RECORD, WAIT_EVENT, SYNCHRONIZE: the processor concerned
    signal: NDArray[np.int32]  # slot that the row signals (RECORD, SIGNAL)
    awaits: NDArray[np.int32]  # slot that the row awaits
    distance: NDArray[np.int32]  # how many blocks back the awaited slot was signalled
    block: NDArray[np.int32]  # which block (step) the row belongs to
    collective: NDArray[np.int32]  # index into Program.collectives
    event: NDArray[np.int64]  # row of the trace it comes from, NONE for rows of our own making
    frozen: NDArray[np.bool_]  # host time between operators that no rule explains
    waves: NDArray[np.float32]  # how many times over a kernel fills its GPU; 0 where unknown
    work: NDArray[np.int32]  # of a device row: index into Program.works
    work_share: NDArray[np.float32]  # of a device row: its part of that work (build.work)
    phase: NDArray[np.uint8]  # Phase; UNKNOWN where nothing tells
    layer: NDArray[np.int16]  # NONE where nothing tells
    micro_batch: NDArray[np.int16]  # NONE where nothing tells

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def on_device(self) -> NDArray[np.bool_]:
        """Which rows run on a stream."""
        return self.launch != NONE

    def take(self, index: NDArray[np.intp] | slice) -> Rows:
        """The rows at `index`, columns only: local ids are not renumbered."""
        return Rows(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def with_columns(self, **columns: NDArray[Any]) -> Rows:
        """The same rows with some columns replaced."""
        return replace(self, **columns)


@dataclass(frozen=True)
class Processor:
    """A host thread or a device stream of one rank."""

    is_stream: bool
    label: str
    device: int = NONE
    stream: int = NONE


class CollectiveKind(IntEnum):
    """Kinds of communication, whatever the library calls them."""

    ALL_REDUCE = 0
    ALL_GATHER = 1
    REDUCE_SCATTER = 2
    ALL_TO_ALL = 3
    BROADCAST = 4
    REDUCE = 5
    SEND = 6
    RECEIVE = 7
    SEND_RECEIVE = 8  # several sends and receives in one kernel
    BARRIER = 9
    GATHER = 10
    SCATTER = 11
    UNKNOWN = 12


ALL_MEMBERS_WAIT = frozenset(
    {
        CollectiveKind.ALL_REDUCE,
        CollectiveKind.ALL_GATHER,
        CollectiveKind.REDUCE_SCATTER,
        CollectiveKind.ALL_TO_ALL,
        CollectiveKind.BARRIER,
    }
)
"""Kinds whose data starts to move when the last member is there, and that end together."""
POINT_TO_POINT = (CollectiveKind.SEND, CollectiveKind.RECEIVE)
"""Kinds that are one end of a message; each is the other's other end."""


@dataclass(frozen=True)
class Collective:
    """One communication task: its kind, its group and what it moves.

    `group` is an index into Placement.groups, NONE where the trace does not tell; `in_bytes` and
    `out_bytes` are None where unknown. A `synchronous` send waits for its receiver, as large
    messages do. Its sequence number is derived when the Job is lowered.
    """

    kind: CollectiveKind
    group: int
    in_bytes: int | None = None
    out_bytes: int | None = None
    dtype: str = ""
    peer: int = NONE
    synchronous: bool = False


@dataclass(frozen=True)
class StartingState:
    """What was under way when the first block began.

    `free_ns[p]` is when processor `p` had done what it was given earlier, `slot_ns[slot]` when a
    slot that is awaited from an earlier block was signalled; both from the block's start on [ns].
    """

    free_ns: NDArray[np.int64]
    slot_ns: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Provenance:
    """How a program was told from its trace.

    `steps` says what marked the steps, `step_ns` how long each lasted on the host; `waits` counts the stream waits by the evidence for what
    they mean, `waits_total` all stream-wait calls, those without any effect included.
    """

    steps: str = ""
    step_ns: tuple[int, ...] = ()
    waits: Mapping[str, int] = field(default_factory=dict)
    waits_total: int = 0


@dataclass(frozen=True)
class Program:
    """What one kind of rank does: rows, and the tables they index."""

    rows: Rows
    names: tuple[str, ...]
    processors: tuple[Processor, ...]
    blocks: tuple[str, ...]
    collectives: tuple[Collective, ...] = ()
    start: StartingState | None = None
    main_thread: int = 0  # index into processors: the thread that runs the steps
    provenance: Provenance = Provenance()
    works: tuple[Work, ...] = ()

    def self_check(self) -> None:
        """Raise AssertionError where a row names something that is not there."""
        rows, count = self.rows, len(self.rows)
        device = rows.kind >= FIRST_DEVICE_KIND
        launched = rows.launch != NONE
        assert (rows.launch[launched] < np.flatnonzero(launched)).all(), "launch comes first"
        assert not launched[~device].any(), "only device rows are launched"
        assert not count or rows.processor.max() < len(self.processors)
        assert not count or rows.name.max() < len(self.names)
        assert not count or rows.collective.max() < len(self.collectives)
        assert not count or (np.diff(rows.block) >= 0).all(), "blocks come one after another"
        assert not count or rows.duration_ns.min() >= 0


@dataclass(frozen=True)
class Placement:
    """Which rank plays which role, the process groups, the hardware."""

    ranks: tuple[int, ...]
    role: tuple[int, ...]  # of each rank in `ranks`, index into Job.programs
    world_size: int
    groups: tuple[ProcessGroup, ...] = ()
    gpu: str = ""


@dataclass(frozen=True)
class Lags:
    """One value [ns] for each API or kernel class of a job's GPU - never one for each edge."""

    launch: Mapping[str, int] = field(default_factory=dict)  # call name|task kind
    stream_order: Mapping[str, int] = field(default_factory=dict)  # task kind
    event_wait: int = 0
    synchronize: Mapping[str, int] = field(default_factory=dict)  # call name
    hand_off: int = 0
    back_pressure_depth: int = (
        0  # launches outstanding on a stream at which a launch blocks; 0: never
    )


class Grain(Enum):
    """What a device row is."""

    KERNEL = "kernel"
    OPERATION = "operation"  # what a stage does with a micro-batch, a whole communication


@dataclass(frozen=True)
class Job:
    """Role programs and their placement; immutable, changed only by making a new one."""

    programs: tuple[Program, ...]
    placement: Placement
    lags: Lags = Lags()
    findings: tuple[Finding, ...] = ()
    grain: Grain = Grain.KERNEL

    def self_check(self) -> None:
        """Check every program and that each rank has a role."""
        assert len(self.placement.ranks) == len(self.placement.role)
        assert all(0 <= role < len(self.programs) for role in self.placement.role)
        for program in self.programs:
            program.self_check()
