"""Work of convolutions, counted as the direct method does them.

An output element takes a multiplication and an addition for each weight of its channel; both
gradients take as much as the forward pass (torch.utils.flop_counter, conv_flop_count). Fast
algorithms (Winograd, FFT) do with fewer, so their kernels can be faster than this count allows.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from lumos.estimate.count import UNKNOWN, Count, together, total_bytes
from lumos.estimate.tensors import Inputs, Tensor, integers, truths


class Form(NamedTuple):
    """Where a forward convolution has padding, stride and dilation among its inputs."""

    padding: int
    stride: int
    dilation: int
    transposed: int | None = None


# Argument orders of PyTorch's native_functions.yaml.
FORWARD: dict[str, Form] = {
    "aten::cudnn_convolution": Form(2, 3, 4),
    "aten::cudnn_convolution_relu": Form(4, 3, 5),
    "aten::miopen_convolution": Form(3, 4, 5),
    "aten::mkldnn_convolution": Form(3, 4, 5),
    "aten::_conv_depthwise2d": Form(5, 4, 6),
    "aten::conv1d": Form(4, 3, 5),
    "aten::conv2d": Form(4, 3, 5),
    "aten::conv3d": Form(4, 3, 5),
    "aten::convolution": Form(4, 3, 5, 6),
    "aten::_convolution": Form(4, 3, 5, 6),
}
BOTH_GRADIENTS = "aten::convolution_backward"
INPUT_GRADIENT = (
    "aten::cudnn_convolution_backward_input",
    "aten::miopen_convolution_backward_input",
)
WEIGHT_GRADIENT = (
    "aten::cudnn_convolution_backward_weight",
    "aten::miopen_convolution_backward_weight",
)
OPERATORS = (*FORWARD, BOTH_GRADIENTS, *INPUT_GRADIENT, *WEIGHT_GRADIENT)


def count_convolution(operator: str, inputs: Inputs, values: tuple[str, ...]) -> Count:
    """Operations and bytes of a convolution or its gradients: inputs read, outputs written once."""
    if operator in FORWARD:
        return _forward(FORWARD[operator], inputs, values)
    if len(inputs) < 3:
        return UNKNOWN
    if operator == BOTH_GRADIENTS:
        return _both_gradients(inputs, values)
    gradient, other = inputs[1:3]
    if gradient is None or other is None:
        return UNKNOWN
    if operator in WEIGHT_GRADIENT:  # the shape of the weights is not told
        return Count(None, total_bytes((gradient, other)), gradient.precision, matrix=True)
    return Count(
        _flops(gradient, other), total_bytes((gradient, other)), gradient.precision, matrix=True
    )


def _flops(output: Tensor, weight: Tensor) -> int:
    """A multiplication and an addition for each output element and weight of its channel."""
    return 2 * output.elements * math.prod(weight.shape[1:])


def _forward(form: Form, inputs: Inputs, values: tuple[str, ...]) -> Count:
    source, weight = inputs[:2] if len(inputs) > 1 else (None, None)
    if source is None or weight is None:
        return UNKNOWN
    output = _output(form, source, weight, values)
    if output is None:
        return Count(None, total_bytes(inputs), source.precision, matrix=True)
    moved = together(total_bytes(inputs), output.bytes)
    return Count(_flops(output, weight), moved, source.precision, matrix=True)


def _output(form: Form, source: Tensor, weight: Tensor, values: tuple[str, ...]) -> Tensor | None:
    """The output as padding, stride and dilation make it; None where they are not told."""
    if max(form[:3]) >= len(values):
        return None
    if form.transposed is not None and values[form.transposed : form.transposed + 1] != ("False",):
        return None
    around, step, spread = (integers(values[place]) for place in form[:3])
    places = len(source.shape) - 2
    if not around or not step or not spread or places < 1 or len(weight.shape) != places + 2:
        return None
    spatial = [
        (extent + 2 * pad - reach * (size - 1) - 1) // stride + 1
        for extent, size, pad, stride, reach in zip(
            source.shape[2:], weight.shape[2:], *(_each(one, places) for one in (around, step, spread)),
            strict=True,
        )
    ]  # fmt: skip
    if min(spatial) < 1:
        return None
    shape = (source.shape[0], weight.shape[0], *spatial)
    return Tensor(shape, source.item_bytes, source.precision)


def _each(values: tuple[int, ...], places: int) -> tuple[int, ...]:
    return values * places if len(values) == 1 else values


def _both_gradients(inputs: Inputs, values: tuple[str, ...]) -> Count:
    """convolution_backward: which gradients are wanted stands in its last input."""
    gradient, source, weight = inputs[:3]
    if gradient is None or source is None or weight is None:
        return UNKNOWN
    wanted = truths(values[10]) if len(values) > 10 else None
    if wanted is None or values[7] not in ("True", "False"):
        return Count(None, total_bytes((gradient,)), gradient.precision, matrix=True)
    output = source if values[7] == "True" else gradient  # of a transposed one they change places
    of_input, of_weight = wanted[:2]
    flops = (of_input + of_weight) * _flops(output, weight)
    # the gradient of the input is made from the weights, that of the weights from the input
    moved = total_bytes((gradient, *(weight, source) * (of_input + of_weight)))
    return Count(flops, moved, gradient.precision, matrix=True)
