"""Every recording of the suites is as the capture.json beside it says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.validation.agreement import disagreements

VALIDATION = Path(__file__).parents[2] / "validation"
RECORDINGS = sorted(path.parent for path in VALIDATION.glob("**/capture.json"))


@pytest.mark.parametrize("folder", RECORDINGS, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_a_recording_is_what_its_capture_json_says(folder: Path) -> None:
    assert disagreements(folder) == []


def test_the_cpu_suite_is_there_and_its_table_names_every_recording() -> None:
    table = (VALIDATION / "cpu" / "README.md").read_text("utf-8")
    own = [folder.name for folder in RECORDINGS if folder.parent.name == "cpu"]
    assert {"base", "gemm_twice", "delay-20ms", "dp4-half-cores"} <= set(own)
    assert all(f"| {name} |" in table for name in own)


def test_the_table_of_the_cpu_suite_gives_the_slowest_rank_with_and_without_the_profiler() -> None:
    table = (VALIDATION / "cpu" / "README.md").read_text("utf-8")
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line[:1] == "|"][2:]
    assert len(rows) > 20
    for name, _, _, plain, _, profiled, *_ in rows:
        capture = json.loads((VALIDATION / "cpu" / name / "capture.json").read_text("utf-8"))
        for cell, kind in ((plain, "unprofiled"), (profiled, "profiled")):
            slowest = max(rank[kind]["median_ms"] for rank in capture["ranks"])
            assert cell == f"{slowest:.2f}", (name, kind)


def changed(name: str, value: object):
    def change(capture: dict) -> None:
        capture[name] = value

    return change


def rank_changed(part: str, name: str, value: object):
    def change(capture: dict) -> None:
        capture["ranks"][0][part][name] = value

    return change


def of_another_recording(capture: dict) -> None:
    """Rank 1 gets all that another recording says of the time of its steps without the profiler."""
    other = json.loads((VALIDATION / "cpu" / "gemm_twice" / "capture.json").read_text("utf-8"))
    told, kept = capture["ranks"][1], other["ranks"][1]
    told["unprofiled"] = kept["unprofiled"]
    ratio = told["profiled"]["median_ms"] / told["unprofiled"]["median_ms"]
    told["inflation_pct"] = round(100 * (ratio - 1), 2)


def halved(capture: dict) -> None:
    times = capture["ranks"][0]["unprofiled"]
    times.update(
        {
            name: value / 2
            for name, value in times.items()
            if name.endswith("_ms") and name not in ("host_ms", "gpu_ms")
        }
    )
    times["host_ms"] = [value / 2 for value in times["host_ms"]]


def halved_with_its_inflation(capture: dict) -> None:
    halved(capture)
    rank = capture["ranks"][0]
    ratio = rank["profiled"]["median_ms"] / rank["unprofiled"]["median_ms"]
    rank["inflation_pct"] = round(100 * (ratio - 1), 2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (changed("world_size", 3), "2 ranks of 3"),
        (changed("layout", {"dp": 4}), "a layout {'dp': 4} of 2 ranks"),
        (lambda capture: capture["steps"].update(profiled=5), "3 steps, told are 5"),
        (lambda capture: capture["ranks"].pop(), "files are"),
        (lambda capture: capture["ranks"][0].update(status="partial"), "rank 0 is partial"),
        (lambda capture: capture["ranks"][0].update(rank=7), "rank 0 of 2 in the trace"),
        (rank_changed("profiled", "host_ms", [1.0, 2.0, 3.0]), "told are 1.00 ms"),
        (
            rank_changed("unprofiled", "median_ms", 4.0),
            "unprofiled median_ms is 4.0, its times give",
        ),
        (rank_changed("unprofiled", "p10_ms", 4.0), "unprofiled p10_ms is 4.0, its times give"),
        (lambda capture: capture["ranks"][1].update(inflation_pct=0.0), "rank 1: inflation is 0.0"),
        (halved, "rank 0: inflation is"),
        (halved_with_its_inflation, "unprofiled steps took"),
        (of_another_recording, "unprofiled steps took"),
        (rank_changed("unprofiled", "host_ms", [1.0, 2.0]), "2 steps without the profiler"),
    ],
)
def test_a_recording_that_was_changed_is_found_out(change, words: str, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(VALIDATION / "cpu" / "base", folder)
    path = folder / "capture.json"
    capture = json.loads(path.read_text("utf-8"))
    change(capture)
    path.write_text(json.dumps(capture), "utf-8")
    assert any(words in line for line in disagreements(folder))
