"""Rates, roofline and MFU of drawn kernels whose work is known, half known, unknown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import lumos
from lumos.analysis.efficiency import Efficiency, efficiency
from lumos.analysis.replay import rank_span
from lumos.catalog.hardware import Precision, find_hardware
from lumos.estimate.roofline import roofline_ns
from lumos.graph.job import NONE, Job, TaskKind
from lumos.graph.timeline import Timeline
from lumos.graph.work import Gemm, Work, WorkKind
from lumos.lower import lower
from lumos.simulate import simulate
from tests.drawing import Drawing

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data" / "kineto"
A100 = "NVIDIA A100-SXM4-80GB"


def product(m: int, n: int, k: int, dtype: str = "c10::BFloat16") -> Work:
    return Work(WorkKind.GEMM, "aten::mm", ((m, k), (k, n)), (dtype, dtype), Gemm(1, m, n, k))


def drawn_job(kernels: Sequence[tuple[str, int, Work | None]], gpu: str = A100) -> Job:
    """One stream with these kernels: name, time [ns], work."""
    drawn = Drawing()
    rank = drawn.rank()
    main, stream = rank.thread(), rank.stream(1)
    for name, time, _ in kernels:
        main.launch(stream, name, time)
    job = drawn.job()
    (program,) = job.programs
    works = tuple(work for _, _, work in kernels if work is not None)
    number = np.full(len(program.rows), NONE, np.int32)
    number[program.rows.kind == TaskKind.KERNEL] = [
        NONE if work is None else works.index(work) for _, _, work in kernels
    ]
    program = replace(program, rows=program.rows.with_columns(work=number), works=works)
    return replace(job, programs=(program,), placement=replace(job.placement, gpu=gpu))


def of(job: Job, span_ns: int = 1_000_000) -> Efficiency:
    return efficiency(job, simulate(lower(job)), [span_ns])


SQUARE = product(4096, 4096, 4096)


def test_rates_are_over_the_time_of_kernels_whose_work_is_known() -> None:
    half = Work(WorkKind.GEMM, "aten::mm")
    found = of(drawn_job([("ampere_gemm", 600_000, SQUARE), ("ampere_gemm", 200_000, half)]))
    (gemm,) = found.classes
    assert (gemm.name, gemm.tasks, gemm.time_ns) == ("gemm", 2, 800_000)
    assert gemm.flops == 2 * 4096**3
    assert gemm.flops_per_s == pytest.approx(2 * 4096**3 / 600e-6)
    assert gemm.bytes_per_s == pytest.approx(3 * 2 * 4096**2 / 600e-6)
    assert gemm.flops_known_pct == 75
    hardware = find_hardware(A100)
    assert hardware is not None
    assert gemm.roofline_pct == pytest.approx(100 * roofline_ns(SQUARE, hardware) / 600_000)  # type: ignore[operator]


def test_mfu_is_operations_over_span_and_peak() -> None:
    found = of(drawn_job([("gemm", 600_000, SQUARE)]), 1_000_000)
    assert found.mfu_pct == pytest.approx(100 * 2 * 4096**3 / (1e-3 * 312e12))
    assert found.formats == (Precision.BFLOAT16,)
    assert found.reason == ""


def test_floats_are_held_against_tf32() -> None:
    found = of(drawn_job([("gemm", 600_000, product(512, 512, 512, "float"))]))
    assert found.mfu_pct == pytest.approx(100 * 2 * 512**3 / (1e-3 * 156e12))
    assert found.formats == (Precision.TF32,)


def test_operations_of_other_kernels_are_no_part_of_mfu() -> None:
    add = Work(WorkKind.ELEMENTWISE, "aten::add", ((4096, 4096),) * 2, ("float",) * 2)
    one, both = [("gemm", 600_000, SQUARE)], [("gemm", 600_000, SQUARE), ("add", 90_000, add)]
    assert of(drawn_job(one)).mfu_pct == of(drawn_job(both)).mfu_pct


@pytest.mark.parametrize(
    ("kernels", "gpu", "reason"),
    [
        ([("gemm", 10, SQUARE)], "A GPU", "the peak rates of A GPU are unknown"),
        ([("gemm", 10, SQUARE)], "", "the trace names no GPU"),
        ([("add", 10, None)], A100, "no kernel is known to multiply matrices"),
        (
            [("k", 750, SQUARE), ("void cutlass::Kernel<x>", 250, None)],
            A100,
            "for 25 % of the time of matrix kernels the trace tells no operations",
        ),
        (
            [("k", 500, SQUARE), ("sm80_xmma_fprop_implicit_gemm", 500, Work(WorkKind.CONVOLUTION, "aten::conv2d"))],
            A100,
            "for 50 % of the time of matrix kernels the trace tells no operations",
        ),
    ],
)  # fmt: skip
def test_without_what_it_takes_there_is_no_mfu_and_a_reason(
    kernels: list[tuple[str, int, Work | None]], gpu: str, reason: str
) -> None:
    found = of(drawn_job(kernels, gpu))
    assert found.mfu_pct is None
    assert found.reason == reason


@pytest.mark.parametrize(
    "name",
    [
        "void fbgemm_gpu::permute_indices_weights_kernel<false, int>(int)",
        "void moe::finalizeKernel<moe::KernelParams<cutlass::bfloat16_t> >(int)",
    ],
)
def test_types_of_a_library_make_no_product_of_matrices(name: str) -> None:
    assert of(drawn_job([("gemm", 10, SQUARE), (name, 90, None)])).reason == ""


def test_kernels_that_share_the_work_of_a_call_count_it_once() -> None:
    job = drawn_job([("gemm", 300_000, SQUARE), ("splitKreduce", 100_000, SQUARE)])
    (program,) = job.programs
    share = program.rows.work_share.copy()
    share[program.rows.kind == TaskKind.KERNEL] = 0.75, 0.25
    rows = program.rows.with_columns(work_share=share)
    found = of(replace(job, programs=(replace(program, rows=rows),)))
    (gemm,) = found.classes
    assert gemm.flops == 2 * 4096**3
    assert gemm.flops_time_ns == 400_000
    assert found.mfu_pct == pytest.approx(100 * 2 * 4096**3 / (1e-3 * 312e12))


@pytest.mark.skipif(not DATA.exists(), reason="the real traces are not here")
@pytest.mark.parametrize(
    ("name", "low_pct", "high_pct"),
    [("vgg13-H100", 15, 25), ("amd/resnet18-ddp-MI300X.json.gz", 3, 5), ("dlrm-8xV100", 0.01, 0.1)],
)
def test_real_models_use_a_believable_share_of_their_gpus(
    name: str, low_pct: float, high_pct: float
) -> None:
    traces = lumos.load(DATA / name)
    run = traces.replay(traces.steps[0]).run
    measured: Timeline = run.measured
    spans = [
        rank_span(run.job.programs[role], rank)
        for role, rank in zip(run.job.placement.role, measured.ranks, strict=True)
    ]
    found = efficiency(run.job, measured, [high - low for low, high in spans])
    assert found.mfu_pct is not None
    assert low_pct < found.mfu_pct < high_pct
    for one in found.classes:
        assert one.flops_per_s is None or one.flops_per_s < 2e15
        assert one.roofline_pct is None or one.roofline_pct < 100, one
