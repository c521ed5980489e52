"""`lumos capture`: record a training script as it is, or say which lines to add to it."""

from __future__ import annotations

import shlex
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lumos.cli.output import say
from lumos.errors import UsageError
from lumos.report.plain import plain

if TYPE_CHECKING:
    from lumos.capture.sidecar import Document


def capture(
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- COMMAND...", help="What starts the training, as you start it."),
    ] = None,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where traces and capture.json go.")
    ] = Path("traces"),
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Overwrite traces there that no recording of lumos wrote."
        ),
    ] = False,
    skip: Annotated[int, typer.Option(metavar="N", help="Steps left alone at first.")] = 5,
    timed: Annotated[int, typer.Option(metavar="N", help="Steps timed without profiler.")] = 20,
    warm_up: Annotated[int, typer.Option(metavar="N", help="Steps to warm the profiler up.")] = 2,
    steps: Annotated[int, typer.Option(metavar="N", help="Profiled steps.")] = 3,
    model: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What is trained, kept in capture.json.")
    ] = None,
    batch: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Its batch, kept in capture.json.")
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(metavar="dp=2,tp=4", help="Degrees of parallelism, kept in capture.json."),
    ] = None,
    fake_world: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Record one rank of a job of N ranks, which alone exists: groups are fake.",
        ),
    ] = None,
    fake_rank: Annotated[
        int | None, typer.Option(metavar="R", help="Which rank of the fake world; else 0.")
    ] = None,
    advice: Annotated[
        bool,
        typer.Option(
            "--advice",
            help="Print the lines to add to a training loop instead; for one framework, name it.",
        ),
    ] = False,
) -> None:
    """Record a training script as it is: lumos capture -- python train.py.

    A step ends where the first optimizer that steps has stepped. The command runs as always, and
    its exit code is that of this command; what was recorded is told on stderr.
    """
    if advice:
        from lumos.capture.advice import advise

        print(advise(command or []), end="")
        return
    from lumos.capture.plan import Plan
    from lumos.capture.sidecar import look, written_since
    from lumos.capture.unmodified import Order

    if not command:
        raise UsageError(
            "no command to record: lumos capture -- torchrun --nproc-per-node 8 train.py "
            "(or --advice, for lines to add to a script)"
        )
    _check_counts({"--skip": skip, "--timed": timed, "--warm-up": warm_up, "--steps": steps})
    plan = Plan(skip, timed, warm_up, steps)
    degrees = None if layout is None else parse_layout(layout)
    if fake_world is None and fake_rank is not None:
        raise UsageError("--fake-rank needs --fake-world: the number of ranks there would be")
    fake_rank = fake_rank or 0
    if fake_world is not None:
        degrees = _check_fake_world(fake_world, fake_rank, degrees, command)
    _make(out, overwrite=overwrite)
    with tempfile.TemporaryDirectory(prefix="lumos-capture-") as notes:
        order = Order(
            str(out.absolute()), notes, asdict(plan), model, batch, degrees, fake_world, fake_rank,
            overwrite,
        )  # fmt: skip
        before = look(out)
        code = run(command, _variables(order))
        recorded, kept = written_since(out, before)
        if recorded is None:
            say(f"nothing was recorded: {_why_nothing(Path(notes), code)}")
        else:
            for line in _account(out, recorded):
                say(line)
        if kept:
            say(f"the earlier recording in {out} is as it was")
    raise typer.Exit(code)


def _check_counts(count_of: dict[str, int]) -> None:
    for option, count in count_of.items():
        least = int(option == "--steps")
        if count < least:
            raise UsageError(f"{option} {count}: give a whole number from {least} up")


def parse_layout(text: str) -> dict[str, int]:
    """Degrees by name from `dp=2,tp=4`."""
    from lumos.capture.surroundings import AXES

    found: dict[str, int] = {}
    for part in text.split(","):
        name, _, degree = (word.strip() for word in part.partition("="))
        if not name.isidentifier() or not degree.isdecimal() or not int(degree) or name in found:
            raise UsageError(
                f"--layout {text!r}: write each kind of parallelism once, with its degree: dp=2,tp=4"
            )
        if name not in AXES:
            raise UsageError(
                f"--layout {text!r}: no kind of parallelism is called {name!r}; "
                f"they are called {', '.join(AXES)}"
            )
        found[name] = int(degree)
    return found


def _check_fake_world(
    world_size: int, rank: int, layout: dict[str, int] | None, command: list[str]
) -> dict[str, int] | None:
    """The layout of a fake world, with the data parallel degree that is left over."""
    from lumos.capture.fake_world import check
    from lumos.capture.surroundings import in_words, ranks_of

    check(world_size, rank)
    if Path(command[0]).name == "torchrun" or "torch.distributed.run" in command:
        raise UsageError(
            "--fake-world starts one process: give the script itself, "
            "lumos capture --fake-world 8 -- python train.py"
        )
    if layout is None:
        return None
    product = ranks_of(layout)
    if world_size % product:
        raise UsageError(
            f"a fake world of {world_size} ranks cannot be divided by the layout's {product} "
            f"({in_words(layout)})"
        )
    if "dp" not in layout:
        return {"dp": world_size // product, **layout}
    if world_size != product:
        raise UsageError(
            f"the layout has {product} ranks, the fake world {world_size}: give --fake-world {product}"
        )
    return layout


def _variables(order: Any) -> dict[str, str]:
    import os

    from lumos.capture.fake_world import variables

    fake = {} if order.fake_world is None else variables(order.fake_world, order.fake_rank)
    return {**os.environ, **order.environment(), **fake}


def _make(folder: Path, *, overwrite: bool) -> None:
    """Find out before the training starts whether there is a place for its traces."""
    from lumos.capture.sidecar import in_the_way, strangers

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"{folder}: cannot be written ({reason}); give another --out") from error
    if not overwrite and (names := strangers(folder)):
        raise UsageError(
            f"{in_the_way(folder, names)}: give another --out, or --overwrite to lose "
            f"{'them' if len(names) > 1 else 'it'}"
        )


def run(command: list[str], environment: dict[str, str]) -> int:
    """Run a command with our input and output; its exit code, as a shell tells it."""
    try:
        process = subprocess.Popen(command, env=environment)  # noqa: S603 - the user's own
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"{command[0]}: cannot be started ({reason})") from error
    with _signals_for(process):
        code = process.wait()
    return code if code >= 0 else 128 - code


@contextmanager
def _signals_for(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Meanwhile signals are the command's affair: those of the terminal reach it by themselves."""

    def pass_on(number: int, _: Any) -> None:
        process.send_signal(number)

    before = {signal.SIGINT: signal.signal(signal.SIGINT, lambda *_: None)}
    for name in ("SIGTERM", "SIGHUP"):
        if number := getattr(signal, name, None):
            before[number] = signal.signal(number, pass_on)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _account(folder: Path, recorded: Document) -> Iterator[str]:
    """What was recorded, and what comes next; or why there is nothing."""
    from lumos.capture.description import shortcoming

    whole = [one for one in recorded["ranks"] if one["status"] == "complete"]
    if whole:
        yield from _recorded(folder, recorded, whole)
    by_reason: dict[str, list[Document]] = {}
    for one in recorded["ranks"]:
        if one["status"] != "complete":
            by_reason.setdefault(shortcoming(one), []).append(one)
    for reason, ranks in by_reason.items():
        several = f"ranks {ranks[0]['rank']} to {ranks[-1]['rank']} ({len(ranks)} in all)"
        yield f"{several if len(ranks) > 1 else 'rank ' + str(ranks[0]['rank'])}: {reason}"
    if whole:
        if others := _other_traces(folder, recorded):
            yield (
                f"{folder} also holds {', '.join(others[:3])}{', ...' * (len(others) > 3)}, "
                "which this recording did not write: move what is of another run away"
            )
        yield f"next: lumos replay {shlex.quote(str(folder))}"


def _other_traces(folder: Path, recorded: Document) -> list[str]:
    """Names of what would be read with the recording, and is not of it."""
    ours = {"capture.json", *(one["file"] for one in recorded["ranks"])}
    found = (file.name for file in folder.iterdir() if file.name.endswith((".json", ".json.gz")))
    return sorted(plain(name) for name in found if name not in ours and name[0] != ".")


def _recorded(folder: Path, recorded: Document, whole: list[Document]) -> Iterator[str]:
    from lumos.capture.description import step_time

    steps = recorded["steps"]["profiled"]
    size = 1 if recorded["fake_world"] else recorded["world_size"]
    of = f"rank {whole[0]['rank']} of a fake world of {recorded['fake_world']}"
    if not recorded["fake_world"]:
        of = f"{len(whole)} of {size} rank{'s' * (size > 1)}"
    yield (
        f"recorded {steps} step{'s' * (steps > 1)} of {of} in {folder}; "
        f"a step ends with {recorded['steps']['end_with']}"
    )
    if told := step_time(whole):
        yield told


_ADVICE = "lumos capture --advice prints lines to add to the script"


def _why_nothing(notes: Path, code: int) -> str:
    came = {note.suffix for note in notes.iterdir()}
    if ".deepspeed" in came:
        return (
            "DeepSpeed steps its optimizer several times in a step, so its steps cannot be "
            "counted; lumos capture --advice deepspeed prints lines to add to the script"
        )
    if ".step" in came:
        return "a line above says why"
    if code:
        return f"the command ended with exit code {code} before an optimizer of torch.optim made a step"
    if ".torch" in came:
        return (
            "no optimizer of torch.optim made a step that can be followed (not so those of engines "
            f"with their own, those inside of backward(), and those that are compiled; {_ADVICE})"
        )
    return (
        "no Python in it imported torch, or it ignores PYTHONPATH "
        f"(python -I, -E or -S, containers, remote hosts; {_ADVICE})"
    )
