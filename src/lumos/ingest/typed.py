"""The plain reader: JSON text -> Document through msgspec; exact, tolerant, the fast one's oracle.

A document that is no valid JSON as a whole (cut off, NaN, stray bytes) is read event by event;
what cannot be read is counted, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

import msgspec
import numpy as np

from lumos.graph.trace import (
    ALL_STREAMS,
    EVENT_COLUMNS,
    MISSING,
    TEXT_ARGUMENTS,
    Argument,
    EventKind,
)
from lumos.ingest.events import Document
from lumos.ingest.vocabulary import (
    ARGUMENT_OF_KEY,
    KIND_OF_CATEGORY,
    NUMBER_COLUMN_OF_KEY,
    STREAM_KINDS,
    TEXT_COLUMN_OF_KEY,
    WHOLE_CONTEXT_STREAM,
)

INT64_LIMIT = 2**63
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Event(msgspec.Struct):
    """One element of traceEvents, values still as text where their spelling matters."""

    ph: Any = ""
    cat: Any = ""
    name: Any = ""
    pid: msgspec.Raw = msgspec.Raw(b'""')
    tid: msgspec.Raw = msgspec.Raw(b'""')
    ts: msgspec.Raw = msgspec.Raw(b"")
    dur: msgspec.Raw = msgspec.Raw(b"")
    args: dict[str, msgspec.Raw] | None = None

    def thread_name(self) -> tuple[tuple[str, str], str] | None:
        """((process, thread), name) where this is the event that names a thread."""
        name = (self.args or {}).get("name") if self.name == "thread_name" else None
        return None if name is None else ((_text(self.pid), _text(self.tid)), _text(name))


_EVENT = msgspec.json.Decoder(_Event)
_EVENTS = msgspec.json.Decoder(list[_Event])
_HEADER = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read_document(text: bytes) -> Document:
    """Decode one Kineto document: an object with `traceEvents`, or a bare list of events.

    Raises nothing for odd content: what cannot be read is counted in the result.
    """
    try:
        return _read_whole(text)
    except _UNREADABLE:
        return _salvage(text)


def _read_whole(text: bytes) -> Document:
    if text.lstrip()[:1] == b"[":
        return _fill({}, _EVENTS.decode(text), 0, complete=True)
    header = _HEADER.decode(text)
    events = _EVENTS.decode(header.pop("traceEvents", msgspec.Raw(b"[]")))
    return _fill(_decode_header(header), events, 0, complete=True)


def read_documents(text: bytes) -> list[Document]:
    """The documents in `text`: usually one; several ranks can have written theirs to one file."""
    try:
        return [_read_whole(text)]
    except _UNREADABLE:
        pieces = [text[first:last] for first, last in _documents(text)]
    if len(pieces) < 2:
        return [_salvage(text)]
    return [read_document(piece) for piece in pieces]


def decode_header(text: bytes) -> dict[str, Any]:
    """The entries of a JSON object; those whose value cannot be decoded are left out."""
    return _decode_header(_HEADER.decode(text))


def thread_name(piece: bytes) -> tuple[tuple[str, str], str] | None:
    """((process, thread), name) of a metadata event that names a thread, None for another."""
    event = _EVENT.decode(piece)
    return event.thread_name() if event.ph == "M" else None


def holds_object(text: bytes) -> bool:
    """Whether a whole object stands in the rest of a list that was cut off."""
    return next(_objects(text, 0), None) is not None


def _salvage(text: bytes) -> Document:
    """Read what can be read of a document that is not valid JSON as a whole."""
    opening = re.search(rb'"traceEvents"\s*:\s*\[', text)
    begin = opening.end() if opening else text.find(b"[") + 1
    events, malformed, end = [], 0, begin
    for first, last in _objects(text, begin):
        event = _decode_event(text[first:last])
        if event is None:
            malformed += 1
        else:
            events.append(event)
        end = last
    closing = re.match(rb"[\s,]*\]", text[end:])
    header: dict[str, Any] = {}
    if opening:
        rest = text[end + closing.end() :] if closing else b"}"
        header = _salvage_header(text[: opening.start()], rest)
    return _fill(header, events, malformed, complete=closing is not None)


def _decode_event(piece: bytes) -> _Event | None:
    for candidate in (piece, _without_bare_words(piece)):
        try:
            return _EVENT.decode(candidate)
        except _UNREADABLE:
            continue
    try:  # bytes that are no UTF-8, control characters inside strings
        cleaned = re.sub(rb"[\x00-\x1f]", b" ", piece).decode("utf-8", "replace")
        return _EVENT.decode(_without_bare_words(cleaned.encode()))
    except _UNREADABLE:
        return None


def _without_bare_words(piece: bytes) -> bytes:
    """NaN and infinities are no JSON, yet some writers print them: null says the same."""
    return re.sub(rb":\s*[-+]?(?:nan|NaN|inf|Inf|Infinity)\b", b": null", piece)


def _salvage_header(before: bytes, after: bytes) -> dict[str, Any]:
    glued = before.rstrip().rstrip(b",") + b"," + after.lstrip().lstrip(b",").lstrip()
    for candidate in (
        glued,
        re.sub(rb"([{,])\s*,", rb"\1", glued),
        before.rstrip().rstrip(b",") + b"}",
    ):
        tidy = re.sub(rb",\s*}", b"}", re.sub(rb"{\s*,", b"{", candidate))
        try:
            return _decode_header(_HEADER.decode(tidy))
        except _UNREADABLE:
            continue
    return {}


def _decode_header(raw: dict[str, msgspec.Raw]) -> dict[str, Any]:
    header = {}
    for key, value in raw.items():
        try:
            header[key] = msgspec.json.decode(value)
        except _UNREADABLE:
            continue
    return header


_STRUCTURE = re.compile(rb'["{}\[\]]')
_STRING_END = re.compile(rb'(?:[^"\\]|\\.)*"', re.DOTALL)


def _marks(text: bytes, begin: int) -> Iterator[tuple[bytes, int]]:
    """Brackets outside strings, each with the position behind it; up to a string without an end."""
    position = begin
    while (found := _STRUCTURE.search(text, position)) is not None:
        position = found.end()
        if found.group() != b'"':
            yield found.group(), position
        elif (string := _STRING_END.match(text, position)) is not None:
            position = string.end()
        else:
            return


def _objects(text: bytes, begin: int) -> Iterator[tuple[int, int]]:
    """Borders [first, last) of the objects of a list whose content starts at `begin`."""
    depth, first = 0, -1
    for mark, behind in _marks(text, begin):
        if mark in b"{[":
            if depth == 0 and mark == b"{":
                first = behind - 1
            depth += 1
        else:
            depth -= 1
            if depth < 0:
                return
            if depth == 0 and mark == b"}" and first >= 0:
                yield first, behind


_LOOKS_LIKE_TRACE = re.compile(rb'\s*(?:\[\s*\{|\{(?s:.*?)"traceEvents"\s*:)')


def _documents(text: bytes) -> Iterator[tuple[int, int]]:
    """Borders of the documents that stand one behind the other; the last may be cut off."""
    depth, first = 0, 0
    for mark, behind in _marks(text, 0):
        depth += 1 if mark in b"{[" else -1
        if depth <= 0:
            if _LOOKS_LIKE_TRACE.match(text, first, behind):
                yield first, behind
            depth, first = 0, behind
    if _LOOKS_LIKE_TRACE.match(text, first):
        yield first, len(text)


class _Columns:
    """Growing columns and the table of strings."""

    def __init__(self) -> None:
        self.columns: dict[str, list[int]] = {spec.name: [] for spec in EVENT_COLUMNS}
        self.strings: dict[str, int] = {}
        self.arguments: list[tuple[int, int, int]] = []
        self.skipped: dict[str, int] = {}
        self.thread_names: dict[tuple[str, str], str] = {}

    def intern(self, text: str) -> int:
        return self.strings.setdefault(text, len(self.strings))

    def skip(self, why: str) -> None:
        self.skipped[why] = self.skipped.get(why, 0) + 1

    def add(self, event: _Event) -> None:
        """Append `event` as a row, or count why not."""
        if event.ph != "X":
            if event.ph == "M" and (named := event.thread_name()) is not None:
                self.thread_names[named[0]] = named[1]
            return self.skip(f"ph:{event.ph}")
        kind = KIND_OF_CATEGORY.get(event.cat) if isinstance(event.cat, str) else None
        if kind is None:
            return self.skip(str(event.cat))
        start_ns, duration_ns = _nanoseconds(event.ts), _nanoseconds(event.dur)
        if start_ns is None or duration_ns is None:
            return self.skip("no time")
        row = dict.fromkeys(self.columns, MISSING)
        row.update(
            kind=kind,
            start_ns=start_ns,
            duration_ns=duration_ns,
            name=self.intern(event.name if isinstance(event.name, str) else ""),
            process=self.intern(_text(event.pid)),
            thread=self.intern(_text(event.tid)),
        )
        self._add_arguments(row, kind, event.args or {})
        for name, value in row.items():
            self.columns[name].append(value)
        return None

    def _add_arguments(
        self, row: dict[str, int], kind: EventKind, arguments: dict[str, msgspec.Raw]
    ) -> None:
        position = len(self.columns["kind"])
        sparse: dict[Argument, int] = {}
        for key, raw in arguments.items():
            if key in NUMBER_COLUMN_OF_KEY:
                column = NUMBER_COLUMN_OF_KEY[key]
                if column != "stream" or kind in STREAM_KINDS:
                    row[column] = _fit(column, _integer(raw))
            elif key in TEXT_COLUMN_OF_KEY:
                row[TEXT_COLUMN_OF_KEY[key]] = self.intern(bytes(raw).decode("utf-8", "replace"))
            elif key in ARGUMENT_OF_KEY:
                argument = ARGUMENT_OF_KEY[key]
                if argument in TEXT_ARGUMENTS:
                    sparse[argument] = self.intern(_text(raw))
                elif (number := _integer(raw)) is not None:
                    sparse[argument] = number
                else:
                    sparse.pop(argument, None)
        self.arguments += [(position, argument, sparse[argument]) for argument in sorted(sparse)]


def _fit(column: str, number: int | None) -> int:
    """`number` as it is stored: MISSING where it is unknown or does not fit the column."""
    if number is None:
        return MISSING
    if column == "stream" and number == WHOLE_CONTEXT_STREAM:
        return ALL_STREAMS
    if column in ("device", "forward_thread") and not -(2**31) <= number < 2**31:
        return MISSING
    return number


def _text(raw: msgspec.Raw) -> str:
    """A JSON value as text: a string's content, anything else as it is spelled."""
    spelled = bytes(raw)
    return spelled.decode("utf-8", "replace") if spelled[:1] != b'"' else _string(spelled)


def _string(spelled: bytes) -> str:
    try:
        return str(msgspec.json.decode(spelled))
    except UnicodeDecodeError:
        return str(msgspec.json.decode(spelled.decode("utf-8", "replace").encode()))


def _integer(raw: msgspec.Raw) -> int | None:
    """A number, or a string that holds one, as an integer (fractions are cut off)."""
    value = _decimal(raw)
    number = None if value is None else int(value)
    return number if number is not None and -INT64_LIMIT <= number < INT64_LIMIT else None


def _nanoseconds(raw: msgspec.Raw) -> int | None:
    """Microseconds as text -> ns, exact; digits beyond the nanosecond are rounded half up."""
    value = _decimal(raw)
    if value is None:
        return None
    number = int(value.scaleb(3).quantize(Decimal(1), ROUND_HALF_UP))
    return number if -INT64_LIMIT // 2 < number < INT64_LIMIT // 2 else None


def _decimal(raw: msgspec.Raw) -> Decimal | None:
    """A number, or a string that holds one; None for anything that no int64 could hold."""
    try:
        value = Decimal(_text(raw).strip())
    except (InvalidOperation, ValueError):
        return None
    # 22 digits before the point and 30 behind it keep the arithmetic small whatever the file says
    return value if value.is_finite() and value.adjusted() < 22 else None


def _fill(
    header: dict[str, Any], events: list[_Event], malformed: int, *, complete: bool
) -> Document:
    table = _Columns()
    for event in events:
        table.add(event)
    if malformed:
        table.skipped["malformed"] = malformed
    rows = np.array(table.arguments, np.int64).reshape(-1, 3)
    return Document(
        header=header,
        columns={
            spec.name: np.array(table.columns[spec.name], spec.dtype) for spec in EVENT_COLUMNS
        },
        strings=tuple(table.strings),
        argument_row=rows[:, 0],
        argument_key=rows[:, 1].astype(np.uint8),
        argument_value=rows[:, 2],
        thread_names=table.thread_names,
        skipped=table.skipped,
        complete=complete,
    )
