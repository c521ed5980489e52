"""`lumos communication`: what collectives move, how fast, and who keeps the others waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lumos.cli.options import AsJson, MedianStep, NoCache, Paths
from lumos.cli.output import print_json, print_report, progress, say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lumos.analysis.communication import StepCommunication
    from lumos.cli.gates import Value

FIGURES = ("waiting", "exposed", "late")


def communication(
    paths: Paths,
    step: MedianStep = None,
    json: AsJson = False,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            help="Exit with 4 beyond a limit (repeatable): 'waiting>30%' (share of the measured time "
            "of a kind and group that waits for others), 'exposed>50%' (share without computation "
            "beside it), 'late>50%' (how often one rank of a group comes last).",
        ),
    ] = None,
    no_cache: NoCache = False,
) -> None:
    """Say what each kind and group of collectives moves, how fast, and who came last.

    Waiting for the last member is told from transfer where several ranks were traced. Bandwidths
    are those of nccl-tests.
    """
    from lumos import predict
    from lumos.cli.gates import check_gates, parse_gates

    gates = parse_gates(fail_if or (), FIGURES)
    found = []
    with progress() as doing:
        recording = predict.open_recording(paths, cache=not no_cache, doing=doing)
        names = step or [predict.median_step(recording)]
        for name in predict.names_of(recording, names):
            doing(f"replaying {name}")
            found.append(predict.communication_of(predict.replay_steps(recording, [name])[0]))
    if json:
        from lumos.report.documents.communication import communication_document

        print_json(communication_document(recording.job.placement, found, recording.findings))
    else:
        from lumos.report.text.communication import communication_report

        print_report(communication_report(found, recording.findings))
    for note in check_gates(gates, lambda figure: gate_values(figure, found)):
        say(note)


def gate_values(figure: str, found: Sequence[StepCommunication]) -> Iterator[Value]:
    """All values of a figure of `--fail-if` [%], one for each kind and group."""
    from lumos.cli.gates import Value
    from lumos.report.text.communication import group_words

    for step in found:
        for one in step.measured:
            where = f"{step.step}, {group_words(one)},"
            times = sum(late.times for late in one.latecomers)
            values = {
                "waiting": None if one.wait_ns is None else (one.wait_ns, one.time_ns),
                "exposed": (one.exposed_ns, one.time_ns),
                "late": (max(late.times for late in one.latecomers), times) if times else None,
            }
            pair = values[figure]
            yield Value(where, 100.0 * pair[0] / pair[1] if pair is not None and pair[1] else None)
