"""The page in a real browser: what a reader sees, points at, drags and types."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lumos.report.page.page import PANELS
from tests.page.conftest import Watched

Open = Callable[..., Watched]
SIZES = [pytest.param(1440, 900, id="laptop"), pytest.param(375, 740, id="phone")]


def window(watched: Watched) -> tuple[float, float]:
    """Begin and length of what the timeline shows [ns]."""
    shown = watched.page.wait_for_function(
        "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => {"
        " const { from, length } = document.querySelector('.timeline').dataset;"
        " done([Number(from), Number(length)]); })))"
    ).json_value()
    return tuple(shown)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_it_renders_without_complaint_and_without_network(
    opened: Open, report: Path, width: int, height: int, theme: str
) -> None:
    watched = opened(report, width, height, color_scheme=theme)
    page = watched.page
    assert page.locator("section.panel").count() == len(PANELS)
    for panel in page.locator("section.panel").all():
        assert panel.is_visible()
        box = panel.bounding_box()
        assert box is not None
        assert box["height"] > 60
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".verdict").inner_text().strip()
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(","))) > 600) is (theme == "light")
    assert (watched.complaints, watched.requests, watched.dialogs) == ([], [], [])


def test_nothing_is_cut_off_or_written_over_each_other(opened: Open, report: Path) -> None:
    page = opened(report, 375, 740).page
    wide = page.evaluate(
        "[...document.querySelectorAll('main *, header *')].filter((one) => {"
        " const box = one.getBoundingClientRect();"
        " return box.right > innerWidth + 1 && !one.closest('.wide, svg, .labels, .ticks');"
        "}).map((one) => one.outerHTML.slice(0, 80))"
    )
    assert wide == []


def test_without_script_everything_is_there_to_read(opened: Open, report: Path) -> None:
    page = opened(report, java_script_enabled=False).page
    assert page.locator("section.panel").count() == len(PANELS)
    assert page.locator(".tracks path.critical").first.get_attribute("d")
    assert page.locator(".tracks g path").count() > 4
    assert page.locator(".ticks span").count() > 2
    assert not page.locator(".tools").first.is_visible()
    page.locator("#cost summary", has_text="By operator").click()
    assert page.locator("#cost details[open] table").nth(1).is_visible()


def test_the_wheel_zooms_and_dragging_moves(opened: Open, report: Path) -> None:
    watched = opened(report)
    page, tracks = watched.page, watched.page.locator(".tracks").first
    tracks.scroll_into_view_if_needed()
    box = tracks.bounding_box()
    assert box is not None
    whole = window(watched)
    middle, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(middle - 30, y)
    page.mouse.move(middle, y)
    drawn = page.locator(".tracks path.critical").first.get_attribute("d")
    for _ in range(6):
        page.mouse.wheel(0, -120)
        zoomed = window(watched)
    assert zoomed[1] < whole[1] / 4
    assert page.locator(".tracks path.critical").first.get_attribute("d") != drawn
    # what was below the pointer still is
    assert zoomed[0] + zoomed[1] / 2 == pytest.approx(whole[1] / 2, rel=0.02)
    page.mouse.down()
    page.mouse.move(middle + 100, y, steps=4)
    page.mouse.up()
    moved = window(watched)
    assert moved[1] == zoomed[1]
    assert zoomed[0] - moved[0] == pytest.approx(100 / box["width"] * zoomed[1], rel=0.05)
    page.get_by_role("button", name="Whole step").first.click()
    assert window(watched) == whole
    assert watched.complaints == []


def test_the_wheel_scrolls_past_a_timeline_that_slides_below_the_pointer(
    opened: Open, report: Path
) -> None:
    watched = opened(report)
    page = watched.page
    page.mouse.move(700, 450)
    whole = window(watched)
    end = page.evaluate("document.documentElement.scrollHeight")
    for _ in range(40):
        page.mouse.wheel(0, 400)
        page.wait_for_timeout(15)
    for _ in range(40):
        page.mouse.wheel(0, -400)
        page.wait_for_timeout(15)
    assert end > 1800
    assert window(watched) == whole
    page.wait_for_function("scrollY === 0")


def test_keys_zoom_move_and_tell(opened: Open, report: Path) -> None:
    watched = opened(report)
    page, tracks = watched.page, watched.page.locator(".tracks").first
    whole = window(watched)
    tracks.focus()
    page.keyboard.press("+")
    page.keyboard.press("+")
    assert window(watched)[1] == pytest.approx(whole[1] / 4)
    page.keyboard.press("ArrowRight")
    assert window(watched)[0] == pytest.approx(whole[1] * (3 / 8 + 1 / 16))
    told = page.locator(".told").first
    page.keyboard.press("n")
    first = told.inner_text()
    assert "rank 0" in first
    assert "ms" in first
    page.keyboard.press("n")
    assert told.inner_text() != first
    page.keyboard.press("ArrowDown")
    page.keyboard.press("0")
    assert window(watched) == whole
    assert watched.complaints == []


def test_what_is_pointed_at_is_named(opened: Open, report: Path) -> None:
    watched = opened(report)
    page, hint = watched.page, watched.page.locator("#hint")
    assert hint.is_hidden()
    page.locator("#breakdown svg g").first.hover()
    assert "rank 0, measured" in hint.inner_text()
    page.mouse.move(2, 2)
    assert hint.is_hidden()
    tracks = page.locator(".tracks").first
    tracks.scroll_into_view_if_needed()
    box = tracks.bounding_box()
    assert box is not None
    found = set()
    for part in range(40):
        page.mouse.move(box["x"] + box["width"] * part / 40, box["y"] + 21)
        if hint.is_visible():
            found.add(hint.inner_text())
    assert len(found) > 3
    assert all("rank 0" in text and "from" in text for text in found)


def test_what_is_tabbed_to_is_named_and_arrows_lead_on(opened: Open, report: Path) -> None:
    page = opened(report).page
    first = page.locator("#errors [tabindex='0']").first
    first.focus()
    told = page.locator("#hint").inner_text()
    assert "error" in told
    page.keyboard.press("ArrowRight")
    assert "error" in page.locator("#hint").inner_text() != told
    assert page.locator("#errors [tabindex='0']").count() == 1


def test_all_that_can_be_pressed_can_be_tabbed_to(opened: Open, report: Path) -> None:
    page = opened(report).page
    reached = set()
    for _ in range(120):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("(() => { const one = document.activeElement;"
                          " return one.id || one.getAttribute('class')"
                          " || one.textContent.trim() || one.tagName; })()")
        )  # fmt: skip
        if "Findings and assumptions" in reached and page.evaluate(
            "document.activeElement === document.body"
        ):
            break
    assert {"skip", "theme", "tracks", "Whole step", "By operator", "As a table"} <= reached
    outline = page.evaluate(
        "(() => { document.querySelector('#theme').focus();"
        " return getComputedStyle(document.querySelector('#theme')).outlineStyle; })()"
    )
    assert outline != "none"


def test_a_column_sorts_its_table(opened: Open, report: Path) -> None:
    page = opened(report).page
    table = page.locator("#cost table").first
    column = "[...document.querySelector('#cost table').tBodies[0].rows].map((row) => Number(row.cells[2].querySelector('data').value))"
    button = table.get_by_role("button", name="own time")
    button.click()
    falling = page.evaluate(column)
    assert falling == sorted(falling, reverse=True)
    button.click()
    assert page.evaluate(column) == falling[::-1]
    assert table.locator("th[aria-sort='ascending']").count() == 1


def test_the_theme_is_switched_and_remembered(opened: Open, report: Path) -> None:
    watched = opened(report, color_scheme="light")
    page = watched.page
    colour = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(colour)
    page.locator("#theme").click()
    dark = page.evaluate(colour)
    assert dark != light
    page.reload()
    assert page.evaluate(colour) == dark
    page.locator("#theme").click()
    assert page.evaluate(colour) == light


def test_paper_shows_no_buttons_and_the_light_theme(opened: Open, report: Path) -> None:
    page = opened(report, color_scheme="dark").page
    page.emulate_media(media="print", color_scheme="dark")
    assert page.locator("nav").is_hidden()
    assert page.locator("#theme").is_hidden()
    assert page.locator(".tools").first.is_hidden()
    ink = page.evaluate("getComputedStyle(document.body).color")
    assert sum(map(int, ink[4:-1].split(","))) < 200


@pytest.mark.parametrize("width", [1440, 375])
def test_names_of_ill_will_are_text(opened: Open, hostile_report: Path, width: int) -> None:
    watched = opened(hostile_report, width)
    page = watched.page
    assert page.locator("h1").inner_text() == "<script>alert('title')</script>"
    page.locator(".tracks").first.focus()
    for key in ("n", "ArrowDown", "n", "p", "ArrowDown", "n"):
        page.keyboard.press(key)
    assert page.locator("img, h1 b, #findings b").count() == 0
    assert page.evaluate("document.scripts.length") == 3
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert (watched.complaints, watched.requests, watched.dialogs) == ([], [], [])
