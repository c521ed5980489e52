"""`lumos critical-path`: the chain of tasks, across ranks, that decides when a step ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lumos.cli.options import AsJson, NoCache, Paths
from lumos.cli.output import print_json, print_report, progress, say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lumos.analysis.step_path import StepPath
    from lumos.cli.gates import Value

FIGURES = (
    "unexplained",
    "communication",
    "host",
    "compute",
    "lag",
    "starting_state",
    "error",
)


def critical_path(
    paths: Paths,
    step: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="This step only (repeatable; default: all)."),
    ] = None,
    measured: Annotated[
        bool, typer.Option("--measured", help="The path of the recorded run, not of its replay.")
    ] = False,
    top: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="Stretches of the path to show, and twice the lines of a sum."
        ),
    ] = 12,
    json: AsJson = False,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            help="Exit with 4 where a step's share of the path is beyond a limit (repeatable): "
            "'unexplained>5%', 'communication>30%', host, compute, lag, starting_state; "
            "'error>5%' (of the replay).",
        ),
    ] = None,
    no_cache: NoCache = False,
) -> None:
    """Show what the end of a step waits for, from the last task back to the first, across ranks.

    Each hop says which dependency it follows; time in which a recorded task was later than all its
    dependencies allow is unexplained. The pieces add up to the makespan.
    """
    from lumos import predict
    from lumos.cli.gates import check_gates, parse_gates

    gates = parse_gates(fail_if or (), FIGURES)
    with progress() as doing:
        recording = predict.open_recording(paths, cache=not no_cache, doing=doing)
        found = []
        for name in predict.names_of(recording, step or recording.steps):
            doing(f"walking back through {name}")
            run = predict.replay_steps(recording, [name])[0]
            found.append(predict.critical_path_of(run, measured=measured))
    if json:
        from lumos.report.documents.critical_path import critical_path_document

        print_json(critical_path_document(recording.job.placement, found, recording.findings))
    else:
        from lumos.report.text.critical_path import critical_path_report

        print_report(critical_path_report(found, recording.findings, top))
    for note in check_gates(gates, lambda figure: gate_values(figure, found)):
        say(note)


def gate_values(figure: str, found: Sequence[StepPath]) -> Iterator[Value]:
    """All values of a figure of `--fail-if`, in % of the path."""
    from lumos.analysis.path_sums import Part
    from lumos.cli.gates import Value

    for step in found:
        if figure == "error":
            yield Value(step.step, step.error_pct)
        else:
            yield Value(step.step, step.share_pct(step.part_ns(Part(figure))))
