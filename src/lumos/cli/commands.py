"""The verbs of `lumos`, by name and import string: a verb is loaded when it is called."""

from __future__ import annotations

import importlib
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

from lumos.errors import EXIT_INTERRUPTED


class Verb(NamedTuple):
    """A verb: its name, where its function is, and its line in `lumos --help`."""

    name: str
    function: str
    summary: str


COMMANDS = (
    Verb("capture", "lumos.cli.capture:capture", "Record a training script, without changing it."),
    Verb("replay", "lumos.cli.replay:replay", "Replay recorded steps and say how far off that is."),
    Verb(
        "inspect", "lumos.cli.inspect:inspect", "Say what is in the traces and grade the capture."
    ),
    Verb(
        "critical-path",
        "lumos.cli.critical_path:critical_path",
        "Show what the end of a step waits for, task by task across ranks.",
    ),
    Verb("breakdown", "lumos.cli.breakdown:breakdown", "Say where the time of steps goes."),
    Verb(
        "communication",
        "lumos.cli.communication:communication",
        "Say what collectives move, how fast, and who came last.",
    ),
    Verb(
        "cost", "lumos.cli.cost:cost", "Say what a step gains from each of its parts made faster."
    ),
    Verb(
        "stragglers",
        "lumos.cli.stragglers:stragglers",
        "Say which rank, stage or operation slows the job, and why.",
    ),
    Verb("report", "lumos.cli.report:report", "Write all answers as one page to send around."),
    Verb("diff", "lumos.cli.diff:diff", "Explain the difference between two runs, steps or ranks."),
)


class _Verbs(TyperGroup):
    """A group that reads its commands from COMMANDS."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [verb.name for verb in COMMANDS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        for verb in COMMANDS:
            if verb.name == cmd_name:
                module, _, function = verb.function.partition(":")
                app = typer.Typer(add_completion=False, rich_markup_mode=None)
                app.command(verb.name)(getattr(importlib.import_module(module), function))
                return get_command(app)
        return None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(verb.name, verb.summary) for verb in COMMANDS])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.list_commands(ctx) and not args[0].startswith("-"):
            ctx.fail(
                f"no verb is called {args[0]!r}; the verbs are {', '.join(self.list_commands(ctx))}"
            )
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("lumos: interrupted", err=True)
            raise typer.Exit(EXIT_INTERRUPTED) from None


def lumos() -> Any:
    """The whole command line as one command."""
    app = typer.Typer(cls=_Verbs, add_completion=False, rich_markup_mode=None, no_args_is_help=True)
    app.callback()(_top)
    return get_group(app)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"lumos {version('lumos')}")
        raise typer.Exit


def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Performance model of LLM training, from real PyTorch traces.

    `capture` records; every other verb takes trace files, folders or globs, and --json. Exit
    codes: 0 ok, 1 internal error, 2 usage, 3 unusable input, 4 a --fail-if gate tripped, 130
    interrupted.
    """
