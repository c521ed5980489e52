"""What counting an operator gives: floating-point operations and bytes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lumos.catalog.hardware import Precision
from lumos.estimate.tensors import Inputs, Tensor


@dataclass(frozen=True)
class Count:
    """Operations and the fewest bytes of device memory; None where the trace does not tell.

    `precision` is the number format of the operations and `matrix` whether matrix units do them.
    """

    flops: int | None = None
    bytes: int | None = None
    precision: Precision | None = None
    matrix: bool = False


UNKNOWN = Count()


def total_bytes(tensors: Iterable[Tensor | None]) -> int | None:
    """All of them together; None where the type of one is not told."""
    sizes = [tensor.bytes for tensor in tensors if tensor is not None]
    return None if any(size is None for size in sizes) else sum(size or 0 for size in sizes)


def together(*parts: int | None) -> int | None:
    """Their sum, None where one is not known."""
    return None if any(part is None for part in parts) else sum(part or 0 for part in parts)


def first_precision(inputs: Inputs) -> Precision | None:
    """The format of the first floating-point input."""
    return next((one.precision for one in inputs if one is not None and one.precision), None)
