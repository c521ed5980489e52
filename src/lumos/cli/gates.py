"""`--fail-if 'error>5%'`: conditions on a verb's figures that end a command with code 4."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lumos.errors import GateTripped, UsageError

_CONDITION = re.compile(r"\s*([a-z_]+)\s*(>=|>)\s*(\d+(?:\.\d+)?)\s*%?\s*")


@dataclass(frozen=True)
class Gate:
    """A figure, and the percentage that its worst absolute value may not exceed (or reach)."""

    text: str
    figure: str
    reaching: bool
    limit_pct: float

    def holds(self, value_pct: float) -> bool:
        """Whether the value trips the gate."""
        return value_pct >= self.limit_pct if self.reaching else value_pct > self.limit_pct


class Value(NamedTuple):
    """One value of a figure [%], and where it stands; None where unknown."""

    where: str
    value_pct: float | None


def parse_gates(texts: Iterable[str], figures: Sequence[str]) -> list[Gate]:
    """The conditions as written, each on one of a verb's `figures`; UsageError for any other."""
    gates = []
    for text in texts:
        match = _CONDITION.fullmatch(text)
        if match is None or match[1] not in figures:
            raise UsageError(
                f"--fail-if {text!r} cannot be read; write FIGURE>NUMBER%, like '{figures[0]}>5%', "
                f"with > or >= and one of {', '.join(figures)}"
            )
        gates.append(Gate(text.strip(), match[1], match[2] == ">=", float(match[3])))
    return gates


def check_gates(gates: Sequence[Gate], values_of: Callable[[str], Iterable[Value]]) -> list[str]:
    """Raise GateTripped where one holds; returns what to say of values that are unknown.

    `values_of` gives all values of a figure.
    """
    notes, tripped = [], []
    for gate in gates:
        values = list(values_of(gate.figure))
        known = [(abs(v.value_pct), v) for v in values if v.value_pct is not None]
        if missing := len(values) - len(known):
            notes.append(
                f"--fail-if {gate.text}: {missing} of {len(values)} values are unknown "
                "and were passed over"
            )
        if not known:
            continue
        size, worst = max(known, key=lambda pair: pair[0])
        if gate.holds(size):
            tripped.append(
                f"--fail-if {gate.text}: {gate.figure} of {worst.where} is {worst.value_pct:+.4g} %"
            )
    if tripped:
        raise GateTripped("; ".join([*tripped, *notes]))
    return notes
