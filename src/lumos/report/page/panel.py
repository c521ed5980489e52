"""A panel: one question of the page, what is drawn as its answer, and the calls behind its numbers."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from lumos.analysis.sentence import Sentence


@dataclass(frozen=True)
class Call:
    """A command, and the same in Python, whose document holds a panel's numbers.

    `document` is the document's key in `lumos report --json`, which the numbers' places begin with.
    """

    document: str
    command: str
    python: str


@dataclass(frozen=True)
class Panel:
    """One section of the page.

    `lead` says in a sentence what is seen; `view` is what the template named `template` draws. A panel
    that has nothing to draw has no view and says in `absent` why.
    """

    anchor: str
    title: str
    calls: tuple[Call, ...]
    lead: Sentence = ()
    template: str = ""
    view: object = None
    absent: str = ""


def verb(document: str, python: str, step: str = "", *, options: str = "") -> Call:
    """The call of the verb that prints `document`; of one step where one is named."""
    words = ["lumos", document.replace("_", "-"), "PATH"]
    if step:
        words += ["--step", shlex.quote(step)]
    return Call(document, " ".join([*words, *options.split(), "--json"]), python)
