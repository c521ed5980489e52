"""Which files a path, a folder or a glob means, and the bytes in them."""

from __future__ import annotations

import glob
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

from isal import isal_zlib

from lumos.errors import UnusableInputError

SUFFIXES = (".json", ".json.gz")
_NOTES = ("capture.json", "recording.json")
MAXIMUM_BYTES = 64 * 2**30
"""Unpacked text of one file beyond which reading stops: larger than any trace we know of."""
WHOLE_TEXT_BYTES = 8 * 2**30
"""The same for a text that has to be in memory as a whole, which takes several times its size."""
_MOST_PACKED, _HARMLESS_BYTES = 200, 2**28
"""Traces pack 8 to 15 : 1. What packs better than this, and is larger than that, is no trace."""
BROKEN_GZIP: type[Exception] = cast("type[Exception]", isal_zlib.error)
GZIP_MAGIC = b"\x1f\x8b"
_CHUNK_BYTES = 4 * 2**20


def find_files(paths: Sequence[str | Path]) -> list[Path]:
    """Trace files named by `paths` (files, folders, globs), each once, in natural order."""
    found: dict[Path, None] = {}
    for path in paths:
        for file in _expand(str(path)):
            found[file] = None
    return list(found)


def partial_files(paths: Sequence[str | Path]) -> list[Path]:
    """Recordings cut short that `find_files` leaves out of the folders and globs among `paths`."""
    found = [file for path in paths for file in _candidates(str(path)) if _is_partial(file)]
    return sorted(set(found) - set(find_files(paths)), key=_natural)


def _candidates(path: str) -> list[Path]:
    """Files in a folder and its folders, or that match a glob.

    Not in hidden folders: there a process writes, or was killed. The folder of a capture.json is
    one recording; folders in it hold something else.
    """
    place = Path(path)
    if place.is_dir():
        files = place.glob("*") if (place / _NOTES[0]).is_file() else place.rglob("*")
        found = [
            file
            for file in files
            if file.name.endswith(SUFFIXES) and not _in_hidden_folder(file.relative_to(place))
        ]
    else:
        found = [Path(match) for match in glob.glob(path, recursive=True)]  # noqa: PTH207 - any root
    return sorted((file for file in found if file.is_file()), key=_natural)


def _in_hidden_folder(file: Path) -> bool:
    return any(part.startswith(".") for part in file.parts[:-1])


def _is_partial(file: Path) -> bool:
    return any(file.name.endswith(f".partial{suffix}") for suffix in SUFFIXES)


def _is_beside(file: Path) -> bool:
    """Whether a file stands beside traces and is none: a note, half a trace, one being written."""
    return file.name in _NOTES or file.name.startswith(".") or _is_partial(file)


def _expand(path: str) -> list[Path]:
    place = Path(path)
    try:
        if place.is_file():
            return [place]
        if place.exists() and not place.is_dir():
            raise UnusableInputError(f"{path}: is neither a file nor a folder; name a trace file")
        candidates = _candidates(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UnusableInputError(f"{path}: cannot be opened ({reason})") from error
    files = [file for file in candidates if not _is_beside(file)]
    if not files and (partial := [file for file in candidates if _is_partial(file)]):
        raise UnusableInputError(
            f"{path}: all recordings in it were cut short; name one to read it: {partial[0]}"
        )
    if not files and (place / _NOTES[0]).is_file():
        raise UnusableInputError(
            f"{path}: no trace beside its {_NOTES[0]}, which says why; record again"
        )
    if not files and place.is_dir():
        raise UnusableInputError(f"{path}: the folder holds no .json or .json.gz file")
    if not files:
        raise UnusableInputError(
            f"{path}: no such file or folder, and no file matches it as a glob"
        )
    return files


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Order in which rank2 comes before rank10."""
    parts = re.split(r"(\d+)", str(path))
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


_RANK_IN_NAME = re.compile(r"(?:rank|worker|gpu|device)[-_.]?(\d+)", re.IGNORECASE)


def rank_in_name(path: str | Path) -> int | None:
    """The rank that a file's name tells (`rank3.json`, `worker0.pt.trace.json`), None without."""
    match = _RANK_IN_NAME.search(Path(path).name)
    return int(match.group(1)) if match and len(match.group(1)) < 9 else None


def largest_text(path: Path, limit_bytes: int = MAXIMUM_BYTES) -> int:
    """How many bytes of text may come out of `path`."""
    return min(limit_bytes, max(_HARMLESS_BYTES, _MOST_PACKED * path.stat().st_size))


def read_bytes(path: Path, limit_bytes: int = WHOLE_TEXT_BYTES) -> tuple[bytes, bool]:
    """The text of `path`, unpacked where it is gzip, and whether it was complete.

    A gzip that ends early gives what could be unpacked and False. Raises UnusableInputError for
    a file that cannot be opened, is empty, is a broken gzip from its start on, or unpacks to
    more than `limit_bytes`.
    """
    pieces: list[bytes] = []
    size = 0
    try:
        limit_bytes = largest_text(path, limit_bytes)
    except OSError as error:
        raise UnusableInputError(f"{path}: cannot be read ({error.strerror or error})") from error
    for piece in unpack(path):
        if piece is None:
            return _not_empty(path, b"".join(pieces), complete=False), False
        pieces.append(piece)
        size += len(piece)
        if size > limit_bytes:
            raise UnusableInputError(
                f"{path}: holds more than {limit_bytes} bytes of text that is no plain trace; "
                "record fewer steps, or check the file"
            )
    return _not_empty(path, b"".join(pieces), complete=True), True


def unpack(path: Path) -> Iterator[bytes | None]:
    """The text of `path` piece by piece, a few MiB each; a last None where it is cut off."""
    try:
        with path.open("rb") as file:
            if file.peek(2)[:2] == GZIP_MAGIC:
                yield from _inflate(file)
            else:
                while chunk := file.read(_CHUNK_BYTES):
                    yield chunk
    except OSError as error:
        raise UnusableInputError(f"{path}: cannot be read ({error.strerror or error})") from error


def _inflate(file: io.BufferedReader) -> Iterator[bytes | None]:
    inflater, started = isal_zlib.decompressobj(wbits=31), False
    packed = file.read(_CHUNK_BYTES // 4)
    while packed:
        try:
            piece = inflater.decompress(packed, _CHUNK_BYTES)
        except BROKEN_GZIP:
            yield None
            return
        started = True
        if piece:
            yield piece
        if inflater.eof:  # gzip files may be several, one behind the other
            packed = inflater.unused_data.lstrip(b"\0") or file.read(_CHUNK_BYTES // 4)
            inflater, started = isal_zlib.decompressobj(wbits=31), False
        else:
            packed = inflater.unconsumed_tail or file.read(_CHUNK_BYTES // 4)
    if started:
        yield None


def _not_empty(path: Path, text: bytes, *, complete: bool) -> bytes:
    if not text:
        state = "is empty" if complete else "is a gzip file that cannot be unpacked"
        raise UnusableInputError(f"{path}: {state}; record it again")
    return text
