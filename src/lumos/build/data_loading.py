"""Which host time is the data loader's: what runs, and what pauses, inside its spans.

PyTorch marks each batch that it fetches (`enumerate(DataLoader)#...__next__`), others annotate it
themselves (`## data_load ##`). A worker process that is late shows as a pause without any event.

    thread | enumerate(DataLoader)#... |        span
           | gap .............| copy_ | linear |   rows: the first two are data loading
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lumos.compiled import compiled
from lumos.graph.job import NONE, Program
from lumos.graph.timeline import RankTimeline
from lumos.graph.trace import EventKind, Trace

DATA_LOADER = re.compile(r"data[ _-]?load", re.IGNORECASE)
"""What names of data loaders' spans have in them."""


def data_loading(
    trace: Trace, thread_labels: Sequence[tuple[str, str]], program: Program, run: RankTimeline
) -> NDArray[np.bool_]:
    """Host rows at least half of whose time is inside a data loader's span, and what they launch.

    `run` has the times of the trace. A span concerns its own thread.
    """
    loading = np.zeros(len(program.rows), bool)
    is_loader = np.array([DATA_LOADER.search(text) is not None for text in trace.strings], bool)
    if not is_loader.any():
        return loading
    marked = (trace.kind == EventKind.ANNOTATION) | (trace.kind == EventKind.OPERATOR)
    spans = np.flatnonzero(marked & is_loader[trace.name])
    host = np.flatnonzero(program.rows.launch == NONE)
    labels = list(zip(trace.process[spans].tolist(), trace.thread[spans].tolist(), strict=True))
    for process, thread in dict.fromkeys(labels):
        label = trace.text(process), trace.text(thread)
        if label not in thread_labels:
            continue
        own = host[program.rows.processor[host] == thread_labels.index(label)]
        mine = spans[[one == (process, thread) for one in labels]]
        _mark(
            trace.start_ns[mine], trace.duration_ns[mine], own, run.start_ns[own], run.end_ns[own],
            loading,
        )  # fmt: skip
    launch = program.rows.launch
    return np.where(launch == NONE, loading, loading[launch])


@compiled()
def _mark(begin, duration, own, start, end, loading):  # type: ignore[no-untyped-def]
    """Mark the rows `own` of a thread, in order of time, of which half is inside a span."""
    for span in range(len(begin)):
        low, high = begin[span], begin[span] + duration[span]
        row = np.searchsorted(end, low)
        while row < len(own) and start[row] < high:
            inside = min(end[row], high) - max(start[row], low)
            if 2 * inside >= end[row] - start[row]:
                loading[own[row]] = True
            row += 1
