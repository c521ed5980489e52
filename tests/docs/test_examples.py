"""The examples of README and docs run as they are written; their links lead somewhere.

An example that cannot run here has an HTML comment in front of it: `<!-- not run: reason -->`. In
all others `traces/` is a bundled recording. The output shown below a command has to be what is
printed, but for empty room, lines left out (`...`), and numbers that moved a little with the model.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
RECORDING = ROOT / "recordings" / "gpt-dp2-tp2"
RUNNABLE = {"bash", "console", "python"}
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NOT_RUN = re.compile(r"<!-- not run: (.+?) -->\s*\Z")
_NUMBER = re.compile(r"[-+]?[0-9][0-9,]*(\.[0-9]+)?")


class Example(NamedTuple):
    """A fenced block of a page: its line, language and text, and why it is not run, if so."""

    page: Path
    line: int
    language: str
    text: str
    not_run: str


def _examples() -> list[Example]:
    found = []
    for page in PAGES:
        text = page.read_text()
        for block in _FENCE.finditer(text):
            before = text[: block.start()]
            reason = _NOT_RUN.search(before)
            line = before.count("\n") + 1
            found.append(Example(page, line, block[1], block[2], reason[1] if reason else ""))
    return found


EXAMPLES = [one for one in _examples() if one.language in RUNNABLE and not one.not_run]


def _name(example: Example) -> str:
    return f"{example.page.name}:{example.line}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place as the pages assume it: the checkout's recordings, and `traces/`."""
    place = tmp_path_factory.mktemp("docs")
    (place / "recordings").symlink_to(ROOT / "recordings")
    (place / "traces").symlink_to(RECORDING)
    return place


def _run(arguments: list[str], folder: Path) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        arguments, cwd=folder, env={**os.environ, "PATH": path, "COLUMNS": "80"}, text=True,
        capture_output=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("example", [e for e in EXAMPLES if e.language == "bash"], ids=_name)
def test_a_shell_example_succeeds(example: Example, folder: Path) -> None:
    _run(["bash", "-euc", example.text], folder)


@pytest.mark.parametrize("example", [e for e in EXAMPLES if e.language == "python"], ids=_name)
def test_a_python_example_succeeds(example: Example, folder: Path) -> None:
    _run([sys.executable, "-W", "error", "-c", example.text], folder)


@pytest.mark.parametrize("example", [e for e in EXAMPLES if e.language == "console"], ids=_name)
def test_a_command_prints_what_is_shown(example: Example, folder: Path) -> None:
    command, _, shown = example.text.partition("\n")
    assert command.startswith("$ "), "a console example begins with `$ ` and its one command"
    lines = _run(["bash", "-euc", command[2:]], folder).splitlines()
    printed = [_text(line) for line in lines]
    place, elided = 0, False
    for line in shown.splitlines():
        if line == "...":
            elided = True
            continue
        wanted = _text(line)
        rest = printed[place:] if elided else printed[place : place + 1]
        assert wanted in rest, f"not printed here: {line}"
        place += rest.index(wanted) + 1
        elided = False
        for was, now in zip(_numbers(line), _numbers(lines[place - 1]), strict=True):
            assert now == pytest.approx(was, rel=0.05, abs=0.5), (
                f"shown: {line}; {lines[place - 1]}"
            )
    assert elided or place == len(printed), f"printed below what is shown: {printed[place:]}"


def _numbers(line: str) -> list[float]:
    return [float(number[0].replace(",", "")) for number in _NUMBER.finditer(line)]


def _text(line: str) -> str:
    """A line without what may differ: numbers, bars, empty room, how long a rule is."""
    line = _NUMBER.sub("0", line.translate({ord(bar): " " for bar in "━╸╺"}))
    return re.sub(r"-{3,}", "---", " ".join(line.split()))


def test_what_is_not_run_says_why() -> None:
    reasons = [one.not_run for one in _examples() if one.not_run]
    comments = sum(page.read_text().count("<!-- not run") for page in PAGES)
    assert len(reasons) == comments, "each `not run` comment stands right in front of an example"
    assert len(EXAMPLES) > len(reasons)


def _anchors(page: Path) -> set[str]:
    """The anchors of a page: of its headings as GitHub makes them, and its own."""
    text = _FENCE.sub("", page.read_text())
    heads = [re.sub(r"[*`]", "", head) for head in re.findall(r"^#+ (.+)$", text, re.MULTILINE)]
    made = {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}
    return made | set(re.findall(r'<a id="([^"]+)">', text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_what_is_there(page: Path) -> None:
    text = _FENCE.sub("", page.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        there = page.parent / path if path else page
        assert there.exists(), f"{target}: no such file"
        assert not anchor or anchor in _anchors(there), f"{target}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_source_files_that_a_page_names_are_there(page: Path) -> None:
    for name in re.findall(r"`([a-z_]+/[a-z_/]*[a-z_]+\.(?:py|json))`", page.read_text()):
        places = (ROOT, ROOT / "src", ROOT / "src" / "lumos")
        is_example = name.endswith("/x.py")  # "to add a rule, write lower/x.py"
        assert is_example or any((p / name).exists() for p in places), f"{name}: no such file"


def _codes() -> set[str]:
    """The codes of all findings and shortfalls in the sources."""
    found = set()
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            values: list[ast.expr] = []
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                named = [word.value for word in node.keywords if word.arg == "code"]
                if node.func.id in ("Finding", "Shortfall"):
                    values = [*node.args[:1], *named]
            elif isinstance(node, ast.Assign):
                of_code = any(isinstance(t, ast.Name) and t.id == "code" for t in node.targets)
                values = list(ast.walk(node.value)) if of_code else []  # type: ignore[arg-type]
            texts = [v.value for v in values if isinstance(v, ast.Constant)]
            found |= {
                t for t in texts if isinstance(t, str) and re.fullmatch(r"[a-z]+(-[a-z]+)+", t)
            }
    return found


def test_every_finding_has_its_line_in_the_first_page() -> None:
    findings = (ROOT / "docs" / "index.md").read_text().partition("## Findings")[2]
    assert set(re.findall(r"^\| `([a-z-]+)` \|", findings, re.MULTILINE)) == _codes()
