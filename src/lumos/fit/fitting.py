"""The fit, top to bottom: own times of waiting calls, lags by class, then what stays unexplained.

A lag is one value for each API or kernel class of the job, the typical case of those in which the
rule alone decided; it is never fitted to one edge. What the rules leave over is measured at the
end, in a column of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lumos.fit.back_pressure import back_pressure_depth
from lumos.fit.readiness import (
    NEVER,
    holding_record,
    measured_times,
    ready_by_rule,
    ready_for_contention,
)
from lumos.graph.execution import ExecutionGraph, Rule
from lumos.graph.job import NONE, Job, Lags, Program, TaskKind
from lumos.graph.timeline import Timeline
from lumos.lower import lower
from lumos.lower.classes import call_names, kind_classes, launch_classes
from lumos.units import NS_PER_US

CLEAR_NS = 3 * NS_PER_US
"""By how much one rule must come last to have decided alone."""
LONGEST_LAG_NS = 25 * NS_PER_US
"""A longer delay is no lag: something else held the task."""
UNEXPLAINED_NS = 10 * NS_PER_US
"""Later starts than this count as unexplained."""


def fit(job: Job, measured: Timeline) -> Job:
    """The Job with waits taken out of durations, its lags, and the delays no rule explains.

    `measured` is the run that the rows were recorded in. Recorded start times decide lags and
    own times only through typical values by class; delays are kept beside and used on demand.
    """
    job = replace(job, lags=replace(job.lags, back_pressure_depth=back_pressure_depth(job, measured)))
    graph = lower(job)
    start, end = measured_times(graph, measured)
    ready = ready_by_rule(graph, start, end)
    lags = Lags(
        launch=_launch_lags(job, graph, start, end, ready),
        stream_order=_stream_lags(job, graph, start, end, ready),
        back_pressure_depth=job.lags.back_pressure_depth,
    )
    lags = replace(lags, event_wait=_event_lag(job, lags, graph, start, end, ready))
    job, sync_lags = _own_times(job, graph, start, end, ready)
    job = _transfer_times(job, graph, start, end)
    job = replace(job, lags=replace(lags, synchronize=sync_lags))
    job = _without_uneven_kernels(job, measured)
    return _with_delays(job, measured)


def _per_program(job: Job, graph: ExecutionGraph) -> Iterable[tuple[Program, slice]]:
    """Each rank's program and the tasks of its rows."""
    bounds = graph.row_offset
    for number, role in enumerate(job.placement.role):
        yield job.programs[role], slice(int(bounds[number]), int(bounds[number + 1]))


def _typical(values: list[int]) -> int:
    """Mean of the middle four fifths.

    Many GPUs' time stamps are whole microseconds: a median of one- and two-microsecond gaps is off
    by up to half of one, thousands of times a step.
    """
    ordered = np.sort(np.array(values, np.float64))
    cut = len(ordered) // 10
    return round(float(ordered[cut : len(ordered) - cut].mean()))


def _by_class(samples: dict[str, list[int]]) -> dict[str, int]:
    return {name: _typical(values) for name, values in sorted(samples.items())}


def _collect(
    samples: dict[str, list[int]], classes: Sequence[str], values: NDArray[np.int64]
) -> None:
    for name, value in zip(classes, values.tolist(), strict=True):
        samples[name].append(value)


def _launch_lags(
    job: Job,
    graph: ExecutionGraph,
    start: NDArray[np.int64],
    end: NDArray[np.int64],
    ready: NDArray[np.int64],
) -> dict[str, int]:
    """Begin of the call to begin of its task, where the stream was idle when the call ended."""
    samples: dict[str, list[int]] = defaultdict(list)
    for program, own in _per_program(job, graph):
        rows = program.rows
        device = np.flatnonzero(rows.launch != NONE)
        call = own.start + rows.launch[device]
        other = np.maximum(ready[Rule.STREAM_ORDER, own], ready[Rule.EVENT_WAIT, own])[device]
        lag = start[own][device] - start[call]
        alone = (other <= end[call] - CLEAR_NS) & (lag <= LONGEST_LAG_NS + end[call] - start[call])
        alone &= lag > -CLEAR_NS
        _collect(samples, launch_classes(program, device[alone]), lag[alone])
    return _by_class(samples)


def _stream_lags(
    job: Job,
    graph: ExecutionGraph,
    start: NDArray[np.int64],
    end: NDArray[np.int64],
    ready: NDArray[np.int64],
) -> dict[str, int]:
    """End of a task to begin of the next on its stream, where that one had been launched long before."""
    samples: dict[str, list[int]] = defaultdict(list)
    for program, own in _per_program(job, graph):
        rows = program.rows
        device = np.flatnonzero(rows.launch != NONE)
        previous = ready[Rule.STREAM_ORDER, own][device]
        lag = start[own][device] - previous
        waited = end[own.start + rows.launch[device]] + CLEAR_NS <= previous
        alone = waited & (previous != NEVER) & (lag <= LONGEST_LAG_NS) & (lag >= -CLEAR_NS)
        _collect(samples, kind_classes(rows.kind[device[alone]]), lag[alone])
    return _by_class(samples)


def _event_lag(
    job: Job,
    lags: Lags,
    graph: ExecutionGraph,
    start: NDArray[np.int64],
    end: NDArray[np.int64],
    ready: NDArray[np.int64],
) -> int:
    """What an event wait adds: end of the awaited task to begin of the task behind the marker."""
    markers = np.arange(graph.rows, len(graph))
    held = ready[Rule.EVENT_WAIT, markers]
    other = np.maximum(ready[Rule.STREAM_ORDER, markers], ready[Rule.LAUNCH, markers])
    binding = set(markers[(held != NEVER) & (held > other + CLEAR_NS)].tolist())
    usual = {kind: lags.stream_order.get(kind, 0) for kind in kind_classes(np.arange(len(TaskKind)))}
    values = []
    for program, own in _per_program(job, graph):
        device = np.flatnonzero(program.rows.launch != NONE)
        for row in device.tolist():
            task = own.start + row
            edges = slice(int(graph.first[task]), int(graph.first[task + 1]))
            fronts = graph.before[edges][graph.rule[edges] == Rule.STREAM_ORDER]
            if not len(fronts) or int(fronts[0]) not in binding:
                continue
            awaited = int(held[int(fronts[0]) - graph.rows])
            call_end = int(end[own.start + program.rows.launch[row]])
            lag = int(start[task]) - awaited - usual[TaskKind(program.rows.kind[row]).name]
            if call_end + CLEAR_NS <= awaited and lag <= LONGEST_LAG_NS:
                values.append(lag)
    return _typical(values) if values else 0


def _own_times(
    job: Job,
    graph: ExecutionGraph,
    start: NDArray[np.int64],
    end: NDArray[np.int64],
    ready: NDArray[np.int64],
) -> tuple[Job, dict[str, int]]:
    """Synchronising rows without their wait: own time and return lag, one of each a call.

    A call that found the device idle took its own time only; one that waited took its own time
    and the lag after the awaited end. What a waiting call took beyond is left to the error.
    """
    idle: dict[str, list[int]] = defaultdict(list)
    back: dict[str, list[int]] = defaultdict(list)
    found = []
    for program, own in _per_program(job, graph):
        calls = np.flatnonzero(program.rows.kind == TaskKind.SYNCHRONIZE)
        awaited = ready[Rule.SYNCHRONIZE, own][calls]
        blocked = awaited > start[own][calls]
        names = np.array(call_names(program, calls), object)
        _collect(idle, names[~blocked].tolist(), (end - start)[own][calls][~blocked])
        _collect(back, names[blocked].tolist(), (end[own][calls] - awaited)[blocked])
        found.append((calls, names, blocked))
    returned = _by_class(back)
    own_time = {
        name: max(0, min(_by_class(idle).get(name, value), value)) for name, value in returned.items()
    }
    programs = list(job.programs)
    for role, (calls, names, blocked) in zip(job.placement.role, found, strict=True):
        duration = programs[role].rows.duration_ns.copy()
        duration[calls[blocked]] = [own_time[name] for name in names[blocked]]
        rows = programs[role].rows.with_columns(duration_ns=duration)
        programs[role] = replace(programs[role], rows=rows)
    lags = {name: max(0, value - own_time[name]) for name, value in returned.items()}
    return replace(job, programs=tuple(programs)), lags


def _transfer_times(
    job: Job, graph: ExecutionGraph, start: NDArray[np.int64], end: NDArray[np.int64]
) -> Job:
    """Collectives that wait for other ranks, without the wait: from the last arrival to the end."""
    coupled = np.flatnonzero(graph.opening[: graph.rows] != np.arange(graph.rows))
    if not len(coupled):
        return job
    arrived: dict[int, list[int]] = {}
    for task in coupled.tolist():
        edges = slice(int(graph.first[task]), int(graph.first[task + 1]))
        point = graph.before[edges][graph.rule[edges] == Rule.RENDEZVOUS][0]
        arrived.setdefault(int(point), []).append(task)
    transfer = graph.duration_ns.copy()
    for point in [point for point in arrived if point < graph.rows]:
        # a message: the receiver's transfer; how long the sender's call lasted tells nothing
        (receive,) = arrived.pop(point)
        last = max(int(start[receive]), int(start[point]))
        transfer[receive] = transfer[point] = max(0, int(end[receive]) - last)
    for members in arrived.values():
        last = max(int(start[task]) for task in members)
        for task in members:
            transfer[task] = max(0, int(end[task]) - last)
    programs = list(job.programs)
    for (_, own), role in zip(_per_program(job, graph), job.placement.role, strict=True):
        rows = programs[role].rows
        communicates = rows.kind == TaskKind.COLLECTIVE
        duration = np.where(communicates, transfer[own], rows.duration_ns)
        programs[role] = replace(programs[role], rows=rows.with_columns(duration_ns=duration))
    return replace(job, programs=tuple(programs))


def _without_uneven_kernels(job: Job, measured: Timeline) -> Job:
    """Kernels beside which others start freely, whatever their grid says, hold nobody back.

    Their blocks are uneven: most leave at once (a batched copy of short and long inputs). Judged
    kernel by kernel name over all that the trace shows.
    """
    graph = lower(job)
    if not graph.shares_gpus:
        return job
    start, end = measured_times(graph, measured)
    latest = np.maximum(ready_by_rule(graph, start, end).max(axis=0), graph.release_ns)
    held, free = holding_record(graph, start, end, latest)
    programs = list(job.programs)
    for (program, own), role in zip(_per_program(job, graph), job.placement.role, strict=True):
        names, size = program.rows.name, len(program.names)
        balance = np.bincount(names, weights=held[own] - free[own], minlength=size)
        waves = np.where(balance[names] < 0, 1, program.rows.waves).astype(np.float32)
        programs[role] = replace(programs[role], rows=program.rows.with_columns(waves=waves))
    return replace(job, programs=tuple(programs))


def _with_delays(job: Job, measured: Timeline) -> Job:
    """The column of delays: how much later than all rules allow a device task started."""
    graph = lower(job)
    start, end = measured_times(graph, measured)
    latest = np.maximum(ready_by_rule(graph, start, end).max(axis=0), graph.release_ns)
    latest = np.maximum(latest, ready_for_contention(graph, start, end, latest))
    # a collective is late at its opening; what follows is waiting for the others
    delay = start[: graph.rows] - latest[graph.opening[: graph.rows]]
    programs = list(job.programs)
    for (_, own), role in zip(_per_program(job, graph), job.placement.role, strict=True):
        rows = programs[role].rows
        device = rows.launch != NONE
        late = device & (delay[own] > UNEXPLAINED_NS)
        programs[role] = replace(
            programs[role], rows=rows.with_columns(delay_ns=np.where(late, delay[own], 0))
        )
    return replace(job, programs=tuple(programs))
