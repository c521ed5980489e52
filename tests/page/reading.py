"""A page read back: its numbers with their places, the commands beside its panels, its text."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "link", "br", "img", "input", "hr"}


@dataclass
class Number:
    """A number of the page: what it says, and where a document is to hold it."""

    panel: str
    at: str
    of: str
    value: str
    text: str = ""


@dataclass
class Reading(HTMLParser):
    """Everything of a page that tests ask for."""

    numbers: list[Number] = field(default_factory=list)
    commands: dict[str, dict[str, str]] = field(
        default_factory=dict
    )  # panel -> document -> command
    tags: list[str] = field(default_factory=list)
    attributes: list[tuple[str, str, str]] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    scripts: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        HTMLParser.__init__(self, convert_charrefs=True)
        self._open: list[tuple[str, dict[str, str]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in given.items()]
        if "data-at" in given:
            panel = self._panel()
            text = given.get("data-value", "")
            value = given.get("value", text)
            self.numbers.append(
                Number(panel, given["data-at"], given.get("data-of", ""), value, text)
            )
        if tag == "script":
            self.scripts.append((given.get("type", ""), ""))
        if tag not in VOID:
            self._open.append((tag, given))

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        tags = [tag for tag, _ in self._open]
        if "script" in tags:
            kind, before = self.scripts[-1]
            self.scripts[-1] = (kind, before + data)
            return
        if "style" in tags:
            return
        self.text.append(data)
        if "data" in tags:
            self.numbers[-1].text += data
        for tag, given in self._open:
            if tag == "span" and "data-document" in given and self._within("code", "command"):
                panel = self.commands.setdefault(self._panel(), {})
                panel[given["data-document"]] = panel.get(given["data-document"], "") + data

    def _within(self, wanted: str, kind: str) -> bool:
        return any(tag == wanted and given.get("class") == kind for tag, given in self._open)

    def _panel(self) -> str:
        return next((g["id"] for tag, g in self._open if tag == "section" and "id" in g), "")


def read_page(html: str) -> Reading:
    """The page, read."""
    reading = Reading()
    reading.feed(html)
    reading.close()
    return reading


def held(documents: dict[str, Any], place: str) -> Any:
    """What documents hold at a JSON pointer like `/replay/steps/0/error_pct`."""
    found: Any = documents
    assert place.startswith("/")
    for part in place[1:].split("/"):
        key = part.replace("~1", "/").replace("~0", "~")
        found = found[int(key)] if isinstance(found, list) else found[key]
    return found
