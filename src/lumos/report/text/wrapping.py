"""How texts give way where a line is too short: sentences between words, labels in their middle."""

from __future__ import annotations

import re
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.containers import Lines
from rich.text import Text

_TIE = "\ue000"
"""Stands for a space that must not be broken: rich breaks lines at all that Unicode calls a space."""
_BEFORE_UNIT = re.compile(r"(?<=\d) (?=(?:%|[mun]?s|[kMGT]i?B|[GT]FLOP)(?![A-Za-z]))")


class Sentences(Text):
    """Text in which a number and its unit stay on one line."""

    def wrap(self, console: Console, width: int, **options: Any) -> Lines:  # type: ignore[override]
        """The lines at a width."""
        tied = self.copy()
        tied.plain = _BEFORE_UNIT.sub(_TIE, tied.plain)  # of the same length, so styles stay
        lines = tied.wrap(console, width, **options)
        for line in lines:
            line.plain = line.plain.replace(_TIE, " ")
        return lines


class Label(Text):
    """One line of text that is cut in the middle: its numbers stand at the end."""

    def wrap(self, console: Console, width: int, **options: Any) -> Lines:  # type: ignore[override]
        """The one line at a width."""
        label = self.copy()
        if cell_len(label.plain) > width > 0:
            tail = width // 2
            head = width - 1 - tail
            label.plain = f"{label.plain[:head]}…{label.plain[len(label.plain) - tail :]}"
        return label.wrap(console, width, **options)
