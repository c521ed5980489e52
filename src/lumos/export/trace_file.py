"""A file of trace events in Chrome's JSON format, written piece by piece, always the same bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec
from isal import igzip

_EVENTS_A_PIECE = 4096
_ENCODER = msgspec.json.Encoder(order="deterministic")


class TraceFile:
    """An open trace file; memory holds one piece of events at a time."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._separator = b"\n"

    def write(self, events: Iterable[msgspec.Struct]) -> None:
        """Append `events` in the order given."""
        remaining = iter(events)
        while piece := list(islice(remaining, _EVENTS_A_PIECE)):
            lines = b",\n".join(_ENCODER.encode(event) for event in piece)
            self._stream.write(self._separator + lines)
            self._separator = b",\n"


@contextmanager
def open_trace_file(path: Path, header: Mapping[str, Any]) -> Iterator[TraceFile]:
    """A trace file at `path` (packed where that ends in .gz) that starts with `header`'s entries.

    The gzip header holds no time and no name, so that equal content makes equal files.
    """
    with path.open("wb") as plain:
        packed = path.name.endswith(".gz")
        stream = (
            igzip.IGzipFile("", "wb", 2, plain, mtime=0)  # type: ignore[no-untyped-call]
            if packed
            else plain
        )
        stream.write(_ENCODER.encode(header)[:-1] + (b"," if header else b"") + b'"traceEvents":[')
        yield TraceFile(cast("BinaryIO", stream))
        stream.write(b"\n]}\n")
        if packed:
            stream.close()


def microseconds(time_ns: int) -> float:
    """`time_ns` [ns] as the format writes it: us, exact to the ns."""
    return time_ns / 1000
