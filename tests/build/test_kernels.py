"""Communication is told by kinds of kernels, never by a word inside another name."""

from __future__ import annotations

import pytest

from lumos.build.kernels import collective_kind, is_communication_kernel
from lumos.graph.job import CollectiveKind

COMMUNICATION = {
    "ncclKernel_AllReduce_RING_LL_Sum_float(ncclWorkElem)": CollectiveKind.ALL_REDUCE,
    "ncclAllReduceRingLLKernel_sum_f32(ncclColl)": CollectiveKind.ALL_REDUCE,
    "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevComm*, unsigned long, ncclWork*)": CollectiveKind.ALL_REDUCE,
    "ncclDevKernel_AllGather_RING_LL(ncclDevKernelArgsStorage<4096ul>)": CollectiveKind.ALL_GATHER,
    "ncclDevKernel_ReduceScatter_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)": CollectiveKind.REDUCE_SCATTER,
    "ncclKernel_SendRecv_RING_SIMPLE_Sum_int8_t(ncclWorkElem)": CollectiveKind.SEND_RECEIVE,
    "ncclDevKernel_SendRecv(ncclDevKernelArgsStorage<4096ul>)": CollectiveKind.SEND_RECEIVE,
    "ncclKernel_Broadcast_RING_LL_Sum_int8_t(ncclWorkElem)": CollectiveKind.BROADCAST,
    "ncclDevKernel_Generic(ncclDevComm*, unsigned long, ncclWork*)": CollectiveKind.UNKNOWN,
    "ncclDevKernel_Generic_1(ncclDevKernelArgsStorage<4096ul>)": CollectiveKind.UNKNOWN,
    "nccldevkernel_allreduce_sum_f32_ring_ll": CollectiveKind.ALL_REDUCE,
    "ncclkernel_allgather": CollectiveKind.ALL_GATHER,
    "rcclGenericKernel": CollectiveKind.UNKNOWN,
    "void vllm::cross_device_reduce_1stage<__nv_bfloat16, 8>(RankData*, RankSignals)": CollectiveKind.ALL_REDUCE,
    "void vllm::cross_device_reduce_2stage<__half, 2>(vllm::RankData*)": CollectiveKind.ALL_REDUCE,
    "void sglang::cross_device_reduce_1stage<half, 4>": CollectiveKind.ALL_REDUCE,
    "void deep_ep::intranode::dispatch<8, 768, 8192>(int4*, float*)": None,
    "void deep_ep::internode_ll::combine<true, 7168, 9>(void*)": None,
}
COMPUTE = [
    "void cub::DispatchReduceByKey<int*, int*>::Kernel(int)",
    "cub::DispatchReduceByKey",
    "void cub::DeviceReduceByKeyKernel<cub::DeviceReduceByKeyPolicy>",
    "void cub::DeviceRadixSortOnesweepKernel<int>",
    "void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float>>",
    "void at::native::(anonymous namespace)::indexing_backward_kernel_small_stride",
    "void at::native::vectorized_gather_kernel<16, long>",
    "void at::native::_scatter_gather_elementwise_kernel<128, 8>",
    "void at::native::embedding_bag_broadcast_kernel",
    "split_embedding_nobag_codegen_forward_unweighted_kernel",
    "triton_red_fused_all_reduce_like_name_0",
    "void fmha_send_nothing",
    "my_ncclKernel_copycat",
    "Memcpy PtoP (Device -> Device)",
    "ampere_sgemm_128x64_tn",
]


@pytest.mark.parametrize("name", COMMUNICATION)
def test_kernels_that_communicate_are_found_whatever_their_age(name: str) -> None:
    assert is_communication_kernel(name)
    kind = COMMUNICATION[name]
    if kind is not None:
        assert collective_kind(name.partition("(")[0]) == kind


@pytest.mark.parametrize("name", COMPUTE)
def test_kernels_that_compute_are_not_taken_for_communication(name: str) -> None:
    assert not is_communication_kernel(name)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("allreduce", CollectiveKind.ALL_REDUCE),
        ("all_reduce_coalesced", CollectiveKind.ALL_REDUCE),
        ("nccl:all_reduce", CollectiveKind.ALL_REDUCE),
        ("_allgather_base", CollectiveKind.ALL_GATHER),
        ("all_gather_into_tensor", CollectiveKind.ALL_GATHER),
        ("reduce_scatter_tensor", CollectiveKind.REDUCE_SCATTER),
        ("_reduce_scatter_base", CollectiveKind.REDUCE_SCATTER),
        ("all_to_allv", CollectiveKind.ALL_TO_ALL),
        ("alltoall_base", CollectiveKind.ALL_TO_ALL),
        ("broadcast", CollectiveKind.BROADCAST),
        ("reduce", CollectiveKind.REDUCE),
        ("send", CollectiveKind.SEND),
        ("recv", CollectiveKind.RECEIVE),
        ("barrier", CollectiveKind.BARRIER),
        ("gather", CollectiveKind.GATHER),
        ("scatter", CollectiveKind.SCATTER),
        ("something else", CollectiveKind.UNKNOWN),
    ],
)
def test_kinds_are_read_from_operators_and_metadata(text: str, kind: CollectiveKind) -> None:
    assert collective_kind(text) == kind
