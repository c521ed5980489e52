"""Small jobs as a hand draws them: a few lines a test, names instead of numbers.

    drawn = Drawing(launch=2, stream_order=1)
    rank = drawn.rank()
    main, s1 = rank.thread("main"), rank.stream(1)
    main.work("a", 10)
    main.launch(s1, "k", 100)
    run = drawn.run()
    assert run["k"] == (12, 112)

Rows stand in the order in which the test writes them: that is host order. Nothing of lumos.build is
used; the result is checked before it is handed out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lumos.graph.execution import ExecutionGraph, Rule
from lumos.graph.job import (
    NONE,
    WHOLE_DEVICE,
    Collective,
    CollectiveKind,
    Job,
    Lags,
    Placement,
    Processor,
    Program,
    Rows,
    StartingState,
    TaskKind,
)
from lumos.graph.timeline import Timeline
from lumos.graph.trace import ProcessGroup
from lumos.graph.work import Phase
from lumos.lower import lower
from lumos.simulate import simulate

LAUNCH_CALL = "cudaLaunchKernel"
_TYPES = {
    name: np.dtype(str(field.type).partition("np.")[2].rstrip("]"))
    for name, field in Rows.__dataclass_fields__.items()
}
Lag = int | Mapping[str, int]


class Drawing:
    """A job that grows call by call; a lag is one number for all classes, or a table by class."""

    def __init__(
        self,
        *,
        launch: Lag = 0,
        stream_order: Lag = 0,
        event_wait: int = 0,
        synchronize: Lag = 0,
        hand_off: int = 0,
        depth: int = 0,
    ) -> None:
        self.lags = (launch, stream_order, event_wait, synchronize, hand_off, depth)
        self.ranks: list[Rank] = []
        self.groups: dict[str, tuple[int, ...]] = {}

    def rank(self) -> Rank:
        """A new rank; ranks are numbered 0, 1, ... as they are drawn."""
        self.ranks.append(Rank(self))
        return self.ranks[-1]

    def group(self, name: str, *ranks: int) -> str:
        """A process group of these ranks."""
        self.groups[name] = ranks
        return name

    def job(self) -> Job:
        """What was drawn so far."""
        programs = tuple(rank.program() for rank in self.ranks)
        count = len(self.ranks)
        groups = tuple(ProcessGroup(name, "", ranks) for name, ranks in self.groups.items())
        placement = Placement(tuple(range(count)), tuple(range(count)), count, groups, "drawn GPU")
        job = Job(programs, placement, self._lags())
        job.self_check()
        return job

    def program(self) -> Program:
        """The program of the only rank."""
        (rank,) = self.ranks
        return rank.program()

    def run(self, drop: Collection[Rule] = (), **options: Any) -> Run:
        """Lower and simulate."""
        return run(self.job(), drop, **options)

    def _lags(self) -> Lags:
        launch, stream_order, event_wait, synchronize, hand_off, depth = self.lags
        calls = {name for rank in self.ranks for name in rank.names}
        kinds = [kind.name for kind in TaskKind if kind >= TaskKind.KERNEL]
        return Lags(
            launch=_table(launch, [f"{call}|{kind}" for call in sorted(calls) for kind in kinds]),
            stream_order=_table(stream_order, kinds),
            event_wait=event_wait,
            synchronize=_table(synchronize, sorted(calls)),
            hand_off=hand_off,
            back_pressure_depth=depth,
        )


def _table(lag: Lag, classes: Sequence[str]) -> Mapping[str, int]:
    return dict.fromkeys(classes, lag) if isinstance(lag, int) else lag


class Rank:
    """One rank's threads, streams and rows."""

    def __init__(self, drawing: Drawing) -> None:
        self.drawing = drawing
        self.names: dict[str, int] = {}
        self.processors: list[Processor] = []
        self.blocks: list[str] = []
        self.slots: dict[str, int] = {}
        self.collectives: list[Collective] = []
        self.rows: list[dict[str, float]] = []
        self.start: StartingState | None = None

    def thread(self, label: str = "main") -> Thread:
        """A new host thread."""
        self.processors.append(Processor(is_stream=False, label=label))
        return Thread(self, len(self.processors) - 1)

    def stream(self, number: int, device: int = 0) -> int:
        """A new stream of a device."""
        self.processors.append(Processor(True, f"stream {number}", device, number))
        return len(self.processors) - 1

    def worker(self, number: int) -> int:
        """A new stream whose tasks the host runs, as gloo's are."""
        return self.stream(number, device=-2)

    def block(self, name: str) -> None:
        """Rows from here on belong to a new block."""
        self.blocks.append(name)

    def slot(self, name: str) -> int:
        """The number of a slot."""
        return self.slots.setdefault(name, len(self.slots))

    def starts(
        self, free: Mapping[int, int] | None = None, slots: Mapping[str, int] | None = None
    ) -> None:
        """What was under way at the begin: processors busy until, slots signalled at [ns]."""
        self.start = StartingState(
            np.array([(free or {}).get(n, 0) for n in range(len(self.processors))], np.int64),
            {self.slot(name): time for name, time in (slots or {}).items()},
        )

    def add(
        self, kind: TaskKind, name: str, processor: int, duration: int, **columns: float
    ) -> int:
        """One row; returns its number."""
        if not self.blocks:
            self.blocks.append("step 0")
        row: dict[str, float] = dict.fromkeys(Rows.__dataclass_fields__, NONE)
        row.update(
            kind=kind, name=self.names.setdefault(name, len(self.names)), processor=processor,
            duration_ns=duration, delay_ns=0, distance=0, block=len(self.blocks) - 1, waves=0, work_share=1,
            frozen=kind == TaskKind.GAP, phase=Phase.UNKNOWN,
            event=NONE if kind in (TaskKind.GAP, TaskKind.SIGNAL) else len(self.rows),
        )  # fmt: skip
        row.update(columns)
        self.rows.append(row)
        return len(self.rows) - 1

    def program(self) -> Program:
        """What was drawn of this rank."""
        rows = Rows(
            **{
                name: np.array([row[name] for row in self.rows], _TYPES[name])
                for name in Rows.__dataclass_fields__
            }
        )
        program = Program(
            rows, tuple(self.names), tuple(self.processors), tuple(self.blocks),
            tuple(self.collectives), self.start,
        )  # fmt: skip
        program.self_check()
        return program


@dataclass(frozen=True)
class Thread:
    """A host thread that makes calls; every method adds rows and returns the first one's number."""

    rank: Rank
    number: int

    def work(self, name: str, duration: int) -> int:
        """Own time of an operator."""
        return self.rank.add(TaskKind.OPERATOR, name, self.number, duration)

    def gap(
        self, duration: int, awaits: str | None = None, distance: int = 0, name: str = "(gap)"
    ) -> int:
        """Time between operators, behind a signal where it awaits one."""
        slot = NONE if awaits is None else self.rank.slot(awaits)
        return self.rank.add(
            TaskKind.GAP, name, self.number, duration, awaits=slot, distance=distance
        )

    def signal(self, slot: str) -> int:
        """The point for which another thread waits."""
        return self.rank.add(
            TaskKind.SIGNAL, f"signal {slot}", self.number, 0, signal=self.rank.slot(slot)
        )

    def launch(
        self,
        stream: int,
        name: str,
        duration: int,
        call: int = 1,
        *,
        kind: TaskKind = TaskKind.KERNEL,
        waves: float = 0,
        by: str = LAUNCH_CALL,
        delay: int = 0,
    ) -> int:
        """A launching call of length `call` and its task."""
        at = self.rank.add(TaskKind.LAUNCH, by, self.number, call)
        self.rank.add(kind, name, stream, duration, launch=at, waves=waves, delay_ns=delay)
        return at

    def graph(self, tasks: Sequence[tuple[int, str, int]], call: int = 1) -> int:
        """One call that launches several tasks (stream, name, duration)."""
        at = self.rank.add(TaskKind.LAUNCH, "cudaGraphLaunch", self.number, call)
        for stream, name, duration in tasks:
            self.rank.add(TaskKind.KERNEL, name, stream, duration, launch=at)
        return at

    def collective(
        self,
        stream: int,
        name: str,
        duration: int,
        group: str,
        kind: CollectiveKind = CollectiveKind.ALL_REDUCE,
        *,
        call: int = 1,
        peer: int = NONE,
        synchronous: bool = False,
        delay: int = 0,
    ) -> int:
        """A launching call and its communication task."""
        at = self.rank.add(TaskKind.LAUNCH, LAUNCH_CALL, self.number, call)
        number = list(self.rank.drawing.groups).index(group)
        self.rank.collectives.append(Collective(kind, number, peer=peer, synchronous=synchronous))
        entry = len(self.rank.collectives) - 1
        self.rank.add(
            TaskKind.COLLECTIVE, name, stream, duration, launch=at, collective=entry, delay_ns=delay
        )
        return at

    def record(self, stream: int, slot: str, duration: int = 0) -> int:
        """cudaEventRecord."""
        return self.rank.add(
            TaskKind.RECORD, f"record {slot}", self.number, duration, stream=stream,
            signal=self.rank.slot(slot),
        )  # fmt: skip

    def wait(self, stream: int, slot: str, distance: int = 0, duration: int = 0) -> int:
        """cudaStreamWaitEvent."""
        return self.rank.add(
            TaskKind.WAIT_EVENT, f"wait {slot}", self.number, duration, stream=stream,
            awaits=self.rank.slot(slot), distance=distance,
        )  # fmt: skip

    def synchronize(
        self, stream: int = WHOLE_DEVICE, duration: int = 1, event: str | None = None,
        name: str = "cudaStreamSynchronize", distance: int = 0,
    ) -> int:  # fmt: skip
        """A call that blocks: for a stream, for all of them, or for what an event captured."""
        slot = NONE if event is None else self.rank.slot(event)
        return self.rank.add(
            TaskKind.SYNCHRONIZE, name, self.number, duration, stream=stream, awaits=slot,
            distance=distance,
        )  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A simulated run by names: `run["k"]` is (start, end) of rank 0's row, `run["k", 1]` rank 1's.

    Of several rows with one name the n-th is `name#n`, counted from 1.
    """

    job: Job
    graph: ExecutionGraph
    timeline: Timeline

    def __getitem__(self, key: str | tuple[str, int]) -> tuple[int, int]:
        name, rank = (key, 0) if isinstance(key, str) else key
        row = self.row(name, rank)
        ran = self.timeline.ranks[rank]
        return int(ran.start_ns[row]), int(ran.end_ns[row])

    def row(self, name: str, rank: int = 0) -> int:
        """The number of the row of this name."""
        program = self.job.programs[self.job.placement.role[rank]]
        bare, _, count = name.rpartition("#")
        if not bare:
            bare, count = name, "1"
        found = np.flatnonzero(program.rows.name == program.names.index(bare))
        assert "#" in name or len(found) == 1, f"{len(found)} rows are called {name}"
        return int(found[int(count) - 1])

    def call(self, name: str, rank: int = 0) -> tuple[int, int]:
        """(start, end) of the call that launches the task of this name."""
        rows = self.job.programs[self.job.placement.role[rank]].rows
        ran, call = self.timeline.ranks[rank], rows.launch[self.row(name, rank)]
        return int(ran.start_ns[call]), int(ran.end_ns[call])

    def wait(self, name: str, rank: int = 0) -> int:
        """How long the row of this name waited inside itself."""
        return int(self.timeline.ranks[rank].wait_ns[self.row(name, rank)])


def run(job: Job, drop: Collection[Rule] = (), **options: Any) -> Run:
    """Lower and simulate a job."""
    graph = lower(job, drop)
    graph.self_check()
    return Run(job, graph, simulate(graph, **options))


def job_of(program: Program, lags: Lags | None = None) -> Job:
    """A job of one rank."""
    return Job((program,), Placement((0,), (0,), 1), lags if lags is not None else Lags())


def with_rows(job: Job, **columns: np.ndarray) -> Job:
    """The job of one rank with other columns."""
    (program,) = job.programs
    return replace(job, programs=(replace(program, rows=program.rows.with_columns(**columns)),))
