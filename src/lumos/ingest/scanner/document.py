"""The fast reader: a file -> Document in one compiled pass, or None where it is not sure.

It accepts only what it reads exactly as the typed reader does. Whatever else it meets, it gives
up the whole file: being wrong is not worth being fast.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from lumos.errors import UnusableInputError
from lumos.graph.trace import EVENT_COLUMNS, TEXT_ARGUMENTS, Argument, EventKind
from lumos.ingest.events import Document
from lumos.ingest.files import BROKEN_GZIP, largest_text
from lumos.ingest.scanner import events, header
from lumos.ingest.scanner.bits import PADDING
from lumos.ingest.scanner.keys import key_table
from lumos.ingest.scanner.source import Pieces, Readable, Window, open_text
from lumos.ingest.scanner.strings import StringTable, intern
from lumos.ingest.scanner.tokens import ESCAPED
from lumos.ingest.typed import decode_header, holds_object, thread_name
from lumos.ingest.vocabulary import KIND_OF_CATEGORY, STREAM_KINDS

_FIRST_ROWS = 2**16
_CATEGORIES = 1024
_SPARSE = {"argument_row": np.int64, "argument_key": np.uint8, "argument_value": np.int64}
_UNREADABLE = (
    UnusableInputError,
    OSError,
    BROKEN_GZIP,
    msgspec.DecodeError,
    UnicodeDecodeError,
)


class NotPlain(Exception):
    """The file holds something that the typed reader has to judge."""


def scan_document(path: Path) -> Document | None:
    """Read `path`, or None where it is no plain document: then the typed reader must."""
    try:
        return _scan(path)
    except (NotPlain, *_UNREADABLE):
        return None


def _scan(path: Path) -> Document:
    limit_bytes = largest_text(path)
    try:
        with open_text(path) as source:
            return scan_text(source, limit_bytes)
    except EOFError:
        return replace(scan_text(Pieces(path), limit_bytes), complete=False)


def scan_text(source: Readable, limit_bytes: int) -> Document:
    """Read the text that `source` gives, in whatever portions; raises NotPlain or its errors."""
    return _Scan(Window(source), limit_bytes).run()


class _Scan:
    """The state of one pass: the window, the growing columns, the tables of texts."""

    def __init__(self, window: Window, limit_bytes: int) -> None:
        self.window, self.limit_bytes = window, limit_bytes
        self.keys = key_table()
        self.strings = StringTable()
        self.categories = _Categories()
        self.columns = _new_columns()
        self.event = events.new_event()
        self.state = np.zeros(events.STATE_LENGTH, np.int64)
        self.entries: list[bytes] = []
        self.thread_names: dict[tuple[str, str], str] = {}

    def run(self) -> Document:
        borders, stage, has_events = np.zeros(2, np.int64), header.BEGIN, False
        window = self.window
        while True:
            found = header.next_entry(window.address, window.end, window.position, stage, borders)
            if found == header.WRONG and borders[1] < window.end:
                raise NotPlain
            if found in (header.WRONG, header.END_OF_TEXT):
                if found == header.END_OF_TEXT:
                    window.position = window.end
                if self._fill():
                    continue
                if found == header.WRONG or stage != header.BEHIND:
                    raise NotPlain
                return self._document(complete=True)
            window.position = int(borders[1])
            if found in (header.BARE_LIST, header.EVENT_LIST):
                if has_events:
                    raise NotPlain
                has_events = True
                if not self._read_events():
                    return self._document(complete=False)
                stage = header.BEHIND if found == header.BARE_LIST else header.NEXT_ENTRY
            elif found == header.ENTRY:
                self.entries.append(window.buffer[borders[0] : borders[1]].tobytes())
                stage = header.NEXT_ENTRY
            else:
                is_open = found == header.DOCUMENT_OPEN
                stage = header.FIRST_ENTRY if is_open else header.BEHIND

    def _fill(self) -> bool:
        filled = self.window.fill()
        if self.window.total_bytes > self.limit_bytes:
            raise NotPlain
        return filled

    def _read_events(self) -> bool:
        """Read the list of events; False where the text ends before it does."""
        window, state = self.window, self.state
        while True:
            state[events.POSITION], room = window.position, self._room()
            why = events.scan_events(
                window.address,
                window.end,
                self.keys.ctypes.data,
                self.categories.address,
                self.strings.address,
                room.ctypes.data,
                self.event.ctypes.data,
                state.ctypes.data,
            )
            window.position = int(state[events.POSITION])
            self._take_thread_names()
            if why == events.LIST_DONE:
                return True
            if why == events.NEED_STRINGS:
                self.strings = self.strings.larger(len(window.buffer))
            elif why == events.NEED_ROOM:
                self._grow()
            elif why != events.NEED_TEXT:
                raise NotPlain
            elif not self._fill():
                rest = window.buffer[window.position : window.end].tobytes()
                if not window.is_over or holds_object(rest):
                    raise NotPlain
                return False

    def _room(self) -> NDArray[np.int64]:
        """The room there is and the addresses of all columns, as compiled code takes them."""
        columns = list(self.columns.values())
        sizes = [len(columns[0]), len(columns[-2]), len(columns[-1]) // 2]
        return np.array(sizes + [column.ctypes.data for column in columns], np.int64)

    def _take_thread_names(self) -> None:
        """Events that name threads are few: the typed reader's own code reads them."""
        borders = self.columns["threads"][: 2 * self.state[events.THREADS]].tolist()
        for first, last in zip(borders[::2], borders[1::2], strict=True):
            named = thread_name(self.window.buffer[first:last].tobytes())
            if named is not None:
                self.thread_names[named[0]] = named[1]
        self.state[events.THREADS] = 0

    def _used(self, column: str) -> int:
        return int(self.state[events.ARGUMENTS if column in _SPARSE else events.ROWS])

    def _grow(self) -> None:
        """Double the columns that are nearly full; the system moves the pages, nothing is copied."""
        for name, column in self.columns.items():
            if name != "threads" and 4 * self._used(name) >= 3 * len(column):
                column.resize(2 * len(column), refcheck=False)

    def _document(self, *, complete: bool) -> Document:
        rows = self.columns
        del rows["threads"]
        for name, column in rows.items():
            column.resize(self._used(name), refcheck=False)
        strings, renumber = _strings(self.strings)
        if renumber is not None:
            _renumber(rows, renumber)
        return Document(
            header=decode_header(b"{" + b",".join(self.entries) + b"}"),
            columns={spec.name: rows[spec.name] for spec in EVENT_COLUMNS},
            strings=strings,
            argument_row=rows["argument_row"],
            argument_key=rows["argument_key"],
            argument_value=rows["argument_value"],
            thread_names=self.thread_names,
            skipped=self._skipped(),
            complete=complete,
        )

    def _skipped(self) -> dict[str, int]:
        skipped: dict[str, int] = {}
        for (text, flag), count in zip(
            self.categories.table.texts(), self.categories.counts, strict=False
        ):
            spelled = text.decode()
            if count:
                skipped[f"ph:{spelled}" if flag & events.PHASE_FLAG else spelled] = int(count)
        if no_time := int(self.state[events.NO_TIME]):
            skipped["no time"] = skipped.get("no time", 0) + no_time
        return skipped


def _new_columns() -> dict[str, NDArray[Any]]:
    """Columns with some room, in the order that compiled code knows."""
    columns = {spec.name: np.empty(_FIRST_ROWS, spec.dtype) for spec in EVENT_COLUMNS}
    sparse = {name: np.empty(_FIRST_ROWS, dtype) for name, dtype in _SPARSE.items()}
    return {**columns, **sparse, "threads": np.empty(2 * _FIRST_ROWS, np.int64)}


class _Categories:
    """The texts of `cat` and `ph` met so far, the known categories first, and their counts."""

    def __init__(self) -> None:
        self.table = StringTable(_CATEGORIES)
        self.counts = np.zeros(_CATEGORIES, np.int64)
        for category in KIND_OF_CATEGORY:
            spelled = np.frombuffer(category.encode() + bytes(PADDING), np.uint8)
            intern(self.table.address, spelled.ctypes.data, 0, len(category), 0)
        kinds = [int(kind) for kind in KIND_OF_CATEGORY.values()]
        has_stream = [kind in STREAM_KINDS for kind in EventKind]
        head = [self.table.address, self.counts.ctypes.data, len(kinds), *kinds, *has_stream]
        self._head = np.array(head, np.int64)

    @property
    def address(self) -> int:
        """What compiled code takes."""
        return int(self._head.ctypes.data)


def _strings(table: StringTable) -> tuple[tuple[str, ...], Any]:
    """The texts, and where two spellings give one text, the new number of each entry."""
    decoded = []
    for text, flag in table.texts():
        decoded.append(msgspec.json.decode(b'"' + text + b'"') if flag & ESCAPED else text.decode())
    unique: dict[str, int] = {}
    numbers = [unique.setdefault(text, len(unique)) for text in decoded]
    if len(unique) == len(decoded):
        return tuple(decoded), None
    return tuple(unique), np.array(numbers, np.int64)


def _renumber(rows: dict[str, Any], numbers: Any) -> None:
    for name in ("name", "process", "thread", "shapes", "dtypes"):
        column = rows[name]
        present = column >= 0
        column[present] = numbers[column[present]]
    is_text = np.isin(rows["argument_key"], [int(argument) for argument in TEXT_ARGUMENTS])
    rows["argument_value"][is_text] = numbers[rows["argument_value"][is_text]]


assert len(Argument) <= events.ARGUMENTS_PER_EVENT
