"""Inputs of operators as traces tell them: shapes, sizes of elements, number formats."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lumos.catalog.hardware import Precision
from lumos.graph.work import Work

_FORMATS: dict[str, tuple[int, Precision | None]] = {
    "double": (8, Precision.FLOAT64),
    "float": (4, Precision.FLOAT32),
    "c10::Half": (2, Precision.FLOAT16),
    "c10::BFloat16": (2, Precision.BFLOAT16),
    "c10::Float8_e4m3fn": (1, Precision.FLOAT8),
    "c10::Float8_e5m2": (1, Precision.FLOAT8),
    "c10::Float8_e4m3fnuz": (1, Precision.FLOAT8),
    "c10::Float8_e5m2fnuz": (1, Precision.FLOAT8),
    "long": (8, None),
    "long int": (8, None),
    "int": (4, None),
    "short": (2, None),
    "short int": (2, None),
    "signed char": (1, None),
    "unsigned char": (1, None),
    "bool": (1, None),
}
"""Types of elements as PyTorch writes them (caffe2::TypeMeta): bytes, and how floats are computed."""


@dataclass(frozen=True)
class Tensor:
    """One input; `item_bytes` is None where the trace does not tell the type of its elements."""

    shape: tuple[int, ...]
    item_bytes: int | None
    precision: Precision | None

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int | None:
        """How long it is in memory, if nothing of it is repeated."""
        return None if self.item_bytes is None else self.elements * self.item_bytes


Inputs = tuple[Tensor | None, ...]
"""The inputs of an operator in their order, None for one that is no tensor, or a list of some."""


def inputs_of(work: Work) -> Inputs:
    """The tensors among the inputs of an operator.

    Without types every input with a shape is one: numbers and lists of numbers have none.
    """
    if len(work.dtypes) != len(work.shapes):
        return tuple(Tensor(shape, None, None) if shape else None for shape in work.shapes)
    return tuple(
        Tensor(shape, *_FORMATS[dtype]) if dtype in _FORMATS else None
        for shape, dtype in zip(work.shapes, work.dtypes, strict=True)
    )


def integers(text: str) -> tuple[int, ...] | None:
    """A list of whole numbers as PyTorch writes it ("[1, 2]"), None where it is none."""
    try:
        return tuple(int(part) for part in text.strip("[]").split(",") if part.strip())
    except ValueError:
        return None


def truths(text: str) -> tuple[bool, ...] | None:
    """A list of truths as PyTorch writes it ("[True, False]"), None where it is none."""
    words = [part.strip() for part in text.strip("[]").split(",")]
    if not all(word in ("True", "False") for word in words):
        return None
    return tuple(word == "True" for word in words)
