"""The operator table: how long single operators take on this GPU, at sizes of training.

Random data, buffers warm in no particular way: each run follows the one before. Times are of device
events around a run of calls, divided by their number; five such runs. The device sleeps until the
host has launched a run, so that short operators are not timed by how fast they are launched.
"""

from __future__ import annotations

import csv
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

COLUMNS = (
    "operator", "dtype", "shape", "flops", "bytes", "median_us", "min_us", "max_us", "calls_per_run"
)  # fmt: skip
RUNS, WARM_UP, RUN_S = 5, 3, 0.01
MOST_CALLS = 100
"""Of a run: a device takes about a thousand launches ahead, and an operator may make several."""
CYCLES_PER_S = 2e9
"""At least the clock of a GPU, so that a sleep is long enough."""
LONGEST_SLEEP_S = 0.05
"""Calls that block cannot be launched ahead: no longer sleep helps them."""
MOST_MIB_OF_HOST = 256
"""A larger copy from or to the host is as fast, and takes long to allocate."""
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


class Operator(NamedTuple):
    """One line of the table: what runs, and what it computes and moves at least."""

    name: str
    dtype: str
    shape: str
    flops: int
    moved: int
    make: Callable[[], Callable[[], Any]]


def write_table(
    path: Path, device: torch.device, *, small: bool = False, seconds: float = 60
) -> int:
    """Measure operators until the time is up; returns how many were left out."""
    end_s = time.monotonic() + seconds
    left = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for operator in _operators(device, small=small):
            if time.monotonic() > end_s:
                left += 1
                table.writerow([*operator[:5], "left out for time", "", "", ""])
                continue
            try:
                times_us, calls = _measure(operator.make(), device)
            except (RuntimeError, NotImplementedError, ValueError) as error:
                failed = " ".join(str(error).split())[:200]
                table.writerow([*operator[:5], f"failed: {failed}", "", "", ""])
                continue
            median, low, high = statistics.median(times_us), min(times_us), max(times_us)
            table.writerow([*operator[:5], *(f"{us:.3f}" for us in (median, low, high)), calls])
    return left


def _measure(call: Callable[[], Any], device: torch.device) -> tuple[list[float], int]:
    """Microseconds a call in each run, and calls of a run."""
    for _ in range(WARM_UP):
        call()
    begin = time.perf_counter()
    once_s = _run_s(call, 2, device) / 2
    launched_s = (time.perf_counter() - begin) / 2  # at most, for it contains the run itself
    calls = max(3, min(MOST_CALLS, int(RUN_S / max(once_s, 1e-7))))
    sleep_s = min(calls * launched_s, LONGEST_SLEEP_S)
    return [1e6 * _run_s(call, calls, device, sleep_s) / calls for _ in range(RUNS)], calls


def _run_s(
    call: Callable[[], Any], calls: int, device: torch.device, sleep_s: float = 0.0
) -> float:
    if device.type != "cuda":
        begin = time.perf_counter()
        for _ in range(calls):
            call()
        return time.perf_counter() - begin
    begin_event, end_event = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(int(sleep_s * CYCLES_PER_S))  # noqa: SLF001 - there is no public form
    begin_event.record()
    for _ in range(calls):
        call()
    end_event.record()
    end_event.synchronize()
    return float(begin_event.elapsed_time(end_event)) / 1e3


def _operators(device: torch.device, *, small: bool) -> Iterator[Operator]:
    """Every operator, the most telling first."""
    for name in DTYPES:
        yield from _gemms(name, device, small=small)
    yield from _gemms_fp8(device, small=small)
    for name in DTYPES:
        yield from _attention(name, device, small=small)
    for name in DTYPES:
        yield from _streaming(name, device, small=small)
    yield from _copies(device, small=small)


def _gemm_sizes(*, small: bool) -> list[tuple[int, int, int]]:
    """m tokens, n outputs, k inputs: projections and FFNs of hidden 1024 to 12288, shards, tails."""
    if small:
        return [(32, 32, 16), (16, 64, 32)]
    square = [(size, size, size) for size in (512, 1024, 2048, 4096, 8192)]
    layers = [
        (tokens, width, hidden)
        for hidden in (1024, 2048, 4096, 6144)
        for tokens in (2048, 4096, 8192)
        for width in (hidden, 3 * hidden, 4 * hidden)
    ]
    down = [(tokens, hidden, 4 * hidden) for hidden in (2048, 4096) for tokens in (2048, 8192)]
    shards = [(4096, 3 * 6144 // tp, 6144) for tp in (2, 4, 8)]
    weight_gradients = [(3 * hidden, hidden, 4096) for hidden in (2048, 4096, 6144)]
    odd = [
        (4096, 32768, 2048),
        (4096, 50257, 2048),
        (1000, 1000, 1000),
        (128, 4096, 4096),
        (1, 4096, 4096),
    ]
    return [*square, *layers, *down, *shards, *weight_gradients, *odd]


def _gemms(dtype: str, device: torch.device, *, small: bool) -> Iterator[Operator]:
    kind = DTYPES[dtype]
    for m, n, k in _gemm_sizes(small=small):
        if dtype != "bf16" and not small and (m, n, k) not in _fewer():
            continue

        def make(m: int = m, n: int = n, k: int = k) -> Callable[[], Any]:
            left = torch.randn(m, k, dtype=kind, device=device)
            right = torch.randn(n, k, dtype=kind, device=device)
            return lambda: torch.mm(left, right.t())

        moved = kind.itemsize * (m * k + n * k + m * n)
        yield Operator("mm", dtype, f"m={m} n={n} k={k}", 2 * m * n * k, moved, make)


def _fewer() -> set[tuple[int, int, int]]:
    """Sizes for types that training uses less."""
    return {(size, size, size) for size in (1024, 4096, 8192)} | {
        (4096, 8192, 2048), (4096, 16384, 4096), (4096, 2048, 2048)
    }  # fmt: skip


def _gemms_fp8(device: torch.device, *, small: bool) -> Iterator[Operator]:
    """Scaled products of 8-bit floats with bf16 results, where the GPU has them."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 9) or small:
        return
    for m, n, k in sorted(_fewer()):

        def make(m: int = m, n: int = n, k: int = k) -> Callable[[], Any]:
            left = torch.randn(m, k, device=device).to(torch.float8_e4m3fn)
            right = torch.randn(n, k, device=device).to(torch.float8_e4m3fn).t()
            one = torch.ones((), device=device)
            return lambda: torch._scaled_mm(  # noqa: SLF001 - there is no public form
                left, right, scale_a=one, scale_b=one, out_dtype=torch.bfloat16
            )

        moved = m * k + n * k + 2 * m * n
        yield Operator("_scaled_mm", "fp8", f"m={m} n={n} k={k}", 2 * m * n * k, moved, make)


def _attention(dtype: str, device: torch.device, *, small: bool) -> Iterator[Operator]:
    """Causal attention forward, and forward with backward; half of the products are not needed."""
    kind = DTYPES[dtype]
    sizes = [(1, 2, 16, 8)] if small else [
        (batch, heads, sequence, 128)
        for batch, heads in ((1, 16), (2, 16), (4, 16), (2, 32))
        for sequence in (1024, 2048, 4096, 8192)
    ]  # fmt: skip
    if dtype != "bf16" and not small:
        sizes = [(2, 16, 2048, 128)]
    for batch, heads, sequence, width in sizes:
        flops = 4 * batch * heads * sequence * sequence * width // 2
        moved = 4 * kind.itemsize * batch * heads * sequence * width
        shape = f"batch={batch} heads={heads} sequence={sequence} head={width}"

        def inputs(
            extents: tuple[int, ...] = (batch, heads, sequence, width), *, gradient: bool
        ) -> list[torch.Tensor]:
            return [
                torch.randn(extents, dtype=kind, device=device, requires_grad=gradient)
                for _ in range(3)
            ]

        def forward(inputs: Any = inputs) -> Callable[[], Any]:
            tensors = inputs(gradient=False)
            return lambda: F.scaled_dot_product_attention(*tensors, is_causal=True)

        def both(inputs: Any = inputs) -> Callable[[], Any]:
            tensors = inputs(gradient=True)
            leaving = torch.randn_like(tensors[0])

            def run() -> None:
                F.scaled_dot_product_attention(*tensors, is_causal=True).backward(leaving)
                for tensor in tensors:
                    tensor.grad = None

            return run

        yield Operator("attention forward", dtype, shape, flops, moved, forward)
        # backward does 2.5 times the products of forward, which it computes once more
        whole, traffic = 7 * flops // 2, 3 * moved
        yield Operator("attention forward and backward", dtype, shape, whole, traffic, both)


def _streaming(dtype: str, device: torch.device, *, small: bool) -> Iterator[Operator]:
    """Norms, softmax, activations, optimizer: bound by memory."""
    kind = DTYPES[dtype]
    sizes = [(8, 16)] if small else [
        (tokens, hidden) for tokens in (2048, 8192) for hidden in (1024, 2048, 4096, 8192, 16384)
    ]  # fmt: skip
    for rows, width in sizes:
        one = kind.itemsize * rows * width
        shape = f"rows={rows} width={width}"

        def tensor(rows: int = rows, width: int = width) -> torch.Tensor:
            return torch.randn(rows, width, dtype=kind, device=device)

        def unary(function: Callable[..., Any], tensor: Any = tensor) -> Callable[[], Any]:
            given = tensor()
            return lambda: function(given)

        def layer_norm(tensor: Any = tensor, width: int = width) -> Callable[[], Any]:
            given, weight = tensor(), torch.ones(width, dtype=kind, device=device)
            return lambda: F.layer_norm(given, (width,), weight, weight)

        def rms_norm(tensor: Any = tensor, width: int = width) -> Callable[[], Any]:
            given, weight = tensor(), torch.ones(width, dtype=kind, device=device)
            return lambda: F.rms_norm(given, (width,), weight)

        def both_norms(tensor: Any = tensor, width: int = width) -> Callable[[], Any]:
            given, leaving = tensor().requires_grad_(), tensor()
            weight, bias = (
                torch.ones(width, dtype=kind, device=device, requires_grad=True) for _ in range(2)
            )

            def run() -> None:
                F.layer_norm(given, (width,), weight, bias).backward(leaving)
                given.grad = weight.grad = bias.grad = None

            return run

        def add(tensor: Any = tensor) -> Callable[[], Any]:
            first, second = tensor(), tensor()
            return lambda: first + second

        def adam(tensor: Any = tensor) -> Callable[[], Any]:
            parameter = torch.nn.Parameter(tensor())
            parameter.grad = tensor()
            return torch.optim.AdamW([parameter], fused=True).step

        for name, moved, make in (
            ("layer_norm", 2 * one, layer_norm),
            ("layer_norm forward and backward", 5 * one, both_norms),
            ("rms_norm", 2 * one, rms_norm),
            ("gelu", 2 * one, lambda unary=unary: unary(F.gelu)),
            ("softmax", 2 * one, lambda unary=unary: unary(lambda x: torch.softmax(x, -1))),
            ("sum", one, lambda unary=unary: unary(torch.sum)),
            ("add", 3 * one, add),
            ("fused AdamW", 7 * one, adam),
        ):
            yield Operator(name, dtype, shape, 0, moved, make)


def _copies(device: torch.device, *, small: bool) -> Iterator[Operator]:
    """Copies on the device, and between host and device from pinned and pageable memory."""
    for mib in [1] if small else [1, 4, 16, 64, 256, 1024]:
        size = mib << 20

        def on_device(size: int = size) -> Callable[[], Any]:
            source = torch.zeros(size, dtype=torch.uint8, device=device)
            target = torch.empty_like(source)
            return lambda: target.copy_(source)

        def between(size: int = size, *, to_host: bool, pinned: bool) -> Callable[[], Any]:
            here = torch.zeros(size, dtype=torch.uint8, device=device)
            host = torch.zeros(size, dtype=torch.uint8, pin_memory=pinned and device.type == "cuda")
            target, source = (host, here) if to_host else (here, host)
            return lambda: target.copy_(source, non_blocking=pinned)

        yield Operator("copy on device", "bytes", f"bytes={size}", 0, 2 * size, on_device)
        if mib > MOST_MIB_OF_HOST:
            continue
        for to_host in (False, True):
            for pinned in (True, False):
                way = "device to host" if to_host else "host to device"
                word = "pinned" if pinned else "pageable"

                def make(
                    between: Any = between, to_host: bool = to_host, pinned: bool = pinned
                ) -> Callable[[], Any]:
                    return between(to_host=to_host, pinned=pinned)

                yield Operator(f"copy {way}, {word}", "bytes", f"bytes={size}", 0, size, make)
