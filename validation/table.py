"""The table of a suite's recordings: measured medians, spreads and memory, from capture.json alone.

python validation/table.py FOLDER            write FOLDER/README.md anew, by name
python validation/cpu/record.py --only       the same of the CPU suite, in its order
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from lumos.capture.description import apart, longer_pct, slowest

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
        "Generated from the recordings' capture.json files (`validation/table.py`). Of several",
        "ranks the slowest counts, the one with the highest median, with and without the profiler each;",
        "inflation: by how much the one is above the other; in brackets where the middle 80 % of the steps",
        "meet, so that it cannot be told from noise. Memory: the peak before the profiler began, on GPUs",
        "only.",
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
    plain, profiled = slowest(ranks, "unprofiled"), slowest(ranks, "profiled")
    assert plain is not None
    assert profiled is not None
    return [
        name,
        "" if of == name else of,
        str(document["fake_world"] or document["world_size"]),
        f"{plain['median_ms']:.2f}",
        f"{plain['p10_ms']:.2f} to {plain['p90_ms']:.2f}",
        f"{profiled['median_ms']:.2f}",
        _inflation(plain, profiled),
        _gib(max((rank["peak_allocated_bytes"] or 0 for rank in ranks), default=0)),
        _gib(max((rank["peak_reserved_bytes"] or 0 for rank in ranks), default=0)),
    ]


def _inflation(plain: Document, profiled: Document) -> str:
    percent = f"{longer_pct(plain, profiled):.1f}"
    return percent if apart(plain, profiled) else f"({percent})"


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f}" if size else ""


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    write_table(Path(sys.argv[1]))
