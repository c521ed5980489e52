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
    marked = np.isin(trace.kind, (EventKind.ANNOTATION, EventKind.OPERATOR))
    spans: list[int] = np.flatnonzero(marked & is_loader[trace.name]).tolist()
    host = np.flatnonzero(program.rows.launch == NONE)
    thread = program.rows.processor[host]
    for span in spans:
        label = trace.text(trace.process[span]), trace.text(trace.thread[span])
        if label not in thread_labels:
            continue
        own = host[thread == thread_labels.index(label)]
        low = int(trace.start_ns[span])
        high = low + int(trace.duration_ns[span])
        start, end = run.start_ns[own], run.end_ns[own]
        inside = np.minimum(end, high) - np.maximum(start, low)
        loading[own[(inside >= 0) & (2 * inside >= end - start) & (start < high)]] = True
    launch = program.rows.launch
    return np.where(launch == NONE, loading, loading[launch])
