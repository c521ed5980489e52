"""`lumos breakdown`: where the time of steps goes, and why devices were idle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lumos.cli.options import AsJson, NoCache, Paths
from lumos.cli.output import print_json, print_report, progress, say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lumos.analysis.step_breakdown import RankBreakdown, StepBreakdown
    from lumos.cli.gates import Value

PARTS = ("exposed_compute", "overlapped", "exposed_communication", "other")
WAITING = ("waiting_for_peers", "pipeline_bubble")
CAUSES = (
    "host_bound", "launch_queue", "data_loading", "synchronizing_call", "earlier_step",
    "unexplained",
)  # fmt: skip
FIGURES = ("other", *PARTS[:3], *WAITING, *CAUSES)


def breakdown(
    paths: Paths,
    step: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Look at this step only (repeatable; default: all)."),
    ] = None,
    json: AsJson = False,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            help="Exit with 4 beyond a limit in % of a rank's measured span (repeatable), like "
            f"'other>30%'. Figures: {', '.join(FIGURES)}.",
        ),
    ] = None,
    no_cache: NoCache = False,
) -> None:
    """Say where the time of steps goes: compute, communication, idle, and idle for what.

    Measured beside replayed, rank by rank. Each idle stretch goes to what kept the task behind it
    from starting; waiting for other ranks is told apart from transfers. With it come how busy the
    devices are, and how close their kernels are to what the hardware can do.
    """
    from lumos import predict
    from lumos.cli.gates import check_gates, parse_gates

    gates = parse_gates(fail_if or (), FIGURES)
    found = []
    with progress() as doing:
        recording = predict.open_recording(paths, cache=not no_cache, doing=doing)
        names = step or recording.steps
        for name in predict.names_of(recording, names):
            doing(f"replaying {name}")
            found.append(predict.breakdown_of(predict.replay_steps(recording, [name])[0]))
    if json:
        from lumos.report.documents.breakdown import breakdown_document

        print_json(breakdown_document(recording.job.placement, found, recording.findings))
    else:
        from lumos.report.text.breakdown import breakdown_report

        print_report(breakdown_report(found, recording.findings))
    for note in check_gates(gates, lambda figure: gate_values(figure, found)):
        say(note)


def gate_values(figure: str, found: Sequence[StepBreakdown]) -> Iterator[Value]:
    """All values of a figure of `--fail-if`, in % of the span of each rank as measured."""
    from lumos.cli.gates import Value

    for step in found:
        for one in step.ranks:
            time = _time(figure, one.measured)
            share = None if time is None else 100.0 * time / max(one.measured.span_ns, 1)
            yield Value(f"{step.step}, rank {one.rank},", share)


def _time(figure: str, run: RankBreakdown) -> int | None:
    from lumos.analysis.idle import Cause

    if figure in PARTS:
        return int(getattr(run.parts, f"{figure}_ns"))
    if figure in WAITING:
        return run.bubble_ns if figure == "pipeline_bubble" else run.waiting_for_peers_ns
    return run.idle_ns[Cause(figure)]
