"""Runs of a Job side by side, as a file for ui.perfetto.dev (Chrome's JSON trace format).

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

from lumos.errors import UsageError
from lumos.export.binding import NO_RULE, Binding, binding
from lumos.export.host_spans import host_spans, is_drawn
from lumos.export.trace_file import TraceFile, microseconds, open_trace_file
from lumos.graph.execution import ExecutionGraph, Rule
from lumos.graph.job import NONE, Job, Program, TaskKind
from lumos.graph.timeline import RankTimeline, Timeline

ARROWS = (
    Rule.LAUNCH,
    Rule.EVENT_WAIT,
    Rule.SYNCHRONIZE,
    Rule.BACK_PRESSURE,
    Rule.HAND_OFF,
    Rule.RENDEZVOUS,
)
"""Rules drawn as arrows; that one task follows another on its processor can be seen."""
_THREADS_A_PROCESS = 1000


class _Names(msgspec.Struct, tag_field="ph", tag="M"):
    """Metadata: the name or the place of a process or a thread."""

    name: str
    pid: int
    tid: int
    args: dict[str, str | int]


class SliceArguments(msgspec.Struct, omit_defaults=True):
    """What a slice tells when it is clicked; times in us."""

    step: str
    held_by: str = ""
    own_us: float = 0.0
    wait_us: float = 0.0
    unexplained_us: float = 0.0


class _Slice(msgspec.Struct, tag_field="ph", tag="X"):
    """A task on its thread or stream, or an operator with what it contains."""

    name: str
    cat: str
    pid: int
    tid: int
    ts: float
    dur: float
    args: SliceArguments


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
) -> None:
    """Write runs of `job`, by name, into one file with the runs of a rank below each other.

    `path` ends in .json.gz or .json. With the `graph` that the run named `explained` was
    simulated from, slices of that run tell which rule held them and arrows show the dependencies
    that bound. Memory holds one rank of one run at a time. Raises UsageError where a run does not
    belong to the job or `explained` is none of the runs.
    """
    _check(job, timelines, graph, explained)
    held = binding(graph, timelines[explained]) if graph is not None else None
    with open_trace_file(Path(path), {"displayTimeUnit": "ns"}) as file:
        offset = 0
        for place, role in enumerate(job.placement.role):
            program = job.programs[role]
            for number, (run_name, timeline) in enumerate(timelines.items()):
                track = _Track(program, timeline.ranks[place], place * len(timelines) + number + 1)
                file.write(_names(track, f"rank {job.placement.ranks[place]} {run_name}"))
                mine = held if run_name == explained else None
                _write_run(file, track, mine, offset)
            offset += len(program.rows)


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


def _write_run(file: TraceFile, track: _Track, held: Binding | None, offset: int) -> None:
    """Slices and arrows of one rank in one run, in order of time."""
    shown_end = _shown_ends(track)
    count = len(track.program.rows)
    own = slice(offset, offset + count)
    rules = held.rule[own] if held is not None else np.full(count, NO_RULE, np.uint8)
    events: list[_Timed] = [*_slices(track, shown_end, rules)]
    if held is not None:
        events += _arrows(track, shown_end, held, offset)
    events.sort(key=lambda event: event.ts)  # stable: a slice stays in front of what it contains
    file.write(events)


def _slices(
    track: _Track, shown_end: NDArray[np.int64], rules: NDArray[np.uint8]
) -> Iterator[_Slice]:
    program, rows, run = track.program, track.program.rows, track.run
    kinds = [kind.name.lower() for kind in TaskKind]
    words = {NO_RULE: "", **{int(rule): rule.word for rule in Rule}}
    kind, name, block = rows.kind.tolist(), rows.name.tolist(), rows.block.tolist()
    start, end, rule = run.start_ns.tolist(), shown_end.tolist(), rules.tolist()
    own, wait, delay = rows.duration_ns.tolist(), run.wait_ns.tolist(), rows.delay_ns.tolist()
    for number, processor in enumerate(program.processors):
        mine = np.flatnonzero(rows.processor == number)
        if processor.is_stream:
            order = mine[np.lexsort((-shown_end[mine], run.start_ns[mine]))].tolist()
            spans = [(row, row, (row,)) for row in order]
        else:
            spans = [tuple(span) for span in host_spans(rows, mine)]
        for first, last, pieces in spans:
            yield _Slice(
                program.names[name[first]],
                kinds[kind[first]],
                track.process,
                track.thread(number),
                microseconds(start[first]),
                microseconds(end[last] - start[first]),
                SliceArguments(
                    program.blocks[block[first]],
                    words[rule[first]],
                    microseconds(sum(own[row] for row in pieces)),
                    microseconds(sum(wait[row] for row in pieces)),
                    microseconds(delay[first]),
                ),
            )


def _shown_ends(track: _Track) -> NDArray[np.int64]:
    """Where the slice of each row ends: tasks that cross on a stream are cut at the next one.

    Kernels of one graph overlap inside a stream by some us, and slices of a thread must nest.
    """
    rows, run = track.program.rows, track.run
    shown = run.end_ns.copy()
    for number, processor in enumerate(track.program.processors):
        if not processor.is_stream:
            continue
        mine = np.flatnonzero(rows.processor == number)
        order = mine[np.lexsort((-run.end_ns[mine], run.start_ns[mine]))]
        stack: list[int] = []
        for row in order.tolist():
            begin, end = run.start_ns[row], run.end_ns[row]
            while stack and (shown[stack[-1]] <= begin or shown[stack[-1]] < end):
                crossed = stack.pop()
                shown[crossed] = min(shown[crossed], begin)
            stack.append(row)
    return shown


def _arrows(
    track: _Track, shown_end: NDArray[np.int64], held: Binding, offset: int
) -> Iterator[_Timed]:
    """Both ends, as far as they lie on this rank, of the dependencies that bound."""
    rows, run = track.program.rows, track.run
    drawn = np.flatnonzero(np.isin(held.rule, ARROWS) & (held.source != NONE))
    begins = held.source[drawn] - offset
    ends = drawn - offset
    before, after = _anchors(track, shown_end)
    words = [rule.word for rule in Rule]
    thread, start, shown = rows.processor.tolist(), run.start_ns, shown_end
    for arrow, begin, end in zip(drawn.tolist(), begins.tolist(), ends.tolist(), strict=True):
        word, at_start = words[held.rule[arrow]], bool(held.from_start[arrow])
        if 0 <= begin < len(rows) and (row := int(before[begin])) != NONE:
            wanted = start[row] + run.wait_ns[row] if at_start else shown[row] - 1
            time = microseconds(int(np.clip(wanted, start[row], shown[row] - 1)))
            yield _ArrowBegin(word, "dependency", arrow, track.process, track.thread(thread[row]), time)
        if 0 <= end < len(rows) and (row := int(after[end])) != NONE:
            wanted = start[row] + run.wait_ns[row]
            time = microseconds(int(np.clip(wanted, start[row], shown[row] - 1)))
            yield _ArrowEnd(word, "dependency", arrow, track.process, track.thread(thread[row]), time)


def _anchors(
    track: _Track, shown_end: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each row the row that an arrow from it leaves, and the one that an arrow to it meets.

    That is the row itself where it shows and takes time, else the one in front of it (for the
    begin of an arrow) or behind it (for the end) on its processor; NONE without one.
    """
    rows, run = track.program.rows, track.run
    shows = is_drawn(rows) & (shown_end > run.start_ns)
    before, after = np.full(len(rows), NONE, np.int64), np.full(len(rows), NONE, np.int64)
    for number in range(len(track.program.processors)):
        mine = np.flatnonzero(rows.processor == number)
        anchors = mine[shows[mine]]
        place = np.searchsorted(anchors, mine)
        here = shows[mine]
        in_front = np.where(here, place, place - 1)
        before[mine[in_front >= 0]] = anchors[in_front[in_front >= 0]]
        after[mine[place < len(anchors)]] = anchors[place[place < len(anchors)]]
    return before, after
