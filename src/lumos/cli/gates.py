"""`--fail-if 'error>5%'`: conditions on a replay's figures that end a command with code 4."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lumos.analysis.prediction import StepPrediction
from lumos.analysis.replay import StepReplay, percent
from lumos.errors import GateTripped, UsageError

FIGURES = ("error", "unexplained", "period_error")
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


def parse_gates(texts: Iterable[str], *, predicting: bool) -> list[Gate]:
    """The conditions as written; UsageError for one that cannot be read or never be decided."""
    gates = []
    for text in texts:
        match = _CONDITION.fullmatch(text)
        if match is None or match[1] not in FIGURES:
            raise UsageError(
                f"--fail-if {text!r} cannot be read; write FIGURE>NUMBER%, like 'error>5%', "
                f"with > or >= and one of {', '.join(FIGURES)}"
            )
        if match[1] == "period_error" and not predicting:
            raise UsageError(
                f"--fail-if {text!r} needs --from-step: without it nothing is predicted"
            )
        gates.append(Gate(text.strip(), match[1], match[2] == ">=", float(match[3])))
    return gates


def check_gates(
    gates: Sequence[Gate], steps: Sequence[StepReplay], predictions: Sequence[StepPrediction]
) -> list[str]:
    """Raise GateTripped where one holds; returns what to say of values that are unknown."""
    notes, tripped = [], []
    for gate in gates:
        values = list(_values(gate.figure, steps, predictions))
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


def _values(
    figure: str, steps: Sequence[StepReplay], predictions: Sequence[StepPrediction]
) -> Iterable[Value]:
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
