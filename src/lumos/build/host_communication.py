"""Communication that the host itself runs (gloo): spans on worker threads play a stream's tasks.

    main    | c10d::allreduce_ | backward ......... |wait| next |
    worker       |== gloo:all_reduce ==============|

The operator that issues a span launches it; which pause waits for it is told in build.host_waits.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lumos.build.inputs import told_member
from lumos.build.threads import Segments
from lumos.graph.job import NONE
from lumos.graph.trace import Argument, EventKind, Trace

SEND = "gloo:send"
POINT_TO_POINT = (SEND, "gloo:recv")
_RUN_AS = {"allgatherbase": "allgather", "reducescatterbase": "allreduce"}
"""Operators with one tensor each way, as FSDP issues them, and the span that gloo runs for them: it
has the shape of what goes in (ProcessGroupGloo: `_allgather_base`, `_reduce_scatter_base`)."""
_TENSOR = re.compile(r"\[(\d+(?:,\d+)*)\]")


@dataclass(frozen=True)
class HostSpans:
    """Spans of communication run by host threads, in order of start; one entry a span.

    `stream` numbers the queues they ran in (a worker thread, or what a thread sends to a member of a
    group, or receives from it), `labels` names them; `segment` is the host segment that issued the span, NONE unknown.
    Sends and receives start with their call: they are posted within it, and the span only begins as
    it returns. A send is a point, as long as its receiver is not known: its span lasts until somebody
    waits for it.
    """

    event: NDArray[np.int64]
    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    stream: NDArray[np.int64]
    segment: NDArray[np.int64]
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.event)


def find_host_spans(trace: Trace, segments: Segments) -> HostSpans:
    """All gloo spans of a trace and the segments that issued them."""
    is_span = np.array([text.startswith("gloo:") for text in trace.strings], bool)
    rows = np.flatnonzero((trace.kind == EventKind.ANNOTATION) & is_span[trace.name])
    rows = rows[np.argsort(trace.start_ns[rows], kind="stable")]
    if not len(rows):
        none = np.empty(0, np.int64)
        return HostSpans(none, none, none, none, none, ())
    segment = _issuing_segments(trace, segments, rows)
    values = trace.argument_column(Argument.INPUT_VALUES)
    labels: dict[str, int] = {}
    start, stream = trace.start_ns[rows], np.empty(len(rows), np.int64)
    end = start + trace.duration_ns[rows]
    for place, (row, issued) in enumerate(zip(rows.tolist(), segment.tolist(), strict=True)):
        name, thread = trace.text(trace.name[row]), trace.text(trace.thread[row])
        label = f"gloo worker {thread}"
        if name in POINT_TO_POINT:
            label = f"{name} of thread {thread}"
            if issued != NONE:
                call = int(segments.event[issued])
                if start[place] <= trace.start_ns[call] + trace.duration_ns[call]:
                    start[place] = trace.start_ns[call]
                member = told_member(trace.text(int(values[call])))
                label += f", member {member}" if member != NONE else ""
        if name == SEND:
            end[place] = start[place]
        stream[place] = labels.setdefault(label, len(labels))
    return HostSpans(rows.astype(np.int64), start, end, stream, segment, tuple(labels))


def _issuing_segments(
    trace: Trace, segments: Segments, spans: NDArray[np.intp]
) -> NDArray[np.int64]:
    """The first own segment of the operator that issued each span.

    The k-th operator of one kind and one size issues the k-th such span that starts after it. Under
    a dispatch mode one call leaves two operators, the outer of which only passes the call on.
    """
    is_operator = np.array([text.startswith("c10d::") for text in trace.strings], bool)
    operators = np.flatnonzero((trace.kind == EventKind.OPERATOR) & is_operator[trace.name])
    operators = operators[np.argsort(trace.start_ns[operators], kind="stable")]
    end_ns = trace.start_ns + trace.duration_ns
    waiting: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row in operators.tolist():
        calls = waiting[_signature(trace, row)]
        outer = calls[-1] if calls else row
        if trace.thread[outer] == trace.thread[row] and end_ns[outer] >= end_ns[row]:
            del calls[-1:]
        calls.append(row)
    first_segment: dict[int, int] = {}
    for number, event in enumerate(segments.event.tolist()):
        if event != NONE:
            first_segment.setdefault(event, number)
    found = np.full(len(spans), NONE, np.int64)
    for place, row in enumerate(spans):
        queue = waiting[_signature(trace, int(row))]
        if queue and trace.start_ns[queue[0]] <= trace.start_ns[row]:
            found[place] = first_segment.get(queue.pop(0), NONE)
    return found


def _signature(trace: Trace, row: int) -> tuple[str, str]:
    """Kind and sizes of a communication operator or span, spelled alike for both."""
    name = trace.text(trace.name[row]).partition(":")[2].strip(":")
    name = name.replace("_", "").replace("coalesced", "")
    shape = trace.text(trace.shapes[row]).replace(" ", "")
    if name in _RUN_AS:
        tensors = _TENSOR.findall(shape)  # what comes out, what goes in
        return _RUN_AS[name], " ".join(tensors[1].split(",")) if len(tensors) > 1 else ""
    inner = shape.replace("[]", "").replace(",", " ").replace("[", " ").replace("]", " ")
    return name, " ".join(inner.split())
