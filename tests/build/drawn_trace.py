"""Traces as a hand draws them: events in microseconds, written as a Kineto file, read and built."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lumos.build import build
from lumos.graph.job import NONE, Job, Program, TaskKind
from lumos.graph.timeline import RankTimeline, Timeline
from lumos.graph.trace import Trace
from lumos.ingest.read import read

BASE_US = 1_000_000


class DrawnTrace:
    """Events of one rank; times in microseconds from an arbitrary origin."""

    def __init__(self, rank: int = 0, world: int = 1, **header: Any):
        self.events: list[dict[str, Any]] = []
        self.correlation = itertools.count(1)
        self.header = {
            "deviceProperties": [{"id": 0, "name": "Drawn GPU"}],
            "distributedInfo": {"backend": "nccl", "rank": rank, "world_size": world},
            **header,
        }

    def event(
        self, category: str, name: str, begin: float, end: float, thread: int | str, **arguments: Any
    ) -> DrawnTrace:  # fmt: skip
        """Any complete event."""
        self.events.append(
            {
                "ph": "X", "cat": category, "name": name, "pid": 7, "tid": thread,
                "ts": BASE_US + begin, "dur": round(end - begin, 3), "args": arguments,
            }
        )  # fmt: skip
        return self

    def op(
        self, name: str, begin: float, end: float, thread: int = 8, **arguments: Any
    ) -> DrawnTrace:
        """An operator."""
        return self.event("cpu_op", name, begin, end, thread, **arguments)

    def annotation(self, name: str, begin: float, end: float, thread: int = 8) -> DrawnTrace:
        """record_function of the user."""
        return self.event("user_annotation", name, begin, end, thread)

    def call(self, name: str, begin: float, end: float, thread: int = 8) -> DrawnTrace:
        """A runtime call."""
        return self.event(
            "cuda_runtime", name, begin, end, thread, correlation=next(self.correlation)
        )

    def kernel(
        self, name: str, begin: float, end: float, stream: int = 7, *, call: tuple[float, float] | None,
        thread: int = 8, category: str = "kernel", by: str = "cudaLaunchKernel", **arguments: Any,
    ) -> DrawnTrace:  # fmt: skip
        """A device task, and the call that launches it."""
        number = next(self.correlation)
        if call is not None:
            self.event("cuda_runtime", by, *call, thread, correlation=number)
        return self.event(
            category,
            name,
            begin,
            end,
            stream,
            device=0,
            stream=stream,
            correlation=number,
            **arguments,
        )

    def trace(self) -> Trace:
        """Written as a file and read."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trace.json"
            path.write_text(json.dumps({**self.header, "traceEvents": self.events}))
            (trace,) = read([path], cache=False)
        return trace

    def build(self) -> Built:
        """The only rank's program and run."""
        return build_all([self])


class Built:
    """A built job by names; times in microseconds of the drawing's origin."""

    def __init__(self, job: Job, measured: Timeline, origin_us: float):
        self.job, self.measured, self.origin_us = job, measured, origin_us
        job.self_check()

    def program(self, rank: int = 0) -> Program:
        return self.job.programs[self.job.placement.role[rank]]

    def run(self, rank: int = 0) -> RankTimeline:
        return self.measured.ranks[rank]

    def rows(self, processor: str, rank: int = 0) -> list[tuple[str, str, float, float]]:
        """(kind, name, begin, end) of the rows of the first processor with this word in its label."""
        program, run = self.program(rank), self.run(rank)
        number = next(n for n, p in enumerate(program.processors) if processor in p.label)
        mine = np.flatnonzero(program.rows.processor == number)
        return [
            (
                TaskKind(program.rows.kind[row]).name,
                program.names[program.rows.name[row]],
                self._us(run.start_ns[row]),
                self._us(run.end_ns[row]),
            )
            for row in mine
        ]

    def row(self, name: str, rank: int = 0, kind: TaskKind | None = None) -> int:
        """The only row of this name (and kind)."""
        program = self.program(rank)
        rows = program.rows
        found = np.flatnonzero(rows.name == program.names.index(name))
        found = [row for row in found if kind is None or rows.kind[row] == kind]
        assert len(found) == 1, f"{len(found)} rows are called {name}"
        return int(found[0])

    def block_of(self, name: str) -> str:
        """The step of the row of this name."""
        return self.program().blocks[self.program().rows.block[self.row(name)]]

    def signal_of(self, row: int, rank: int = 0) -> int:
        """The row that signals what `row` awaits, NONE without one."""
        rows = self.program(rank).rows
        block = rows.block[row] - rows.distance[row]
        found = np.flatnonzero((rows.signal == rows.awaits[row]) & (rows.block == block))
        return int(found[-1]) if len(found) and rows.awaits[row] != NONE else NONE

    def captured(self, record: int, rank: int = 0) -> str:
        """The name of the device task that a record captured."""
        program = self.program(rank)
        rows = program.rows
        given = np.flatnonzero((rows.launch != NONE) & (rows.processor == rows.stream[record]))
        given = given[given < record]
        return program.names[rows.name[given[-1]]] if len(given) else ""

    def _us(self, ns: int) -> float:
        return round(float(ns) / 1000 + self.origin_us, 3)


def build_all(traces: Sequence[DrawnTrace]) -> Built:
    """All ranks as one job."""
    job, measured = build([one.trace() for one in traces])
    first = min(
        event["ts"]
        for one in traces
        for event in one.events
        if event["cat"] in ("cpu_op", "cuda_runtime", "user_annotation")
    )
    return Built(job, measured, first - BASE_US)
