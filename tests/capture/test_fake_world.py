"""One rank of a job whose other ranks do not exist."""

from __future__ import annotations

import gzip
import json
from dataclasses import asdict
from pathlib import Path

import pytest

from lumos.capture.fake_world import variables
from lumos.capture.plan import Plan
from lumos.capture.unmodified import Order
from tests.capture.torch_jobs import ROOT, needs_torch, recorded, run, script

pytestmark = needs_torch
PLAN = {"skip_steps": 1, "timed_steps": 2, "warm_up_steps": 1, "profiled_steps": 1}


def shapes(path: Path, name: str) -> set[str]:
    with gzip.open(path) as file:
        events = json.load(file)["traceEvents"]
    return {str(e["args"].get("Input Dims")) for e in events if e["name"] == name}


def test_every_way_of_spreading_a_job_runs_as_its_one_rank(tmp_path: Path) -> None:
    text = f"""
import os, sys, torch, torch.distributed as dist
sys.path.insert(0, {str(ROOT)!r})
from lumos.capture import Capture, fake_world
from tests.capture import job
ours = {set(variables(8, 5))}
os.environ["RANK"] = "3"
def environment(): return {{name: os.environ.get(name) for name in ours}}
before, real = environment(), dist.init_process_group
for way in ("ddp", "fsdp", "tensor_parallel"):
    with fake_world(8, rank=5):
        assert (os.environ["RANK"], os.environ["WORLD_SIZE"], os.environ["LOCAL_RANK"]) == ("5", "8", "0")
        dist.init_process_group("gloo", init_method="env://")
        pair = dist.new_group([4, 5], backend="gloo", group_desc="mesh_pair")
        assert (dist.get_rank(), dist.get_world_size(), dist.get_rank(pair)) == (5, 8, 1)
        made, mesh = getattr(job, way)()
        optimizer = torch.optim.AdamW(made.parameters())
        with Capture({str(tmp_path)!r} + "/" + way, **{PLAN}, layout=mesh, quiet=True) as capture:
            for _ in range(6):
                made(torch.ones(8, 32)).square().mean().backward()
                optimizer.step()
                optimizer.zero_grad()
                capture.step()
        del made, optimizer, mesh, pair
        dist.destroy_process_group()
assert environment() == before and dist.init_process_group is real
"""
    done = run([script(tmp_path, text)])
    assert (done.code, done.lines) == (0, []), done.err
    for way, layout in (("ddp", None), ("fsdp", {"dp": 8}), ("tensor_parallel", {"tp": 8})):
        notes = recorded(tmp_path / way)
        assert (notes["fake_world"], notes["world_size"], notes["layout"]) == (8, 8, layout)
        one = notes["ranks"][0]
        assert (one["rank"], one["status"], one["file"]) == (5, "complete", "rank5.json.gz")
        with gzip.open(tmp_path / way / "rank5.json.gz") as file:
            told = json.load(file)["distributedInfo"]
        assert (told["backend"], told["rank"], told["world_size"]) == ("fake", 5, 8)
    # an eighth of the 32 features of the first layer, and all rows
    assert any(
        "[32, 4]" in one
        for one in shapes(tmp_path / "tensor_parallel" / "rank5.json.gz", "aten::mm")
    )


@pytest.mark.parametrize("flags", ["--dp 2 --tp 2 --pp 2 --micro-batches 4"])
def test_the_example_runs_as_one_rank_of_eight_without_knowing(tmp_path: Path, flags: str) -> None:
    (tmp_path / "notes").mkdir()
    order = Order(
        str(tmp_path / "traces"),
        str(tmp_path / "notes"),
        asdict(Plan(1, 2, 1, 1)),
        fake_world=8,
        fake_rank=6,
    )
    small = "--layers 4 --hidden 32 --heads 4 --sequence 16 --steps 6 --warm-up-steps 0"
    command = [ROOT / "examples" / "gpt.py", *flags.split(), *small.split()]
    done = run(command, {**order.environment(), **variables(8, 6)})
    assert (done.code, done.err) == (0, "")
    notes = recorded(tmp_path / "traces")
    assert (notes["fake_world"], notes["ranks"][0]["rank"], notes["ranks"][0]["status"]) == (
        8,
        6,
        "complete",
    )
    assert {name: notes["layout"][name] for name in ("dp", "tp", "pp")} == {
        "dp": 2,
        "tp": 2,
        "pp": 2,
    }
