"""`lumos report`: all answers about a job as one page to send to a colleague."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lumos.cli.options import AsJson, NoCache, Paths
from lumos.cli.output import print_json, print_report, progress, say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lumos.analysis.answers import Answers
    from lumos.cli.gates import Value

FIGURES = ("error", "straggler", "data_loading", "host", "bubble", "waiting", "communication")


def report(
    paths: Paths,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            metavar="FILE",
            help="Where to write the page (default: report.html; with --json none is written).",
        ),
    ] = None,
    step: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Look at this step (default: that of median span)."),
    ] = None,
    title: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Head of the page (default: the folder).")
    ] = None,
    json: AsJson = False,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            help="Exit with 4 beyond a limit in % (repeatable): 'error>5%' (of any step), or what one "
            f"limit costs of the step, like 'straggler>3%'. Figures: {', '.join(FIGURES)}.",
        ),
    ] = None,
    no_cache: NoCache = False,
) -> None:
    """Write all answers about a job as one HTML file.

    The page opens without network and loads nothing. It looks at one step: why it takes as long as
    it does, what would make it faster, how fast it could be, and how far the replay behind all that
    is off. Beside every picture stands the command that prints its numbers.
    """
    from lumos import predict
    from lumos.answer import answer
    from lumos.api import title_of, write_page
    from lumos.cli.gates import check_gates, parse_gates

    gates = parse_gates(fail_if or (), FIGURES)
    with progress() as doing:
        recording = predict.open_recording(paths, cache=not no_cache, doing=doing)
        doing("asking all questions")
        answers = answer(recording, step)
        name = title_of(recording) if title is None else title
        file = None
        if output is not None or not json:
            doing("writing the page")
            file = write_page(answers, name, output or Path("report.html"))
    if json:
        from lumos.report.documents.report import report_document

        print_json(report_document(answers, name))
    elif file is not None:
        from lumos.report.text.report import report_summary

        print_report(report_summary(answers, file))
    for note in check_gates(gates, lambda figure: gate_values(figure, answers)):
        say(note)


def gate_values(figure: str, answers: Answers) -> Iterator[Value]:
    """All values of a figure of `--fail-if` [%]: what a limit costs, of the step run back to back."""
    from lumos.analysis.verdict import Truth, waste_of
    from lumos.cli.gates import Value

    if figure == "error":
        for step in answers.steps:
            yield Value(step.step, step.error_pct)
        return
    unchanged = answers.costs.unchanged
    for claim in waste_of(answers):
        if claim.truth is Truth(figure):
            yield Value(answers.step.step, unchanged.share_pct(max(claim.gain_ns, 0)))
