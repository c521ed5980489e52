"""What the tests of the command line share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.run import Cli

ROOT = Path(__file__).parents[2]
RECORDINGS = ROOT / "recordings"
DATA = ROOT.parent / "shared" / "data" / "kineto"


@pytest.fixture(autouse=True)
def _own_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("LUMOS_TRACEBACK", raising=False)


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(monkeypatch, capsys)


def event(name: str, start_us: float, duration_us: float, **more: Any) -> dict[str, Any]:
    """An operator of the main thread; other things by keyword."""
    usual = {
        "ph": "X",
        "cat": "cpu_op",
        "name": name,
        "pid": 1,
        "tid": 1,
        "ts": start_us,
        "dur": duration_us,
    }
    return {**usual, **more}


def small_trace(rank: int | None = 0, world_size: int | None = None, name: str = "aten::mm") -> str:
    """Three steps, each of one operator that launches one kernel."""
    events = []
    for step in range(3):
        begin = 1000.0 * step
        events += [
            event(f"ProfilerStep#{step}", begin, 900, cat="user_annotation"),
            event(name, begin + 100, 200),
            event("cudaLaunchKernel", begin + 150, 20, cat="cuda_runtime", args={"correlation": step + 1}),
            event(
                "sgemm", begin + 200, 400, cat="kernel", pid=0, tid=7,
                args={"correlation": step + 1, "device": 0, "stream": 7},
            ),
        ]  # fmt: skip
    distributed = {k: v for k, v in (("rank", rank), ("world_size", world_size)) if v is not None}
    header = {"deviceProperties": [{"id": 0, "name": "A GPU"}], "distributedInfo": distributed}
    return json.dumps({**header, "traceEvents": events})


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path
