"""Runs training scripts that need PyTorch, each rank a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import textwrap
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from jsonschema import Draft202012Validator

ROOT = Path(__file__).parents[2]
JOB = Path(__file__).with_name("job.py")
NOISE = ("USDT:", "gpuGetDeviceCount failed")
"""In lines that torch's profiler writes by itself: in some versions, and built for GPUs without one."""

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None,
    reason="needs torch: pip install torch --index-url https://download.pytorch.org/whl/cpu",
)


class Ended(NamedTuple):
    """How a process ended, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """Our own lines on stderr."""
        return [line for line in self.err.splitlines() if line.startswith("lumos:")]


def run(command: list[Any], environment: dict[str, str] | None = None) -> Ended:
    """One process of this Python, with our sources to import."""
    return wait(start(command, environment))


def run_ranks(
    command: list[Any], count: int, environment: dict[str, str] | None = None
) -> list[Ended]:
    """The same command as every rank of a job."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    ranks = [
        start(
            command, {**(environment or {}), **meeting, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        )
        for rank in range(count)
    ]
    return [wait(rank) for rank in ranks]


def start(command: list[Any], environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    own = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    return subprocess.Popen(
        [sys.executable, *map(str, command)], env={**os.environ, **own, **(environment or {})},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait(process: subprocess.Popen[str]) -> Ended:
    out, err = process.communicate(timeout=120)
    lines = err.splitlines(keepends=True)
    kept = [line for line in lines if not any(noise in line for noise in NOISE)]
    return Ended(process.returncode, out, "".join(kept))


def script(folder: Path, text: str) -> Path:
    """A script of its own in `folder`."""
    path = folder / "train.py"
    path.write_text(textwrap.dedent(text))
    return path


def recorded(folder: Path) -> dict[str, Any]:
    """The capture.json in a folder, which keeps to its schema whatever happened to the job."""
    document = json.loads((folder / "capture.json").read_text(encoding="utf-8"))
    capture_schema().validate(document)
    return document


def capture_schema() -> Draft202012Validator:
    schema = json.loads(files("lumos.schemas").joinpath("capture-1.json").read_text("utf-8"))
    return Draft202012Validator(schema)


def files_in(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}
