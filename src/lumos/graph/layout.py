"""Where each rank stands in the job's layout, as far as its process groups tell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from lumos.graph.job import Placement

# What PyTorch's device meshes, Megatron-LM and DeepSpeed call the groups of one direction.
_DATA = re.compile(r"(mesh_)?(dp|fsdp|data([_ ]parallel)?([_ ]group)?)", re.IGNORECASE)
_PIPELINE = re.compile(
    r"(mesh_)?(pp|pipeline([_ ]model)?([_ ]parallel)?([_ ]group)?(, \w+)?)", re.IGNORECASE
)


@dataclass(frozen=True)
class Layout:
    """Of each traced rank its data-parallel rank and its pipeline stage; None where unknown."""

    dp_rank: Mapping[int, int] | None
    stage: Mapping[int, int] | None


def layout_of(placement: Placement) -> Layout:
    """The layout by the groups that are described as data or pipeline parallel.

    A rank's number is its place among the members of its group. Unknown where a rank is in no such
    group, or in two that number it differently.
    """
    return Layout(_numbers(placement, _DATA), _numbers(placement, _PIPELINE))


def _numbers(placement: Placement, described: re.Pattern[str]) -> Mapping[int, int] | None:
    found: dict[int, int] = {}
    for group in placement.groups:
        if described.fullmatch(group.description):
            for number, rank in enumerate(group.ranks):
                if found.setdefault(rank, number) != number:
                    return None
    if any(rank not in found for rank in placement.ranks):
        return None
    return {rank: found[rank] for rank in placement.ranks}
