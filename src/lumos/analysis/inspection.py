"""Inspection: what is in the traces of a job, how it was understood, how good the capture is."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumos.build.calls import CallClass, call_classes
from lumos.graph.finding import Finding
from lumos.graph.job import NONE, Job, Provenance
from lumos.graph.trace import (
    DEVICE_KINDS,
    MISSING,
    Argument,
    CaptureNotes,
    EventKind,
    ProcessGroup,
    Trace,
)

REPAIRS = ("malformed", "no time")
"""Reasons under which `Trace.skipped` counts events that should have been rows."""


@dataclass(frozen=True)
class ThreadContent:
    """One host thread: its operators and calls, and the time in which at least one was open."""

    process: str
    thread: str
    name: str
    events: int
    busy_ns: int


@dataclass(frozen=True)
class StreamContent:
    """One device stream: its tasks, and the sum of their durations."""

    device: int
    stream: int
    tasks: int
    busy_ns: int


@dataclass(frozen=True)
class StepContent:
    """One step on the host."""

    name: str
    host_ns: int


@dataclass(frozen=True)
class CollectiveContent:
    """Communication tasks of one kind in one group; None where the trace does not tell."""

    kind: str
    group: str | None
    description: str | None
    tasks: int
    known_bytes: int
    without_bytes: int
    busy_ns: int


@dataclass(frozen=True)
class ProfilerFacts:
    """What the profiler was told to record, judged by what is there; None where it can't be told."""

    shapes: bool | None
    stacks: bool
    sync_events: bool
    event_records: bool | None
    collective_metadata: bool | None


@dataclass(frozen=True)
class RankInspection:
    """What one rank recorded. `waits` counts the resolved stream waits by Evidence word.

    `unresolved_waits` are calls that mean nothing to the device or could not be resolved;
    `without_launch` are device tasks whose launch lies before the trace or is missing, with the
    sum of their durations; `overhead_ns` is what the profiler says it cost; `capture` is what was
    measured beside the trace.
    """

    rank: int
    file: str
    gpu: str
    span_ns: int
    device_busy_ns: int
    events: Mapping[str, int]
    threads: tuple[ThreadContent, ...]
    streams: tuple[StreamContent, ...]
    steps: tuple[StepContent, ...]
    steps_from: str
    collectives: tuple[CollectiveContent, ...]
    profiler: ProfilerFacts
    waits: Mapping[str, int]
    unresolved_waits: int
    graph_launches: int
    without_launch: int
    without_launch_ns: int
    overhead_ns: int
    skipped: Mapping[str, int]
    dropped: Mapping[str, int]
    capture: CaptureNotes | None = None


@dataclass(frozen=True)
class Layout:
    """The job's size, the ranks that were traced, its process groups."""

    world_size: int
    ranks: tuple[int, ...]
    backend: str
    groups: tuple[ProcessGroup, ...]


@dataclass(frozen=True)
class Inspection:
    """Everything `lumos inspect` tells, grade apart."""

    layout: Layout
    ranks: tuple[RankInspection, ...]
    findings: tuple[Finding, ...]


def inspect(traces: Sequence[Trace], job: Job | None, problem: str = "") -> Inspection:
    """Describe `traces` and the Job built from them; without a Job `problem` says why there is none."""
    ranks = tuple(t.rank if t.rank is not None else n for n, t in enumerate(traces))
    if job is None:
        world_size = max([len(traces), *(trace.world_size or 1 for trace in traces)])
        groups = tuple(dict.fromkeys(group for trace in traces for group in trace.process_groups))
        findings = [finding for trace in traces for finding in trace.findings]
        findings.append(Finding("not-replayable", "error", problem))
    else:
        world_size, groups = job.placement.world_size, job.placement.groups
        findings = list(job.findings)
    backend = next((trace.backend for trace in traces if trace.backend), "")
    return Inspection(
        Layout(world_size, ranks, backend, groups),
        tuple(
            _inspect_rank(rank, place, trace, job)
            for place, (rank, trace) in enumerate(zip(ranks, traces, strict=True))
        ),
        tuple(findings),
    )


def _inspect_rank(rank: int, place: int, trace: Trace, job: Job | None) -> RankInspection:
    program = None if job is None else job.programs[job.placement.role[place]]
    origin = Provenance() if program is None else program.provenance
    names = () if program is None else program.blocks
    device = np.flatnonzero(np.isin(trace.kind, DEVICE_KINDS))
    calls = np.flatnonzero(trace.kind == EventKind.CALL)
    classes = call_classes(trace.strings)[trace.name[calls]]
    launched = np.isin(trace.correlation[device], trace.correlation[calls])
    orphans = device[~launched | (trace.correlation[device] == MISSING)]
    kinds = Counter(trace.kind.tolist())
    collectives = _collectives(job, place, trace) if job is not None else ()
    return RankInspection(
        rank=rank,
        file=trace.source,
        gpu=trace.gpu,
        span_ns=int((trace.start_ns + trace.duration_ns).max() - trace.start_ns.min()),
        device_busy_ns=_covered_ns(trace, device),
        events={kind.name.lower(): kinds[kind] for kind in EventKind if kinds[kind]},
        threads=_threads(trace),
        streams=_streams(trace, device),
        steps=tuple(
            StepContent(name, length) for name, length in zip(names, origin.step_ns, strict=True)
        ),
        steps_from=origin.steps,
        collectives=collectives,
        profiler=_profiler_facts(trace, classes, communicates=bool(collectives)),
        waits=dict(origin.waits),
        unresolved_waits=max(origin.waits_total - sum(origin.waits.values()), 0),
        graph_launches=int((classes == CallClass.GRAPH_LAUNCH).sum()),
        without_launch=len(orphans),
        without_launch_ns=int(trace.duration_ns[orphans].sum()),
        overhead_ns=int(trace.duration_ns[trace.kind == EventKind.OVERHEAD].sum()),
        skipped={why: count for why, count in sorted(trace.skipped.items()) if why not in REPAIRS},
        dropped={why: count for why, count in trace.skipped.items() if why in REPAIRS},
        capture=trace.capture,
    )


def _covered_ns(trace: Trace, rows: NDArray[np.intp]) -> int:
    """Time in which at least one of the events ran."""
    if not len(rows):
        return 0
    rows = rows[np.argsort(trace.start_ns[rows], kind="stable")]
    start = trace.start_ns[rows]
    end = np.maximum.accumulate(start + trace.duration_ns[rows])
    before = np.concatenate([start[:1], end[:-1]])
    return int(np.maximum(end - np.maximum(start, before), 0).sum())


def _threads(trace: Trace) -> tuple[ThreadContent, ...]:
    """Host threads, the busiest first."""
    host = np.flatnonzero(np.isin(trace.kind, (EventKind.OPERATOR, EventKind.CALL)))
    found = []
    for rows in _grouped(host, trace.process, trace.thread):
        process, thread = trace.text(trace.process[rows[0]]), trace.text(trace.thread[rows[0]])
        name = trace.thread_names.get((process, thread), "")
        found.append(ThreadContent(process, thread, name, len(rows), _covered_ns(trace, rows)))
    return tuple(sorted(found, key=lambda one: -one.busy_ns))


def _streams(trace: Trace, device: NDArray[np.intp]) -> tuple[StreamContent, ...]:
    """Device streams, the busiest first."""
    found = [
        StreamContent(
            int(trace.device[rows[0]]), int(trace.stream[rows[0]]),
            len(rows), int(trace.duration_ns[rows].sum()),
        )
        for rows in _grouped(device, trace.device, trace.stream)
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda one: -one.busy_ns))


def _grouped(
    rows: NDArray[np.intp], first: NDArray[Any], second: NDArray[Any]
) -> list[NDArray[np.intp]]:
    """`rows` in groups of equal values of two columns of the trace."""
    order = rows[np.lexsort((second[rows], first[rows]))]
    changes = (np.diff(first[order]) != 0) | (np.diff(second[order]) != 0)
    return np.split(order, np.flatnonzero(changes) + 1) if len(order) else []


def _collectives(job: Job, place: int, trace: Trace) -> tuple[CollectiveContent, ...]:
    """Communication rows of one rank's program, by kind and group, longest first."""
    program, groups = job.programs[job.placement.role[place]], job.placement.groups
    rows = np.flatnonzero(program.rows.collective != NONE)
    members: dict[tuple[str, int], list[int]] = defaultdict(list)
    for row in rows:
        one = program.collectives[program.rows.collective[row]]
        members[one.kind.name.lower(), one.group].append(int(row))
    found = []
    for (kind, group), mine in members.items():
        sizes = [
            max((size for size in (one.in_bytes, one.out_bytes) if size is not None), default=None)
            for one in (program.collectives[program.rows.collective[row]] for row in mine)
        ]
        event = program.rows.event[mine]
        found.append(
            CollectiveContent(
                kind=kind,
                group=groups[group].name if group != NONE else None,
                description=groups[group].description if group != NONE else None,
                tasks=len(mine),
                known_bytes=sum(size for size in sizes if size is not None),
                without_bytes=sum(size is None for size in sizes),
                busy_ns=int(trace.duration_ns[event[event != NONE]].sum()),
            )
        )
    return tuple(sorted(found, key=lambda one: (-one.busy_ns, one.kind, one.group or "")))


def _profiler_facts(
    trace: Trace, classes: NDArray[np.uint8], *, communicates: bool
) -> ProfilerFacts:
    operators = trace.kind == EventKind.OPERATOR
    device = bool(np.isin(trace.kind, DEVICE_KINDS).any())
    named = len(trace.argument(Argument.GROUP_NAME)[0]) > 0
    return ProfilerFacts(
        shapes=bool((trace.shapes[operators] != MISSING).any()) if operators.any() else None,
        stacks=bool((trace.kind == EventKind.PYTHON).any()),
        sync_events=bool((trace.kind == EventKind.SYNC).any()),
        event_records=bool((classes == CallClass.RECORD).any()) if device else None,
        collective_metadata=named if communicates else None,
    )
