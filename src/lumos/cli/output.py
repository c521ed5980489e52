"""What a command writes: one JSON object or text on stdout, progress on a terminal's stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from lumos.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType


def print_json(document: Mapping[str, Any]) -> None:
    """The one object of `--json`."""
    from lumos.report.documents.encoding import encode

    text = encode(document) + "\n"
    with _standard_output():
        sys.stdout.write(text)


def print_report(report: RenderableType) -> None:
    """A report as text, in colour where stdout is a terminal."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    with _standard_output():  # rich flushes it after a capture
        with console.capture() as captured:
            console.print(report, crop=False)
        sys.stdout.write("".join(line.rstrip() + "\n" for line in captured.get().splitlines()))


def say(line: str) -> None:
    """One line for the person at the terminal, on stderr."""
    from lumos.report.plain import plain

    print(f"lumos: {plain(line)}", file=sys.stderr)


@contextmanager
def _standard_output() -> Iterator[None]:
    """What is written to stdout inside is out at the end.

    A reader that has gone away (`| head`) is no error; a disk that is full is one of the user's.
    """
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        # what Python still holds would be written at exit and fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            reason = error.strerror or error
            raise UsageError(
                f"standard output: cannot be written ({reason}); give another place"
            ) from error


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
