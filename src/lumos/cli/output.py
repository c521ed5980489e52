"""What a command writes: one JSON object or text on stdout, progress on a terminal's stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.console import RenderableType


def print_json(document: Mapping[str, Any]) -> None:
    """The one object of `--json`."""
    from lumos.report.documents.encoding import encode

    _write(encode(document) + "\n")


def print_report(report: RenderableType) -> None:
    """A report as text, in colour where stdout is a terminal."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        console.print(report, crop=False)
    _write("".join(line.rstrip() + "\n" for line in captured.get().splitlines()))


def say(line: str) -> None:
    """One line for the person at the terminal, on stderr."""
    from lumos.report.plain import plain

    print(f"lumos: {plain(line)}", file=sys.stderr)


def _write(text: str) -> None:
    """`text` to stdout; a reader that has gone away (`| head`) is no error."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # what Python still holds would be written at exit and fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Progress(Protocol):
    """Tells what is being done."""

    def __call__(self, doing: str) -> None:
        """Take note of what is being done now."""


@contextmanager
def progress() -> Iterator[Progress]:
    """Shows what is being done, on stderr and only where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda doing: None
        return
    from rich.console import Console
    from rich.text import Text

    from lumos.report.plain import plain

    with Console(stderr=True).status(Text("starting")) as status:
        yield lambda doing: status.update(Text(plain(doing)))
