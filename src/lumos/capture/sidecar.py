"""capture.json: the one file beside the traces that all ranks write, each its own part.

No rank waits for another through PyTorch: a rank that is gone must not hold up the others. A lock
file keeps two writers apart, and one that its owner left behind is broken.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAME = "capture.json"
SCHEMA = "lumos.capture/1"
Document = dict[str, Any]
_LOCK = ".capture.lock"
_STALE_S = 5.0
"""A lock is held for milliseconds; one that is the same for so long has lost its owner."""
_PATIENCE_S = 60.0
_ROOM_S = 1.0
"""How long to wait for room on a full disk; the training waits with us."""


def announce(folder: Path, job: Document, rank: Document) -> None:
    """Write that a rank has begun.

    A rank that finds itself in the file, or a file of a job of another size, has found an earlier
    recording: that one is removed, so that no two are mixed.
    """

    def change(known: Document | None) -> Document:
        if known is not None:
            same_job = known.get("world_size") == job["world_size"]
            if not same_job or any(one["rank"] == rank["rank"] for one in known["ranks"]):
                _remove_traces(folder, known)
                known = None
        _remove_traces(folder, {"ranks": [{"rank": rank["rank"]}]})
        return _merged(known, job, rank)

    _update(folder, change)


def enter(folder: Path, job: Document, rank: Document) -> None:
    """Write what a rank has recorded, in the place of what it wrote before.

    On a full disk other ranks may be about to take away traces that they could not write whole.
    """
    end_s = time.monotonic() + _ROOM_S
    while True:
        try:
            _update(folder, lambda known: _merged(known, job, rank))
        except OSError as error:
            if error.errno != errno.ENOSPC or time.monotonic() > end_s:
                raise
            time.sleep(_ROOM_S / 10)
        else:
            return


def trace_name(rank: int, *, partial: bool = False) -> str:
    """The file of a rank's trace; one that was cut short says so."""
    return f"rank{rank}.partial.json.gz" if partial else f"rank{rank}.json.gz"


def _merged(known: Document | None, job: Document, rank: Document) -> Document:
    """The file with `rank` in it; what holds for the whole job is told by its lowest rank."""
    others = [one for one in known["ranks"] if one["rank"] != rank["rank"]] if known else []
    if known and others and others[0]["rank"] < rank["rank"]:
        job = {key: value for key, value in known.items() if key != "ranks"}
    return {**job, "ranks": sorted([*others, rank], key=lambda one: int(one["rank"]))}


def _remove_traces(folder: Path, known: Document) -> None:
    for one in known["ranks"]:
        for partial in (False, True):
            trace = folder / trace_name(int(one["rank"]), partial=partial)
            trace.unlink(missing_ok=True)
            for unfinished in folder.glob(f".{trace.name}.*"):  # a process was killed in writing
                shutil.rmtree(unfinished, ignore_errors=True)


def _update(folder: Path, change: Callable[[Document | None], Document]) -> None:
    with _locked(folder):
        text = json.dumps(change(read(folder)), indent=1) + "\n"
        path = folder / f".{NAME}.{os.getpid()}"
        try:
            path.write_text(_NUMBERS.sub(_in_one_line, text), encoding="utf-8")
            path.replace(folder / NAME)
        finally:
            path.unlink(missing_ok=True)


_NUMBERS = re.compile(r"\[\n[-+.,\dEe\s]*\]")
"""A list of numbers over several lines; no text has such lines in it."""


def _in_one_line(numbers: re.Match[str]) -> str:
    return f"[{' '.join(numbers[0][1:-1].split())}]"


def read(folder: Path) -> Document | None:
    """What ranks have written so far; None for nothing, or for what is not ours."""
    try:
        known = json.loads((folder / NAME).read_text(encoding="utf-8"))
        ranks = [int(one["rank"]) for one in known["ranks"]]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return known if known.get("schema") == SCHEMA and ranks == sorted(set(ranks)) else None


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
