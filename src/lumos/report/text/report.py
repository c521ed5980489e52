"""What `lumos report` says on the terminal: the verdict, and where the page is."""

from __future__ import annotations

from pathlib import Path

from rich.console import RenderableType
from rich.text import Text

from lumos.analysis.answers import Answers
from lumos.analysis.verdict import verdict
from lumos.report.page.texts import sentence_text
from lumos.report.plain import plain
from lumos.report.text.house import spaced
from lumos.report.text.wrapping import Sentences


def report_summary(answers: Answers, file: Path) -> RenderableType:
    """The sentences that the page begins with."""
    found = verdict(answers)
    said = [Sentences(sentence_text(claim.sentence), "bold") for claim in found.claims]
    # a path is copied, so it is never broken
    path = Text(plain(str(file)), no_wrap=True, overflow="ignore")
    return spaced([*said, Sentences(sentence_text(found.trust), "dim"), path])
