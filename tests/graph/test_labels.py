"""Rows are counted under the same names everywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import lumos
from lumos.graph.job import NONE, CollectiveKind, TaskKind
from lumos.graph.labels import HOST, OTHER_WORK, By, labels
from tests.drawing import Drawing

RECORDINGS = Path(__file__).parents[2] / "recordings"


def of(program, by):
    """The label of each row as text."""
    found = labels(program, by)
    return [None if number == NONE else found.texts[number] for number in found.number]


def test_beside_a_gpu_host_rows_are_one_class_and_device_rows_go_by_their_kind():
    drawing = Drawing()
    group = drawing.group("all", 0)
    rank = drawing.rank()
    main, s1, s2 = rank.thread("main"), rank.stream(1), rank.stream(2)
    main.work("aten::mm", 5)
    main.launch(s1, "mystery", 10)
    main.launch(s1, "Memcpy", 3, kind=TaskKind.COPY)
    main.collective(s2, "nccl", 7, group, CollectiveKind.ALL_GATHER)
    program = drawing.program()
    assert of(program, By.CLASS) == [HOST, HOST, OTHER_WORK, HOST, "copy", HOST, "all_gather"]
    assert of(program, By.STREAM) == [
        "main", "main", "stream 1", "main", "stream 1", "main", "stream 2",
    ]  # fmt: skip
    assert of(program, By.KERNEL)[2] == "mystery"
    assert of(program, By.LAYER) == of(program, By.PHASE) == [None] * 7


def test_where_the_host_computes_its_operators_are_in_the_classes_of_their_families():
    drawing = Drawing()
    rank = drawing.rank()
    main = rank.thread()
    main.work("aten::mm", 5)
    main.work("aten::layer_norm", 5)
    main.gap(3)
    assert of(drawing.program(), By.CLASS) == ["gemm", "normalization", HOST]


def test_a_kernel_whose_operator_tells_nothing_goes_by_its_own_name():
    kernels = {
        "volta_sgemm_128x32_nt": "gemm",
        "Cijk_Ailk_Bljk_HHS_BH_MT128x128x16": "gemm",
        "void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_bf16_128x64_64x4_tn_align8>": "gemm",
        "sm80_xmma_fprop_implicit_gemm_conv_f32f32": "convolution",
        "void flash_fwd_kernel<Flash_fwd_kernel_traits<128, 128, 64, 4, false>>": "attention",
        "void split_embedding_codegen_forward_unweighted_kernel<float>": "embedding",
        "void fbgemm_gpu::permute_2D_data_kernel<true, int, long>": OTHER_WORK,
        "_matmul_ogs_NNT_bf16xbf16xmxfp4_128x128x128x1": "gemm",
        "bmm_MxE4m3_MxE2m1MxE4m3_Fp32_t128x16x256u2": "gemm",
        "triton_poi_fused_convolution_add_3": "elementwise",
        "std::enable_if<(((8)>(0)))&&a<b>::exists, void>::type vllm::fused_add_rms_norm_kernel<b, 8>": (
            "normalization"
        ),
        "triton_tem_fused_mm_4": "gemm",
        "triton_per_fused__softmax_1": "reduction",
        "void at::native::vectorized_elementwise_kernel<4, cutlass::bfloat16_t>": "elementwise",
        "triton_red_fused_native_layer_norm_0": "normalization",
        "void at::native::reduce_kernel<512, 1>": "reduction",
        "void at::native::vectorized_elementwise_kernel<4>": "elementwise",
        "void at::native::(anonymous namespace)::CatArrayBatchedCopy<float>": OTHER_WORK,
        "convert_dtype": OTHER_WORK,
    }
    drawing = Drawing()
    rank = drawing.rank()
    main, s1 = rank.thread(), rank.stream(1)
    for kernel in kernels:
        main.launch(s1, kernel, 1)
    found = of(drawing.program(), By.CLASS)
    assert dict(zip(kernels, found[1::2], strict=True)) == kernels


def test_equal_names_share_one_label():
    drawing = Drawing()
    first, second = drawing.group("first", 0), drawing.group("second", 0)
    rank = drawing.rank()
    main, s1 = rank.thread(), rank.stream(1)
    main.launch(s1, "kernel", 1)
    main.collective(s1, "a", 7, first)
    main.collective(s1, "b", 7, second)
    found = labels(drawing.program(), By.CLASS)
    assert found.texts == (HOST, OTHER_WORK, "all_reduce")
    assert found.rows_of("all_reduce").sum() == 2
    assert not found.rows_of("broadcast").any()


@pytest.mark.parametrize("by", By)
def test_every_row_of_a_recorded_job_has_a_label_or_none(by):
    for program in lumos.load(RECORDINGS / "gpt-dp2-tp2").job.programs:
        found = labels(program, by)
        assert len(found.number) == len(program.rows)
        assert len(set(found.texts)) == len(found.texts)
        counts = np.bincount(found.number[found.number != NONE], minlength=len(found.texts))
        assert (counts > 0).all()
        if by not in (By.LAYER, By.PHASE):
            assert (found.number != NONE).all()
