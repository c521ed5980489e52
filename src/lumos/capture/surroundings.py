"""What a recording is of: the rank, the job and its layout, versions, the GPU, memory."""

from __future__ import annotations

import math
import os
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lumos.capture.pytorch import uses_gpu

Layout = Mapping[str, int]
AXES = ("dp", "fsdp", "tp", "pp", "cp", "ep")
"""Kinds of parallelism: data (with replicas, with shards), tensor, pipeline, context, expert."""


def ranks_of(layout: Layout) -> int:
    """How many ranks a layout makes. Experts are spread over ranks that others have made."""
    return math.prod(degree for name, degree in layout.items() if name != "ep")


def in_words(layout: Layout) -> str:
    """Its degrees, as `dp 2 x tp 4`."""
    return " x ".join(f"{name} {degree}" for name, degree in layout.items())


def rank_and_world_size(torch: Any) -> tuple[int, int]:
    """From torch.distributed where it is connected, else from the environment, else 0 of 1."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return int(torch.distributed.get_rank()), int(torch.distributed.get_world_size())
    rank = _number("RANK") or 0
    return rank, max(_number("WORLD_SIZE") or 1, rank + 1)


def fake_world(torch: Any) -> int | None:
    """The number of ranks where only this one exists (`fake_world`), None in a real job."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return None
    return torch.distributed.get_world_size() if torch.distributed.get_backend() == "fake" else None


def _number(name: str) -> int | None:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else None


def layout_of(given: Any, torch: Any) -> dict[str, int] | None:
    """Degrees of parallelism by name, outermost first where that is known.

    `given` is a mapping, a DeviceMesh with named dimensions, or None: then the process groups
    described as `mesh_<name>` tell, as a device mesh describes them, if together they make up the
    whole job. None where nothing tells.
    """
    if given is None:
        return _layout_of_groups(torch)
    if isinstance(given, Mapping):
        return {str(name): int(degree) for name, degree in given.items()}
    names = given.mesh_dim_names or [f"dim{n}" for n in range(given.mesh.ndim)]
    return dict(zip(names, (int(size) for size in given.mesh.shape)))


def _layout_of_groups(torch: Any) -> dict[str, int] | None:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return None
    try:
        groups = torch.distributed.distributed_c10d._get_all_pg_configs()  # noqa: SLF001 - as torch's profiler does
        found = {
            group["pg_desc"].removeprefix("mesh_"): int(group["pg_size"])
            for group in groups
            if group["pg_desc"].startswith("mesh_")
        }
    except (AttributeError, KeyError, TypeError):  # a version that tells it otherwise
        return None
    whole = math.prod(found.values()) == torch.distributed.get_world_size()
    return found if found and whole else None


def versions(torch: Any) -> dict[str, str | None]:
    """Versions of what decides how long a step takes; None where there is no such thing."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda or getattr(torch.version, "hip", None),
        "nccl": _nccl(torch),
        "driver": _driver(),
    }


def _nccl(torch: Any) -> str | None:
    try:
        found = torch.cuda.nccl.version() if torch.cuda.is_available() else None
    except (AttributeError, RuntimeError):
        return None
    return ".".join(map(str, found)) if isinstance(found, tuple) else None


def _driver() -> str | None:
    """The version of NVIDIA's kernel driver, as it tells it itself."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"Kernel Module(?:\s+for\s+\S+)?\s+(\d[\d.]*)", text)
    return found[1] if found else None


def gpu(torch: Any) -> dict[str, Any] | None:
    """Name and number of the GPUs that this process sees; None where it uses none."""
    if not uses_gpu(torch):
        return None
    return {
        "name": torch.cuda.get_device_name(torch.cuda.current_device()),
        "count": torch.cuda.device_count(),
    }


def peak_memory(torch: Any) -> dict[str, int | None]:
    """Highest memory so far [bytes]: the caching allocator's on this GPU, the process's on the host."""
    on_gpu = uses_gpu(torch)
    return {
        "peak_allocated_bytes": int(torch.cuda.max_memory_allocated()) if on_gpu else None,
        "peak_reserved_bytes": int(torch.cuda.max_memory_reserved()) if on_gpu else None,
        "peak_resident_bytes": _peak_resident(),
    }


def _peak_resident() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
