"""The phase of host rows: forward, backward, optimizer - where it can be told.

Annotations tell, those of torch's optimizers, FSDP and DDP among them, and autograd does. What lies
between two rows of one phase that autograd told belongs to it, where nothing of another phase comes
between on any thread; and so does what lies between two rows in one annotation:

    thread | item | embedding | gap | eq | gap | linear | item | evaluate_function ... |
           |  ?   | forward   |  forward, too  | forward|   ?  | backward              |
"""

from __future__ import annotations

import re
from itertools import count

import numpy as np
from numpy.typing import NDArray

from lumos.build.spans import Spans
from lumos.compiled import compiled
from lumos.graph.work import Phase

_STEP = re.compile(r"Optimizer\.(?:step|zero_grad)#")
"""What torch's optimizers call their spans in every trace. A closure's passes run inside."""
_ANNOTATIONS = (
    (
        re.compile(
            r"(?:## )?forward\b|FSDP::\w*forward"
            r"|(?:Distributed|FullySharded)?DataParallel\.\w*forward",
            re.IGNORECASE,
        ),
        Phase.FORWARD,
    ),
    (
        re.compile(
            r"(?:## )?backward\b|FSDP::\w*backward|FullyShardedDataParallel\.\w*backward",
            re.IGNORECASE,
        ),
        Phase.BACKWARD,
    ),
    (
        re.compile(r"(?:## )?(?:optimizer(?: step)?|zero_grad)(?: ##)?$", re.IGNORECASE),
        Phase.OPTIMIZER,
    ),
)
"""What users, FSDP and DDP call them, the strongest last."""


def recognise_phases(
    spans: Spans,
    autograd: NDArray[np.uint8],
    pauses: NDArray[np.intp],
    thread: NDArray[np.int32],
    block: NDArray[np.int32],
    between: NDArray[np.bool_],
) -> NDArray[np.uint8]:
    """The Phase of each host row, in host order, as `spans` is asked; UNKNOWN where nothing tells.

    `autograd` is what that tells of each row, `thread` and `block` its thread and step; `between` are
    rows that come between two passes, `pauses` those that are no event of the trace: these are told
    by their neighbours alone. Annotations have the last word, but on what autograd evaluates: that
    is backward whatever it is called.
    """
    phase = np.zeros(len(autograd), np.uint8)
    span = np.zeros(len(autograd), np.int32)  # the annotation that told, from 1
    numbers = count(1)
    for inside in spans.inside(_STEP):
        phase[inside], span[inside] = Phase.OPTIMIZER, next(numbers)
    forward = autograd == Phase.FORWARD
    phase[forward] = Phase.FORWARD
    for pattern, value in _ANNOTATIONS:
        for inside in spans.inside(pattern):
            phase[inside], span[inside] = value, next(numbers)
    phase[autograd == Phase.BACKWARD] = Phase.BACKWARD
    phase[pauses] = Phase.UNKNOWN
    # between two rows that run backward may be a forward pass if autograd tells of none
    joins = bool(forward.any())
    _fill(phase, span, autograd, joins, thread, block, between)
    return phase


@compiled()
def _fill(phase, span, autograd, joins, thread, block, between):  # type: ignore[no-untyped-def]
    """Give what nothing told the phase of what is around it on its thread, if that is one run.

    A run are rows of one phase and step, with no other told row between them on any thread. Both
    around must be in one annotation or, if autograd `joins` them, both be told by it.
    """
    given = np.zeros(len(phase), np.uint8)  # by each told row to the untold in front of it
    last = np.full(thread.max() + 1 if len(thread) else 0, -1, np.int64)
    run_of = np.zeros(len(last), np.int64)
    run, before = 0, -1
    for row in range(len(phase)):
        if phase[row] == 0 and not between[row]:
            continue
        if before >= 0 and (phase[before] != phase[row] or block[before] != block[row]):
            run += 1
        before = row
        other = last[thread[row]]
        if other >= 0 and run_of[thread[row]] == run:
            of_autograd = autograd[row] == phase[row] and autograd[other] == phase[row]
            if (joins and of_autograd) or (span[row] > 0 and span[row] == span[other]):
                given[row] = phase[row]
        last[thread[row]], run_of[thread[row]] = row, run
    last[:] = 0
    for row in range(len(phase) - 1, -1, -1):
        if phase[row] != 0 or between[row]:
            last[thread[row]] = given[row]
        else:
            phase[row] = last[thread[row]]
