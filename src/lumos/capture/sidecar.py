"""capture.json: the one file beside the traces that all ranks write, each its own part.

No rank waits for another through PyTorch: a rank that is gone must not hold up the others. A lock
file keeps two writers apart, and one that its owner left behind is broken.

An earlier recording in the folder is replaced when the first rank of the new one has a trace to put
there, not before: until then the new one is told of in a hidden file, which no reader looks at. Then
the files go that the earlier capture.json names, and no others. ::

    folder | earlier recording                | new recording
    hidden |          | announce ... announce | enter with a trace
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from lumos.errors import UsageError

NAME = "capture.json"
SCHEMA = "lumos.capture/1"
Document = dict[str, Any]
_UNDER_WAY = ".capture.under-way.json"
_LOCK = ".capture.lock"
_STALE_S = 5.0
"""A lock is held for milliseconds; one that is the same for so long has lost its owner."""
_PATIENCE_S = 60.0
_ROOM_S = 1.0
"""How long to wait for room on a full disk; the training waits with us."""
_TRACE = re.compile(r"rank\d+(\.partial)?\.json\.gz")


def strangers(folder: Path) -> list[str]:
    """Names of files that a recording could overwrite, and that are of no earlier one."""
    with _locked(folder):
        known = read(folder)
        own = _named(known)
        found = [file.name for file in folder.iterdir() if _TRACE.fullmatch(file.name)]
        unknown = [NAME] if known is None and (folder / NAME).exists() else []
        return unknown + sorted(name for name in found if name not in own)


def in_the_way(folder: Path, names: Sequence[str]) -> str:
    """The same in words, to be followed by what to do."""
    told = ", ".join(names[:3]) + ", ..." * (len(names) > 3)
    return f"{folder}: holds {told}, which no recording of lumos in it wrote"


def announce(folder: Path, job: Document, rank: Document) -> None:
    """Write that a rank has begun.

    A rank that finds itself in what is told, or a job of another size, has found a recording that
    is over: it begins a new one.
    """
    with _locked(folder):
        name = _current(folder)
        known = read(folder, name)
        if known is None or _is_over(known, job, rank):
            known, name = None, _UNDER_WAY if _traces(folder) else NAME
        _remove_unfinished(folder, rank["rank"])
        _write(folder / name, _merged(known, job, rank))
        if name == NAME:
            (folder / _UNDER_WAY).unlink(missing_ok=True)


def enter(
    folder: Path,
    job: Document,
    rank: Document,
    trace: Path | None = None,
    *,
    overwrite: bool = False,
) -> Document:
    """Write what a rank has recorded, in the place of what it wrote before; what was written.

    `trace` is its trace as it was written in the folder, which goes to `rank["file"]`. One that
    was cut short takes no place of an earlier recording that is complete. UsageError where
    something else has taken the file's place meanwhile, unless it may `overwrite`. On a full disk
    other ranks may be about to take away traces that they could not write whole.
    """
    end_s = time.monotonic() + _ROOM_S
    while True:
        try:
            with _locked(folder):
                return _enter(folder, job, rank, trace, overwrite=overwrite)
        except OSError as error:
            if error.errno != errno.ENOSPC or time.monotonic() > end_s:
                raise
            time.sleep(_ROOM_S / 10)


def _enter(
    folder: Path, job: Document, rank: Document, trace: Path | None, *, overwrite: bool
) -> Document:
    name = _current(folder)
    earlier = read(folder) if name == _UNDER_WAY else None
    if trace is None or (rank["status"] != "complete" and _complete(earlier)):
        if trace is not None:
            kept = f"{rank['reason']}; its trace was not kept, for the earlier recording there is whole"
            rank = {**rank, "status": "failed", "file": None, "reason": kept}
        _write(folder / name, _merged(read(folder, name), job, rank))
        return rank
    target = folder / rank["file"]
    if target.exists() and target.name not in _named(read(folder)) and not overwrite:
        raise UsageError(f"{target}: was written by something else meanwhile; record elsewhere")
    merged = _merged(read(folder, name), job, rank)
    _write(folder / NAME, merged)  # first: then every trace there is named in it
    for old in _named(earlier) - _named(merged):
        (folder / old).unlink(missing_ok=True)
    (folder / _UNDER_WAY).unlink(missing_ok=True)
    trace.replace(target)
    return rank


def trace_name(rank: int, *, partial: bool = False) -> str:
    """The file of a rank's trace; one that was cut short says so."""
    return f"rank{rank}.partial.json.gz" if partial else f"rank{rank}.json.gz"


def _merged(known: Document | None, job: Document, rank: Document) -> Document:
    """The file with `rank` in it; what holds for the whole job is told by its lowest rank."""
    others = [one for one in known["ranks"] if one["rank"] != rank["rank"]] if known else []
    if known and others and others[0]["rank"] < rank["rank"]:
        job = {key: value for key, value in known.items() if key != "ranks"}
    return {**job, "ranks": sorted([*others, rank], key=lambda one: int(one["rank"]))}


def _current(folder: Path) -> str:
    """Where the recording is told of that ranks write to now."""
    return _UNDER_WAY if (folder / _UNDER_WAY).exists() else NAME


def _is_over(known: Document, job: Document, rank: Document) -> bool:
    return known.get("world_size") != job["world_size"] or any(
        one["rank"] == rank["rank"] for one in known["ranks"]
    )


def _named(known: Document | None) -> set[str]:
    """Names of the traces of a recording."""
    files = (str(one.get("file")) for one in known["ranks"]) if known else ()
    return {file for file in files if _TRACE.fullmatch(file)}


def _traces(folder: Path) -> set[str]:
    """Names of the traces of the recording in the folder that are there."""
    return {name for name in _named(read(folder)) if (folder / name).exists()}


def _complete(known: Document | None) -> bool:
    return known is not None and any(one.get("status") == "complete" for one in known["ranks"])


def _remove_unfinished(folder: Path, rank: int) -> None:
    """What a process left that was killed while it wrote this rank's trace."""
    for partial in (False, True):
        for rest in folder.glob(f".{trace_name(rank, partial=partial)}.*"):
            if rest.is_dir():
                shutil.rmtree(rest, ignore_errors=True)
            else:
                rest.unlink(missing_ok=True)


def _write(path: Path, known: Document) -> None:
    text = json.dumps(known, indent=1) + "\n"
    unfinished = path.with_name(f".{NAME}.{os.getpid()}")
    try:
        unfinished.write_text(_NUMBERS.sub(_in_one_line, text), encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


_NUMBERS = re.compile(r"\[\n[-+.,\dEe\s]*\]")
"""A list of numbers over several lines; no text has such lines in it."""


def _in_one_line(numbers: re.Match[str]) -> str:
    return f"[{' '.join(numbers[0][1:-1].split())}]"


def read(folder: Path, name: str = NAME) -> Document | None:
    """What ranks have written so far; None for nothing, or for what is not ours."""
    try:
        known = json.loads((folder / name).read_text(encoding="utf-8"))
        ranks = [int(one["rank"]) for one in known["ranks"]]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return known if known.get("schema") == SCHEMA and ranks == sorted(set(ranks)) else None


class Seen(NamedTuple):
    """When what is told in a folder was written: of the recording in it, and of one under way."""

    recorded_ns: int | None
    under_way_ns: int | None


def look(folder: Path) -> Seen:
    """How things stand, to be asked `written_since`."""
    return Seen(_changed_ns(folder / NAME), _changed_ns(folder / _UNDER_WAY))


def written_since(folder: Path, before: Seen) -> tuple[Document | None, bool]:
    """What ranks have written since, and whether an earlier recording has kept its place."""
    now = look(folder)
    if now.under_way_ns not in (None, before.under_way_ns):
        return read(folder, _UNDER_WAY), True
    return (read(folder) if now.recorded_ns != before.recorded_ns else None), False


def _changed_ns(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Alone in writing; OSError where that cannot be had."""
    lock = folder / _LOCK
    end_s = time.monotonic() + _PATIENCE_S
    seen: tuple[int, int] | None = None
    since_s = time.monotonic()
    while True:
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            break
        except FileExistsError:
            now = _identity(lock)
            if now != seen:
                seen, since_s = now, time.monotonic()
            elif seen is not None and time.monotonic() - since_s > _STALE_S:
                lock.unlink(missing_ok=True)
            if time.monotonic() > end_s:
                raise TimeoutError(f"{lock}: other ranks kept it for {_PATIENCE_S:.0f} s") from None
            time.sleep(0.005)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _identity(lock: Path) -> tuple[int, int] | None:
    try:
        state = lock.stat()
    except OSError:
        return None
    return state.st_ino, state.st_mtime_ns
