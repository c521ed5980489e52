"""Which device tasks and operators communicate, by kind - never by a word inside another name."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lumos.graph.job import CollectiveKind

# NCCL and RCCL of all ages, vLLM's and TensorRT-LLM's own all-reduce, DeepEP, NVSHMEM.
_COMMUNICATION_KERNEL = re.compile(
    r"^(?:void )?(?:"
    r"nccl(?:Dev)?Kernel|nccl[A-Z_]\w*Kernel|rccl\w*Kernel|ncclkernel|nccldevkernel"
    r"|(?:vllm::|sglang::|trtllm::|aiter::|tensorrt_llm::\w+::)?(?:cross_device_reduce|one_?shot_all_?reduce\w*|"
    r"two_?shot_all_?reduce\w*|allreduce_\w*kernel|multimem_all_reduce\w*)"
    r"|deep_ep::|nvshmem)",
)

_KIND_OF_WORD = (
    ("reducescatter", CollectiveKind.REDUCE_SCATTER),
    ("allreduce", CollectiveKind.ALL_REDUCE),
    ("alltoall", CollectiveKind.ALL_TO_ALL),
    ("allgather", CollectiveKind.ALL_GATHER),
    ("broadcast", CollectiveKind.BROADCAST),
    ("crossdevicereduce", CollectiveKind.ALL_REDUCE),
    ("oneshot", CollectiveKind.ALL_REDUCE),
    ("twoshot", CollectiveKind.ALL_REDUCE),
    ("sendrecv", CollectiveKind.SEND_RECEIVE),
    ("barrier", CollectiveKind.BARRIER),
    ("reduce", CollectiveKind.REDUCE),
    ("scatter", CollectiveKind.SCATTER),
    ("gather", CollectiveKind.GATHER),
    ("send", CollectiveKind.SEND),
    ("recv", CollectiveKind.RECEIVE),
    ("receive", CollectiveKind.RECEIVE),
)


def is_communication_kernel(name: str) -> bool:
    """Whether a device task of this name moves data between ranks."""
    return _COMMUNICATION_KERNEL.match(name) is not None


def communication_kernels(strings: Sequence[str]) -> NDArray[np.bool_]:
    """Which strings are names of communication kernels."""
    return np.array([is_communication_kernel(text) for text in strings], bool)


def collective_kind(text: str) -> CollectiveKind:
    """The kind that a kernel's, operator's or metadata's name tells; UNKNOWN where it does not."""
    letters = re.sub(r"[^a-z]", "", text.lower())
    for word, kind in _KIND_OF_WORD:
        if word in letters:
            return kind
    return CollectiveKind.UNKNOWN
