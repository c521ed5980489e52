"""How numbers and names read on the page."""

from __future__ import annotations

from lumos.analysis.sentence import Amount, Name, Sentence, Unit
from lumos.report.plain import plain
from lumos.units import ms

UNKNOWN = "–"  # noqa: RUF001 - a dash as wide as a digit
MINUS = "\u2212"
LONGEST_NAME = 300
"""Letters of a name that the page keeps: kernels can have thousands."""
_SCALES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def amount_text(amount: Amount) -> str:
    """The digits of an amount, without its unit."""
    value = shown_value(amount)
    if value is None:
        return UNKNOWN
    if amount.unit is Unit.COUNT:
        return f"{value:,.0f}"
    if amount.unit in _SCALED:
        return _scaled(value)[0]
    rounded = f"{value:z,.{_digits(amount.unit, abs(value))}f}"
    if rounded.startswith("-"):
        return MINUS + rounded[1:]
    return "+" + rounded if amount.unit is Unit.CHANGE else rounded


def unit_text(amount: Amount) -> str:
    """The unit that stands behind the digits, prefix included; empty for a count."""
    value = shown_value(amount)
    if value is None or amount.unit is Unit.COUNT:
        return ""
    if amount.unit in _SCALED:
        return _scaled(value)[1] + _SCALED[amount.unit]
    return {Unit.TIME: "ms", Unit.RATIO: "×"}.get(amount.unit, "%")  # noqa: RUF001


def shown_value(amount: Amount) -> float | None:
    """The value as documents hold it: times in ms, all else as it is."""
    if amount.value is None:
        return None
    return ms(amount.value) if amount.unit is Unit.TIME else float(amount.value)


def name_text(name: str) -> str:
    """A name from a trace on one line, without control and direction characters, cut where endless."""
    text = plain(name)
    if len(text) <= LONGEST_NAME:
        return text
    return f"{text[: LONGEST_NAME * 2 // 3]}…{text[-LONGEST_NAME // 3 :]}"


def sentence_text(sentence: Sentence) -> str:
    """A sentence in plain text."""
    return "".join(_part_text(part) for part in sentence)


def _part_text(part: str | Amount | Name) -> str:
    if isinstance(part, Name):
        return name_text(part.text)
    if isinstance(part, Amount):
        return " ".join(filter(None, (amount_text(part), unit_text(part))))
    return part


_SCALED = {Unit.BYTES: "B", Unit.BYTES_PER_S: "B/s", Unit.FLOPS_PER_S: "FLOP/s"}


def _scaled(value: float) -> tuple[str, str]:
    """Three digits or so, and the prefix of the unit."""
    for scale, prefix in _SCALES:
        if abs(value) >= scale:
            return f"{value / scale:.{_places(value / scale)}f}", prefix
    return f"{value:.0f}", ""


def _digits(unit: Unit, size: float) -> int:
    if unit is Unit.TIME:
        return 1 if size >= 1000 else 2 if size >= 1 or size == 0 else 3
    if unit is Unit.RATIO:
        return 2
    return 1 if size >= 10 or size == 0 else 2


def _places(value: float) -> int:
    return 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
