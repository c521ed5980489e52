"""The roofline: the least time of work on a GPU, and that real kernels are not faster."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lumos
from lumos.build.work import shares
from lumos.catalog.hardware import Hardware, Precision, find_hardware
from lumos.estimate.counts import count
from lumos.estimate.roofline import peak_flops_per_s, roofline_ns, roofline_of_rows
from lumos.graph.job import NONE, TaskKind
from lumos.graph.work import Gemm, Work, WorkKind
from tests.drawing import Drawing

DATA = Path(__file__).parents[3] / "shared" / "data" / "kineto"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="the real traces are not here")

GPU = Hardware(
    "drawn", (), {Precision.FLOAT16: 100e9}, {Precision.FLOAT32: 10e9}, 1e9, 10**9, "", None, {}
)
"""100 operations a ns on halves, 10 on floats; a byte a ns."""


def product(m: int, n: int, k: int, dtype: str = "c10::Half") -> Work:
    return Work(WorkKind.GEMM, "aten::mm", ((m, k), (k, n)), (dtype, dtype), Gemm(1, m, n, k))


def test_a_large_product_is_bound_by_operations_and_a_small_one_by_bytes() -> None:
    assert roofline_ns(product(1000, 1000, 1000), GPU) == 20_000_000  # 2e9 / 100; bytes: 6e6
    assert roofline_ns(product(10, 10, 10), GPU) == 600  # 2000 / 100 = 20; bytes: 600


def test_floats_without_matrix_units_are_held_against_vector_units() -> None:
    assert roofline_ns(product(1000, 1000, 1000, "float"), GPU) == 200_000_000


def test_a_format_of_unknown_peak_leaves_the_bytes() -> None:
    one = product(1000, 1000, 1000, "double")
    assert peak_flops_per_s(one, GPU) is None
    assert roofline_ns(one, GPU) == 24_000_000


def test_nothing_known_is_no_bound() -> None:
    assert roofline_ns(Work(WorkKind.OTHER, "mine"), GPU) is None
    assert roofline_ns(replace(product(10, 10, 10), dtypes=()), GPU) is None


def test_kernels_of_one_call_share_its_work_by_their_time() -> None:
    kernel, copy = TaskKind.KERNEL, TaskKind.COPY
    kind = np.array([kernel, kernel, copy, kernel, kernel, kernel], np.uint8)
    operator = np.array([7, 7, 7, 8, NONE, NONE])
    work = np.array([0, 0, 1, 0, 2, 2])
    time = np.array([30, 10, 5, 9, 1, 1])
    assert shares(kind, operator, work, time).tolist() == [0.75, 0.25, 1, 1, 1, 1]
    none = shares(kind, operator, work, 0 * time)  # rounded away: even parts
    assert none.tolist() == [0.5, 0.5, 1, 1, 1, 1]


calls = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 50)), min_size=1)


@given(calls)
def test_the_parts_of_a_call_add_up_to_one(drawn: list[tuple[int, int, int]]) -> None:
    operator, work, time = (np.array(column, np.int64) for column in zip(*drawn, strict=True))
    part = shares(np.full(len(work), TaskKind.KERNEL, np.uint8), operator, work, time)
    total: Counter[tuple[int, int]] = Counter()
    for o, w, p in zip(operator.tolist(), work.tolist(), part.tolist(), strict=True):
        total[o, w] += p
    assert all(abs(one - 1) < 1e-9 for one in total.values())


def test_rows_share_the_bound_of_their_work_and_copies_across_the_bus_have_none() -> None:
    drawn = Drawing()
    rank = drawn.rank()
    main, stream = rank.thread(), rank.stream(1)
    for name in ("first", "second", "unknown"):
        main.launch(stream, name, 1000)
    main.launch(stream, "Memcpy HtoD (Pinned -> Device)", 10, kind=TaskKind.COPY)
    main.launch(stream, "Memset (Device)", 10, kind=TaskKind.SET)
    program = drawn.program()
    works = (product(10, 10, 10), Work(WorkKind.OTHER, "mine"), Work(WorkKind.COPY, "", bytes=64),
             Work(WorkKind.SET, "", bytes=32))  # fmt: skip
    of_row = {"first": 0, "second": 0, "unknown": 1, "Memset (Device)": 3}
    names = [program.names[n] for n in program.rows.name]
    rows = program.rows.with_columns(
        work=np.array(
            [NONE if k == TaskKind.LAUNCH else of_row.get(n, 2) for n, k in zip(names, program.rows.kind, strict=True)],
            np.int32,
        ),
        work_share=np.array([{"first": 0.25, "second": 0.75}.get(n, 1) for n in names], np.float32),
    )  # fmt: skip
    least = roofline_of_rows(replace(program, rows=rows, works=works), GPU)
    device = [int(n) for n, k in zip(least, rows.kind, strict=True) if k != TaskKind.LAUNCH]
    assert device == [150, 450, NONE, NONE, 32]
    assert (least[rows.kind == TaskKind.LAUNCH] == NONE).all()


# What lets a kernel beat the bound: its data is in a cache (the A100's holds 40 MB, the V100's 6), or
# cuDNN takes a fast algorithm. Any wrong formula or figure shows here.
TRACES = {
    "amd/normalization-MI300X.json.gz": 0,
    "amd/resnet18-ddp-MI300X.json.gz": 0.5,
    "dlrm-8xV100": 0.2,
    "inference/bert-small-H100.json.gz": 0,
    "inference/qwen1.5-0.5b-H100.json.gz": 0,
    "inference/vllm-eager-B200-rank0-of-8.json.gz": 0,
    "recsys-2xV100": 0.1,
    "recsys-8xA100": 3,
    "resnet50-V100": 6,
    "vgg13-H100": 2,
}


@needs_data
@pytest.mark.parametrize("name", TRACES)
def test_hardly_any_real_kernel_is_faster_than_its_roofline(name: str) -> None:
    job = lumos.load(DATA / name).job
    gpu = find_hardware(job.placement.gpu)
    assert gpu is not None
    known, faster = 0, Counter[str]()
    for program in job.programs:
        rows, least = program.rows, roofline_of_rows(program, gpu)
        kernels = rows.kind == TaskKind.KERNEL
        whole_us = (rows.duration_ns[kernels] % 1000 == 0).all()
        bounded = kernels & (least != NONE)
        known += int(bounded.sum())
        for row in np.flatnonzero(bounded & (least > rows.duration_ns + 1000 * whole_us)):
            work = program.works[rows.work[row]]
            fast_algorithm = work.kind == WorkKind.CONVOLUTION
            in_cache = (count(work).bytes or 0) <= 45e6
            ratio = least[row] / max(int(rows.duration_ns[row]), 1)
            assert fast_algorithm or in_cache or ratio < 1.15, (work, ratio)
            assert ratio < 2.5, (work, ratio)
            faster[work.operator] += 1
    assert known
    assert 100 * faster.total() / known <= TRACES[name], faster.most_common(5)
