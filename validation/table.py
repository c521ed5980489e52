"""The table of a suite's recordings: measured medians, spreads and memory, from capture.json alone.

python validation/table.py FOLDER      write FOLDER/README.md anew
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Document = dict[str, Any]


def write_table(folder: Path, names: Iterable[tuple[str, str]] | None = None) -> None:
    """Write README.md: a line for each recording under `folder` (name, what it is held against)."""
    known = {path.parent.name: json.loads(path.read_text("utf-8")) for path in _captures(folder)}
    wanted = names or [(name, one["model"].get("against", "")) for name, one in known.items()]
    rows = [_row(name, of, known[name]) for name, of in wanted if name in known]
    head = (
        "recording", "against", "ranks", "unprofiled median [ms]", "10 to 90 % [ms]",
        "profiled [ms]", "inflation [%]", "allocated [GiB]", "reserved [GiB]",
    )  # fmt: skip
    lines = [
        f"# {_title(known)}",
        "",
        "Generated from the recordings' capture.json files by `python validation/table.py`. Of several",
        "ranks the slowest counts. Memory: the peak before the profiler began, on GPUs only.",
        "",
        _line(head),
        _line(["---"] * len(head)),
        *map(_line, rows),
    ]
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _captures(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/capture.json"))


def _title(known: dict[str, Document]) -> str:
    gpus = {(document["gpu"] or {}).get("name", "CPU") for document in known.values()}
    versions = {document["versions"]["torch"] for document in known.values()}
    return f"{', '.join(sorted(gpus))}, torch {', '.join(sorted(versions))}"


def _row(name: str, of: str, document: Document) -> list[str]:
    ranks = document["ranks"]
    slowest = max(ranks, key=lambda rank: rank["unprofiled"]["median_ms"] or 0)
    plain, profiled = slowest["unprofiled"], slowest["profiled"]
    return [
        name,
        "" if of == name else of,
        str(document["fake_world"] or document["world_size"]),
        _number(plain["median_ms"], 2),
        f"{_number(plain['p10_ms'], 2)} to {_number(plain['p90_ms'], 2)}",
        _number(profiled["median_ms"], 2),
        _number(slowest["inflation_pct"], 1),
        _gib(max((rank["peak_allocated_bytes"] or 0 for rank in ranks), default=0)),
        _gib(max((rank["peak_reserved_bytes"] or 0 for rank in ranks), default=0)),
    ]


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f}" if size else ""


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    write_table(Path(sys.argv[1]))
