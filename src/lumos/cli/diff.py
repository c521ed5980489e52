"""`lumos diff`: why one run, step or rank takes longer than another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from lumos.cli.options import AsJson, NoCache
from lumos.cli.output import print_json, print_report, progress, say
from lumos.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lumos.analysis.diff import Diff, Side
    from lumos.cli.gates import Value
    from lumos.predict import Replay

FIGURES = ("change", "slower", "not_replayed")


def diff(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="FIRST [SECOND]",
            help="Traces of one job, or of two: a folder, glob or file each.",
        ),
    ],
    step: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="The step to compare; twice: that of the first and that of the second "
            "(default: of each job the step of median length).",
        ),
    ] = None,
    rank: Annotated[
        list[int] | None,
        typer.Option(metavar="RANK", help="Compare two ranks of one step; give it twice."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, metavar="N", help="Parts to show.")] = 12,
    json: AsJson = False,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            help="Exit with 4 beyond a limit in % of the first span (repeatable): 'slower>5%', "
            "'change>5%' (either way), 'not_replayed>2%'.",
        ),
    ] = None,
    no_cache: NoCache = False,
) -> None:
    """Explain the difference between two runs, steps or ranks by exchanging parts.

    Each part - kernels of a class in a layer, the host, transfers, the program's structure - is
    taken over from one into the other and the job simulated again; the parts add up to the change.
    """
    chosen = _choices(paths, step or [], rank or [])
    from lumos import predict
    from lumos.analysis.diff import diff as explain
    from lumos.cli.gates import check_gates, parse_gates

    gates = parse_gates(fail_if or (), FIGURES)
    with progress() as doing:
        recordings = {}
        for path in dict.fromkeys(paths):
            recordings[path] = predict.open_recording(path, cache=not no_cache, doing=doing)
        sides = []
        for choice in chosen:
            recording = recordings[choice.path]
            name = (
                recording.steps[predict.block_of(recording, choice.step)]
                if choice.step
                else predict.median_step(recording)
            )
            doing(f"replaying {name}")
            run = predict.replay_steps(recording, [name])[0]
            sides.append(_side(choice, run, chosen))
        doing("exchanging parts")
        found = explain(*sides)
    if json:
        from lumos.report.documents.diff import diff_document

        print_json(diff_document(found))
    else:
        from lumos.report.text.diff import diff_report

        print_report(diff_report(found, top))
    for note in check_gates(gates, lambda figure: _values(figure, found)):
        say(note)


class Choice(NamedTuple):
    """One of the two runs as the user named it; None where the choice is left to us."""

    path: str
    step: str | None
    rank: int | None


def _choices(paths: list[str], steps: list[str], ranks: list[int]) -> tuple[Choice, Choice]:
    """What to compare; UsageError where that is one thing or more than two."""
    for given, what in ((paths, "jobs"), (steps, "--step"), (ranks, "--rank")):
        if len(given) > 2:
            raise UsageError(
                f"{len(given)} {what} were given; a diff is of two (name a job of several files by "
                "its folder or a quoted glob)"
            )
    first, second = (
        Choice(
            paths[min(place, len(paths) - 1)],
            steps[min(place, len(steps) - 1)] if steps else None,
            ranks[min(place, len(ranks) - 1)] if ranks else None,
        )
        for place in (0, 1)
    )
    if first == second:
        raise UsageError(
            "both sides of the diff are the same; give a second job, two --step or two --rank"
        )
    return first, second


def _side(choice: Choice, run: Replay, chosen: tuple[Choice, Choice]) -> Side:
    """A run with a label that says in what the two differ."""
    from lumos.analysis.diff import side_of, side_of_rank

    first, second = chosen
    words = []
    if first.path != second.path:
        words.append(Path(choice.path).name or choice.path)
    if first.step != second.step or choice.rank is None:
        words.append(run.step)
    if choice.rank is None:
        return side_of(" ".join(words), run.job, run.measured)
    if first.rank != second.rank or not words:
        words.append(f"rank {choice.rank}")
    return side_of_rank(" ".join(words), run.job, run.graph, run.measured, choice.rank)


def _values(figure: str, found: Diff) -> Iterator[Value]:
    """Figures in % of the first run's span."""
    from lumos.analysis.parts import Kind
    from lumos.analysis.replay import percent
    from lumos.cli.gates import Value

    change = percent(found.second_measured_ns, found.first_measured_ns)
    if figure == "not_replayed":
        missed = sum(part.change_ns for part in found.parts if part.kind == Kind.NOT_REPLAYED)
        change = percent(found.first_measured_ns + missed, found.first_measured_ns)
    if figure == "slower" and change is not None:
        change = max(change, 0.0)
    yield Value(found.second, change)
