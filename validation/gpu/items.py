"""What the GPU suite records, most valuable first."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "validation")]

from interventions import INTERVENTIONS, flags_of

BASE: dict[str, Any] = {
    "layers": 8, "hidden": 2048, "heads": 16, "sequence": 2048, "micro-batch": 2,
    "micro-batches": 1, "vocabulary": 32768, "dtype": "bfloat16",
}  # fmt: skip
# GPT-3 15B as Lumos (MLSys 2025) has it: 48 layers, hidden 6144, FFN 12288, 48 heads.
GPT3_15B: dict[str, Any] = {
    "layers": 48, "hidden": 6144, "ffn": 12288, "heads": 48, "sequence": 2048, "micro-batch": 1,
    "micro-batches": 4, "vocabulary": 32768, "dtype": "bfloat16", "pp": 4, "dp": 2,
}  # fmt: skip
TINY: dict[str, Any] = {
    "layers": 2, "hidden": 64, "ffn": 128, "heads": 4, "sequence": 16, "micro-batch": 1,
    "vocabulary": 64, "dtype": "float32",
}  # fmt: skip
"""The sizes of a dry run; what an item changes of the base it changes of these likewise."""


class Item(NamedTuple):
    """One recording: its kind, the flags of gpt.py, the change, the seconds it may take."""

    name: str
    kind: str  # gpt, fake, streams, operators
    flags: dict[str, Any]
    intervention: str | None = None
    of: str = "base"
    seconds: float = 8.0
    ranks: int = 1

    @property
    def needs_gpu(self) -> bool:
        """Whether there is nothing of it to be tried without one."""
        return self.intervention is not None and INTERVENTIONS[self.intervention].cuda


def items() -> list[Item]:
    """Everything, in the order in which it is recorded."""
    return [
        Item("base", "gpt", BASE, of="", seconds=20),  # CUDA's very first start among them
        *_interventions(),
        *_streams(),
        *_ladder(),
        Item("base-middle", "gpt", BASE),
        Item("operators", "operators", {}, seconds=90),
        *_corners(),
        *_fake_worlds(),
        Item("base-last", "gpt", BASE),
    ]


def _ladder() -> list[Item]:
    """One factor at a time around the base; the heads keep their size of 128.

    Twice the layers and twice the micro-batch are among the interventions.
    """
    steps: list[tuple[str, dict[str, Any]]] = [
        ("layers-4", {"layers": 4}),
        ("hidden-1024", {"hidden": 1024, "heads": 8}),
        ("hidden-4096", {"hidden": 4096, "heads": 32}),
        ("sequence-1024", {"sequence": 1024}),
        ("sequence-4096", {"sequence": 4096}),
        ("micro-batch-1", {"micro-batch": 1}),
        ("recompute", {"recompute": True}),
    ]
    return [Item(name, "gpt", {**BASE, **flags}) for name, flags in steps]


def _corners() -> list[Item]:
    """Several factors at once: what a model fitted to single factors gets wrong."""
    small, large = {"hidden": 1024, "heads": 8}, {"hidden": 4096, "heads": 32}
    corners: list[dict[str, Any]] = [
        {**small, "layers": 16, "sequence": 4096},
        {**small, "layers": 4, "micro-batch": 4},
        {**small, "layers": 16, "micro-batch": 1, "sequence": 1024},
        {**large, "layers": 4, "sequence": 4096, "micro-batch": 1},
        {**large, "layers": 4, "micro-batch": 4, "recompute": True},
        {**large, "layers": 16, "sequence": 1024, "micro-batch": 1},
    ]
    return [
        Item(f"corner-{number}", "gpt", {**BASE, **flags}, seconds=10)
        for number, flags in enumerate(corners, 1)
    ]


def _interventions() -> list[Item]:
    return [
        Item(name, "gpt", flags_of(one, BASE), name if one.change else None, one.of)
        for name, one in INTERVENTIONS.items()
    ]


def _streams() -> list[Item]:
    names = (
        "producer-consumer", "fan-out-fan-in", "offload", "prefetch", "graph-replay",
        "blocking-copies", "host-waits", "reused-event",
    )  # fmt: skip
    return [Item(f"streams-{name}", "streams", {}, seconds=4) for name in names]


def _fake_worlds() -> list[Item]:
    """Rank 0 of 3D-parallel jobs: the first of four stages of two replicas, split over tp ranks."""
    return [
        Item(f"gpt3-15b-tp{tp}", "fake", {**GPT3_15B, "tp": tp}, of="", seconds=25, ranks=8 * tp)
        for tp in (8, 4, 2)
    ]


def tiny(item: Item) -> Item:
    """The item at the size of a dry run on a CPU."""
    shrunk = {
        name: value
        if name not in TINY
        else TINY[name] * _ratio(value, _reference(item)[name])
        if isinstance(TINY[name], int)
        else TINY[name]
        for name, value in item.flags.items()
    }
    if item.kind == "fake":
        shrunk |= {"layers": 4, "heads": 8, "hidden": 64}
    return item._replace(flags=shrunk)


def _reference(item: Item) -> dict[str, Any]:
    return GPT3_15B if item.kind == "fake" else BASE


def _ratio(value: int, base: int) -> int:
    return max(1, value // base)
