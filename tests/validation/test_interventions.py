"""An intervention really changes the job: the trace shows it."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

JOB = Path(__file__).parents[2] / "validation" / "job.py"
TINY = [
    "--layers",
    "2",
    "--hidden",
    "32",
    "--heads",
    "4",
    "--vocabulary",
    "64",
    "--sequence",
    "16",
    "--micro-batch",
    "1",
    "--skip-steps",
    "1",
    "--timed-steps",
    "3",
    "--warm-up-steps",
    "1",
    "--profiled-steps",
    "2",
]

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None,
    reason="recording needs torch: pip install torch --index-url https://download.pytorch.org/whl/cpu",
)


def record(folder: Path, name: str | None, *flags: str) -> tuple[Counter[str], dict]:
    """Operators of the profiled steps by name, and what the intervention tells of itself."""
    command = [sys.executable, str(JOB), "--folder", str(folder), "--name", name or "base", *TINY]
    command += ["--intervention", name] if name else []
    done = subprocess.run(
        [*command, *flags], capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with gzip.open(folder / "rank0.json.gz", "rt", encoding="utf-8") as stream:
        events = json.load(stream)["traceEvents"]
    truth = folder / "truth" / "intervention.json"
    told = json.loads(truth.read_text("utf-8")) if truth.exists() else {}
    return Counter(e["name"] for e in events if e.get("cat") == "cpu_op"), told


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Counter[str]:
    return record(tmp_path_factory.mktemp("base"), None)[0]


def products(operators: Counter[str]) -> int:
    return operators["aten::mm"] + operators["aten::addmm"] + operators["aten::bmm"]


def test_every_product_runs_twice(base, tmp_path) -> None:
    once, _ = record(tmp_path / "once", "gemm_hook")
    twice, told = record(tmp_path / "twice", "gemm_twice")
    asked = products(base)
    # the operator itself and its `.out` forms go by one name
    assert products(once) == 2 * asked
    assert products(twice) == 3 * asked
    assert told["runs"] == 2
    assert told["products"] * 2 == asked * 7  # seven steps, two of them profiled


def test_attention_is_gone_and_nothing_else(base, tmp_path) -> None:
    operators, _ = record(tmp_path, "no_attention")
    attention = "aten::scaled_dot_product_attention"
    assert base[attention] > 0
    assert operators[attention] == 0
    assert operators["aten::linear"] == base["aten::linear"]


def test_every_layer_is_read_once_a_forward(base, tmp_path) -> None:
    operators, told = record(tmp_path, "item_per_layer")
    assert operators["aten::item"] - base["aten::item"] == 2 * 2  # layers x profiled steps
    assert told["reads_per_forward"] == 2


def test_the_work_added_to_an_operator_is_measured_and_is_what_was_asked_for(tmp_path) -> None:
    _, hook = record(tmp_path / "hook", "operator_hook")
    _, work = record(tmp_path / "work", "host_work")
    assert work["operators"] == hook["operators"] > 1000
    assert work["added_us"] - hook["added_us"] == pytest.approx(20, abs=5)
