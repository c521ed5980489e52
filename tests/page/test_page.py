"""The page as text: one file that loads nothing, trusts no name, and stays small."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from lumos.answer import answer
from lumos.report.page import page
from lumos.report.page.frame import embedded
from lumos.report.page.texts import LONGEST_NAME, name_text
from lumos.report.palette import FILLS, GROUNDS, INKS, Colour
from tests.page.jobs import HOSTILE, training
from tests.page.reading import read_page

MOST_BYTES = 2_000_000


def test_it_refers_to_nothing_outside(report: Path) -> None:
    reading = read_page(report.read_text("utf-8"))
    links = [
        (tag, value)
        for tag, name, value in reading.attributes
        if name in {"src", "href", "action", "data", "poster", "srcset"}
    ]
    assert all(value.startswith("#") or value == "data:," for _, value in links), links
    assert not {"iframe", "object", "embed", "form", "img", "base"} & set(reading.tags)
    style = report.read_text("utf-8").partition("<style>")[2].partition("</style>")[0]
    assert not re.search(r"url\(|@import|expression\(", style)


def test_the_browser_is_told_to_run_its_own_script_only(report: Path) -> None:
    reading = read_page(report.read_text("utf-8"))
    (policy,) = [v for t, n, v in reading.attributes if t == "meta" and v.startswith("default-src")]
    assert "default-src 'none'" in policy
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/=]+'", policy)
    assert not [n for _, n, _ in reading.attributes if n.startswith("on")], "no inline handlers"
    assert [kind for kind, _ in reading.scripts] == ["application/json", "application/json", ""]


def test_names_of_ill_will_stay_text(hostile_report: Path) -> None:
    html = hostile_report.read_text("utf-8")
    reading = read_page(html)
    assert [kind for kind, _ in reading.scripts] == ["application/json", "application/json", ""]
    assert "img" not in reading.tags
    assert not [n for _, n, _ in reading.attributes if n.startswith("on")]
    text = "".join(reading.text)
    for name in HOSTILE[:6]:
        assert name in text, "a name is shown as it is written"
    for letter in "\u202e\u2066\u2028\x00\x1b\ud800":
        assert letter not in html, "no control or direction character reaches the page"
    assert HOSTILE[-1] not in text
    names = json.loads(reading.scripts[0][1])["names"]
    assert "<script>alert('name')</script>" in names
    assert max(map(len, names)) <= LONGEST_NAME + 1


@pytest.mark.parametrize("name", HOSTILE)
def test_json_in_a_script_element_cannot_end_it(name: str) -> None:
    text = str(embedded({"name": name_text(name)}))
    assert not set("<>&") & set(text)
    assert text.isascii()
    assert json.loads(text) == {"name": name_text(name)}


def test_sixty_four_ranks_stay_below_two_megabytes() -> None:
    html = page(answer(training(64, 12, steps=2)), "Sixty-four ranks")
    assert len(html.encode()) < MOST_BYTES
    reading = read_page(html)
    assert "more ranks" in "".join(reading.text), "what is left out is counted"


def test_the_same_traces_make_the_same_page() -> None:
    first, second = (page(answer(training(2, 3)), "Twice") for _ in range(2))
    assert first == second


def _luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, other: str) -> float:
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("ink", INKS, ids=lambda ink: ink.name)
def test_every_ink_reads_on_every_ground(ink: Colour, theme: str) -> None:
    for ground in GROUNDS:
        assert _contrast(getattr(ink, theme), getattr(ground, theme)) >= 4.5, ground.name


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_what_is_written_on_a_bar_reads(theme: str) -> None:
    fills = {fill.name: getattr(fill, theme) for fill in FILLS}
    sheet, ink = (
        next(getattr(c, theme) for c in (*GROUNDS, *INKS) if c.name == n) for n in ("sheet", "ink")
    )
    for name in ("compute", "overlapped", "transfer", "over", "under"):
        assert _contrast(fills[name], sheet) >= 4.5, name
    assert _contrast(fills["idle"], ink) >= 4.5
