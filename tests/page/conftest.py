"""A browser for the tests of the page; without one they are skipped, or fail where CI demands one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error, Page, Playwright, sync_playwright

from lumos.answer import answer
from lumos.report.page import page as page_of
from tests.cli.conftest import _own_terminal, cli  # noqa: F401
from tests.page.jobs import hostile, training

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DEMANDED = "LUMOS_NEED_BROWSER"
"""Set to 1 where a missing browser is a failure: in CI."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        try:
            found = launch(playwright)
        except Error as error:
            reason = f"no browser: {str(error).splitlines()[0]}"
            if os.environ.get(DEMANDED) == "1":
                pytest.fail(reason)
            pytest.skip(reason)
        yield found
        found.close()


def launch(playwright: Playwright) -> Browser:
    """The system's browser, else the one that playwright installed."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    options = ["--disable-dev-shm-usage"] + ["--no-sandbox"] * (os.geteuid() == 0)
    return playwright.chromium.launch(executable_path=path, args=options, timeout=60_000)


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a job of four ranks on GPUs."""
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(page_of(answer(training(4, 6)), "Training on four ranks"), "utf-8")
    return file


@pytest.fixture(scope="session")
def hostile_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a job whose names mean harm."""
    file = tmp_path_factory.mktemp("page") / "hostile.html"
    file.write_text(page_of(answer(hostile()), "<script>alert('title')</script>"), "utf-8")
    return file


class Watched:
    """A page in a browser, with all it complained about or asked the network for."""

    def __init__(self, page: Page, file: Path) -> None:
        self.page, self.complaints, self.requests, self.dialogs = page, [], [], []  # type: ignore[var-annotated]
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: (self.dialogs.append(dialog.message), dialog.dismiss()))
        address = file.as_uri()

        def only_itself(route) -> None:  # type: ignore[no-untyped-def]
            if route.request.url.partition("#")[0] == address:
                route.continue_()
            else:
                self.requests.append(route.request.url)
                route.abort()

        page.route("**/*", only_itself)
        page.goto(address)


@pytest.fixture
def opened(browser: Browser) -> Iterator[Callable[..., Watched]]:
    """Opens a page file with the options of a browser context."""
    contexts = []

    def open_page(file: Path, width: int = 1440, height: int = 900, **options: object) -> Watched:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            offline=True,
            reduced_motion="reduce",
            **options,
        )
        contexts.append(context)
        return Watched(context.new_page(), file)

    yield open_page
    for context in contexts:
        context.close()
