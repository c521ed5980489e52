"""The example GPT computes the same training run in every parallel layout."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

GPT = Path(__file__).parents[2] / "examples" / "gpt.py"
# Every layout trains on four sequences per step, in micro-batches of one.
MODEL = "--layers 4 --hidden 32 --heads 4 --vocabulary 64 --sequence 16 --micro-batch 1 --steps 6 --warm-up-steps 0"

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None,
    reason="the example needs torch: pip install torch --index-url https://download.pytorch.org/whl/cpu",
)


def train(folder: Path, processes: int, flags: str) -> list[float]:
    """Run gpt.py under torchrun and return the loss of each step."""
    report = folder / "report.json"
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [
        sys.executable,
        *launch,
        str(GPT),
        *MODEL.split(),
        *flags.split(),
        "--report",
        str(report),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(report.read_text(encoding="utf-8"))["losses"]


@pytest.fixture(scope="module")
def single_process_losses(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    return train(tmp_path_factory.mktemp("single"), 1, "--micro-batches 4")


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    losses = train(tmp_path, 1, "--micro-batches 4 --steps 60 --learning-rate 3e-3")
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize(
    ("processes", "flags"),
    [
        (1, "--micro-batches 4 --recompute"),
        (2, "--dp 2 --micro-batches 2"),
        (2, "--tp 2 --micro-batches 4"),
        (2, "--dp 2 --fsdp --micro-batches 2"),
        (4, "--dp 2 --tp 2 --fsdp --micro-batches 2"),
        (2, "--pp 2 --micro-batches 4"),
        (4, "--pp 4 --micro-batches 4"),
        (4, "--dp 2 --tp 2 --micro-batches 2 --bucket-mb 0.01"),
        (4, "--dp 2 --pp 2 --micro-batches 2 --bucket-mb 0.01"),
    ],
)
def test_a_layout_does_not_change_the_loss_curve(
    processes: int, flags: str, single_process_losses: list[float], tmp_path: Path
) -> None:
    assert train(tmp_path, processes, flags) == pytest.approx(single_process_losses, rel=1e-4)


def test_a_profile_has_every_rank_step_phase_and_group(tmp_path: Path) -> None:
    train(tmp_path, 2, f"--dp 2 --profile {tmp_path} --profile-steps 2 --delay-rank 1 --delay-ms 5")
    for rank in range(2):
        with gzip.open(tmp_path / f"rank{rank}.json.gz") as stream:
            trace = json.load(stream)
        groups = {
            group["pg_desc"]: group["ranks"] for group in trace["distributedInfo"]["pg_config"]
        }
        annotations = [
            event["name"] for event in trace["traceEvents"] if event.get("cat") == "user_annotation"
        ]
        assert trace["distributedInfo"]["rank"] == rank
        assert groups["mesh_dp"] == [0, 1]
        assert groups["mesh_tp"] == [rank]
        assert len([name for name in annotations if name.startswith("ProfilerStep#")]) == 2
        for phase in ("forward micro-batch 0", "backward micro-batch 0", "optimizer", "layer 3"):
            assert annotations.count(phase) == 2
        assert annotations.count("injected delay") == (2 if rank == 1 else 0)
