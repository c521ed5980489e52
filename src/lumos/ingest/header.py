"""What a document's header says: rank, world, process groups, GPU, the zero of its clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lumos.graph.trace import ProcessGroup


@dataclass(frozen=True)
class Header:
    """The facts of one document that are not events; None or empty where it does not say."""

    rank: int | None
    world_size: int | None
    backend: str
    host: str
    gpu: str
    process_groups: tuple[ProcessGroup, ...]
    base_time_ns: int


def parse_header(raw: Mapping[str, Any]) -> Header:
    """Read the header of a Kineto document; odd values count as absent."""
    distributed = raw.get("distributedInfo")
    if not isinstance(distributed, Mapping):
        distributed = {}
    return Header(
        rank=_rank(distributed.get("rank")),
        world_size=_rank(distributed.get("world_size")),
        backend=str(distributed.get("backend", "")),
        host=str(raw.get("host_name", "")),
        gpu=_gpu(raw.get("deviceProperties")),
        process_groups=_groups(distributed.get("pg_config")),
        base_time_ns=_count(raw.get("baseTimeNanoseconds")) or 0,
    )


def _count(value: object) -> int | None:
    if isinstance(value, str) and value.isdecimal() and len(value) < 20:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62:
        return value
    return None


def _rank(value: object) -> int | None:
    count = _count(value)
    return count if count is not None and count < 2**31 else None


def _gpu(properties: object) -> str:
    if isinstance(properties, list) and properties and isinstance(properties[0], Mapping):
        return str(properties[0].get("name", ""))
    return ""


def _groups(config: object) -> tuple[ProcessGroup, ...]:
    """`pg_config` is a list of groups, or in some files a mapping from name to group."""
    if isinstance(config, Mapping):
        config = [
            {"pg_name": name, **group}
            for name, group in config.items()
            if isinstance(group, Mapping)
        ]
    if not isinstance(config, list):
        return ()
    groups = []
    for entry in config:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("ranks"), list):
            continue
        ranks = [_rank(rank) for rank in entry["ranks"]]
        name, description = str(entry.get("pg_name", "")), str(entry.get("pg_desc", ""))
        groups.append(
            ProcessGroup(name, description, tuple(rank for rank in ranks if rank is not None))
        )
    return tuple(groups)
