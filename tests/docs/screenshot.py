"""The picture of the report on the first pages: the top of a page, as a browser shows it.

    python -m tests.docs.screenshot PATH FILE.png

The committed one is of the bundled recording `gpt-dp2-delayed`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

import lumos
from tests.page.conftest import launch

WIDTH, HEIGHT = 1100, 1020


def main(path: str, picture: str) -> None:
    """Write the page of the traces at `path`, open it, and keep what is seen first."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page = lumos.load(path).report(Path(folder, "report.html"))
        view = launch(playwright).new_page(
            viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light"
        )
        view.goto(page.as_uri())
        view.screenshot(path=picture)


if __name__ == "__main__":
    main(*sys.argv[1:])
