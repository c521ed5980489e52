"""The place of every row in the model's step: phase, layer, micro-batch - where it can be told.

Annotations tell first (`layer 3`, `micro-batch 1`, `## backward ##`), then the autograd engine's
operators, then modules of recorded Python stacks; a backward operator belongs to the layer of the
forward operator with its sequence number. What nothing tells stays unknown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lumos.build.nesting import Nesting
from lumos.graph.job import NONE, Program
from lumos.graph.trace import MISSING, EventKind, Trace
from lumos.graph.work import Phase

Small = TypeVar("Small", np.uint8, np.int16)
_BACKWARD_OPERATOR = "autograd::engine::evaluate_function"
_LAYER = re.compile(r"\blayers?[ ._:#-]*(\d+)\b", re.IGNORECASE)
_MODULE = re.compile(r"nn\.Module: \w*(?:Layer|Block|Bottleneck|Decoder|Encoder)\w*?_(\d+)$")
_MICRO_BATCH = re.compile(r"\bmicro[ _-]?batch[ ._:#-]*(\d+)\b", re.IGNORECASE)
_PHASES = (
    (re.compile(r"Optimizer\.step#|(?:## )?optimizer(?: step)?(?: ##)?$", re.IGNORECASE), Phase.OPTIMIZER),
    (re.compile(r"(?:## )?backward\b", re.IGNORECASE), Phase.BACKWARD),
    (re.compile(r"(?:## )?forward\b|DistributedDataParallel\.forward", re.IGNORECASE), Phase.FORWARD),
)  # fmt: skip


def recognise_structure(
    trace: Trace, nesting: Nesting, program: Program, thread_labels: Sequence[tuple[str, str]]
) -> tuple[NDArray[np.uint8], NDArray[np.int16], NDArray[np.int16]]:
    """Phase, layer and micro-batch of each row; UNKNOWN and NONE where nothing tells.

    A device row has those of its launch.
    """
    rows = program.rows
    host = np.flatnonzero((rows.launch == NONE) & (rows.event != NONE))
    event = rows.event[host]
    time_ns = trace.start_ns[event]
    spans = _Spans(trace, thread_labels, rows.processor[host], time_ns)
    phase = _phases(trace, nesting, spans, event)
    layer = spans.number(_LAYER, EventKind.ANNOTATION)
    if (layer == NONE).all():
        layer = spans.number(_MODULE, EventKind.PYTHON)
    layer = _backward_layers(trace, nesting, event, phase, layer)
    micro_batch = spans.number(_MICRO_BATCH, EventKind.ANNOTATION)
    owner = np.where(rows.launch == NONE, np.arange(len(rows), dtype=np.int32), rows.launch)

    def column(values: NDArray[np.integer], unknown: int, kind: type[Small]) -> NDArray[Small]:
        of_row = np.full(len(rows), unknown, kind)
        if (values == unknown).all():
            return of_row
        of_row[host] = values
        return of_row[owner]

    return (
        column(phase, Phase.UNKNOWN, np.uint8),
        column(layer, NONE, np.int16),
        column(micro_batch, NONE, np.int16),
    )


class _Spans:
    """Annotations and Python frames by thread, to ask which one is around each of some times."""

    def __init__(
        self,
        trace: Trace,
        thread_labels: Sequence[tuple[str, str]],
        thread: NDArray[np.int32],
        time_ns: NDArray[np.int64],
    ) -> None:
        self.trace = trace
        self.thread_of = {label: number for number, label in enumerate(thread_labels)}
        self.rows_of: dict[EventKind, NDArray[np.intp]] = {}
        # what is asked: thread by thread, each in order of time
        self.asked = np.lexsort((time_ns, thread))
        self.time_ns = time_ns[self.asked]
        numbers = np.arange(len(thread_labels) + 1)
        self.first = np.searchsorted(thread[self.asked], numbers)

    def number(self, pattern: re.Pattern[str], kind: EventKind) -> NDArray[np.int16]:
        """The number in the innermost span whose name has `pattern`; NONE outside."""
        numbers = {
            name: int(match.group(1))
            for name, text in self.names(kind)
            if (match := pattern.search(text)) is not None and len(match.group(1)) < 5
        }
        return self.around(numbers, kind)

    def names(self, kind: EventKind) -> list[tuple[int, str]]:
        """The names of all spans of `kind`."""
        used = np.unique(self.trace.name[self.rows(kind)])
        return [(name, self.trace.text(name)) for name in used.tolist()]

    def rows(self, kind: EventKind) -> NDArray[np.intp]:
        """The rows of the trace of `kind`, in order of time."""
        if kind not in self.rows_of:
            rows = np.flatnonzero(self.trace.kind == kind)
            self.rows_of[kind] = rows[np.argsort(self.trace.start_ns[rows], kind="stable")]
        return self.rows_of[kind]

    def around(self, value_of_name: dict[int, int], kind: EventKind) -> NDArray[np.int16]:
        """The value of the span around each time on its thread, the one begun last; NONE outside."""
        found = np.full(len(self.asked), NONE, np.int16)
        if not value_of_name:
            return found
        trace = self.trace
        names = np.fromiter(value_of_name, np.int64)
        rows = self.rows(kind)
        chosen = rows[np.isin(trace.name[rows], names)]
        owner = np.array(
            [
                self.thread_of.get(
                    (trace.text(trace.process[row]), trace.text(trace.thread[row])), NONE
                )
                for row in chosen
            ],
            np.int64,
        )
        value = np.array([value_of_name[int(trace.name[row])] for row in chosen], np.int64)
        for number in np.unique(owner[owner != NONE]):
            mine = chosen[owner == number]
            own = slice(self.first[number], self.first[number + 1])
            asked, time_ns = self.asked[own], self.time_ns[own]
            first = np.searchsorted(time_ns, trace.start_ns[mine])
            last = np.searchsorted(time_ns, trace.start_ns[mine] + trace.duration_ns[mine])
            # in order of their begins: what begins inside another span writes over it
            for low, high, one in zip(first, last, value[owner == number], strict=True):
                found[asked[low:high]] = one
        return found


def _phases(
    trace: Trace,
    nesting: Nesting,
    spans: _Spans,
    event: NDArray[np.int64],
) -> NDArray[np.int16]:
    phase = np.full(len(event), int(Phase.UNKNOWN), np.int16)
    for pattern, value in reversed(_PHASES):
        names = {
            n: int(value) for n, text in spans.names(EventKind.ANNOTATION) if pattern.match(text)
        }
        if names:
            around = spans.around(names, EventKind.ANNOTATION)
            phase = np.where(around == NONE, phase, around)
    backward = np.array([text.startswith(_BACKWARD_OPERATOR) for text in trace.strings], bool)
    top = nesting.top[event]
    phase[(top != NONE) & backward[trace.name[top]]] = Phase.BACKWARD
    return phase


def _backward_layers(
    trace: Trace,
    nesting: Nesting,
    event: NDArray[np.int64],
    phase: NDArray[np.int16],
    layer: NDArray[np.int16],
) -> NDArray[np.int16]:
    """Backward rows take the layer of the forward operator with their sequence number."""
    if not (layer != NONE).any():
        return layer
    top, own = nesting.top[event], trace.sequence[event]
    forward = (phase != Phase.BACKWARD) & (layer != NONE) & (own != MISSING)
    backward = (phase == Phase.BACKWARD) & (layer == NONE) & (top != NONE)
    wanted = np.where(backward, trace.sequence[top], MISSING)
    if not forward.any() or not backward.any():
        return layer
    numbers, first = np.unique(own[forward], return_index=True)
    layers = layer[forward][first]
    place = np.minimum(np.searchsorted(numbers, wanted), len(numbers) - 1)
    found = backward & (wanted != MISSING) & (numbers[place] == wanted)
    return np.where(found, layers[place], layer)
