"""`lumos cost`: what a step gains from each of its parts made faster, and how fast it could be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lumos.cli.options import AsJson, MedianStep, NoCache, Paths
from lumos.cli.output import print_json, print_report, progress, say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lumos.analysis.bounds import StepBounds
    from lumos.analysis.cost import StepCosts
    from lumos.cli.gates import Value

RUNGS = {
    "communication_wait": "no_communication_wait",
    "overlap": "perfect_overlap",
    "bubble": "no_bubble",
    "straggler": "no_straggler",
    "host": "fast_host",
    "roofline": "roofline",
}
"""Figures of --fail-if and the rungs they are the gain of."""
FIGURES = ("gain", "error", *RUNGS)


def cost(
    paths: Paths,
    step: MedianStep = None,
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GROUPING",
            help="Parts to try (repeatable): class, operator, kernel, layer, phase, stream, rank, "
            "host (of each rank). Default: class, operator, layer; of several ranks rank and host.",
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, metavar="N", help="Parts to show of each.")] = 8,
    once: Annotated[
        bool,
        typer.Option(
            "--once",
            help="Run the step once from its recorded start, not back to back as in training.",
        ),
    ] = False,
    json: AsJson = False,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            help="Exit with 4 beyond a limit in % of the step (repeatable): 'gain>20%' (of a part "
            "twice as fast), 'error>5%', or what a rung alone gains: 'communication_wait>5%', "
            "'overlap>10%', 'bubble>10%', 'straggler>5%', 'host>20%', "
            "'roofline>50%'.",
        ),
    ] = None,
    no_cache: NoCache = False,
) -> None:
    """Say what a step gains if a part of it were 10 % faster, twice as fast, free.

    Each part is made faster and the step is run again, back to back as in training: what hides
    behind what, and who then waits for whom, is in the answer. Below it stands how fast the step
    could be at all if one limit after another were gone.
    """
    from lumos import predict
    from lumos.analysis.baseline import Basis
    from lumos.analysis.bounds import bounds
    from lumos.analysis.cost import MOST_PARTS, costs, default_groupings, parse_groupings
    from lumos.cli.gates import check_gates, parse_gates

    gates = parse_gates(fail_if or (), FIGURES)
    groupings = parse_groupings(by or ())
    found = []
    with progress() as doing:
        recording = predict.open_recording(paths, cache=not no_cache, doing=doing)
        names = step or [predict.median_step(recording)]
        for name in predict.names_of(recording, names):
            doing(f"replaying {name}")
            run = predict.replay_steps(recording, [name])[0]
            base = predict.baseline_of(run, Basis.ONCE if once else Basis.BACK_TO_BACK)
            doing(f"running {name} with faster parts")
            chosen = groupings or default_groupings(base.job)
            found.append((costs(base, chosen, max(MOST_PARTS, top)), bounds(base)))
    if json:
        from lumos.report.documents.cost import cost_document

        print_json(cost_document(recording.job.placement, found, recording.findings))
    else:
        from lumos.report.text.cost import cost_report

        print_report(cost_report(found, recording.findings, top))
    for note in check_gates(gates, lambda figure: gate_values(figure, found)):
        say(note)


def gate_values(figure: str, found: Sequence[tuple[StepCosts, StepBounds]]) -> Iterator[Value]:
    """All values of a figure of `--fail-if`, in % of the step."""
    from lumos.cli.gates import Value

    for costs, ladder in found:
        unchanged = costs.unchanged
        if figure == "error":
            yield Value(unchanged.step, unchanged.error_pct)
        elif figure == "gain":
            for one in costs.costs:
                where = f"{unchanged.step}, {one.by.value} {one.label},"
                yield Value(where, max(unchanged.share_pct(one.gain_half_ns), 0.0))
        else:
            for rung in ladder.bounds:
                if rung.rung.value == RUNGS[figure]:
                    yield Value(unchanged.step, ladder.gain_pct(rung))
