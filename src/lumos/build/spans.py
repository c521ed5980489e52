"""Annotations and Python frames by thread, to ask which one is around each of some times."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from lumos.graph.job import NONE
from lumos.graph.trace import EventKind, Trace


class Spans:
    """The spans of a trace, and what asks for them: a thread and a time each, in order of time."""

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
        # small numbers are sorted in one go
        narrow = thread.astype(np.uint16) if len(thread_labels) < 2**16 else thread
        self.asked = np.argsort(narrow, kind="stable")
        """What is asked, thread by thread, each in order of time."""
        self.time_ns = time_ns[self.asked]
        count = np.bincount(thread, minlength=len(thread_labels))
        self.first = np.concatenate([[0], count.cumsum()])

    def number(self, pattern: re.Pattern[str], kind: EventKind) -> NDArray[np.int16]:
        """The number in the innermost span whose name has `pattern`; NONE outside."""
        numbers = {
            name: int(match.group(1))
            for name, text in self.names(kind)
            if (match := pattern.search(text)) is not None and len(match.group(1)) < 5
        }
        found = np.full(len(self.asked), NONE, np.int16)
        for name, inside in self.around(numbers, kind):
            found[inside] = numbers[name]
        return found

    def inside(self, pattern: re.Pattern[str]) -> Iterator[NDArray[np.intp]]:
        """What is asked inside each of the annotations whose names begin with `pattern`."""
        names = [name for name, text in self.names(EventKind.ANNOTATION) if pattern.match(text)]
        return (inside for _, inside in self.around(names, EventKind.ANNOTATION))

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

    def around(
        self, names: Collection[int], kind: EventKind
    ) -> Iterator[tuple[int, NDArray[np.intp]]]:
        """Name of each span of these names, and what is asked inside it on its thread.

        In order of their begins: what comes later is inside what came before, or beside it.
        """
        if not names:
            return
        trace = self.trace
        rows = self.rows(kind)
        chosen = rows[np.isin(trace.name[rows], np.fromiter(names, np.int64, len(names)))]
        owner = np.array(
            [
                self.thread_of.get(
                    (trace.text(trace.process[row]), trace.text(trace.thread[row])), NONE
                )
                for row in chosen
            ],
            np.int64,
        )
        for number in np.unique(owner[owner != NONE]):
            mine = chosen[owner == number]
            own = slice(self.first[number], self.first[number + 1])
            asked, time_ns = self.asked[own], self.time_ns[own]
            first = np.searchsorted(time_ns, trace.start_ns[mine])
            last = np.searchsorted(time_ns, trace.start_ns[mine] + trace.duration_ns[mine])
            for name, low, high in zip(trace.name[mine].tolist(), first, last, strict=True):
                yield name, asked[low:high]
