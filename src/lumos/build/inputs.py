"""An operator's inputs, from the JSON text in which the profiler writes them."""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec

from lumos.graph.job import NONE

_MEMBER = 2
"""Which input of a send or receive names the peer: `send(tensors, process_group, dst, tag)`
(PyTorch's torch/csrc/distributed/c10d/Ops.cpp)."""


@lru_cache(maxsize=4096)
def read_shapes(text: str) -> tuple[tuple[int, ...], ...]:
    """Input shapes from their JSON text; inputs that are no tensor have the shape ()."""
    try:
        value = msgspec.json.decode(text) if text else []
    except msgspec.DecodeError:
        return ()
    if not isinstance(value, list):
        return ()
    return tuple(
        tuple(extent for extent in shape if isinstance(extent, int))
        if isinstance(shape, list) and all(isinstance(extent, int) for extent in shape)
        else ()
        for shape in value
    )


@lru_cache(maxsize=4096)
def read_texts(text: str) -> tuple[str, ...]:
    """A list of texts from its JSON text: types of inputs, or inputs that are no tensors."""
    try:
        value = msgspec.json.decode(text) if text else []
    except msgspec.DecodeError:
        return ()
    return tuple(str(entry) for entry in value) if isinstance(value, list) else ()


def told_member(text: str) -> int:
    """The member of its group that a send or receive is called with; NONE where that is not recorded."""
    values = read_texts(text)
    told = values[_MEMBER] if len(values) > _MEMBER else ""
    return int(told) if re.fullmatch(r"\d{1,9}", told) else NONE
