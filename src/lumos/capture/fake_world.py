"""Fake world: one rank of a job of N, on one machine, with torch's fake process group.

Operators and shapes are those of the real rank; communication moves nothing and takes no time, so
what collectives deliver is arbitrary, and losses are without meaning.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lumos.capture.pytorch import load_torch
from lumos.errors import UsageError

_MODULES = (
    "torch.distributed",
    "torch.distributed.distributed_c10d",
    "torch.distributed.device_mesh",
)
"""Modules that hold `init_process_group` and `new_group` by name."""


@contextmanager
def fake_world(world_size: int, rank: int = 0) -> Iterator[None]:
    """In the block, `init_process_group` makes this process rank `rank` of `world_size` ranks.

    Whatever backend, address or store a script asks for, its groups are fake. The environment
    says the same as for a rank that torchrun started. UsageError for a rank that cannot be.
    """
    with environment(world_size, rank):
        load_torch()
        restore = redirect(world_size, rank)
        try:
            yield
        finally:
            restore()


def check(world_size: int, rank: int) -> None:
    """UsageError for sizes and ranks that cannot be."""
    if not isinstance(world_size, int) or world_size < 1:
        raise UsageError(f"a fake world of {world_size!r} ranks: give a number from 1 up")
    if not isinstance(rank, int) or not 0 <= rank < world_size:
        raise UsageError(
            f"rank {rank!r} of a fake world of {world_size}: give one from 0 to {world_size - 1}"
        )


def variables(world_size: int, rank: int) -> dict[str, str]:
    """What torchrun would put into the environment; this rank is alone on its machine."""
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": "29500",
    }


@contextmanager
def environment(world_size: int, rank: int) -> Iterator[None]:
    """The environment of the fake rank, put back afterwards."""
    check(world_size, rank)
    before = {name: os.environ.get(name) for name in variables(world_size, rank)}
    os.environ.update(variables(world_size, rank))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def redirect(world_size: int, rank: int) -> Callable[[], None]:
    """Make torch.distributed form fake groups; returns what undoes it."""
    check(world_size, rank)
    import torch.distributed as dist

    if not dist.is_available():
        raise UsageError("this PyTorch is built without torch.distributed: no fake world")
    real_init, real_group = dist.init_process_group, dist.new_group

    @functools.wraps(real_init)
    def init_process_group(*_: Any, **__: Any) -> None:
        from torch.testing._internal.distributed.fake_pg import FakeStore

        real_init(backend="fake", store=FakeStore(), rank=rank, world_size=world_size)

    @functools.wraps(real_group)
    def new_group(ranks: Any = None, *_: Any, **settings: Any) -> Any:
        kept = {name: settings[name] for name in ("group_desc",) if name in settings}
        return real_group(ranks, **kept)

    replaced = {"init_process_group": init_process_group, "new_group": new_group}
    undo = [_replicas_take_fake_sums()]
    for module in (sys.modules[name] for name in _MODULES if name in sys.modules):
        for name, function in replaced.items():
            if hasattr(module, name):
                undo.append(functools.partial(setattr, module, name, getattr(module, name)))
                setattr(module, name, function)

    def restore() -> None:
        for one in undo:
            one()

    return restore


def _replicas_take_fake_sums() -> Callable[[], None]:
    """Let DistributedDataParallel work on a fake group; returns what undoes it.

    Its reducer reads the sum from the result of the all-reduce, and that of a fake one is empty. So
    each instance without a hook of its own gets one that issues the same all-reduce and hands
    the gradients back.
    """
    import torch
    from torch.nn.parallel import DistributedDataParallel

    def summed(group: Any, bucket: Any) -> Any:
        torch.distributed.all_reduce(bucket.buffer(), group=group)
        future: Any = torch.futures.Future()
        future.set_result(bucket.buffer())
        return future

    summed.__annotations__.clear()  # torch takes no others than its own types
    real = DistributedDataParallel.__init__

    @functools.wraps(real)
    def __init__(self: Any, *arguments: Any, **settings: Any) -> None:  # noqa: N807
        real(self, *arguments, **settings)

        def before_first_forward(*_: Any) -> None:
            handle.remove()
            if not self._comm_hooks:
                self.register_comm_hook(self.process_group, summed)

        handle = self.register_forward_pre_hook(before_first_forward)

    DistributedDataParallel.__init__ = __init__
    return functools.partial(setattr, DistributedDataParallel, "__init__", real)
