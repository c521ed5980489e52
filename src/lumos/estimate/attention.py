"""Work of fused attention: two products of matrices forward, five backward.

Forward S = Q K^T and O = P V; backward recomputes S and takes dV, dP, dQ, dK (Dao, FlashAttention-2,
arXiv 2307.08691, section 3.1; torch.utils.flop_counter counts the same). A product over all pairs of
`queries` x `keys` takes 2 operations a pair, head and dimension. A causal mask leaves (n + 1) / 2n of
the pairs of n queries and n keys. Where the trace does not tell whether there is a mask the operations
are unknown: it may be half of them.
"""

from __future__ import annotations

from typing import NamedTuple

from lumos.estimate.count import UNKNOWN, Count, total_bytes
from lumos.estimate.tensors import Inputs, Tensor


class Form(NamedTuple):
    """The inputs of an attention operator: where queries, keys and values are and what is where.

    `sequence` is the dimension of the sequence, `causal` the input that tells whether attention is
    causal, `lengths` that of the borders of sequences of different lengths and `window` that of the
    reach of local attention (None: has none); `read` of the inputs are no outputs.
    """

    query: int
    sequence: int
    causal: int
    lengths: int | None = None
    window: int | None = None
    read: int | None = None

    @property
    def backward(self) -> bool:
        """Whether the gradient of the output comes first."""
        return self.query == 1


# Argument orders: PyTorch's native_functions.yaml, and flash_attn_interface.py of flash-attn 2.
FORMS: dict[str, Form] = {
    "aten::_scaled_dot_product_flash_attention": Form(0, 2, 4),
    "aten::_scaled_dot_product_efficient_attention": Form(0, 2, 6),
    "aten::_scaled_dot_product_cudnn_attention": Form(0, 2, 6),
    "aten::_flash_attention_forward": Form(0, 1, 8, lengths=3),
    "aten::_efficient_attention_forward": Form(0, 1, 9, lengths=4),
    "aten::_scaled_dot_product_flash_attention_backward": Form(1, 2, 11, lengths=6),
    "aten::_scaled_dot_product_efficient_attention_backward": Form(1, 2, 11),
    "aten::_scaled_dot_product_cudnn_attention_backward": Form(1, 2, 14, lengths=9),
    "aten::_flash_attention_backward": Form(1, 1, 11, lengths=6),
    "aten::_efficient_attention_backward": Form(1, 1, 14, lengths=6),
    "flash_attn::_flash_attn_forward": Form(0, 1, 5, window=6),
    "flash_attn::_flash_attn_backward": Form(1, 1, 11, window=12, read=6),
}
_WITH_NUMBER = ("aten::_efficient_attention_forward", "aten::_efficient_attention_backward")
"""Those that tell the mask by a number: 0 none, 1 and 2 causal."""


def count_attention(operator: str, inputs: Inputs, values: tuple[str, ...]) -> Count:
    """Operations and bytes of a fused attention operator: inputs read once, outputs written once."""
    form = FORMS[operator]
    if len(inputs) < form.query + 3:
        return UNKNOWN
    query, key, value = inputs[form.query : form.query + 3]
    if query is None or key is None or value is None or {len(query.shape), len(key.shape)} != {4}:
        return UNKNOWN
    inputs_read = total_bytes(inputs[: form.read])
    outputs = (query, key, value) if form.backward else (_output(query, value),)
    written = total_bytes(outputs)
    moved = None if inputs_read is None or written is None else inputs_read + written
    flops = _flops(operator, form, inputs, values, (query, key, value))
    return Count(flops, moved, query.precision, matrix=True)


def _output(query: Tensor, value: Tensor) -> Tensor:
    return Tensor((*query.shape[:-1], value.shape[-1]), query.item_bytes, query.precision)


def _flops(
    operator: str,
    form: Form,
    inputs: Inputs,
    values: tuple[str, ...],
    tensors: tuple[Tensor, Tensor, Tensor],
) -> int | None:
    if form.lengths is not None and inputs[form.lengths : form.lengths + 1] != (None,):
        return None  # sequences of different lengths: how long each is stands in the data
    if form.window is not None and set(values[form.window : form.window + 2]) != {"-1"}:
        return None
    pairs = _pairs(operator, form, values, tensors)
    if pairs is None:
        return None
    query, _, value = tensors
    of_keys = 2 * pairs * query.shape[-1]  # S, dQ, dK
    of_values = 2 * pairs * value.shape[-1]  # O; dV, dP
    return 3 * of_keys + 2 * of_values if form.backward else of_keys + of_values


def _pairs(
    operator: str, form: Form, values: tuple[str, ...], tensors: tuple[Tensor, Tensor, Tensor]
) -> int | None:
    """Pairs of a query and a key that are multiplied, over all heads."""
    word = values[form.causal] if form.causal < len(values) else ""
    masked = {"False": False, "True": True}
    if operator in _WITH_NUMBER:
        masked = {"0": False, "1": True, "2": True}
    if word not in masked:
        return None
    query, key, _ = tensors
    queries, keys = query.shape[form.sequence], key.shape[form.sequence]
    heads = query.elements // max(queries * query.shape[-1], 1)
    if not masked[word]:
        return heads * queries * keys
    return heads * queries * (queries + 1) // 2 if queries == keys else None
