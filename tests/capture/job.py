"""A tiny training job in one of the ways PyTorch spreads one over ranks; run under torchrun.

python job.py WAY FOLDER STEPS [--crash-at N] [--rank-that-crashes R]
"""

from __future__ import annotations

import argparse
import gc
import os

import torch
import torch.distributed as dist
from torch import nn

from lumos.capture import Capture

WIDTH, ROWS = 32, 8
PLAN = {"skip_steps": 1, "timed_steps": 3, "warm_up_steps": 1, "profiled_steps": 2}


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))


def alone():
    return model(), None


def ddp():
    return nn.parallel.DistributedDataParallel(model()), None


def fsdp():
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("dp",))
    whole = model()
    for part in (whole[0], whole[2], whole):
        fully_shard(part, mesh=mesh)
    return whole, mesh


def tensor_parallel():
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    mesh = init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("tp",))
    return parallelize_module(model(), mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()}), mesh


class PipelineStep:
    """One step of a two-stage pipeline, four micro-batches."""

    def __init__(self) -> None:
        from torch.distributed.pipelining import PipelineStage, Schedule1F1B

        whole, rank, size = model(), dist.get_rank(), dist.get_world_size()
        self.part = nn.Sequential(whole[0], whole[1]) if rank == 0 else nn.Sequential(whole[2])
        self.last = rank == size - 1
        stage = PipelineStage(self.part, rank, size, torch.device("cpu"))
        self.schedule = Schedule1F1B(
            stage, 4, loss_fn=lambda out, want: (out - want).square().mean()
        )

    def __call__(self) -> None:
        if self.last:
            self.schedule.step(target=torch.zeros(ROWS, WIDTH))
        else:
            self.schedule.step(torch.ones(ROWS, WIDTH))


def pipeline():
    one = PipelineStep()
    return one, None


def record(options: argparse.Namespace) -> None:
    made, mesh = globals()[options.way]()
    trained = made.part if options.way == "pipeline" else made
    optimizer = torch.optim.AdamW(trained.parameters())
    crashes = options.rank_that_crashes == int(os.environ.get("RANK", "0"))
    with Capture(options.folder, **PLAN, model="two layers", layout=mesh) as capture:
        for step in range(options.steps):
            if step == options.crash_at and crashes:
                raise ZeroDivisionError("the training's own mistake")
            if options.way == "pipeline":
                made()
            else:
                made(torch.ones(ROWS, WIDTH)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            capture.step()
    print("trained", options.steps, "done", capture.done, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("way")
    parser.add_argument("folder")
    parser.add_argument("steps", type=int)
    parser.add_argument("--crash-at", type=int)
    parser.add_argument("--rank-that-crashes", type=int, default=0)
    options = parser.parse_args()
    if options.way != "alone":
        dist.init_process_group("gloo")
    record(options)
    gc.collect()  # a model that outlives its process groups makes gloo abort now and then
    if options.way != "alone":
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
