"""The frame of a page: head, verdict, panels, one offline HTML file.

It knows nothing of what the panels are about. The browser is told to run the page's own script and
nothing else: whatever a name from a trace may look like, it is text.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from lumos.analysis.sentence import Amount, Sentence
from lumos.graph.finding import Finding
from lumos.report.page.panel import Panel
from lumos.report.page.texts import (
    UNKNOWN,
    amount_text,
    name_text,
    sentence_text,
    shown_value,
    unit_text,
)
from lumos.report.palette import PALETTE
from lumos.report.plain import plain

SCRIPTS = ("theme.js", "hint.js", "table.js", "timeline.js", "start.js")
STYLES = ("page.css", "charts.css", "print.css")


@dataclass(frozen=True)
class Figure:
    """One of the numbers below the verdict, with the words that say what it is."""

    words: str
    amount: Amount
    note: Sentence = ()


@dataclass(frozen=True)
class Head:
    """What stands above the panels: what the page is of, the answer in words, figures, warnings."""

    title: str
    of: Sentence
    verdict: Sequence[Sentence]
    reasons: Sequence[Sentence]
    figures: Sequence[Figure]
    findings: Sequence[Finding] = ()


def render(head: Head, panels: Sequence[Panel]) -> str:
    """The page as HTML."""
    script = "\n".join(_text("script", name) for name in SCRIPTS)
    style = "\n".join(_text("style", name) for name in STYLES)
    return (
        _environment()
        .get_template("page.html")
        .render(
            head=head,
            panels=panels,
            palette=PALETTE,
            script=Markup(script),  # noqa: S704 - our own file
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            style=Markup(style),  # noqa: S704 - our own file
            version=version("lumos"),
        )
    )


def _text(folder: str, name: str) -> str:
    return files(__package__ or "").joinpath(folder, name).read_text("utf-8")


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("lumos.report.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["name"] = _name
    environment.filters["plain"] = name_text
    environment.filters["number"] = _number
    environment.filters["quantity"] = _quantity
    environment.filters["digits"] = amount_text
    environment.filters["plain_quantity"] = lambda amount: sentence_text((amount,))
    environment.filters["short"] = lambda step: name_text(step).removeprefix("ProfilerStep")
    environment.filters["words"] = lambda word: word.replace("_", " ")
    environment.filters["embedded"] = embedded
    environment.tests["amount"] = lambda part: isinstance(part, Amount)
    environment.tests["words"] = lambda part: isinstance(part, str)
    return environment


def embedded(value: Any) -> Markup:
    """`value` as JSON that can stand inside a script element: no `<`, no `&`, ASCII only."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)  # noqa: S704 - nothing in it is markup any more


def _name(name: str) -> Markup:
    """A name from a trace, kept from mirroring or reordering what stands around it."""
    return Markup("<bdi>{}</bdi>").format(name_text(name))


def _number(amount: Amount) -> Markup:
    """The digits of an amount, with its value and its place in the documents."""
    value, at = shown_value(amount), plain(amount.at)
    of = Markup(' data-of="{}"').format(plain(amount.of)) if amount.of else ""
    if value is None:
        return Markup(
            '<data value="" data-at="{}"{}><abbr title="unknown">{}</abbr></data>'
        ).format(at, of, UNKNOWN)
    return Markup('<data value="{}" data-at="{}"{}>{}</data>').format(
        f"{value:.9g}", at, of, amount_text(amount)
    )


def _quantity(amount: Amount) -> Markup:
    """An amount with its unit, never broken between the two."""
    unit = unit_text(amount)
    return _number(amount) + (Markup("&nbsp;") + escape(unit) if unit else Markup(""))
