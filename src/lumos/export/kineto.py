"""A run of a Job as the files that torch.profiler would have written: one Kineto JSON a rank.

What the format does not know is left out: pauses, signals, and, unless asked for, which stream and
event a record, a wait or a synchronising call concerns. So a Job whose meaning is known can be
written, read back and compared with what was inferred.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from lumos.errors import UsageError
from lumos.export.host_spans import Span, host_spans, is_drawn
from lumos.export.trace_file import microseconds, open_trace_file
from lumos.graph.job import NONE, WHOLE_DEVICE, Job, Program, TaskKind
from lumos.graph.timeline import RankTimeline, Timeline

_OPERATORS = (TaskKind.OPERATOR, TaskKind.COLLECTIVE)
_CATEGORY_OF_DEVICE_TASK = {TaskKind.COPY: "gpu_memcpy", TaskKind.SET: "gpu_memset"}
_STEP = re.compile(r"ProfilerStep#\d+")
_THREAD = re.compile(r"-?\d+")
_RUNTIME_CALL = re.compile(r"(?:cuda|hip|cu)[A-Z]\w*|INVALID")
"""A Job takes calls that order nothing for operators; the file tells them apart by these names."""
_WHOLE_CONTEXT_STREAM = 4294967295
_SYNC_EVENT_NS = 10
_FIRST_PROCESS = 1000
"""Ranks are processes from here on; small numbers are devices."""
_BYTES_OF_DTYPE = {
    "Float": 4, "Double": 8, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Byte": 1, "Bool": 1,
}  # fmt: skip


class _Event(msgspec.Struct, tag_field="ph", tag="X"):
    """A span of time; keys as Kineto spells them."""

    cat: str
    name: str
    pid: int
    tid: int
    ts: float
    dur: float
    args: dict[str, Any]


class _Name(msgspec.Struct, tag_field="ph", tag="M"):
    name: str
    pid: int
    tid: int
    args: dict[str, Any]
    ts: float = 0.0


def write_kineto(
    folder: str | Path, job: Job, timeline: Timeline, *, sync_ids: bool = False
) -> list[Path]:
    """Write `rank{R}.json.gz` of every rank into `folder`, which is made where it is missing.

    Blocks become ProfilerStep annotations (numbered anew unless all are named so), calls and
    their device tasks share a correlation. With `sync_ids`, cuda_sync events tell what each wait
    and synchronising call concerns, and a record without a call of its own becomes a call of zero
    length. Work launched before the first block is in no row and so in no file.
    """
    sizes = [len(job.programs[role].rows) for role in job.placement.role]
    if [len(rank) for rank in timeline.ranks] != sizes:
        raise UsageError("the run has other rows than the job; give a run of this job")
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, (rank, role) in enumerate(
        zip(job.placement.ranks, job.placement.role, strict=True)
    ):
        one = _Rank(job, job.programs[role], timeline.ranks[number], rank)
        paths.append(place / f"rank{rank}.json.gz")
        with open_trace_file(paths[-1], _header(one)) as file:
            file.write(_names(one))
            file.write(_steps(one))
            correlation, events = _host_events(one)
            file.write(events)
            file.write(_device_events(one, correlation))
            if sync_ids:
                file.write(_sync_events(one, correlation))
    return paths


@dataclass(frozen=True)
class _Rank:
    """One rank's program and run."""

    job: Job
    program: Program
    run: RankTimeline
    rank: int

    @property
    def process(self) -> int:
        return _FIRST_PROCESS + self.rank

    def thread(self, processor: int) -> int:
        """The number in the thread's label, else one of our own."""
        number = _THREAD.search(self.program.processors[processor].label)
        return int(number.group()) if number else processor + 1

    def event(self, category: str, row: int, until: int, **arguments: object) -> _Event:
        """From the begin of host row `row` to the end of row `until`."""
        rows, begin = self.program.rows, int(self.run.start_ns[row])
        return _Event(
            category, self.program.names[rows.name[row]], self.process,
            self.thread(int(rows.processor[row])), microseconds(begin),
            microseconds(int(self.run.end_ns[until]) - begin), arguments,
        )  # fmt: skip


def _header(one: _Rank) -> dict[str, Any]:
    placement = one.job.placement
    devices = sorted({p.device for p in one.program.processors if p.is_stream})
    return {
        "schemaVersion": 1,
        "deviceProperties": [{"id": device, "name": placement.gpu} for device in devices],
        "distributedInfo": {
            "backend": "nccl" if devices else "gloo",
            "rank": one.rank,
            "world_size": placement.world_size,
            "pg_count": len(placement.groups),
            "pg_config": [
                {
                    "pg_name": g.name,
                    "pg_desc": g.description,
                    "pg_size": len(g.ranks),
                    "ranks": list(g.ranks),
                }
                for g in placement.groups
            ],
        },
        "displayTimeUnit": "ms",
    }


def _names(one: _Rank) -> Iterator[_Name]:
    yield _Name("process_name", one.process, 0, {"name": "python"})
    yield _Name("process_labels", one.process, 0, {"labels": "CPU"})
    for number, processor in enumerate(one.program.processors):
        if processor.is_stream:
            yield _Name(
                "thread_name", processor.device, processor.stream, {"name": processor.label}
            )
        else:
            yield _Name("thread_name", one.process, one.thread(number), {"name": processor.label})
    for device in sorted({p.device for p in one.program.processors if p.is_stream}):
        yield _Name("process_name", device, 0, {"name": "python"})
        yield _Name("process_labels", device, 0, {"labels": f"GPU {device}"})


def _steps(one: _Rank) -> Iterator[_Event]:
    """One annotation a block, on the main thread; each lasts until the next begins."""
    rows, run, blocks = one.program.rows, one.run, one.program.blocks
    shown = np.flatnonzero(is_drawn(rows) & (rows.launch == NONE))
    if not len(shown):
        return
    leader = one.program.main_thread
    begins_block = np.zeros(len(rows), bool)
    begins_block[shown] = True
    begins_block |= (rows.processor == leader) & (rows.kind == TaskKind.GAP) & (rows.awaits == NONE)
    names = blocks
    if len(set(blocks)) < len(blocks) or not all(_STEP.fullmatch(name) for name in blocks):
        names = tuple(f"ProfilerStep#{number}" for number in range(len(blocks)))
    begins = {
        block: int(run.start_ns[begins_block & (rows.block == block)].min())
        for block in np.unique(rows.block[begins_block]).tolist()
    }
    ends = [*list(begins.values())[1:], int(run.end_ns[begins_block].max())]
    for (block, begin), end in zip(begins.items(), ends, strict=True):
        yield _Event(
            "user_annotation", names[block], one.process, one.thread(leader),
            microseconds(begin), microseconds(max(0, end - begin)), {},
        )  # fmt: skip


def _host_events(one: _Rank) -> tuple[dict[int, int], list[_Event]]:
    """Operators and calls, and the correlation of each row of a call."""
    rows = one.program.rows
    correlation: dict[int, int] = {}
    events: list[_Event] = []
    for number, processor in enumerate(one.program.processors):
        if processor.is_stream:
            continue
        mine = np.flatnonzero(rows.processor == number)
        operators: list[tuple[int, Span]] = []  # those around the current span
        for span in host_spans(rows, mine, join_calls=True):
            while operators and operators[-1][1].last < span.first:
                operators.pop()
            if rows.kind[span.first] in _OPERATORS and not _RUNTIME_CALL.fullmatch(
                one.program.names[rows.name[span.first]]
            ):
                operators.append((len(events) + 1, span))
                events.append(
                    one.event("cpu_op", span.first, span.last, **{"External id": len(events) + 1})
                )
                continue
            around = {"External id": operators[-1][0]} if operators else {}
            identity = span.first + 1
            correlation.update(dict.fromkeys(span.pieces, identity))
            events.append(
                one.event("cuda_runtime", span.first, span.last, **around, correlation=identity)
            )
    return correlation, events


def _device_events(one: _Rank, correlation: dict[int, int]) -> Iterator[_Event]:
    rows, run, program = one.program.rows, one.run, one.program
    for row in np.flatnonzero(rows.launch != NONE).tolist():
        kind, processor = TaskKind(rows.kind[row]), program.processors[rows.processor[row]]
        begin = int(run.start_ns[row])
        arguments: dict[str, Any] = {
            "device": processor.device,
            "stream": processor.stream,
            "correlation": correlation[int(rows.launch[row])],
        }
        if rows.collective[row] != NONE:
            arguments |= _collective(one, int(rows.collective[row]))
        yield _Event(
            _CATEGORY_OF_DEVICE_TASK.get(kind, "kernel"), program.names[rows.name[row]],
            processor.device, processor.stream, microseconds(begin),
            microseconds(int(run.end_ns[row]) - begin), arguments,
        )  # fmt: skip


def _collective(one: _Rank, number: int) -> dict[str, Any]:
    """What NCCL's metadata tells of a collective, as far as the Job knows it."""
    collective, groups = one.program.collectives[number], one.job.placement.groups
    told: dict[str, Any] = {}
    if collective.group != NONE:
        group = groups[collective.group]
        told = {
            "Process Group Name": group.name,
            "Process Group Description": group.description,
            "Process Group Ranks": str(list(group.ranks)),
            "Group size": len(group.ranks),
        }
    told["Collective name"] = collective.kind.name.lower().replace("_", "")
    size = _BYTES_OF_DTYPE.get(collective.dtype)
    if collective.dtype:
        told["dtype"] = collective.dtype
    for key, moved in (
        ("In msg nelems", collective.in_bytes), ("Out msg nelems", collective.out_bytes),
    ):  # fmt: skip
        if moved is not None and size is not None:
            told[key] = moved // size
    return told


def _sync_events(one: _Rank, correlation: dict[int, int]) -> Iterator[_Event]:
    """What `enable_cuda_sync_events` adds, with the ids resolved, and the records they name."""
    rows, processors = one.program.rows, one.program.processors
    records = np.flatnonzero((rows.kind == TaskKind.RECORD) & (rows.signal != NONE)).tolist()
    record_of = {(int(rows.block[r]), int(rows.signal[r])): r for r in records}
    for row in records:
        if row not in correlation:
            correlation[row] = row + 1
            event = one.event("cuda_runtime", row, row, correlation=row + 1)
            event.name = "cudaEventRecord"
            yield event
    kinds = (TaskKind.WAIT_EVENT, TaskKind.SYNCHRONIZE)
    for row in np.flatnonzero(np.isin(rows.kind, kinds)).tolist():
        waits = rows.kind[row] == TaskKind.WAIT_EVENT
        stream = int(rows.stream[row])
        device = processors[stream].device if stream != WHOLE_DEVICE else 0
        number = processors[stream].stream if stream != WHOLE_DEVICE else _WHOLE_CONTEXT_STREAM
        arguments: dict[str, Any] = {"device": device, "correlation": correlation[row]}
        name = "Context Sync" if stream == WHOLE_DEVICE else "Stream Sync"
        if rows.awaits[row] != NONE:
            record = record_of.get(
                (int(rows.block[row] - rows.distance[row]), int(rows.awaits[row]))
            )
            if record is None:
                continue
            name = "Stream Wait Event" if waits else "Event Sync"
            arguments |= {
                "wait_on_stream": processors[rows.stream[record]].stream,
                "wait_on_cuda_event_record_corr_id": correlation[record],
                "wait_on_cuda_event_id": int(rows.awaits[row]),
            }
        arguments |= {"cuda_sync_kind": name, "stream": number if name != "Event Sync" else -1}
        yield _Event(
            "cuda_sync", name, device, number, microseconds(int(one.run.start_ns[row])),
            microseconds(_SYNC_EVENT_NS), arguments,
        )  # fmt: skip
