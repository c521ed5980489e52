"""Sentences about a step whose numbers say where they come from.

A sentence is a tuple of words, names from the traces, and amounts. Whoever shows it escapes the
names and formats the amounts; an amount names the place in the JSON documents that holds it, so that
a reader can ask for it again and a test can compare the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Unit(Enum):
    """What an amount counts."""

    TIME = "ms"  # the value is in ns
    PERCENT = "%"
    CHANGE = "+%"  # a signed percentage
    COUNT = ""
    BYTES = "bytes"
    BYTES_PER_S = "bytes/s"
    FLOPS_PER_S = "FLOP/s"
    RATIO = "x"


@dataclass(frozen=True)
class Amount:
    """A number: `value` in ns, % or the unit itself, None where it is unknown.

    `at` is its place in the document of `lumos report --json`, as a JSON pointer (RFC 6901):
    `/replay/steps/0/error_pct`. The first key names the call that gives it, too. A share of
    something else (a percentage that no document holds) has in `of` the place of the whole.
    """

    value: float | None
    unit: Unit
    at: str
    of: str = ""


@dataclass(frozen=True)
class Name:
    """A name that was written in a trace: not to be trusted."""

    text: str


Sentence = tuple[str | Amount | Name, ...]


def time(value_ns: float | None, at: str) -> Amount:
    """A time [ns]."""
    return Amount(value_ns, Unit.TIME, at)


def percent(value_pct: float | None, at: str) -> Amount:
    """A percentage that a document holds."""
    return Amount(value_pct, Unit.PERCENT, at)


def change(value_pct: float | None, at: str) -> Amount:
    """A signed percentage that a document holds."""
    return Amount(value_pct, Unit.CHANGE, at)


def count(value: float | None, at: str) -> Amount:
    """How many."""
    return Amount(value, Unit.COUNT, at)


def key(text: str) -> str:
    """A key as it stands in a JSON pointer."""
    return text.replace("~", "~0").replace("/", "~1")


def share(part: Amount, whole: Amount) -> Amount:
    """One amount as a percentage of another; unknown where one is, or where the whole is nothing."""
    if part.value is None or not whole.value:
        return Amount(None, Unit.PERCENT, part.at, whole.at)
    return Amount(100.0 * part.value / whole.value, Unit.PERCENT, part.at, whole.at)
