"""The place of every row in the model's step: phase, layer, micro-batch - where it can be told.

Layers and micro-batches are told by annotations (`layer 3`, `micro-batch 1`), layers also by modules
of recorded Python stacks; a backward operator belongs to the layer of the forward operator with its
sequence number. Phases: lumos.build.phases. What nothing tells stays unknown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lumos.build.nesting import Nesting
from lumos.build.phases import recognise_phases
from lumos.build.spans import Spans
from lumos.graph.job import NONE, Program
from lumos.graph.timeline import RankTimeline
from lumos.graph.trace import MISSING, EventKind, Trace
from lumos.graph.work import Phase

Small = TypeVar("Small", np.uint8, np.int16)
_LAYER = re.compile(r"\blayers?[ ._:#-]*(\d+)\b", re.IGNORECASE)
_MODULE = re.compile(r"nn\.Module: \w*(?:Layer|Block|Bottleneck|Decoder|Encoder)\w*?_(\d+)$")
_MESSAGE = re.compile(r"c10d::(?:send|recv)")
"""Operators that pass micro-batches from stage to stage: what is between two passes."""
_MICRO_BATCH = re.compile(r"\bmicro[ _-]?batch[ ._:#-]*(\d+)\b", re.IGNORECASE)


def recognise_structure(
    trace: Trace,
    nesting: Nesting,
    autograd: NDArray[np.uint8],
    program: Program,
    run: RankTimeline,
    thread_labels: Sequence[tuple[str, str]],
) -> tuple[NDArray[np.uint8], NDArray[np.int16], NDArray[np.int16]]:
    """Phase, layer and micro-batch of each row; UNKNOWN and NONE where nothing tells.

    A device row has those of its launch. `autograd` is the phase that it tells of each row of the
    trace; `run` has the times of the trace.
    """
    rows = program.rows
    host = np.flatnonzero(rows.launch == NONE)
    event, thread = rows.event[host], rows.processor[host]
    pauses = np.flatnonzero(event == NONE)
    spans = Spans(trace, thread_labels, thread, run.start_ns[host])
    autograd = autograd[event]
    autograd[pauses] = Phase.UNKNOWN
    message = np.array([_MESSAGE.match(name) is not None for name in program.names], bool)
    phase = recognise_phases(
        spans, autograd, pauses, thread, rows.block[host], message[rows.name[host]]
    )
    layer = spans.number(_LAYER, EventKind.ANNOTATION)
    if (layer == NONE).all():
        layer = spans.number(_MODULE, EventKind.PYTHON)
    micro_batch = spans.number(_MICRO_BATCH, EventKind.ANNOTATION)
    layer[pauses] = micro_batch[pauses] = NONE
    layer = _backward_layers(trace, nesting, event, phase, layer)
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


def _backward_layers(
    trace: Trace,
    nesting: Nesting,
    event: NDArray[np.int64],
    phase: NDArray[np.uint8],
    layer: NDArray[np.int16],
) -> NDArray[np.int16]:
    """Backward rows take the layer of the forward operator with their sequence number."""
    if not (layer != NONE).any():
        return layer
    recorded = event != NONE
    top = np.where(recorded, nesting.top[event], NONE)
    own = np.where(recorded, trace.sequence[event], MISSING)
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
