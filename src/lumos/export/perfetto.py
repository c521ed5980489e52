r"""Runs of a Job side by side, as a file for ui.perfetto.dev (Chrome's JSON trace format).

    critical path, replayed   | rank 0: thread ... | rank 0: stream 7 |
    rank 0 measured   thread   | op | launch |
                      stream         | kernel |
    rank 0 replayed   thread   | op | launch |
                      stream        \\--> kernel |       an arrow: the dependency that bound

Format: "Trace Event Format", Google; flows bind to the innermost slice open at their time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from lumos.analysis.critical_path import STARTING_STATE, CriticalPath
from lumos.errors import UsageError
from lumos.export.arrows import Arrows, arrows
from lumos.export.binding import NO_RULE, Binding, binding
from lumos.export.host_spans import Span, host_spans
from lumos.export.path_slices import path_slices
from lumos.export.stream_slices import in_stream_order, shown_ends
from lumos.export.trace_file import TraceFile, microseconds, open_trace_file
from lumos.graph.execution import ExecutionGraph, Rule
from lumos.graph.job import Job, Program, TaskKind
from lumos.graph.timeline import RankTimeline, Timeline

_THREADS_A_PROCESS = 1000


class _Names(msgspec.Struct, tag_field="ph", tag="M"):
    """Metadata: the name or the place of a process or a thread."""

    name: str
    pid: int
    tid: int
    args: dict[str, str | int]


class _SliceArguments(msgspec.Struct, omit_defaults=True):
    """What a slice tells when it is clicked; times in us, left out where they are 0."""

    step: str
    held_by: str | None = None
    own_us: float | None = None
    wait_us: float | None = None
    unexplained_us: float | None = None


class _PathArguments(msgspec.Struct):
    """What a slice of a critical path tells: where its task ran, and what the path came there by."""

    rank: int
    processor: str
    rule: str


class _Slice(msgspec.Struct, tag_field="ph", tag="X"):
    """A task on its thread or stream, or an operator with what it contains."""

    name: str
    cat: str
    pid: int
    tid: int
    ts: float
    dur: float
    args: _SliceArguments | _PathArguments


class _ArrowBegin(msgspec.Struct, tag_field="ph", tag="s"):
    name: str
    cat: str
    id: int
    pid: int
    tid: int
    ts: float


class _ArrowEnd(msgspec.Struct, tag_field="ph", tag="f"):
    name: str
    cat: str
    id: int
    pid: int
    tid: int
    ts: float
    bp: str = "e"


_Timed = _Slice | _ArrowBegin | _ArrowEnd


def write_perfetto(
    path: str | Path,
    job: Job,
    timelines: Mapping[str, Timeline],
    graph: ExecutionGraph | None = None,
    *,
    explained: str = "replayed",
    paths: Mapping[str, CriticalPath] | None = None,
) -> None:
    """Write runs of `job`, by name, into one file with the runs of a rank below each other.

    `path` ends in .json.gz or .json. With the `graph` that the run named `explained` was
    simulated from, slices of that run tell which rule held them and arrows show the dependencies
    that bound; `paths` are the critical paths of runs of that graph, each a process of its own in
    front of all others. Memory holds the slices of one rank of one run at a time. Raises UsageError
    where a run does not belong to the job, `explained` is none of the runs, or paths come without
    their graph.
    """
    _check(job, timelines, graph, explained)
    held = None
    if graph is not None:
        bound = binding(graph, timelines[explained])
        held = _Held(bound, arrows(job, timelines[explained], bound))
    if paths and graph is None:
        raise UsageError("a critical path is drawn with the graph it goes through; give both")
    with open_trace_file(Path(path), {"displayTimeUnit": "ns"}) as file:
        first_free = len(job.placement.role) * len(timelines) + 1
        for number, (run_name, found) in enumerate((paths or {}).items()):
            assert graph is not None
            file.write(_path(job, graph, found, run_name, first_free + number))
        offset = 0
        for place, role in enumerate(job.placement.role):
            program = job.programs[role]
            for number, (run_name, timeline) in enumerate(timelines.items()):
                track = _Track(program, timeline.ranks[place], place * len(timelines) + number + 1)
                file.write(_names(track, f"rank {job.placement.ranks[place]} {run_name}"))
                mine = held if run_name == explained else None
                _write_run(file, track, mine, offset)
            offset += len(program.rows)


def _path(
    job: Job, graph: ExecutionGraph, found: CriticalPath, run_name: str, process: int
) -> Iterator[_Names | _Slice]:
    """A critical path: a process with one thread."""
    thread = process * _THREADS_A_PROCESS
    yield _Names("process_name", process, 0, {"name": f"critical path, {run_name}"})
    yield _Names("process_sort_index", process, 0, {"sort_index": 0})
    yield _Names("thread_name", process, thread, {"name": "all ranks"})
    yield _Names("thread_sort_index", process, thread, {"sort_index": 0})
    for one in path_slices(job, graph, found):
        yield _Slice(
            one.name, one.kind, process, thread,
            microseconds(one.start_ns), microseconds(one.length_ns),
            _PathArguments(one.rank, one.stream, one.rule),
        )  # fmt: skip


def _check(
    job: Job, timelines: Mapping[str, Timeline], graph: ExecutionGraph | None, explained: str
) -> None:
    sizes = [len(job.programs[role].rows) for role in job.placement.role]
    for name, timeline in timelines.items():
        if [len(rank) for rank in timeline.ranks] != sizes:
            raise UsageError(f"the run {name!r} has other rows than the job; give runs of this job")
    if graph is not None and (explained not in timelines or graph.rows != sum(sizes)):
        raise UsageError(
            f"the graph explains the run {explained!r} of this job; "
            f"the runs are {', '.join(timelines) or 'none'}"
        )


@dataclass(frozen=True)
class _Held:
    """What held the rows of the explained run, and the arrows that show it."""

    binding: Binding
    arrows: Arrows


@dataclass(frozen=True)
class _Track:
    """One rank of one run: a process in the file; its processors are the threads."""

    program: Program
    run: RankTimeline
    process: int

    def thread(self, processor: int) -> int:
        """Its number: unlike any process's, else Perfetto takes it for a main thread."""
        return self.process * _THREADS_A_PROCESS + processor


def _names(track: _Track, name: str) -> Iterator[_Names]:
    process = track.process
    yield _Names("process_name", process, 0, {"name": name})
    yield _Names("process_sort_index", process, 0, {"sort_index": process})
    for number, processor in enumerate(track.program.processors):
        thread = track.thread(number)
        yield _Names("thread_name", process, thread, {"name": processor.label})
        yield _Names("thread_sort_index", process, thread, {"sort_index": number})


def _write_run(file: TraceFile, track: _Track, held: _Held | None, offset: int) -> None:
    """Slices and arrows of one rank in one run, in order of time."""
    count = len(track.program.rows)
    if held is None:
        events: list[_Timed] = [*_slices(track, np.full(count, NO_RULE, np.uint8))]
    else:
        events = [*_slices(track, held.binding.rule[offset : offset + count])]
        events += _arrow_ends(track, held.arrows, offset)
    events.sort(key=lambda event: event.ts)  # stable: a slice stays in front of what it contains
    file.write(events)


def _slices(track: _Track, rules: NDArray[np.uint8]) -> Iterator[_Slice]:
    program, rows, run = track.program, track.program.rows, track.run
    kinds = [kind.name.lower() for kind in TaskKind]
    words = {
        NO_RULE: None,
        STARTING_STATE: "starting_state",
        **{int(rule): rule.word for rule in Rule},
    }
    kind, name, block = rows.kind.tolist(), rows.name.tolist(), rows.block.tolist()
    start, rule = run.start_ns.tolist(), rules.tolist()
    end = shown_ends(program, run).tolist()
    own, wait, delay = rows.duration_ns.tolist(), run.wait_ns.tolist(), rows.delay_ns.tolist()
    for number, processor in enumerate(program.processors):
        if processor.is_stream:
            order = in_stream_order(program, run, number).tolist()
            spans = [Span(row, row, (row,)) for row in order]
        else:
            spans = host_spans(rows, np.flatnonzero(rows.processor == number))
        for first, last, pieces in spans:
            yield _Slice(
                program.names[name[first]],
                kinds[kind[first]],
                track.process,
                track.thread(number),
                microseconds(start[first]),
                microseconds(end[last] - start[first]),
                _SliceArguments(
                    program.blocks[block[first]],
                    words[rule[first]],
                    microseconds(sum(own[row] for row in pieces)) or None,
                    microseconds(sum(wait[row] for row in pieces)) or None,
                    microseconds(delay[first]) or None,
                ),
            )


def _arrow_ends(track: _Track, arrows: Arrows, offset: int) -> Iterator[_Timed]:
    """The ends that lie on this rank."""
    processor, words = track.program.rows.processor, [rule.word for rule in Rule]
    for ends, times, event in (
        (arrows.leaves, arrows.leaves_ns, _ArrowBegin),
        (arrows.meets, arrows.meets_ns, _ArrowEnd),
    ):
        here = np.flatnonzero((ends >= offset) & (ends < offset + len(processor)))
        for arrow in here.tolist():
            thread = track.thread(int(processor[ends[arrow] - offset]))
            yield event(
                words[arrows.rule[arrow]],
                "dependency",
                int(arrows.number[arrow]),
                track.process,
                thread,
                microseconds(int(times[arrow])),
            )
