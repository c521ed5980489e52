"""`lumos stragglers`: who makes the job slower than is typical, by how much, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lumos.cli.options import AsJson, NoCache
from lumos.cli.output import print_json, print_report, progress, say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lumos.analysis.stragglers import Stragglers
    from lumos.cli.gates import Value

FIGURES = ("slowdown", "cost", "delay")


def stragglers(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH",
            help="Traces of one job: files, folders, globs; or an operation-level trace-NAME.parquet.",
        ),
    ],
    step: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="This step only (repeatable; default: all)."),
    ] = None,
    top: Annotated[
        int, typer.Option(min=1, metavar="N", help="Ranks and operations to show.")
    ] = 10,
    json: AsJson = False,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            help="Exit with 4 beyond a limit in % (repeatable): 'slowdown>10%' (of a step against "
            "one of typical durations), 'cost>5%' (of one rank, of the step), 'delay>3%' (measured "
            "beyond the replay by rules).",
        ),
    ] = None,
    no_cache: NoCache = False,
) -> None:
    """Say which rank, stage or kind of operation makes the job slower than is typical, and why.

    Each is run with typical durations in its place: what the job gains is its cost. And each is put
    alone into a job that is typical otherwise: how much it slows that one. All steps are held against
    each other, whichever are shown.
    """
    from lumos import predict
    from lumos.cli.gates import check_gates, parse_gates

    gates = parse_gates(fail_if or (), FIGURES)
    with progress() as doing:
        recording = predict.open_recording(paths, cache=not no_cache, doing=doing)
        found = predict.stragglers(recording, step, doing=doing)
    if json:
        from lumos.report.documents.stragglers import stragglers_document

        print_json(stragglers_document(recording.job.placement, found, recording.findings))
    else:
        from lumos.report.text.stragglers import stragglers_report

        print_report(stragglers_report(found, recording.findings, top))
    for note in check_gates(gates, lambda figure: gate_values(figure, found)):
        say(note)


def gate_values(figure: str, found: Stragglers) -> Iterator[Value]:
    """All values of a figure of `--fail-if` [%]."""
    from lumos.analysis.replay import percent
    from lumos.cli.gates import Value

    for step in found.steps:
        if figure != "delay" and not found.compares:
            yield Value(step.step, None)
        elif figure == "slowdown":
            yield Value(
                step.step, _gain(percent(step.without_delay_ns, step.without_stragglers_ns))
            )
        elif figure == "delay":
            yield Value(step.step, percent(step.measured_ns, step.without_delay_ns))
        else:
            for rank, group in step.ranks.items():
                gain = percent(step.without_delay_ns + step.cost_ns(group), step.without_delay_ns)
                yield Value(f"{step.step}, rank {rank},", _gain(gain))


def _gain(pct: float | None) -> float | None:
    """A gain; a loss is none, and trips no gate."""
    return None if pct is None else max(pct, 0.0)
