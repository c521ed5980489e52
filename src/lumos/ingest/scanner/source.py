"""The text of a file, packed or not, poured through one buffer that is used again and again."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from isal import igzip

from lumos.ingest.files import GZIP_MAGIC, unpack
from lumos.ingest.scanner.bits import PADDING

FIRST_BYTES = 2**20
LARGEST_BYTES = 2**26
"""Largest buffer: one event or header entry beyond it is left to the typed reader."""


class Readable(Protocol):
    """What the window needs of a file."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill `buffer` from its start on; how many bytes, 0 at the end."""


@contextmanager
def open_text(path: Path) -> Iterator[Readable]:
    """The unpacked bytes of `path`."""
    with path.open("rb", buffering=0) as file:
        is_packed = file.read(2) == GZIP_MAGIC
        file.seek(0)
        if is_packed:
            unpack: Any = igzip.IGzipFile
            with unpack(fileobj=file, mode="rb") as unpacked, ReadAhead(unpacked) as ahead:
                yield ahead
        else:
            yield file


class ReadAhead:
    """Unpacks the next portion on a thread of its own while the last one is scanned.

    Both release the interpreter's lock, so they share two cores. Errors of the source are raised
    where the portion is asked for.
    """

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._portions = (bytearray(FIRST_BYTES), bytearray(FIRST_BYTES))
        self._turn = 0
        self._rest = memoryview(b"")
        self._thread = ThreadPoolExecutor(1)
        self._next = self._thread.submit(self._read, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    def _read(self, turn: int) -> int:
        return self._source.readinto(memoryview(self._portions[turn])) or 0

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill `buffer` as far as one portion goes; 0 at the end."""
        if not self._rest:
            self._rest = memoryview(self._portions[self._turn])[: self._next.result()]
            self._turn = 1 - self._turn
            if self._rest:
                self._next = self._thread.submit(self._read, self._turn)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


class Pieces:
    """The text of a gzip file that is cut off: slower, and to its very last byte."""

    def __init__(self, path: Path) -> None:
        self._pieces = unpack(path)
        self._rest = memoryview(b"")

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill `buffer` as far as one piece goes."""
        self._rest = self._rest or memoryview(next(self._pieces, None) or b"")
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


class Window:
    """A part of the text: `buffer[position:end]` is what is read and not yet used.

    Behind `end` there are always PADDING zero bytes.
    """

    def __init__(self, source: Readable) -> None:
        self._source = source
        self.buffer = np.zeros(FIRST_BYTES + PADDING, np.uint8)
        self.position = 0
        self.end = 0
        self.total_bytes = 0
        self.is_over = False
        """Whether the text has ended."""

    @property
    def address(self) -> int:
        """Where `buffer` is in memory, for compiled code: one word, where an array takes seven."""
        return int(self.buffer.ctypes.data)

    def fill(self) -> bool:
        """Drop what is used and read on; False where the text is over or one item is too large."""
        rest = self.end - self.position
        if rest and not self.position and self.end + PADDING == len(self.buffer):
            if len(self.buffer) > LARGEST_BYTES:
                return False
            larger = np.zeros(2 * (len(self.buffer) - PADDING) + PADDING, np.uint8)
            larger[:rest] = self.buffer[:rest]
            self.buffer = larger
        else:
            self.buffer[:rest] = self.buffer[self.position : self.end].copy()
        self.position, self.end = 0, rest
        room = self.buffer.data[rest : len(self.buffer) - PADDING]
        count = self._source.readinto(room) or 0
        self.is_over = count == 0
        self.end += count
        self.total_bytes += count
        self.buffer[self.end : self.end + PADDING] = 0
        return count > 0
