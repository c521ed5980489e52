"""Interventions: the same job, really changed, each in one way that a prediction can be asked for.

A change of flags trains another model; a change of code replaces a part of the running job. What a
hook of ours costs by itself is measured too: `gemm_hook` and `operator_hook` are the jobs with the
hooks of `gemm_twice` and `host_work` in place, which then do nothing.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

try:
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
except ImportError:
    raise SystemExit("this Python has no PyTorch; run the suite with one that has") from None

HOST_WORK_US = 20.0
COPY_BYTES = 16 << 20
"""What the second stream copies each way beside each layer, 16 MiB: less than a layer takes."""

Details = dict[str, Any]
Change = Callable[[Any], contextlib.AbstractContextManager[Details]]


@dataclass(frozen=True)
class Intervention:
    """A changed job: other flags of gpt.py, a change of the running code, or both.

    `of` names the recording that it is held against; `cuda` says that it needs a GPU.
    """

    flags: dict[str, Any] = field(default_factory=dict)
    change: Change | None = None
    of: str = "base"
    cuda: bool = False


@contextlib.contextmanager
def unchanged(_: Any) -> Iterator[Details]:
    """The job as it is."""
    yield {}


@contextlib.contextmanager
def run_gemms(trainer: Any, times: int) -> Iterator[Details]:
    """Every matrix product of forward and backward runs `times` times, the last result counts.

    The operators are replaced below autograd, so gradients are the same. Each product runs through
    its `.out` form, which is not replaced.
    """
    key = "CUDA" if trainer.layout.device.type == "cuda" else "CPU"
    products = 0

    def repeated(out_form: Any, *inputs: Any, **scales: Any) -> Any:
        nonlocal products
        products += 1
        left, right = inputs[-2:]
        out = left.new_empty((*left.shape[:-1], right.shape[-1]))
        for _ in range(times):
            out_form(*inputs, **scales, out=out)
        return out

    library = torch.library.Library("aten", "IMPL")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that an operator is replaced is what we are here for
            for name in ("mm", "addmm", "bmm"):
                out_form = getattr(torch.ops.aten, name).out
                library.impl(name, partial(repeated, out_form), key, allow_override=True)
        details: Details = {"runs": times}
        yield details
        details["products"] = products
    finally:
        library._destroy()  # noqa: SLF001 - torch gives the operators back in no other way


@contextlib.contextmanager
def without_attention(_: Any) -> Iterator[Details]:
    """Attention hands its values through; the projections around it stay."""
    functional = torch.nn.functional
    real = functional.scaled_dot_product_attention
    functional.scaled_dot_product_attention = lambda query, key, value, **_: value
    try:
        yield {}
    finally:
        functional.scaled_dot_product_attention = real


class _HostWork(TorchDispatchMode):
    """Spends host time in front of every operator below autograd."""

    def __init__(self, work_us: float) -> None:
        super().__init__()
        self.work_s, self.operators = work_us / 1e6, 0

    def __torch_dispatch__(
        self, function: Any, _: Any, arguments: Any = (), named: Any = None
    ) -> Any:
        self.operators += 1
        end = time.perf_counter() + self.work_s
        while time.perf_counter() < end:
            pass
        return function(*arguments, **(named or {}))


@contextlib.contextmanager
def host_work(_: Any, work_us: float) -> Iterator[Details]:
    """`work_us` of busy host before every operator, forward, backward and optimizer.

    `added_us` is what an operator really takes longer, hook included, measured on small tensors.
    """
    mode = _HostWork(work_us)
    added_us = _time_us(mode) - _time_us(contextlib.nullcontext())
    mode.operators = 0
    details: Details = {"work_us": work_us, "added_us": round(added_us, 3)}
    try:
        with mode:
            yield details
    finally:
        details["operators"] = mode.operators


def _time_us(inside: contextlib.AbstractContextManager[Any], runs: int = 2000) -> float:
    """Median host time of a small operator."""
    small, times = torch.zeros(1), []
    with inside:
        for _ in range(runs):
            begin = time.perf_counter()
            small.neg()
            times.append(time.perf_counter() - begin)
    return 1e6 * sorted(times)[runs // 2]


@contextlib.contextmanager
def blocking_item(trainer: Any) -> Iterator[Details]:
    """The host reads a number of every layer's output, and so waits for the device."""

    def read(_: Any, __: Any, output: Any) -> None:
        output.detach().flatten()[0].item()

    layers = _layers(trainer)
    handles = [layer.register_forward_hook(read) for layer in layers]
    try:
        yield {"reads_per_forward": len(layers)}
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def copying_stream(trainer: Any) -> Iterator[Details]:
    """A second stream copies to the host and back while each layer computes forward."""
    device = trainer.layout.device
    stream = torch.cuda.Stream(device)
    host = torch.empty(COPY_BYTES, dtype=torch.uint8).pin_memory()
    there = torch.empty(COPY_BYTES, dtype=torch.uint8, device=device)

    def copy(*_: Any) -> None:
        with torch.cuda.stream(stream):
            host.copy_(there, non_blocking=True)
            there.copy_(host, non_blocking=True)

    handles = [layer.register_forward_pre_hook(copy) for layer in _layers(trainer)]
    try:
        yield {"bytes_each_way_per_layer": COPY_BYTES}
    finally:
        for handle in handles:
            handle.remove()
        stream.synchronize()


def _layers(trainer: Any) -> list[Any]:
    """The layers of the model, whatever wraps it."""
    model = getattr(trainer.model, "module", trainer.model)
    return list(model.layers.values())


INTERVENTIONS: dict[str, Intervention] = {
    "gemm_hook": Intervention(change=partial(run_gemms, times=1)),
    "gemm_twice": Intervention(change=partial(run_gemms, times=2), of="gemm_hook"),
    "no_attention": Intervention(change=without_attention),
    "operator_hook": Intervention(change=partial(host_work, work_us=0.0)),
    "host_work": Intervention(change=partial(host_work, work_us=HOST_WORK_US), of="operator_hook"),
    "item_per_layer": Intervention(change=blocking_item),
    "copy_stream": Intervention(change=copying_stream, cuda=True),
    "layers_x2": Intervention(flags={"layers": 2}),
    "micro_batch_x2": Intervention(flags={"micro-batch": 2}),
}
"""By name. Flags are factors on those of the base."""


def flags_of(intervention: Intervention, base: dict[str, Any]) -> dict[str, Any]:
    """The flags of gpt.py with the base's multiplied where the intervention says so."""
    return {name: value * intervention.flags.get(name, 1) for name, value in base.items()}
