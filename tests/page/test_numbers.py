"""Every number of the page is what the command beside it prints."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import DATA, RECORDINGS
from tests.cli.run import Cli
from tests.cli.test_schemas import validator
from tests.page.reading import Number, held, read_page

MINUS = "\u2212"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is absent")
JOBS = [
    pytest.param(RECORDINGS / "gpt-dp2-delayed", id="gpt-dp2-delayed"),
    pytest.param(RECORDINGS / "gpt-pp2", id="gpt-pp2"),
    pytest.param(DATA / "recsys-8xA100", id="recsys-8xA100", marks=needs_data),
    pytest.param(DATA / "dlrm-8xV100", id="dlrm-8xV100", marks=needs_data),
]


@pytest.mark.parametrize("path", JOBS)
def test_every_number_is_what_the_command_beside_it_prints(
    cli: Cli, path: Path, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    assert cli("report", path, "-o", page).code == 0
    reading = read_page(page.read_text("utf-8"))
    printed: dict[str, Any] = {}
    commands = {c for panel in reading.commands.values() for c in panel.values()}
    for command in sorted(commands):
        words = [path if word == "PATH" else word for word in shlex.split(command)]
        assert words[0] == "lumos"
        printed[command] = json.loads(cli(*words[1:]).out)
    assert len(reading.numbers) > 60
    named = {key: text for panel in reading.commands.values() for key, text in panel.items()}
    for number in reading.numbers:
        beside = reading.commands.get(number.panel, named)
        key = number.at.split("/")[1]
        assert key in beside, f"{number.at} in {number.panel}: no command beside it"
        _check(number, {key: printed[beside[key]]})


def _check(number: Number, documents: dict[str, Any]) -> None:
    expected = held(documents, number.at)
    whole = held(documents, number.of) if number.of else None
    if expected is None or (number.of and not whole):
        assert number.value == "", number
        return
    if number.of:
        expected = 100 * expected / whole
    assert float(number.value.replace(MINUS, "-").replace("+", "")) == pytest.approx(
        expected, rel=1e-6, abs=6e-3 if number.value == number.text else 1e-5
    ), number
    if number.at.endswith(("bytes", "_per_s")):  # written with a prefix
        expected /= next((scale for scale in (1e12, 1e9, 1e6, 1e3) if expected >= scale), 1)
    digits = number.text.replace(",", "").replace(MINUS, "-").replace("+", "")
    last = 10.0 ** -len(digits.partition(".")[2])
    assert float(digits) == pytest.approx(expected, abs=0.51 * last), number


def test_the_document_holds_what_the_verbs_print(cli: Cli) -> None:
    path = RECORDINGS / "gpt-dp2-delayed"
    document = json.loads(cli("report", path, "--json").out)
    validator("report").validate(document)
    for verb in ("replay", "cost", "critical_path", "breakdown", "communication", "stragglers"):
        validator(verb).validate(document[verb])
    assert document["replay"] == json.loads(cli("replay", path, "--json").out)
    step = ("--step", document["step"])
    for verb in ("cost", "breakdown", "communication"):
        assert document[verb] == json.loads(cli(verb, path, *step, "--json").out), verb
    assert document["stragglers"] == json.loads(cli("stragglers", path, "--json").out)
