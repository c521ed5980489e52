"""What autograd tells of operators: which ones are of the forward pass, which of the backward.

Autograd counts the nodes of its graph, each thread on its own. An operator bears the count as it
begins, and what is evaluated backward the count at which its node was made, with the thread.

    thread | linear 7          | item 9 | evaluate_function: AddmmBackward0 8 | linear 9 ...
           |  t 7  | addmm 8 |          |   AddmmBackward0 8 | mm             |

So the last operator to bear a number made its node, and those around it that bear it, too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lumos.build.threads import HostEvents
from lumos.compiled import compiled
from lumos.graph.job import NONE
from lumos.graph.trace import MISSING, Trace
from lumos.graph.work import Phase

_IS_BACKWARD = int(Phase.BACKWARD)  # compiled code knows no enumerations
_BACKWARD = (
    "autograd::engine::evaluate_function",
    "torch.distributed.ddp.reducer::copy_bucket_to_grad",  # when all is evaluated
)


def phases_of_autograd(
    trace: Trace, events: HostEvents, parent: NDArray[np.int32]
) -> NDArray[np.uint8]:
    """FORWARD, BACKWARD or UNKNOWN for each row of the trace; `parent`: the operator around it.

    Backward is what autograd's engine evaluates (old PyTorch names no engine: what names a forward
    thread) and what DDP does behind it, with all inside, activations computed again included.
    Forward are the operators that made a node which is evaluated, with all inside them.
    """
    named = np.array([text.startswith(_BACKWARD) for text in trace.strings], bool)
    phase = _backward(events.row, parent, trace.name, trace.forward_thread, named)
    made = _makers(trace, events)
    while len(made := made[phase[made] == Phase.UNKNOWN]):
        phase[made] = Phase.FORWARD
        around = parent[made]
        made = around[(around != NONE) & (trace.sequence[around] == trace.sequence[made])]
    _hand_down(events.row, parent, phase)
    return phase


def _makers(trace: Trace, events: HostEvents) -> NDArray[np.int64]:
    """The rows of operators that made a node which is evaluated in the trace."""
    last = _last_of_number(events.row, events.thread, trace.sequence, trace.forward_thread)
    row, thread, number = events.row[last], events.thread[last], trace.sequence[events.row[last]]
    evaluated = np.flatnonzero(trace.forward_thread > 0)
    evaluated = evaluated[trace.sequence[evaluated] != MISSING]
    of_thread = trace.forward_thread[evaluated]
    found = [row[:0]]
    for own in np.unique(of_thread).tolist():
        wanted = np.sort(trace.sequence[evaluated[of_thread == own]], kind="stable")
        place = np.minimum(np.searchsorted(wanted, number), len(wanted) - 1)
        hit = wanted[place] == number
        if hit.any():
            # autograd numbers threads in its own way: it is the one that bears most of the numbers
            found.append(row[hit & (thread == np.bincount(thread[hit]).argmax())])
    return np.concatenate(found)


@compiled()
def _last_of_number(rows, thread, sequence, forward_thread):  # type: ignore[no-untyped-def]
    """Places of operators that are the last of their thread to bear their number, backward apart."""
    found = np.empty(len(rows), np.int64)
    count = 0
    before = -1
    for place in range(len(rows)):
        row = rows[place]
        if sequence[row] < 0 or forward_thread[row] > 0:
            continue
        if before >= 0 and (
            thread[before] != thread[place] or sequence[rows[before]] != sequence[row]
        ):
            found[count] = before
            count += 1
        before = place
    if before >= 0:
        found[count] = before
        count += 1
    return found[:count].copy()


@compiled()
def _backward(rows, parent, name, forward_thread, named):  # type: ignore[no-untyped-def]
    """What runs backward, in a column of phases."""
    phase = np.zeros(len(name), np.uint8)
    for row in rows:
        if forward_thread[row] > 0 or named[name[row]]:
            phase[row] = _IS_BACKWARD
        elif parent[row] >= 0:
            phase[row] = phase[parent[row]]
    return phase


@compiled()
def _hand_down(rows, parent, phase):  # type: ignore[no-untyped-def]
    """What is told of an operator holds for all inside it; `rows` in the order in which they nest."""
    for row in rows:
        if phase[row] == 0 and parent[row] >= 0:
            phase[row] = phase[parent[row]]
