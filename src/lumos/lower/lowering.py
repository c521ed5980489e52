"""Job -> ExecutionGraph: every rule on every rank, then one order in which all can run."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
from numpy.typing import NDArray

from lumos.graph.execution import Edges, ExecutionGraph, Rule
from lumos.graph.job import NONE, WHOLE_DEVICE, Job, Program, TaskKind
from lumos.graph.meetings import Where, is_synchronous, meetings, messages
from lumos.lower.back_pressure import back_pressure
from lumos.lower.by_task import Dependencies, by_task
from lumos.lower.classes import call_names, values_of
from lumos.lower.contention import sharing_kernels
from lumos.lower.context import RankContext, rank_context
from lumos.lower.event_wait import captured_items, event_wait
from lumos.lower.hand_off import hand_off
from lumos.lower.launch import launch
from lumos.lower.order import as_written, order_by_turns, topological_order
from lumos.lower.program_order import program_order
from lumos.lower.rendezvous import message_edges, rendezvous
from lumos.lower.stream_order import stream_order
from lumos.lower.synchronize import synchronize

RULES: tuple[tuple[Rule, Callable[[RankContext], Edges]], ...] = (
    (Rule.PROGRAM_ORDER, program_order),
    (Rule.LAUNCH, launch),
    (Rule.STREAM_ORDER, stream_order),
    (Rule.EVENT_WAIT, event_wait),
    (Rule.SYNCHRONIZE, synchronize),
    (Rule.BACK_PRESSURE, back_pressure),
    (Rule.HAND_OFF, hand_off),
)


def lower(job: Job, drop: Collection[Rule] = ()) -> ExecutionGraph:
    """Derive what must wait for what; `drop` leaves out kinds of dependencies.

    Raises UnfinishableScheduleError where tasks wait for each other in a circle.
    """
    programs = [job.programs[role] for role in job.placement.role]
    met = [] if Rule.RENDEZVOUS in drop else meetings(programs)
    sent = [] if Rule.RENDEZVOUS in drop else messages(programs, job.placement.ranks)
    met += [list(pair) for pair in sent if is_synchronous(programs, pair)]
    sent = [pair for pair in sent if not is_synchronous(programs, pair)]
    contexts = _contexts(job, programs, met, sent)
    found = [
        (rule, derive(context))
        for rule, derive in RULES
        if rule not in drop
        for context in contexts
    ]
    point = sum(len(c.program.rows) + c.markers for c in contexts)
    offsets = [c.offset for c in contexts]
    found.append((Rule.RENDEZVOUS, rendezvous(met, [c.opening for c in contexts], offsets, point)))
    found.append((Rule.RENDEZVOUS, message_edges(sent, offsets)))
    dependencies = by_task(found, point + len(met))
    order = _order(contexts, met, point, dependencies)
    if order is None:
        describe = _describe(job, contexts)
        order = topological_order(dependencies.first, dependencies.before, describe)
    return _graph(contexts, dependencies, order, drop)


def _contexts(
    job: Job,
    programs: list[Program],
    met: list[list[Where]],
    sent: list[tuple[Where, Where]],
) -> list[RankContext]:
    coupled = [np.zeros(len(program.rows), bool) for program in programs]
    for members in met:
        for place, row in members:
            coupled[place][row] = True
    for _, (place, row) in sent:
        coupled[place][row] = True
    marker = sum(len(program.rows) for program in programs)
    contexts, offset, processor = [], 0, 0
    for program, own in zip(programs, coupled, strict=True):
        context, marker = rank_context(program, job.lags, offset, processor, marker, own)
        contexts.append(context)
        offset += len(program.rows)
        processor += len(program.processors)
    return contexts


def _order(
    contexts: list[RankContext],
    met: list[list[Where]],
    first_point: int,
    dependencies: Dependencies,
) -> NDArray[np.int32] | None:
    """The order of the rows where that is possible; a meeting comes before its last member's row."""
    points = [np.full(len(context.opening), NONE, np.int32) for context in contexts]
    for number, members in enumerate(met):
        place, row = members[-1]
        points[place][row] = first_point + number
    lists = [
        as_written(context.opening, context.marker_of_row, point, context.offset)
        for context, point in zip(contexts, points, strict=True)
    ]
    return order_by_turns(dependencies.first, dependencies.before, lists)


def _graph(
    contexts: list[RankContext],
    dependencies: Dependencies,
    order: NDArray[np.int32],
    drop: Collection[Rule],
) -> ExecutionGraph:
    count = len(order)
    rows = sum(len(context.program.rows) for context in contexts)
    duration, delay = np.zeros(count, np.int64), np.zeros(count, np.int64)
    release = np.full(count, 0, np.int64)
    processor, rank = np.full(count, NONE, np.int32), np.full(count, NONE, np.int32)
    opening = np.arange(count, dtype=np.int32)
    on_host = np.zeros(count, bool)
    gpu, waves = np.full(count, NONE, np.int32), np.zeros(count, np.float32)
    for number, context in enumerate(contexts):
        table, own = (
            context.program.rows,
            slice(context.offset, context.offset + len(context.program.rows)),
        )
        duration[own], delay[context.opening] = table.duration_ns, table.delay_ns
        processor[own] = table.processor + context.processor_offset
        rank[own] = number
        is_stream = np.array([p.is_stream for p in context.program.processors], bool)
        on_host[own] = ~is_stream[table.processor]
        waves[own] = table.waves
        if Rule.CONTENTION not in drop:
            gpu[own] = sharing_kernels(context, number)
        marked = np.flatnonzero(context.marker_of_row != NONE)
        processor[context.marker_of_row[marked]] = table.stream[marked] + context.processor_offset
        rank[context.marker_of_row[marked]] = number
        opened = np.flatnonzero(context.opening != opening[own])
        opening[context.offset + opened] = context.opening[opened]
        processor[context.opening[opened]] = table.processor[opened] + context.processor_offset
        rank[context.opening[opened]] = number
        _release(context, release)
    return ExecutionGraph(
        duration_ns=duration,
        delay_ns=delay,
        release_ns=release,
        processor=processor,
        rank=rank,
        **dependencies._asdict(),
        order=order,
        row_offset=np.array([c.offset for c in contexts] + [rows], np.int64),
        opening=opening,
        on_host=on_host,
        device=gpu,
        waves=waves,
    )


def _release(context: RankContext, release: NDArray[np.int64]) -> None:
    """What the recorded start delays: first rows of busy processors, waits for earlier work."""
    program, start = context.program, context.program.start
    rows = program.rows
    waits = np.flatnonzero((rows.kind == TaskKind.WAIT_EVENT) & (rows.awaits != NONE)).astype(
        np.int64
    )
    unbound = waits[context.signalling_row(waits) == NONE]
    release[context.marker_of_row[unbound]] = context.state_of_slots(unbound)
    host = np.flatnonzero((rows.kind != TaskKind.WAIT_EVENT) & (rows.awaits != NONE)).astype(
        np.int64
    )
    early = host[context.signalling_row(host) == NONE]
    release[context.offset + early] = context.state_of_slots(early)
    if start is None:
        return
    for number, processor in enumerate(program.processors):
        mine = (
            context.item_task[context.item_first[number] : context.item_first[number + 1]]
            if processor.is_stream
            else context.offset + np.flatnonzero(rows.processor == number)[:1]
        )
        if len(mine):
            release[mine[0]] = max(int(release[mine[0]]), int(start.free_ns[number]))
    _release_captured(context, release)
    calls = np.flatnonzero((rows.kind == TaskKind.SYNCHRONIZE) & (rows.awaits == NONE))
    lags = values_of(context.lags.synchronize, call_names(program, calls))
    for call, lag in zip(calls.tolist(), lags.tolist(), strict=True):
        streams = (
            [n for n, p in enumerate(program.processors) if p.is_stream]
            if rows.stream[call] == WHOLE_DEVICE
            else [int(rows.stream[call])]
        )
        idle = [
            s
            for s in streams
            if start.free_ns[s] > 0
            and context.last_item(np.array([s], np.int32), np.array([call]))[0] == NONE
        ]
        for stream in idle:
            task = context.offset + call
            release[task] = max(int(release[task]), int(start.free_ns[stream]) + lag)


def _release_captured(context: RankContext, release: NDArray[np.int64]) -> None:
    """What ran into the recorded start and is captured by records on streams given nothing yet."""
    rows, start = context.program.rows, context.program.start
    assert start is not None
    for kind, task, lags in (
        (TaskKind.WAIT_EVENT, context.marker_of_row, None),
        (TaskKind.SYNCHRONIZE, context.offset + np.arange(len(rows)), context.lags.synchronize),
    ):
        waiting, captured = captured_items(context, kind)
        record = context.signalling_row(waiting)
        early = (record != NONE) & (captured == NONE)
        until = start.free_ns[rows.stream[record[early]]]
        if lags is not None:
            lag = values_of(lags, call_names(context.program, waiting[early]))
            until = np.where(until > 0, until + lag, 0)
        held = task[waiting[early]]
        release[held] = np.maximum(release[held], until)


def _describe(job: Job, contexts: list[RankContext]) -> Callable[[int], str]:
    """Words for a task, for the error that names a circle."""

    def describe(task: int) -> str:
        for number, context in enumerate(contexts):
            program: Program = context.program
            if context.offset <= task < context.offset + len(program.rows):
                row = task - context.offset
                name = program.names[program.rows.name[row]]
                name = name if len(name) <= 60 else f"{name[:57]}..."
                return f"rank {job.placement.ranks[number]}: {name}"
        return "a point on a stream"

    return describe
