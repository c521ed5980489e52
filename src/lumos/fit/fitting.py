"""The fit, top to bottom: own times of waiting calls, lags by class, then what stays unexplained.

A lag is one value for each API or kernel class of the job, the typical case of those in which the
rule alone decided; it is never fitted to one edge. What the rules leave over is measured at the
end, in a column of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lumos.fit.back_pressure import back_pressure_depth
from lumos.fit.readiness import (
    NEVER,
    MeasuredRun,
    holding_record,
    kept_waiting,
    latest_ready,
    measured_times,
)
from lumos.graph.execution import ExecutionGraph, Rule
from lumos.graph.job import NONE, Grain, Job, Lags, Program, TaskKind
from lumos.graph.timeline import Timeline
from lumos.lower import lower
from lumos.lower.classes import (
    KINDS,
    Classes,
    call_names,
    kind_classes,
    launch_classes,
    values_of,
)
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
    Whole operations have no lags: each starts as soon as what it waits for allows.
    """
    if job.grain is Grain.OPERATION:
        graph = lower(job)
        own = _transfer_times(job, graph, *measured_times(graph, measured))
        return _with_delays(own, measured)
    return _with_delays(_with_lags(job, measured), measured)


def _with_lags(job: Job, measured: Timeline) -> Job:
    """Lags by class, and durations without waiting."""
    job = replace(job, lags=Lags(back_pressure_depth=back_pressure_depth(job, measured)))
    graph = lower(job)
    run = MeasuredRun(graph, *measured_times(graph, measured))
    lags = Lags(
        launch=_launch_lags(job, run),
        stream_order=_stream_lags(job, run),
        back_pressure_depth=job.lags.back_pressure_depth,
    )
    lags = replace(lags, event_wait=_event_lag(job, lags, run))
    job, sync_lags = _own_times(job, run)
    job = _transfer_times(job, graph, run.start_ns, run.end_ns)
    return replace(job, lags=replace(lags, synchronize=sync_lags))


def _per_program(job: Job, graph: ExecutionGraph) -> Iterable[tuple[Program, slice]]:
    """Each rank's program and the tasks of its rows."""
    bounds = graph.row_offset
    for number, role in enumerate(job.placement.role):
        yield job.programs[role], slice(int(bounds[number]), int(bounds[number + 1]))


def _typical(values: NDArray[np.int64]) -> int:
    """Mean of the middle four fifths.

    Many GPUs' time stamps are whole microseconds: a median of one- and two-microsecond gaps is off
    by up to half of one, thousands of times a step.
    """
    ordered = np.sort(values).astype(np.float64)
    cut = len(ordered) // 10
    return round(float(ordered[cut : len(ordered) - cut].mean()))


Samples = dict[str, list[NDArray[np.int64]]]


def _by_class(samples: Samples) -> dict[str, int]:
    return {name: _typical(np.concatenate(values)) for name, values in sorted(samples.items())}


def _collect(samples: Samples, classes: Classes, values: NDArray[np.int64]) -> None:
    order = np.argsort(classes.number, kind="stable")  # nothing splits into one empty part
    number, first = np.unique(classes.number[order], return_index=True)
    for one, part in zip(number.tolist(), np.split(values[order], first[1:]), strict=False):
        samples[classes.texts[one]].append(part)


def _launch_lags(job: Job, run: MeasuredRun) -> dict[str, int]:
    """Begin of the call to begin of its task, where the stream was idle when the call ended."""
    samples: Samples = defaultdict(list)
    start, end = run.start_ns, run.end_ns
    for program, own in _per_program(job, run.graph):
        rows = program.rows
        device = np.flatnonzero(rows.launch != NONE)
        call, task = own.start + rows.launch[device], own.start + device
        other = np.maximum(run.ready(Rule.STREAM_ORDER, task), run.ready(Rule.EVENT_WAIT, task))
        lag = start[task] - start[call]
        alone = (other <= end[call] - CLEAR_NS) & (lag <= LONGEST_LAG_NS + end[call] - start[call])
        alone &= lag > -CLEAR_NS
        _collect(samples, launch_classes(program, device[alone]), lag[alone])
    # a task that starts before its call shows the error of two clocks, no gain
    return {name: max(0, lag) for name, lag in _by_class(samples).items()}


def _stream_lags(job: Job, run: MeasuredRun) -> dict[str, int]:
    """End of a task to begin of the next on its stream, where that one had been launched long before."""
    samples: Samples = defaultdict(list)
    for program, own in _per_program(job, run.graph):
        rows = program.rows
        device = np.flatnonzero(rows.launch != NONE)
        previous = run.ready(Rule.STREAM_ORDER, own.start + device)
        lag = run.start_ns[own.start + device] - previous
        waited = run.end_ns[own.start + rows.launch[device]] + CLEAR_NS <= previous
        alone = waited & (previous != NEVER) & (lag <= LONGEST_LAG_NS) & (lag >= -CLEAR_NS)
        _collect(samples, kind_classes(rows.kind[device[alone]]), lag[alone])
    return _by_class(samples)


def _event_lag(job: Job, lags: Lags, run: MeasuredRun) -> int:
    """What an event wait adds: end of the awaited task to begin of the task behind the marker."""
    graph, start, end = run.graph, run.start_ns, run.end_ns
    usual = np.array([lags.stream_order.get(kind, 0) for kind in KINDS], np.int64)
    behind_marker = (graph.rule == Rule.STREAM_ORDER) & (graph.before >= graph.rows)
    edges = np.flatnonzero(behind_marker)
    task, marker = np.searchsorted(graph.first, edges, side="right") - 1, graph.before[edges]
    marker, task = marker[task < graph.rows], task[task < graph.rows]
    held = run.ready(Rule.EVENT_WAIT, marker)
    other = np.maximum(run.ready(Rule.STREAM_ORDER, marker), run.ready(Rule.LAUNCH, marker))
    values = [np.empty(0, np.int64)]
    for program, own in _per_program(job, graph):
        mine = (task >= own.start) & (task < own.stop)
        row = task[mine] - own.start
        lag = start[task[mine]] - held[mine] - usual[program.rows.kind[row]]
        called = end[own.start + program.rows.launch[row]]
        alone = (held[mine] > other[mine] + CLEAR_NS) & (called + CLEAR_NS <= held[mine])
        values.append(lag[alone & (lag <= UNEXPLAINED_NS)])
    # a task that starts before what it is said to await has ended shows that it does not await it
    return max(0, _typical(np.concatenate(values))) if any(map(len, values)) else 0


def _own_times(job: Job, run: MeasuredRun) -> tuple[Job, dict[str, int]]:
    """Synchronising rows without their wait: own time and return lag, one of each a call.

    A call that found the device idle took its own time only; one that waited took its own time
    and the lag after the awaited end. What a waiting call took beyond is left to the error.
    """
    idle: Samples = defaultdict(list)
    back: Samples = defaultdict(list)
    found = []
    for program, own in _per_program(job, run.graph):
        calls = np.flatnonzero(program.rows.kind == TaskKind.SYNCHRONIZE)
        task = own.start + calls
        start, end = run.start_ns[task], run.end_ns[task]
        # or what ran into the recorded start
        awaited = np.maximum(run.ready(Rule.SYNCHRONIZE, task), run.graph.release_ns[task])
        blocked = awaited > start
        _collect(idle, call_names(program, calls[~blocked]), (end - start)[~blocked])
        _collect(back, call_names(program, calls[blocked]), (end - awaited)[blocked])
        found.append(calls[blocked])
    returned = _by_class(back)
    alone = _by_class(idle)
    own_time = {
        name: max(0, min(alone.get(name, value), value)) for name, value in returned.items()
    }
    programs = list(job.programs)
    for role, calls in zip(job.placement.role, found, strict=True):
        duration = programs[role].rows.duration_ns.copy()
        duration[calls] = values_of(own_time, call_names(programs[role], calls))
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
        transfer[receive] = max(0, int(end[receive]) - last)
        transfer[point] = min(transfer[receive], transfer[point])
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


def _with_delays(job: Job, measured: Timeline) -> Job:
    """The column of delays: how much later than all rules allow a device task started."""
    graph = lower(job)
    start, end = measured_times(graph, measured)
    latest = latest_ready(graph, start, end)
    waves = _even_waves(job, graph, start, end, latest)
    graph = replace(graph, waves=waves)
    latest = np.maximum(latest, kept_waiting(graph, start, end, latest)[0])
    # a collective is late at its opening; what follows is waiting for the others
    delay = start[: graph.rows] - latest[graph.opening[: graph.rows]]
    programs = list(job.programs)
    for (_, own), role in zip(_per_program(job, graph), job.placement.role, strict=True):
        rows = programs[role].rows
        late = (rows.launch != NONE) & (delay[own] > UNEXPLAINED_NS)
        columns = {"delay_ns": np.where(late, delay[own], 0), "waves": waves[own]}
        programs[role] = replace(programs[role], rows=rows.with_columns(**columns))
    return replace(job, programs=tuple(programs))


def _even_waves(
    job: Job,
    graph: ExecutionGraph,
    start: NDArray[np.int64],
    end: NDArray[np.int64],
    latest: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Waves of each task; one for kernels beside which others start freely, whatever their grid.

    Their blocks are uneven: most leave at once (a batched copy of short and long inputs). Judged
    kernel by kernel name over all that the trace shows.
    """
    waves = graph.waves.copy()
    if not graph.shares_gpus:
        return waves
    held, free = holding_record(graph, start, end, latest)
    for program, own in _per_program(job, graph):
        names, size = program.rows.name, len(program.names)
        balance = np.bincount(names, weights=held[own] - free[own], minlength=size)
        waves[own] = np.where(balance[names] < 0, 1, waves[own])
    return waves
