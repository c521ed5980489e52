"""`lumos replay`: recorded steps replayed by rules alone, and how far off that is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lumos.cli.options import AsJson, NoCache, Paths
from lumos.cli.output import print_json, print_report, progress, say
from lumos.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lumos.analysis.prediction import StepPrediction
    from lumos.analysis.replay import StepReplay
    from lumos.cli.gates import Value

FIGURES = ("error", "unexplained", "period_error")
RULES_HELP = (
    "program_order, launch, stream_order, event_wait, synchronize, back_pressure, hand_off, "
    "rendezvous, contention"
)


def replay(
    paths: Paths,
    step: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Replay this step only (repeatable)."),
    ] = None,
    whole: Annotated[bool, typer.Option("--whole", help="Replay all steps in one run.")] = False,
    from_step: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Predict the other steps from this one (repeatable)."),
    ] = None,
    drop: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULE", help=f"Leave out a kind of dependency (repeatable): {RULES_HELP}."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            metavar="DIR",
            help="Write timelines for ui.perfetto.dev, measured beside replayed.",
        ),
    ] = None,
    json: AsJson = False,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            help="Exit with 4 where the worst value is beyond a limit (repeatable): 'error>5%', "
            "'unexplained>2%' (of the span), 'period_error>=3%' (with --from-step).",
        ),
    ] = None,
    no_cache: NoCache = False,
) -> None:
    """Replay recorded steps and say how far off that is.

    Each step is simulated from its recorded starting state by the rules that order its tasks, and
    held against what was measured; what no rule explains is a number of its own.
    """
    if whole and step:
        raise UsageError("--whole replays all steps in one run; give it without --step")
    from lumos import predict
    from lumos.api import parse_rules, write_timeline
    from lumos.cli.gates import check_gates, parse_gates
    from lumos.report.documents.replay import replay_document

    gates = parse_gates(fail_if or (), FIGURES)
    for gate in gates:
        if gate.figure == "period_error" and not from_step:
            raise UsageError(
                f"--fail-if {gate.text!r} needs --from-step: without it nothing is predicted"
            )
    dropped = parse_rules(drop or ())
    files: list[Path] = []
    with progress() as doing:
        recording = predict.open_recording(paths, cache=not no_cache, doing=doing)
        names = predict.names_of(recording, step or recording.steps)
        sources = predict.names_of(recording, from_step or ())
        if whole:
            names = ["whole"]
        replays = []
        for number, name in enumerate(names):
            doing(f"replaying {name} ({number + 1} of {len(names)})")
            if whole:
                replays.append(predict.replay_whole(recording, dropped))
            else:
                replays += predict.replay_steps(recording, [name], dropped)
            if output is not None:
                doing(f"writing the timeline of {name}")
                files.append(write_timeline(output, replays[-1], files))
        predictions = []
        for name in sources:
            doing(f"predicting from {name}")
            predictions += predict.predict_steps(recording, name)
    figures = [one.figures for one in replays]
    findings = recording.findings + (predict.assumptions(recording) if predictions else ())
    if json:
        print_json(replay_document(recording.job.placement, figures, predictions, findings))
    else:
        from lumos.report.text.replay import replay_report

        print_report(
            replay_report(
                recording.job.placement,
                figures,
                predictions,
                findings,
                dropped=[rule.word for rule in dropped],
                files=files,
            )
        )
    for note in check_gates(gates, lambda figure: gate_values(figure, figures, predictions)):
        say(note)


def gate_values(
    figure: str, steps: Sequence[StepReplay], predictions: Sequence[StepPrediction]
) -> Iterator[Value]:
    """All values of a figure of `--fail-if`."""
    from lumos.analysis.replay import percent
    from lumos.cli.gates import Value

    if figure == "period_error":
        for one in predictions:
            yield Value(f"{one.step} predicted from {one.from_step}", one.period.error_pct)
        return
    for step in steps:
        if figure == "error":
            yield Value(step.step, step.error_pct)
        for rank in step.ranks:
            where = f"{step.step}, rank {rank.rank},"
            if figure == "error":
                yield Value(where, rank.error_pct)
            else:
                share = percent(rank.measured_ns + rank.unexplained_ns, rank.measured_ns)
                yield Value(where, share)
