"""The page: how large it is, how long a browser takes to open it. python benchmarks/page.py

Needs a browser and the extra `test`. Opened is when all is laid out and painted once, timed by the
browser itself from the begin of its navigation, worst of five; caches are empty each time.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Playwright, sync_playwright

import lumos
from lumos.answer import answer
from lumos.report.page import page

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tests.page.conftest import launch
from tests.page.jobs import training

DATA = ROOT.parent / "shared" / "data" / "kineto"
RUNS = 5
MOST_BYTES, MOST_S = 2_000_000, 2.0
PAINTED = """() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(
    () => done(performance.now()))))"""


def opened_s(playwright: Playwright, file: Path) -> float:
    """Seconds until the page is painted, in a browser that has just been started."""
    browser = launch(playwright)
    view = browser.new_page(viewport={"width": 1440, "height": 900}, offline=True)
    view.goto(file.as_uri())
    seconds = view.evaluate(PAINTED) / 1000
    browser.close()
    return seconds


def main() -> None:
    """Measure and print."""
    jobs = {"64 ranks of a synthetic job": lambda: answer(training(64, 12, steps=4))}
    for name in ("dlrm-8xV100", "recsys-8xA100"):
        if (DATA / name).is_dir():
            jobs[name] = lambda name=name: answer(lumos.load(DATA / name).recording)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        for name, ask in jobs.items():
            begin = time.perf_counter()
            file = Path(folder) / "report.html"
            file.write_text(page(ask(), name), "utf-8")
            made, size = time.perf_counter() - begin, file.stat().st_size
            worst = max(opened_s(playwright, file) for _ in range(RUNS))
            met = "met" if size <= MOST_BYTES and worst <= MOST_S else "NOT MET"
            print(
                f"{name}: {size / 1e6:.2f} MB (most {MOST_BYTES / 1e6:.0f}), opened in {worst:.2f} s "
                f"(most {MOST_S:.0f}), {met}; made in {made:.1f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
