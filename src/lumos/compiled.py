"""The decorator of every compiled kernel: numba, no GIL, machine code kept on disk between runs.

Numba's own cache looks at the file of the kernel alone and goes on using old machine code when a
function or a constant it took from another file has changed. Here the code of a module is kept in
a folder named after the hash of its source and of every lumos module that it imports, directly or
not, so stale code is never found. Where no folder can be written, kernels are compiled anew.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba

from lumos.cache_folder import cache_folder

Kernel = TypeVar("Kernel", bound=Callable[..., Any])

KEPT_FOLDERS = 64
"""Code of older sources is deleted beyond this many modules (a few MiB at most each)."""
_ROOT = Path(__file__).parent
_IMPORT = re.compile(
    r"^\s*(?:from\s+(lumos[\w.]*)\s+import\s+(\([^)]*\)|[^\n]*)|import\s+(lumos[\w.]*))",
    re.MULTILINE,
)
_PROBE = bytes(8 * 2**20)


def compiled(*, allocates: bool = True, **options: Any) -> Callable[[Kernel], Kernel]:
    """Decorate a kernel: `@compiled()`; `options` go to `numba.njit` as they are.

    `allocates=False` is for kernels that make no array. Numba then counts no references, which
    matters where small functions hand arrays to each other: the trace scanner became 5x as fast.
    """
    if not allocates:
        options["_nrt"] = False

    def decorate(function: Kernel) -> Kernel:
        folder = _code_folder(function.__module__)
        if folder is None:
            return numba.njit(nogil=True, **options)(function)  # type: ignore[no-any-return]
        with _numba_caches_in(folder):
            return numba.njit(nogil=True, cache=True, **options)(function)  # type: ignore[no-any-return]

    return decorate


@contextmanager
def _numba_caches_in(folder: Path) -> Iterator[None]:
    """Numba takes the folder from its settings at the moment of decoration."""
    settings: Any = numba.config
    before = settings.CACHE_DIR
    settings.CACHE_DIR = str(folder)
    try:
        yield
    finally:
        settings.CACHE_DIR = before


@cache
def _code_folder(module: str) -> Path | None:
    """A writable folder for the machine code of `module`, None where there can be none."""
    name = module if module != "__main__" else ""
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None:
        return None
    try:
        place = cache_folder() / "compiled"
        folder = place / source_hash(Path(file))
        if folder.is_dir():
            with tempfile.TemporaryFile(dir=folder):
                return folder
        folder.mkdir(parents=True)
        with tempfile.TemporaryFile(dir=folder) as probe:  # numba fails where a disk is full
            probe.write(_PROBE)
        _delete_oldest(place, folder)
    except (OSError, RuntimeError):  # RuntimeError: no home folder
        return None
    return folder


def source_hash(file: Path) -> str:
    """Hash of `file` and of every lumos module it imports, directly or through others."""
    digest = hashlib.blake2b(digest_size=12)
    for source in sorted(_reachable(file)):
        digest.update(str(source).encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()


def _reachable(file: Path) -> set[Path]:
    found, waiting = {file}, [file]
    while waiting:
        text = waiting.pop().read_text(encoding="utf-8")
        new = {source for name in _imported(text) for source in _sources(name)} - found
        found |= new
        waiting += new
    return found


def _imported(text: str) -> Iterator[str]:
    """Dotted names that could be modules: of `from a.b import c` both `a.b` and `a.b.c`."""
    for package, names, whole in _IMPORT.findall(re.sub(r"#.*", "", text)):
        yield whole or package
        for name in re.findall(r"\w+", names):
            yield f"{package}.{name}"


def _sources(module: str) -> Iterator[Path]:
    place = _ROOT.joinpath(*module.split(".")[1:])
    for file in (place.with_suffix(".py"), place / "__init__.py"):
        if place != _ROOT and file.is_file():
            yield file


def _delete_oldest(place: Path, kept: Path) -> None:
    folders = sorted(place.iterdir(), key=lambda folder: folder.stat().st_mtime, reverse=True)
    for folder in folders[KEPT_FOLDERS:]:
        if folder != kept:
            shutil.rmtree(folder, ignore_errors=True)
