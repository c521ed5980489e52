"""How many operations a piece of work takes, and how many bytes it moves at the very least.

Operations are counted by definition: a multiplication or addition is one, so is a call of exp, tanh
and the like; comparisons, copies and work on whole numbers are none. Bytes are a lower bound: every
input is read once, every output written once, nothing stays in caches. Inputs that PyTorch expands
from smaller ones count in full, for strides are not read. What a trace does not tell is None, never a
guess: outputs of unknown shape, lists of tensors (their types are not recorded), operators without
a formula here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

from lumos.estimate.attention import FORMS, count_attention
from lumos.estimate.convolution import OPERATORS as CONVOLUTIONS
from lumos.estimate.convolution import count_convolution
from lumos.estimate.count import UNKNOWN, Count, first_precision, together, total_bytes
from lumos.estimate.tensors import Inputs, Tensor, inputs_of
from lumos.graph.work import Work, WorkKind


def flops(work: Work) -> int | None:
    """Floating-point operations of all tasks of one call of the operator; None where unknown."""
    return count(work).flops


def moved_bytes(work: Work) -> int | None:
    """The fewest bytes of device memory that it can read and write; None where unknown."""
    return count(work).bytes


@lru_cache(maxsize=1 << 16)
def count(work: Work) -> Count:
    """Operations, bytes and number format of a piece of work."""
    if work.kind in (WorkKind.COPY, WorkKind.SET):
        return Count(None, work.bytes)
    return UNKNOWN if work.kind == WorkKind.COLLECTIVE else _of_operator(work, inputs_of(work))


def _of_operator(work: Work, inputs: Inputs) -> Count:
    if work.gemm is not None:
        return _gemm(work, inputs)
    if work.operator in FORMS:
        return count_attention(work.operator, inputs, work.values)
    if work.operator in CONVOLUTIONS:
        return count_convolution(work.operator, inputs, work.values)
    formula = _FORMULAS.get(work.operator.removeprefix("aten::"))
    if formula is None or not work.operator.startswith("aten::"):
        return UNKNOWN
    return formula(work.operator, inputs)


def _gemm(work: Work, inputs: Inputs) -> Count:
    """2 operations for each of m n k; both operands and the product.

    What is added is left out: it is a small bias, or may be multiplied by zero and not be read.
    """
    assert work.gemm is not None
    first = 1 if work.operator in ("aten::addmm", "aten::baddbmm", "aten::addbmm") else 0
    operands = inputs[first : first + 2]
    if len(operands) < 2 or operands[0] is None:
        return Count(work.gemm.flops, matrix=True)
    left = operands[0]
    product = Tensor((work.gemm.batch, work.gemm.m, work.gemm.n), left.item_bytes, left.precision)
    if work.operator == "aten::addbmm":  # adds up the products of the batch
        product = Tensor(product.shape[1:], left.item_bytes, left.precision)
    moved = together(total_bytes(operands), product.bytes)
    return Count(work.gemm.flops, moved, left.precision, matrix=True)


def _product_with_vector(operator: str, inputs: Inputs) -> Count:
    """mv, addmv, dot: 2 operations for each element of the matrix (of one vector)."""
    first = 1 if operator == "aten::addmv" else 0
    left = inputs[first] if first < len(inputs) else None
    if left is None:
        return UNKNOWN
    return Count(2 * left.elements, total_bytes(inputs), left.precision)


Formula = Callable[[str, Inputs], Count]


def _elementwise(read: int, operations: int, *, item_bytes: int | None = None) -> Formula:
    """`operations` for each element of the output, which is as large as all inputs together.

    The operator has `read` inputs; one more is where the output goes. One whose name ends with _
    writes into its first input. `item_bytes` is that of outputs of a type of their own: comparisons
    give truths.
    """

    def of(operator: str, inputs: Inputs) -> Count:
        tensors = [one for one in inputs[:read] if one is not None]
        if not tensors:
            return UNKNOWN
        shape = _broadcast([one.shape for one in tensors])
        if shape is None:
            return UNKNOWN
        if operator.endswith("_"):
            written = tensors[0].bytes
        else:
            written = _sized(shape, item_bytes if item_bytes is not None else _widest(tensors))
        precision = first_precision(inputs)
        done = operations * math.prod(shape) if precision or _untyped(tensors) else 0
        return Count(done, together(total_bytes(tensors), written), precision)

    return of


def _untyped(tensors: list[Tensor]) -> bool:
    return any(one.item_bytes is None for one in tensors)


def _widest(tensors: list[Tensor]) -> int | None:
    """Bytes of an element of the result: the widest of the inputs, those of no dimension apart."""
    sizes = [one.item_bytes for one in tensors if one.shape] or [one.item_bytes for one in tensors]
    return None if None in sizes else max(size or 0 for size in sizes)


def _sized(shape: tuple[int, ...], item_bytes: int | None) -> int | None:
    return None if item_bytes is None else math.prod(shape) * item_bytes


def _broadcast(shapes: list[tuple[int, ...]]) -> tuple[int, ...] | None:
    """The shape that all of them together have; None where they do not fit."""
    places = max(len(shape) for shape in shapes)
    result = []
    for place in range(1, places + 1):
        extents = {shape[-place] for shape in shapes if len(shape) >= place} - {1}
        if len(extents) > 1:
            return None
        result.append(extents.pop() if extents else 1)
    return tuple(reversed(result))


def _written(_: str, inputs: Inputs) -> Count:
    """fill_, zero_: the first input is written, nothing else is read."""
    first = inputs[0] if inputs else None
    return UNKNOWN if first is None else Count(0, first.bytes)


def _copied(_: str, inputs: Inputs) -> Count:
    """copy_: the second input is read, the first written."""
    target, source = inputs[:2] if len(inputs) > 1 else (None, None)
    if target is None or source is None:
        return UNKNOWN
    return Count(0, together(source.bytes, target.bytes))


def _reduction(_: str, inputs: Inputs) -> Count:
    """An operation for each element read; the output may be a single number."""
    first = inputs[0] if inputs else None
    if first is None:
        return UNKNOWN
    done = first.elements if first.precision or first.item_bytes is None else 0
    return Count(done, first.bytes, first.precision)


def _like_first(operations: int) -> Formula:
    """`operations` for each element of the first input; all are read, one as large is written."""

    def of(_: str, inputs: Inputs) -> Count:
        first = inputs[0] if inputs else None
        if first is None:
            return UNKNOWN
        moved = together(total_bytes(inputs), first.bytes)
        return Count(operations * first.elements, moved, first.precision)

    return of


def _rows_of_table(operator: str, inputs: Inputs) -> Count:
    """embedding, index_select, gather, ...: an output row for each index; rows may be read once only."""
    table = inputs[0] if inputs else None
    place = 2 if operator in ("aten::gather", "aten::index_select") else 1
    index = inputs[place] if place < len(inputs) else None
    if table is None or index is None:
        return UNKNOWN
    row = 1 if operator == "aten::gather" else math.prod(table.shape[1:])
    output = None if table.item_bytes is None else index.elements * row * table.item_bytes
    return Count(0, together(index.bytes, output))


def _table_gradient(_: str, inputs: Inputs) -> Count:
    """embedding_dense_backward: every row of the gradient is added to a row of the table's."""
    gradient = inputs[0] if inputs else None
    if gradient is None:
        return UNKNOWN
    return Count(gradient.elements, total_bytes(inputs), gradient.precision)


def _pool_backward(_: str, inputs: Inputs) -> Count:
    """max_pool2d_with_indices_backward: gradient and indices are read, the input's gradient written."""
    if len(inputs) < 2 or inputs[0] is None or inputs[1] is None:
        return UNKNOWN
    gradient, source = inputs[0], inputs[1]
    indices = total_bytes(one for one in inputs[2:])
    return Count(
        gradient.elements, together(gradient.bytes, source.bytes, indices), gradient.precision
    )


_MAY_BE_IN_PLACE: dict[str, Formula] = {
    **dict.fromkeys(
        ("neg", "abs", "exp", "log", "log1p", "log2", "expm1", "sqrt", "rsqrt", "reciprocal", "sigmoid",
         "tanh", "sin", "cos", "square", "erf"),
        _elementwise(1, 1),
    ),
    **dict.fromkeys(("mul", "div", "pow"), _elementwise(2, 1)),
    **dict.fromkeys(("add", "sub", "rsub"), _elementwise(3, 1)),
    **dict.fromkeys(("relu", "nan_to_num", "sign", "round", "floor", "ceil"), _elementwise(1, 0)),
    **dict.fromkeys(("maximum", "minimum", "clamp_min", "clamp_max"), _elementwise(2, 0)),
    **dict.fromkeys(
        ("threshold", "threshold_backward", "clamp", "masked_fill", "where"), _elementwise(3, 0)
    ),
    **dict.fromkeys(
        ("eq", "ne", "lt", "gt", "le", "ge", "logical_and", "logical_or"),
        _elementwise(2, 0, item_bytes=1),
    ),
    **dict.fromkeys(
        ("logical_not", "isnan", "isinf", "isfinite"), _elementwise(1, 0, item_bytes=1)
    ),
    "lerp": _elementwise(3, 3),
    **dict.fromkeys(("addcmul", "addcdiv"), _elementwise(4, 3)),
}  # fmt: skip

_FORMULAS: dict[str, Formula] = {
    **_MAY_BE_IN_PLACE,
    **{f"{name}_": formula for name, formula in _MAY_BE_IN_PLACE.items()},
    # s (1 - s) g; (1 - t^2) g
    **dict.fromkeys(("sigmoid_backward", "tanh_backward"), _elementwise(2, 3)),
    **dict.fromkeys(("silu", "silu_"), _elementwise(1, 2)),  # x s(x)
    "silu_backward": _elementwise(2, 6),  # g s (1 + x (1 - s))
    "gelu": _elementwise(1, 5),  # 0.5 x (1 + erf(x c))
    "gelu_backward": _elementwise(2, 11),  # g (cdf(x) + x pdf(x))
    "native_dropout_backward": _elementwise(2, 2),  # gradient, mask, scale
    "fill_": _written,
    "zero_": _written,
    "copy_": _copied,
    **dict.fromkeys(
        ("sum", "mean", "max", "min", "amax", "amin", "argmax", "argmin", "prod", "norm", "any",
         "all", "linalg_vector_norm", "logsumexp", "std", "var", "var_mean"),
        _reduction,
    ),
    "cumsum": _like_first(1),
    # five passes: maximum, difference, exp, sum, and last quotient or difference
    **dict.fromkeys(("_softmax", "_log_softmax"), _like_first(5)),
    # four: product with the gradient, its sum, difference, product
    **dict.fromkeys(("_softmax_backward_data", "_log_softmax_backward_data"), _like_first(4)),
    # forward 5 with weight and bias (fvcore, norm_flop_counter); backward: normalised again 2, times
    # weight 1, two means 3, three terms 4, gradients of weight and bias 3
    **dict.fromkeys(
        ("native_layer_norm", "native_group_norm", "native_batch_norm", "cudnn_batch_norm",
         "miopen_batch_norm", "batch_norm"),
        _like_first(5),
    ),
    **dict.fromkeys(
        ("native_layer_norm_backward", "native_group_norm_backward", "native_batch_norm_backward",
         "cudnn_batch_norm_backward", "miopen_batch_norm_backward"),
        _like_first(13),
    ),
    "_fused_rms_norm": _like_first(4),  # square, sum, times the root, times weight
    "_fused_rms_norm_backward": _like_first(10),
    **dict.fromkeys(("embedding", "index_select", "gather"), _rows_of_table),
    "embedding_dense_backward": _table_gradient,
    "max_pool2d_with_indices_backward": _pool_backward,
    **dict.fromkeys(("mv", "addmv", "dot"), _product_with_vector),
}  # fmt: skip
