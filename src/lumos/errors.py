"""The tree of errors a user can meet; each leaf knows the exit code that a command ends with.

LumosError
├── UsageError           2   the command or call is wrong
├── UnusableInputError   3   the files cannot be read as traces of one job
│   └── UnfinishableScheduleError   tasks wait for each other in a circle
└── GateTripped          4   a --fail-if condition holds
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_INTERNAL = 1
EXIT_INTERRUPTED = 130


class LumosError(Exception):
    """Base of all errors that are explained in one line and never show a traceback."""

    exit_code = EXIT_INTERNAL


class UsageError(LumosError):
    """A wrong option, name or combination: the message says what to write instead."""

    exit_code = 2


class UnusableInputError(LumosError):
    """Files that hold no usable trace: the message names file, value, rule and what to do."""

    exit_code = 3


class UnfinishableScheduleError(UnusableInputError):
    """A set of tasks that wait for each other in a circle: the message names the circle."""


class GateTripped(LumosError):
    """A --fail-if condition holds."""

    exit_code = 4
