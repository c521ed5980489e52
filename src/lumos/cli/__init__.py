"""The command `lumos`: the only place that reads arguments and environment, prints and exits."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import NoReturn

from lumos.errors import EXIT_INTERNAL, EXIT_INTERRUPTED, LumosError, UsageError

__all__ = ["main"]

GARBAGE_THRESHOLDS = (100_000, 50, 50)
"""Python looks for garbage this rarely: what a command imports are half a million lasting objects,
and going through them again and again is a tenth of a command."""


def main() -> NoReturn:
    """Run the command line, end the process with one of the exit codes of `lumos.errors`."""
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a name that the terminal cannot show is no error
            stream.reconfigure(errors="backslashreplace")
    try:
        from lumos.cli.commands import lumos

        lumos().main(prog_name="lumos")
    except LumosError as error:
        _say(str(error))
        code = error.exit_code
    except KeyboardInterrupt:
        _say("interrupted")
        code = EXIT_INTERRUPTED
    except Exception as error:
        if os.environ.get("LUMOS_TRACEBACK"):
            raise
        code = _say_unforeseen(error)
    else:
        code = 0
    sys.exit(code)


def _say_unforeseen(error: Exception) -> int:
    """A package of others that is missing is the user's affair, all else ours; the exit code."""
    package = str(getattr(error, "name", None) or "").partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and package not in ("", "lumos"):
        _say(
            f"the package {package} is not installed in this Python: pip install . in the checkout "
            "of lumos (lumos.capture alone, inside of a training script, needs PyTorch only)"
        )
        return UsageError.exit_code
    _say(
        f"internal error, {type(error).__name__}: {str(error) or 'no message'} "
        "(LUMOS_TRACEBACK=1 shows where; please report it)"
    )
    return EXIT_INTERNAL


def _say(message: str) -> None:
    """One line on stderr; names in it come from files and cannot steer the terminal."""
    from lumos.report.plain import plain

    try:
        print(f"lumos: {plain(message)}", file=sys.stderr)
    except BrokenPipeError:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - to the end
