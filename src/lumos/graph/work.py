"""Work: what a device task computes or moves, as far as the trace tells."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache


class WorkKind(IntEnum):
    """The kind of a device task's work, by the operator that launched it."""

    OTHER = 0
    GEMM = 1
    ATTENTION = 2
    CONVOLUTION = 3
    NORMALIZATION = 4
    ELEMENTWISE = 5
    REDUCTION = 6
    EMBEDDING = 7
    OPTIMIZER = 8
    COPY = 9
    SET = 10
    COLLECTIVE = 11


@dataclass(frozen=True)
class Gemm:
    """`batch` products of an (m, k) with a (k, n) matrix."""

    batch: int
    m: int
    n: int
    k: int

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        return 2 * self.batch * self.m * self.n * self.k


@dataclass(frozen=True)
class Work:
    """One distinct piece of work; None or empty where the trace does not tell.

    `operator` is the innermost operator around the launch, `shapes` and `dtypes` those of its
    inputs in order, `values` the texts of those that are no tensors (of convolutions and attention),
    `bytes` what a copy, set or collective moves.
    """

    kind: WorkKind
    operator: str
    shapes: tuple[tuple[int, ...], ...] = ()
    dtypes: tuple[str, ...] = ()
    gemm: Gemm | None = None
    bytes: int | None = None
    values: tuple[str, ...] = ()


class Phase(IntEnum):
    """The part of a training step that a row belongs to."""

    UNKNOWN = 0
    FORWARD = 1
    BACKWARD = 2
    OPTIMIZER = 3
    DATA_LOADING = 4


# Exact names of ATen operators and the families they belong to; first match counts.
_KIND_OF_OPERATOR = (
    (re.compile(r"aten::(?:mm|bmm|addmm|baddbmm|addbmm|_scaled_mm|matmul|linear|addmv|mv|dot)$"), WorkKind.GEMM),
    (re.compile(r"aten::.*(?:attention|flash|sdp)|flash_attn::|fmha"), WorkKind.ATTENTION),
    (re.compile(r"aten::.*conv"), WorkKind.CONVOLUTION),
    (re.compile(r"aten::.*(?:batch_norm|layer_norm|group_norm|instance_norm|rms_norm)"), WorkKind.NORMALIZATION),
    (re.compile(r"aten::_?(?:fused_adam|fused_sgd|foreach_)|.*multi_tensor"), WorkKind.OPTIMIZER),
    (re.compile(r"aten::.*embedding|.*embedding.*lookup|fbgemm::.*embedding"), WorkKind.EMBEDDING),
    (re.compile(r"aten::_?(?:sum|mean|max|min|argmax|softmax|log_softmax|norm|linalg_vector_norm|nll_loss|cumsum)"), WorkKind.REDUCTION),
    (re.compile(r"aten::(?:add|sub|mul|div|neg|relu|gelu|silu|sigmoid|tanh|threshold|clamp|where|fill|zero|copy|exp|sqrt|rsqrt|pow|dropout|native_dropout|addcmul|addcdiv|lerp|masked_fill|eq|ne|lt|gt)"), WorkKind.ELEMENTWISE),
)  # fmt: skip


@lru_cache(maxsize=4096)
def kind_of_operator(operator: str) -> WorkKind:
    """The family that an operator belongs to by its name."""
    kinds = (kind for pattern, kind in _KIND_OF_OPERATOR if pattern.match(operator))
    return next(kinds, WorkKind.OTHER)


# What kernels of Triton (by torch.compile), cuBLAS, CUTLASS, cuDNN, rocBLAS (Cijk), FlashAttention,
# FBGEMM and ATen are called; first match counts. A Triton kernel names all that was fused into it.
_KIND_OF_KERNEL = tuple(
    (re.compile(pattern, re.IGNORECASE), kind)
    for pattern, kind in (
        (r"^triton_poi_", WorkKind.ELEMENTWISE),
        (r"^triton_tem_", WorkKind.GEMM),
        (r"^triton_(?:red|per)_.*norm", WorkKind.NORMALIZATION),
        (r"^triton_(?:red|per)_", WorkKind.REDUCTION),
        (r"flash_(?:fwd|bwd)|flash_?attn|fmha|attention", WorkKind.ATTENTION),
        (r"embedding", WorkKind.EMBEDDING),
        (r"conv(?!ert)|winograd|fprop|dgrad|wgrad", WorkKind.CONVOLUTION),
        (r"batch_?norm|layer_?norm|group_?norm|rms_?norm|\bbn_(?:fw|bw)", WorkKind.NORMALIZATION),
        (r"multi_tensor_apply|adam", WorkKind.OPTIMIZER),
        (r"(?<!fb)gemm|gemv|matmul|(?:^|\W)bmm_|mma_|cutlass::|cijk_|nvjet|splitk", WorkKind.GEMM),
        (r"reduce_kernel|softmax", WorkKind.REDUCTION),
        (r"elementwise", WorkKind.ELEMENTWISE),
    )
)


@lru_cache(maxsize=4096)
def kind_of_kernel(kernel: str) -> WorkKind:
    """The family that a kernel belongs to by its own name, for operators that do not tell.

    Arguments of templates do not count (many a kernel is given a type of CUTLASS), but for CUTLASS,
    whose kernels are told by nothing else.
    """
    head = _without_arguments(kernel)
    told = kernel if "cutlass::" in head else head
    kinds = (kind for pattern, kind in _KIND_OF_KERNEL if pattern.search(told))
    return next(kinds, WorkKind.OTHER)


def _without_arguments(name: str) -> str:
    """A C++ name without what stands in brackets: `void a::b<c>(d)` is `void a::b`."""
    open_brackets: list[str] = []
    kept = []
    for letter in name:
        if letter in "<(":
            open_brackets.append(letter)
        elif letter == ")":
            while open_brackets and open_brackets.pop() != "(":
                pass
        elif letter == ">":
            if open_brackets and open_brackets[-1] == "<":  # else it compares
                open_brackets.pop()
        elif not open_brackets:
            kept.append(letter)
    return "".join(kept)
