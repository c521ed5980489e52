"""Reports as text: golden files at 80 and 160 columns, and what must hold at any width.

`LUMOS_UPDATE_GOLDEN=1 pytest tests/report` writes the golden files anew; read the difference.
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType

from lumos.analysis.grade import Shortfall, grade, shortfalls
from lumos.analysis.inspection import inspect
from lumos.analysis.prediction import Quantity, StepPrediction
from lumos.build import build
from lumos.graph.finding import Finding
from lumos.graph.job import Placement
from lumos.ingest.read import read
from lumos.report.documents.encoding import encode
from lumos.report.documents.inspection import inspect_document
from lumos.report.documents.replay import replay_document
from lumos.report.text.house import ranks_text
from lumos.report.text.inspection import inspect_report
from lumos.report.text.replay import replay_report
from tests.report.records import rank_replay, step_replay

GOLDEN = Path(__file__).parent / "golden"
RECORDINGS = Path(__file__).parents[2] / "recordings"
MS = 1_000_000


def text_of(report: RenderableType, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), highlight=False, markup=False, emoji=False)
    console.print(report, crop=False)
    assert isinstance(console.file, io.StringIO)
    return "".join(line.rstrip() + "\n" for line in console.file.getvalue().splitlines())


def compare(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("LUMOS_UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
    assert text == path.read_text("utf-8")


PLACEMENT = Placement((0, 1), (0, 1), 8, gpu="A GPU of the newest make 80GB")
STEPS = [
    step_replay(
        f"ProfilerStep#{1000 + number}", 90 * MS, (90 + number) * MS,
        [
            rank_replay(0, 85 * MS, (85 + number) * MS, unexplained_ns=number * MS // 3),
            rank_replay(1, 80 * MS, (80 - 2 * number) * MS, device=number > 0),
        ],
    )
    for number in range(4)
]  # fmt: skip
PREDICTIONS = [
    StepPrediction(
        "ProfilerStep#1000", f"ProfilerStep#{1000 + number}",
        Quantity(90 * MS, (90 + number) * MS, None), Quantity(88 * MS, 99 * MS, 80 * MS),
    )
    for number in range(1, 4)
]  # fmt: skip
FINDINGS = [
    Finding(
        "cut-off", "warning", "the file ends in the middle", 12 * MS, "let the profiler finish"
    ),
    Finding("one-rank", "info", "a longer message that says at some length what was found " * 2),
]


def replay_text(width: int) -> str:
    report = replay_report(
        PLACEMENT, STEPS, PREDICTIONS, FINDINGS,
        dropped=["event_wait"], files=[Path("out") / "ProfilerStep-1000.json.gz"],
    )  # fmt: skip
    return text_of(report, width)


def inspect_text(recording: str, width: int) -> str:
    traces = read(RECORDINGS / recording)
    found = inspect(traces, build(traces)[0])
    lacks = shortfalls(found)
    return text_of(inspect_report(found, grade(lacks), lacks), width)


@pytest.mark.parametrize("width", [80, 160])
def test_a_replay_reads_as_committed(width: int) -> None:
    compare(f"replay-{width}.txt", replay_text(width))


@pytest.mark.parametrize("width", [80, 160])
def test_an_inspection_reads_as_committed(width: int) -> None:
    compare(f"inspect-gpt-dp2-tp2-{width}.txt", inspect_text("gpt-dp2-tp2", width))


def test_documents_are_as_committed() -> None:
    document = replay_document(PLACEMENT, STEPS[:2], PREDICTIONS[:1], FINDINGS)
    compare("replay.json", encode(document) + "\n")
    traces = read(RECORDINGS / "gpt-pp2")
    found = inspect(traces, build(traces)[0])
    lacks = shortfalls(found)
    compare(
        "inspect-gpt-pp2.json",
        encode(_rounded(inspect_document(found, grade(lacks), lacks))) + "\n",
    )


def _rounded(value: Any) -> Any:
    """Times to the us, files by their names: the same on every machine."""
    if isinstance(value, dict):
        return {
            key: Path(inner).name if key == "file" else _rounded(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return round(value, 3) if isinstance(value, float) else value


@pytest.mark.parametrize("width", [80, 100, 160, 240])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    for text in (replay_text(width), inspect_text("gpt-dp2", width)):
        assert max(map(len, text.splitlines())) <= width


def test_step_names_and_all_figures_stand_in_80_columns() -> None:
    lines = replay_text(80).splitlines()
    for step in STEPS:
        assert any(line.startswith(step.step + " ") for line in lines)
    (rank,) = [line for line in lines if line.split()[:3] == ["rank", "0", "85.00"]][1:2]
    assert len(rank.split()) == 2 + 8


def test_names_cannot_steer_the_terminal_or_the_markup() -> None:
    evil = "[red]\x1b[2J\u202e\nnext[/red]"
    step = step_replay(evil, 10, 10, [rank_replay(0, 10, 10)])
    finding = Finding("x", "error", evil, None, evil)
    text = text_of(replay_report(Placement((0,), (0,), 1, gpu=evil), [step], [], [finding]), 200)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "[red]\\x1b[2J\\u202e\\nnext[/red]" in text


def test_long_jobs_are_shortened_and_what_is_left_out_is_counted() -> None:
    steps = [
        step_replay(f"s{n}", 100, 100 + n, [rank_replay(r, 100, 100 + n * r) for r in range(20)])
        for n in range(100)
    ]
    lines = text_of(replay_report(PLACEMENT, steps, [], FINDINGS * 50), 80).splitlines()
    text = " ".join(lines)
    assert len(lines) < 250
    assert "76 more steps" in text
    assert "456 more ranks" in text
    assert "60 more, all with --json" in text
    assert any(line.startswith("s99 ") for line in lines), "the worst stay"


def test_a_step_without_tasks_has_a_line_and_no_figures() -> None:
    text = text_of(replay_report(PLACEMENT, [step_replay("empty", 0, 0, [])], [], []), 80)
    assert "empty" in text
    assert "critical path" not in text


def test_ranks_are_written_as_ranges() -> None:
    assert ranks_text([0, 1, 2, 3, 8, 10, 11]) == "0-3, 8, 10-11"
    assert ranks_text([5]) == "5"
    assert ranks_text([]) == ""


def test_what_is_not_finite_becomes_null() -> None:
    text = encode({"a": float("nan"), "b": [float("inf"), -float("inf"), 1.5], "c": {"d": "NaN"}})
    assert json.loads(text) == {"a": None, "b": [None, None, 1.5], "c": {"d": "NaN"}}


def test_text_of_any_kind_is_encoded() -> None:
    assert json.loads(encode({"name": "\udcff \u202e é"})) == {"name": "\udcff \u202e é"}


def test_an_advice_stands_behind_the_message() -> None:
    (finding, _) = replay_document(PLACEMENT, [], [], FINDINGS)["findings"]
    assert finding["message"] == "the file ends in the middle; let the profiler finish"
    assert finding["affected_ms"] == 12.0


def test_a_perfect_capture_says_so() -> None:
    assert grade(()) == "A"
    worse = (Shortfall("x", "B", "", ""), Shortfall("y", "D", "", ""), Shortfall("z", "C", "", ""))
    assert grade(worse) == "D"
