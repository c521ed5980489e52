"""Traces read before, as compressed columns on disk: opening a file again costs next to nothing.

An entry is named after everything that decides what reading would give: the file's absolute path,
size, time of change and a sample of its bytes, and the sources of the reader itself. So a changed
file or a new version of lumos finds no entry, and an entry is never out of date. Anything odd
about an entry (cut off, altered, unreadable) makes the file be read afresh.

    8 bytes magic | 8 bytes checksum of the rest | 8 bytes length | facts as JSON | Arrow IPC ...
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import numpy as np
import polars
from isal import isal_zlib
from numpy.typing import NDArray

from lumos.cache_folder import cache_folder
from lumos.compiled import source_hash
from lumos.graph.trace import EVENT_COLUMNS, Trace

SMALLEST_BYTES = 2**20
"""Smaller files are read in milliseconds: no entry for them."""
LARGEST_FOLDER_BYTES = 4 * 2**30
"""All entries together; the ones not used for longest go first."""

_MAGIC = b"lumos\0\0\1"
_SAMPLE_BYTES = 2**16
_SPARSE = {"argument_row": np.int64, "argument_key": np.uint8, "argument_value": np.int64}
_APART = ("source", "columns", "thread_names", *_SPARSE)


class _Entry(msgspec.Struct):
    """One trace of a file: all that is no column, and the lengths of the two column blocks."""

    facts: msgspec.Raw
    thread_names: list[tuple[str, str, str]]
    dense_bytes: int
    sparse_bytes: int


_ENTRIES = msgspec.json.Decoder(list[_Entry])


def entry_of(path: Path) -> Path | None:
    """Where the traces of `path` are kept; None where it is small or cannot be looked at."""
    try:
        status = path.stat()
        if status.st_size < SMALLEST_BYTES:
            return None
        place = cache_folder() / "traces"
        facts = (str(path.resolve()), status.st_size, status.st_mtime_ns, _reader_version())
        digest = hashlib.blake2b(repr(facts).encode(), digest_size=16)
        with path.open("rb") as file:
            for position in (0, status.st_size // 2, status.st_size - _SAMPLE_BYTES):
                file.seek(max(position, 0))
                digest.update(file.read(_SAMPLE_BYTES))
    except (OSError, RuntimeError):  # RuntimeError: no home folder
        return None
    return place / f"{digest.hexdigest()}.trace"


@cache
def _reader_version() -> str:
    return source_hash(Path(__file__).parent / "read.py")


def load(entry: Path, source: Path) -> list[Trace] | None:
    """The traces in `entry`, as read from `source`; None where it is missing or damaged."""
    try:
        content = entry.read_bytes()
        os.utime(entry)
    except OSError:
        return None
    body = memoryview(content)[16:]
    if content[:8] != _MAGIC or content[8:16] != _checksum(body):
        return None
    position = 8 + int.from_bytes(body[:8], "little")
    traces = []
    for item in _ENTRIES.decode(body[8:position]):
        middle, end = position + item.dense_bytes, position + item.dense_bytes + item.sparse_bytes
        facts = _facts().decode(item.facts)
        parts: dict[str, Any] = {name: getattr(facts, name) for name in _fact_types()}
        parts["columns"] = _columns(body[position:middle])
        parts["thread_names"] = {(pid, tid): name for pid, tid, name in item.thread_names}
        parts |= _columns(body[middle:end])
        traces.append(Trace(source=str(source), **parts))
        position = end
    return traces


def store(entry: Path, traces: Sequence[Trace]) -> None:
    """Keep `traces` in `entry`; where that fails they are simply read again next time."""
    blocks, items = [], []
    for trace in traces:
        sparse = {name: getattr(trace, name) for name in _SPARSE}
        dense = {spec.name: trace.columns[spec.name] for spec in EVENT_COLUMNS}
        pair = [_packed(dense), _packed(sparse)]
        facts = {name: getattr(trace, name) for name in _fact_types()}
        names = [(pid, tid, name) for (pid, tid), name in trace.thread_names.items()]
        raw = msgspec.Raw(msgspec.json.encode(facts))
        items.append(_Entry(raw, names, len(pair[0]), len(pair[1])))
        blocks += pair
    head = msgspec.json.encode(items)
    body = b"".join([len(head).to_bytes(8, "little"), head, *blocks])
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=entry.parent, suffix=".part", delete=False) as file:
            try:
                file.write(_MAGIC + _checksum(body) + body)
                file.close()
                Path(file.name).replace(entry)
            except OSError:
                Path(file.name).unlink(missing_ok=True)
                raise
        delete_oldest(entry.parent)
    except OSError:
        return


def delete_oldest(folder: Path, limit_bytes: int = LARGEST_FOLDER_BYTES) -> None:
    """Delete the entries used least recently until the rest takes no more than `limit_bytes`."""
    entries = [(file, file.stat()) for file in folder.iterdir()]
    total = 0
    for file, status in sorted(entries, key=lambda item: item[1].st_mtime_ns, reverse=True):
        total += status.st_size
        if total > limit_bytes:
            file.unlink(missing_ok=True)


@cache
def _fact_types() -> dict[str, Any]:
    hints = get_type_hints(Trace)
    return {f.name: hints[f.name] for f in fields(Trace) if f.name not in _APART}


@cache
def _facts() -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(msgspec.defstruct("_Facts", list(_fact_types().items())))


def _checksum(body: bytes | memoryview) -> bytes:
    return int(isal_zlib.crc32(body)).to_bytes(8, "little")


def _packed(columns: dict[str, NDArray[Any]]) -> bytes:
    block = io.BytesIO()
    polars.DataFrame(columns).write_ipc(block, compression="zstd")
    return block.getvalue()


def _columns(block: memoryview) -> dict[str, NDArray[Any]]:
    """The columns of one block; writable, since compiled code treats read-only ones as another type."""
    frame = polars.read_ipc(io.BytesIO(block))
    return {column.name: column.to_numpy(writable=True) for column in frame}
