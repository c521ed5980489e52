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


def changed(name: str, value: object):
    def change(capture: dict) -> None:
        capture[name] = value

    return change


def rank_changed(part: str, name: str, value: object):
    def change(capture: dict) -> None:
        capture["ranks"][0][part][name] = value

    return change


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
        (rank_changed("unprofiled", "host_ms", [1.0]), "1 steps without the profiler"),
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
