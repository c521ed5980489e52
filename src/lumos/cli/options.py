"""Arguments and options that verbs share, each declared once."""

from __future__ import annotations

from typing import Annotated

import typer

Paths = Annotated[
    list[str],
    typer.Argument(metavar="PATH", help="Traces of one job: files, folders, globs."),
]
MedianStep = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME", help="Look at this step (repeatable; default: that of median span)."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
NoCache = Annotated[
    bool, typer.Option("--no-cache", help="Read the files anew, and keep nothing of them.")
]
