"""Train a small GPT with data, tensor and pipeline parallelism, and record what it does.

A real training script in one file: it needs torch 2.4 or newer and nothing else. Run it alone, under
torchrun, or through record.py::

    python examples/gpt.py --steps 20
    torchrun --nproc-per-node 4 examples/gpt.py --dp 2 --tp 2 --profile traces
    torchrun --nproc-per-node 2 examples/gpt.py --dp 2 --fsdp

Ranks are laid out with tensor parallelism innermost and pipeline parallelism outermost::

    rank = (pipeline stage * dp + data replica) * tp + tensor shard

The same flags with another layout train the same model on the same data: weights are drawn by name
and sequences by number, so the loss curves agree up to rounding.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import time
import zlib
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import record_function
from torch.utils.checkpoint import checkpoint

with contextlib.suppress(ImportError):  # newer than the oldest torch that the rest works with
    from torch.distributed.fsdp import fully_shard

# --- Options and layout -----------------------------------------------------------------------------


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; every flag has a default that trains on one CPU in seconds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    model = parser.add_argument_group("model")
    model.add_argument("--layers", type=int, default=4)
    model.add_argument("--hidden", type=int, default=128)
    model.add_argument("--heads", type=int, default=4)
    model.add_argument("--ffn", type=int, help="width of the perceptron; default: 4 times hidden")
    model.add_argument("--vocabulary", type=int, default=256)
    model.add_argument("--sequence", type=int, default=64, help="tokens per sequence")
    model.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    model.add_argument(
        "--recompute", action="store_true", help="run each layer's forward again in backward"
    )

    training = parser.add_argument_group("training")
    training.add_argument("--micro-batch", type=int, default=2, help="sequences per micro-batch")
    training.add_argument(
        "--micro-batches", type=int, default=1, help="micro-batches per step and replica"
    )
    training.add_argument("--learning-rate", type=float, default=1e-3)
    training.add_argument("--steps", type=int, default=20, help="timed steps, never profiled")
    training.add_argument(
        "--warm-up-steps", type=int, default=2, help="steps before the timed ones"
    )
    training.add_argument(
        "--reserve-mb", type=int, default=0, help="host memory to touch before training"
    )
    training.add_argument(
        "--report", type=Path, metavar="FILE", help="write losses and step times as JSON"
    )

    layout = parser.add_argument_group("layout")
    layout.add_argument("--dp", type=int, default=1, help="data parallel replicas")
    layout.add_argument("--tp", type=int, default=1, help="tensor parallel shards")
    layout.add_argument("--pp", type=int, default=1, help="pipeline stages")
    layout.add_argument(
        "--fsdp", action="store_true", help="shard weights over the replicas (FSDP2), no DDP"
    )
    layout.add_argument(
        "--bucket-mb", type=float, default=25.0, help="gradient bucket of data parallelism"
    )
    layout.add_argument("--device", choices=["cpu", "cuda"], default="cpu")

    delay = parser.add_argument_group("injected delay")
    delay.add_argument("--delay-rank", type=int, metavar="R", help="this rank sleeps in each step")
    delay.add_argument("--delay-ms", type=float, default=0.0, metavar="X")

    profile = parser.add_argument_group("profile")
    profile.add_argument(
        "--profile", type=Path, metavar="DIR", help="write rank{R}.json.gz to this folder"
    )
    profile.add_argument("--profile-steps", type=int, default=3)

    options = parser.parse_args(arguments)
    options.ffn = options.ffn or 4 * options.hidden
    for whole, part in (("hidden", "heads"), ("heads", "tp"), ("ffn", "tp"), ("layers", "pp")):
        if getattr(options, whole) % getattr(options, part):
            parser.error(f"--{whole} must be a multiple of --{part}")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: PyTorch sees no NVIDIA GPU here; --device cpu trains without")
    return options


@dataclass(frozen=True)
class Layout:
    """The process group of this rank along each kind of parallelism; a group may have one member."""

    pp: dist.ProcessGroup
    dp: dist.ProcessGroup
    tp: dist.ProcessGroup
    device: torch.device


def connect(options: argparse.Namespace) -> Layout:
    """Join the other processes, named by torchrun's environment variables, and form the groups."""
    device = torch.device(options.device)
    if device.type == "cuda":
        device = torch.device(
            "cuda", int(os.environ.get("LOCAL_RANK", os.environ.get("RANK", "0")))
        )
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    if "RANK" in os.environ:
        dist.init_process_group(backend)
    else:
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    if (count := dist.get_world_size()) != options.dp * options.tp * options.pp:
        raise SystemExit(f"--dp x --tp x --pp must be the number of processes, {count}")
    return Layout(**form_groups(options), device=device)


def form_groups(options: argparse.Namespace) -> dict[str, dist.ProcessGroup]:
    """Split the ranks along each kind of parallelism and return this rank's group of each kind.

    The descriptions mesh_pp, mesh_dp and mesh_tp, as a device mesh writes them, reach the trace. A
    real device mesh would take the unnamed default group where one kind of parallelism spans all ranks.
    """
    ranks = torch.arange(dist.get_world_size()).view(options.pp, options.dp, options.tp)
    own = {}
    for dimension, name in enumerate(("pp", "dp", "tp")):
        # Every rank takes part in forming every group, in the same order.
        for members in ranks.movedim(dimension, -1).flatten(0, 1).tolist():
            group = dist.new_group(members, group_desc=f"mesh_{name}")
            if dist.get_rank() in members:
                own[name] = group
    return own


# --- Tensor parallelism -----------------------------------------------------------------------------


def sum_over(group: dist.ProcessGroup, tensor: Tensor) -> Tensor:
    """Return the sum of the members' tensors."""
    if group.size() == 1:
        return tensor
    total = tensor.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, group=group)
    return total


class EnterShards(torch.autograd.Function):
    """Hand the same activation to every shard; their gradients add up."""

    @staticmethod
    def forward(context: Any, activation: Tensor, group: dist.ProcessGroup) -> Tensor:
        context.group = group
        return activation.view_as(activation)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return sum_over(context.group, gradient), None


class LeaveShards(torch.autograd.Function):
    """Add up the partial activations of the shards; each receives the same gradient."""

    @staticmethod
    def forward(context: Any, partial: Tensor, group: dist.ProcessGroup) -> Tensor:
        return sum_over(group, partial)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class ColumnParallelLinear(nn.Linear):
    """A linear layer with its output features split over the tensor parallel group."""

    def __init__(self, inputs: int, outputs: int, group: dist.ProcessGroup) -> None:
        super().__init__(inputs, outputs // group.size())
        self.group = group
        self.shard_dimension = {"weight": 0, "bias": 0}

    def forward(self, hidden: Tensor) -> Tensor:
        return super().forward(EnterShards.apply(hidden, self.group))


class RowParallelLinear(nn.Linear):
    """A linear layer with its input features split over the tensor parallel group."""

    def __init__(self, inputs: int, outputs: int, group: dist.ProcessGroup) -> None:
        super().__init__(inputs // group.size(), outputs)
        self.group = group
        self.shard_dimension = {"weight": 1}

    def forward(self, hidden: Tensor) -> Tensor:
        # The bias is added once, after the sum, not once per shard.
        return LeaveShards.apply(F.linear(hidden, self.weight), self.group) + self.bias


# --- Model ------------------------------------------------------------------------------------------


class Block(nn.Module):
    """One transformer layer: causal attention, then a wider perceptron."""

    def __init__(self, number: int, options: argparse.Namespace, group: dist.ProcessGroup) -> None:
        super().__init__()
        self.number, hidden = number, options.hidden
        self.head_size = hidden // options.heads
        self.attention_norm = nn.LayerNorm(hidden)
        self.attention_in = ColumnParallelLinear(hidden, 3 * hidden, group)
        self.attention_out = RowParallelLinear(hidden, hidden, group)
        self.perceptron_norm = nn.LayerNorm(hidden)
        self.perceptron_in = ColumnParallelLinear(hidden, options.ffn, group)
        self.perceptron_out = RowParallelLinear(options.ffn, hidden, group)

    def attend(self, hidden: Tensor) -> Tensor:
        # Features are ordered head by head, so that a shard of them is a set of whole heads.
        features = self.attention_in(hidden).unflatten(-1, (-1, 3, self.head_size))
        query, key, value = features.permute(3, 0, 2, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.attention_out(mixed.transpose(1, 2).flatten(-2))

    def forward(self, hidden: Tensor) -> Tensor:
        with record_function(f"layer {self.number}"):
            hidden = hidden + self.attend(self.attention_norm(hidden))
            return hidden + self.perceptron_out(
                F.gelu(self.perceptron_in(self.perceptron_norm(hidden)))
            )


class Stage(nn.Module):
    """The layers of one pipeline stage, with the embedding on the first and the loss on the last.

    The first stage takes tokens, the others take activations [sequences, tokens, hidden]; the last
    returns the mean cross entropy, the others return activations.
    """

    def __init__(self, options: argparse.Namespace, layout: Layout) -> None:
        super().__init__()
        place, count = layout.pp.rank(), layout.pp.size()
        self.first, self.last, self.recompute = place == 0, place == count - 1, options.recompute
        own = torch.arange(options.layers).chunk(count)[place].tolist()
        # Keys are layer numbers of the whole model: parameter names do not depend on the layout.
        self.layers = nn.ModuleDict(
            {str(number): Block(number, options, layout.tp) for number in own}
        )
        if self.first:
            self.token = nn.Embedding(options.vocabulary, options.hidden)
            self.position = nn.Embedding(options.sequence, options.hidden)
        if self.last:
            self.norm = nn.LayerNorm(options.hidden)
            self.head = nn.Linear(options.hidden, options.vocabulary, bias=False)

    def forward(self, entering: Tensor, targets: Tensor) -> Tensor:
        hidden = entering
        if self.first:
            with record_function("embedding"):
                hidden = self.token(entering) + self.position.weight
        for block in self.layers.values():
            hidden = (
                checkpoint(block, hidden, use_reentrant=False) if self.recompute else block(hidden)
            )
        if not self.last:
            return hidden
        with record_function("loss"):
            return F.cross_entropy(
                self.head(self.norm(hidden)).flatten(0, 1).float(), targets.flatten()
            )


@torch.no_grad()
def draw_weights(stage: Stage, layout: Layout) -> None:
    """Fill the matrices of a stage: draw the whole matrix from a seed by name and keep this rank's shard."""
    for path, module in stage.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if name == "bias":
                parameter.zero_()
            elif parameter.dim() > 1:
                dimension = getattr(module, "shard_dimension", {}).get(name)
                shape = list(parameter.shape)
                if dimension is not None:
                    shape[dimension] *= layout.tp.size()
                seed = torch.Generator(layout.device)
                seed.manual_seed(zlib.crc32(f"{path}.{name}".encode()))
                whole = torch.randn(shape, generator=seed, device=layout.device) * 0.02
                shard = (
                    whole
                    if dimension is None
                    else whole.chunk(layout.tp.size(), dimension)[layout.tp.rank()]
                )
                parameter.copy_(shard)


def build_stage(options: argparse.Namespace, layout: Layout) -> nn.Module:
    """Make this rank's part of the model, wrapped for data parallelism where there are replicas."""
    stage = Stage(options, layout).to(layout.device, getattr(torch, options.dtype))
    draw_weights(stage, layout)
    if options.fsdp:
        mesh = DeviceMesh.from_group(layout.dp, layout.device.type)
        for block in stage.layers.values():
            fully_shard(block, mesh=mesh)
        return fully_shard(stage, mesh=mesh)
    if layout.dp.size() == 1:
        return stage
    return DistributedDataParallel(stage, process_group=layout.dp, bucket_cap_mb=options.bucket_mb)


# --- Data -------------------------------------------------------------------------------------------


def draw_batch(
    options: argparse.Namespace, layout: Layout, step: int
) -> list[tuple[Tensor, Tensor]]:
    """Return this replica's micro-batches (tokens, targets) of a step.

    A sequence counts up from a random token with a random stride of 1 to 4: to predict the next
    token, the model must look back.
    """
    count = options.micro_batches * layout.dp.size()
    shape = (count, options.micro_batch, 1)
    seed = torch.Generator().manual_seed(step)
    start = torch.randint(options.vocabulary, shape, generator=seed)
    stride = torch.randint(1, 5, shape, generator=seed)
    counted = (start + stride * torch.arange(options.sequence + 1)) % options.vocabulary
    own = counted.chunk(layout.dp.size())[layout.dp.rank()]
    if layout.device.type == "cuda":  # from pinned memory the host need not wait for the copy
        own = own.pin_memory().to(layout.device, non_blocking=True)
    return [(sequences[:, :-1], sequences[:, 1:]) for sequences in own]


# --- One training step ------------------------------------------------------------------------------


class Trainer:
    """Runs training steps of one rank: the micro-batches in 1F1B order, then the optimizer.

    With two stages and four micro-batches (F forward, B backward)::

        stage 0 | F0 F1    B0 F2    B1 F3    B2    B3 | optimizer
        stage 1 |    F0 B0    F1 B1    F2 B2    F3 B3 | optimizer
    """

    def __init__(self, options: argparse.Namespace, layout: Layout) -> None:
        self.options, self.layout = options, layout
        self.model = build_stage(options, layout)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=options.learning_rate, fused=True
        )
        self.losses: list[Tensor] = []
        neighbours = [layout.pp.rank() - 1, layout.pp.rank() + 1]
        self.previous, self.next = (
            dist.get_global_rank(layout.pp, place) if 0 <= place < layout.pp.size() else None
            for place in neighbours
        )
        self.sending: list[dist.Work] = []

    def step(self) -> None:
        """Train on one batch."""
        batch = draw_batch(self.options, self.layout, len(self.losses))
        if self.options.delay_rank == dist.get_rank():
            with record_function("injected delay"):
                time.sleep(self.options.delay_ms / 1e3)
        self.losses.append(torch.zeros((), device=self.layout.device))
        self.run_micro_batches(batch)
        with record_function("optimizer"):
            self.optimizer.step()
            self.optimizer.zero_grad()

    def run_micro_batches(self, batch: list[tuple[Tensor, Tensor]]) -> None:
        """Run forward and backward of every micro-batch, at most one in flight per later stage."""
        count = len(batch)
        ahead = min(self.layout.pp.size() - 1 - self.layout.pp.rank(), count)
        flying: deque[tuple[Tensor, Tensor]] = deque()
        for number in range(ahead):
            flying.append(self.forward(number, batch, self.exchange(self.previous, receive=True)))
            self.exchange(self.next, send=flying[-1][1])
        entering = self.exchange(self.previous, receive=ahead < count)
        for number in range(ahead, count):
            flying.append(self.forward(number, batch, entering))
            gradient = self.exchange(self.next, send=flying[-1][1], receive=True)
            leaving = self.backward(number - ahead, *flying.popleft(), gradient)
            entering = self.exchange(self.previous, send=leaving, receive=number < count - 1)
        for number in range(count - ahead, count):
            leaving = self.backward(
                number, *flying.popleft(), self.exchange(self.next, receive=True)
            )
            self.exchange(self.previous, send=leaving)
        for work in self.sending:
            work.wait()
        self.sending.clear()

    def forward(
        self, number: int, batch: list[tuple[Tensor, Tensor]], received: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return what entered this stage and what leaves it: an activation, or the loss."""
        tokens, targets = batch[number]
        entering = tokens if received is None else received.requires_grad_()
        # Replicas reduce gradients once per step. With 1F1B, the last forward comes before earlier
        # backwards, so the reducer is armed in backward and not, as usual, in forward.
        replicated = isinstance(self.model, DistributedDataParallel)
        quiet = self.model.no_sync() if replicated else contextlib.nullcontext()
        with record_function(f"forward micro-batch {number}"), quiet:
            leaving = self.model(entering, targets)
        if self.next is None:
            leaving = leaving / len(batch)
            self.losses[-1] += leaving.detach()
        return entering, leaving

    def backward(
        self, number: int, entering: Tensor, leaving: Tensor, gradient: Tensor | None
    ) -> Tensor | None:
        """Accumulate gradients; return the gradient that the previous stage needs."""
        last = number == self.options.micro_batches - 1
        if self.options.fsdp:
            self.model.set_requires_gradient_sync(last)
        elif last and isinstance(self.model, DistributedDataParallel):
            # torch's own pipeline schedules arm the reducer this way, for want of a public call.
            self.model.reducer.prepare_for_backward([])
        with record_function(f"backward micro-batch {number}"):
            torch.autograd.backward(leaving, gradient)
        return entering.grad

    def exchange(
        self, peer: int | None, *, send: Tensor | None = None, receive: bool = False
    ) -> Tensor | None:
        """Send to and receive from a neighbour stage at once; without a neighbour do nothing.

        One batch for both directions: queued one after the other, two neighbours that both send
        first wait for each other for ever on a device.
        """
        operations, received = [], None
        if peer is not None and send is not None:
            operations.append(dist.P2POp(dist.isend, send.detach(), peer, self.layout.pp))
        if peer is not None and receive:
            shape = (self.options.micro_batch, self.options.sequence, self.options.hidden)
            received = torch.empty(
                shape, dtype=getattr(torch, self.options.dtype), device=self.layout.device
            )
            operations.append(dist.P2POp(dist.irecv, received, peer, self.layout.pp))
        if operations:
            works = dist.batch_isend_irecv(operations)
            if received is not None:
                works.pop().wait()
            # A send is waited for at the end of the step: the next micro-batch need not wait for it.
            self.sending.extend(works)
        return received


# --- The run ----------------------------------------------------------------------------------------


def reserve_memory(size_mb: int) -> None:
    """Touch and free host memory, for an allocator that keeps what it has (record.py sets it so).

    A profiler's small objects break up the heap, training then needs fresh pages, and on a virtual
    machine those page faults made profiled steps nearly twice as long as others.
    """
    torch.ones(size_mb << 20, dtype=torch.uint8)


def time_steps(trainer: Trainer, count: int) -> list[float]:
    """Run steps without a profiler and return the wall time of each on this rank, in ms."""
    times_ms = []
    for _ in range(count):
        start = time.perf_counter()
        trainer.step()
        if trainer.layout.device.type == "cuda":
            torch.cuda.synchronize()
        times_ms.append((time.perf_counter() - start) * 1e3)
    return times_ms


def profile_steps(trainer: Trainer, folder: Path, count: int) -> None:
    """Run two steps to warm the profiler up, then record `count` steps to `folder`/rank{R}.json.gz."""
    folder.mkdir(parents=True, exist_ok=True)
    path = str(folder / f"rank{dist.get_rank()}.json.gz")
    warm_up = 2
    with torch.profiler.profile(
        schedule=torch.profiler.schedule(wait=0, warmup=warm_up, active=count, repeat=1),
        on_trace_ready=lambda profiler: profiler.export_chrome_trace(path),
        record_shapes=True,
    ) as profiler:
        for _ in range(warm_up + count):
            trainer.step()
            profiler.step()


def mean_losses(trainer: Trainer) -> list[float]:
    """Return the loss of each step over the whole batch, on every rank."""
    losses = torch.stack(trainer.losses)
    # Stages other than the last hold zeros, and the shards of a replica hold the same loss.
    dist.all_reduce(losses)
    return (losses / (trainer.layout.dp.size() * trainer.layout.tp.size())).tolist()


def main() -> None:
    """Train, time and, on request, profile."""
    options = parse_arguments()
    reserve_memory(options.reserve_mb)
    layout = connect(options)
    trainer = Trainer(options, layout)
    time_steps(trainer, options.warm_up_steps)
    step_ms = time_steps(trainer, options.steps)
    if options.profile:
        profile_steps(trainer, options.profile, options.profile_steps)
    losses = mean_losses(trainer)
    step_ms_of_rank: list[list[float]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(step_ms_of_rank, step_ms)
    if dist.get_rank() == 0:
        profiled = f", {len(losses) - options.warm_up_steps - options.steps} for the profiler"
        print(
            f"loss {losses[0]:.4f} -> {losses[-1]:.4f} in {len(losses)} steps "
            f"({options.warm_up_steps} to warm up, {options.steps} timed"
            f"{profiled if options.profile else ''})"
        )
        if options.report:
            report = {
                "torch": torch.__version__,
                "losses": losses,
                "step_ms_of_rank": step_ms_of_rank,
            }
            options.report.write_text(json.dumps(report), encoding="utf-8")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
