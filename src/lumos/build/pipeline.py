"""Traces -> Job: one question after another, top to bottom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lumos.build.assemble import assemble_program
from lumos.build.autograd import phases_of_autograd
from lumos.build.calls import CallClass, call_classes
from lumos.build.collectives import Communication, describe_communication
from lumos.build.data_loading import data_loading
from lumos.build.device import DeviceTasks, link_device_tasks, out_of_order
from lumos.build.hand_offs import find_hand_offs
from lumos.build.host_communication import find_host_spans
from lumos.build.host_waits import HostWait, find_host_waits, without_late_ends
from lumos.build.kernels import communication_kernels
from lumos.build.nesting import nest
from lumos.build.pieces import host_pieces
from lumos.build.ranks import match_ranks
from lumos.build.steps import Steps, cut_to, find_common_steps, find_steps
from lumos.build.structure import recognise_structure
from lumos.build.synchronize import find_synchronizations, returned_early
from lumos.build.threads import host_events, segment_threads
from lumos.build.waits import resolve_waits
from lumos.build.work import describe_work
from lumos.errors import UnusableInputError
from lumos.graph.finding import Finding
from lumos.graph.job import NONE, Job, Placement, Program, Provenance
from lumos.graph.timeline import RankTimeline, Timeline
from lumos.graph.trace import EventKind, Trace
from lumos.graph.work import Phase
from lumos.units import ms


def build(traces: Sequence[Trace], step: int | None = None) -> tuple[Job, Timeline]:
    """The Job that the traces recorded, and its measured run (times from the run's start, ns).

    With `step`, from that step alone: as if the profiler had run for it and no other.
    """
    steps, findings = find_common_steps(traces)
    built = [build_rank(trace, step, own) for trace, own in zip(traces, steps, strict=True)]
    programs, runs, described, contradictions = zip(*built, strict=True)
    matched = match_ranks(traces, programs, runs, described)
    origin = min((int(run.start_ns.min()) for run in matched.runs if len(run)), default=0)
    ranks = tuple(trace.rank if trace.rank is not None else n for n, trace in enumerate(traces))
    placement = Placement(
        ranks=ranks,
        role=tuple(range(len(traces))),
        world_size=max([trace.world_size or 1 for trace in traces] + [len(traces)]),
        groups=matched.groups,
        gpu=traces[0].gpu,
    )
    timeline = Timeline(
        tuple(
            replace(run, start_ns=run.start_ns - origin, end_ns=run.end_ns - origin)
            for run in matched.runs
        )
    )
    findings = [finding for trace in traces for finding in trace.findings] + findings
    findings += [finding for of_rank in contradictions for finding in of_rank]
    return Job(matched.programs, placement, findings=(*findings, *matched.findings)), timeline


def build_rank(
    trace: Trace, step: int | None = None, steps: Steps | None = None
) -> tuple[Program, RankTimeline, list[Communication], list[Finding]]:
    """The program of one rank, its measured run in the trace's own time, its communication.

    And what cannot have happened when the trace says it did. `steps` are
    those of the trace where they are known.
    """
    if step is None:
        events = host_events(trace)
        segments = segment_threads(trace, events)
        steps = find_steps(trace, segments) if steps is None else steps
    else:
        steps = (find_steps(trace) if steps is None else steps).only(step)
        trace = cut_to(trace, steps)
        window = int(steps.begin_ns[0]), int(steps.end_ns[-1])
        events = host_events(trace)
        segments = segment_threads(trace, events, window)
        if not len(segments):  # device tasks alone hang on nothing
            trace = trace.take(np.empty(0, np.intp))
    if step is None and not len(segments):
        raise UnusableInputError(
            f"{trace.source}: no operator or runtime call; "
            "record with both the CPU and the GPU activity"
        )
    spans = find_host_spans(trace, segments)
    host_waits = find_host_waits(trace, events, segments, spans, steps)
    spans = without_late_ends(spans, host_waits)
    tasks = link_device_tasks(trace, segments, spans)
    is_call = (segments.event != NONE) & (trace.kind[segments.event] == EventKind.CALL)
    classes = np.where(
        is_call,
        call_classes(trace.strings)[trace.name[segments.event]],
        np.uint8(CallClass.NOT_A_CALL),
    )
    communicates = communication_kernels(trace.strings)[trace.name[tasks.event]]
    communicates |= trace.kind[tasks.event] == EventKind.ANNOTATION
    step_of_segment = steps.step_at(segments.start_ns)
    waits = resolve_waits(trace, segments, tasks, classes, communicates, step_of_segment)
    early, early_ns = returned_early(segments, tasks, classes)
    synchronizations = find_synchronizations(trace, segments, tasks, classes, early)
    host = host_pieces(
        segments, classes, tasks, steps, step_of_segment, waits, synchronizations,
        find_hand_offs(segments), spans, host_waits,
    )  # fmt: skip
    number = np.where(communicates, communicates.cumsum() - 1, NONE).astype(np.int32)
    described = describe_communication(trace, segments, tasks, communicates)
    stream_waits = int((classes == CallClass.WAIT_EVENT).sum())
    contradictions = _contradictions(trace, tasks, early_ns) + _late_ends(trace, host_waits)
    nesting, thread_labels = nest(trace, events), events.labels
    autograd = phases_of_autograd(trace, events, nesting.parent)
    del events, segments, step_of_segment, classes, communicates  # their memory serves the rows
    program, run = assemble_program(
        trace, host, tasks, steps, thread_labels, number, len(described)
    )
    provenance = Provenance(
        steps.source,
        tuple((steps.end_ns - steps.begin_ns).tolist()),
        Counter(wait.evidence.name.lower() for wait in waits),
        stream_waits,
    )
    works = describe_work(trace, nesting, program, described)
    phase, layer, micro_batch = recognise_structure(
        trace, nesting, autograd, program, run, thread_labels
    )
    phase[data_loading(trace, thread_labels, program, run)] = Phase.DATA_LOADING
    rows = program.rows.with_columns(
        work=works.number, work_share=works.share,
        phase=phase, layer=layer, micro_batch=micro_batch,
    )  # fmt: skip
    return (
        replace(program, rows=rows, works=works.table, provenance=provenance),
        run,
        described,
        contradictions,
    )


def _contradictions(trace: Trace, tasks: DeviceTasks, early_ns: NDArray[np.int64]) -> list[Finding]:
    """What the trace says that cannot have happened so; `early_ns`: how early calls returned."""
    found = []
    bad = out_of_order(tasks)
    if bad.any():
        message = (
            f"{int(bad.sum())} device tasks of {trace.source} ran before tasks launched ahead of them "
            "on their stream had ended; they are replayed in the order of their launches"
        )
        affected = int((tasks.end_ns - tasks.start_ns)[bad].sum())
        found.append(
            Finding("stream-order-broken", "warning", message, affected, "update the profiler")
        )
    if len(early_ns):
        message = (
            f"{len(early_ns)} calls of {trace.source} that wait for the whole device returned while it "
            f"worked, up to {ms(int(early_ns.max())):.3f} ms before its end; they wait for nothing here"
        )
        found.append(
            Finding(
                "returned-early", "warning", message, int(early_ns.sum()), "update the profiler"
            )
        )
    return found


def _late_ends(trace: Trace, waits: Sequence[HostWait]) -> list[Finding]:
    """Communication that is recorded to end when the thread that waited for it had long gone on."""
    late = [one.late_ns for one in waits if one.late_ns]
    if not late:
        return []
    message = (
        f"collectives of {trace.source} are recorded to end up to {ms(max(late)):.2f} ms after the thread "
        f"that waited for them had gone on, {len(late)} in all; they end when it did"
    )
    return [Finding("late-ends", "info", message, sum(late))]
