"""Jobs that were really changed, predicted from the recording of the unchanged one alone.

    python benchmarks/interventions.py FOLDER...

A folder holds recordings as `validation/` makes them: each in a folder of its own, its capture.json
beside the traces. `make accuracy` writes the tables of `validation/` into docs/accuracy.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from lumos.capture.description import slowest
from lumos.graph.job import Job
from lumos.graph.labels import By
from lumos.graph.work import WorkKind
from lumos.ingest import read
from lumos.predict import baseline_of, record, replay_steps
from lumos.units import NS_PER_MS, NS_PER_US
from lumos.whatif.delay import add_host_work, stall
from lumos.whatif.remove import remove
from lumos.whatif.run_twice import run_twice
from lumos.whatif.selection import inside, labelled, operators_of_kind
from lumos.whatif.synchronize import synchronize_layers

HOOK = "PythonDispatchMode"
"""The operator that PyTorch records around each one that a dispatch mode sees."""
HOST_WORK_US = 20


class Change(NamedTuple):
    """What was changed in words, the recording it is held against, and the same as a what-if."""

    words: str
    of: str
    apply: Callable[[Job], Job] | None


def gemms_twice(job: Job) -> Job:
    """Every matrix product runs twice."""
    return run_twice(job, operators_of_kind(job, WorkKind.GEMM), innermost=True)


def no_attention(job: Job) -> Job:
    """Attention is not run, forward and backward."""
    return remove(job, inside(job, operators_of_kind(job, WorkKind.ATTENTION)))


def host_work(job: Job) -> Job:
    """Each operator that the hook sees takes its host 20 us longer."""
    return add_host_work(job, labelled(job, By.OPERATOR, HOOK), HOST_WORK_US * NS_PER_US)


def delayed(rank: int, time_ms: int) -> Callable[[Job], Job]:
    """The rank does nothing for so long at the begin of each step."""
    return lambda job: stall(job, rank, time_ms * NS_PER_MS)


CHANGES = {
    "gemm_twice": Change("every GEMM twice", "gemm_hook", gemms_twice),
    "no_attention": Change("attention removed", "base", no_attention),
    "host_work": Change("+20 us host work per operator", "operator_hook", host_work),
    "item_per_layer": Change("blocking `.item()` per layer", "base", synchronize_layers),
    "copy_stream": Change("second stream copying", "base", None),
    "layers_x2": Change("layers x2", "base", None),
    "micro_batch_x2": Change("micro-batch x2", "base", None),
    "delay-20ms": Change("one rank sleeps 20 ms", "base", delayed(1, 20)),
    "pp2-front-20ms": Change("pipeline, first stage sleeps 20 ms", "pp2", delayed(0, 20)),
    "pp2-back-60ms": Change("pipeline, last stage sleeps 60 ms", "pp2", delayed(1, 60)),
    "dp4-half-cores": Change("dp 2 -> 4", "dp2-half-cores", None),
}
"""By the names of the recordings of `validation/`."""


@dataclass(frozen=True)
class Recorded:
    """One recording: its folder, and medians of its steps with and without the profiler [ms]."""

    folder: Path
    profiled_ms: float
    unprofiled_ms: float
    spread_pct: float  # 10th to 90th percentile of unprofiled steps


class Row(NamedTuple):
    """A line of the table; errors in %, None where nothing is predicted."""

    change: Change
    base: Recorded
    changed: Recorded
    predicted_ms: float | None

    @property
    def error_pct(self) -> float | None:
        """(predicted - measured) / measured."""
        return None if self.predicted_ms is None else self._error(self.predicted_ms)

    @property
    def no_change_pct(self) -> float:
        """The error of predicting that nothing changes."""
        return self._error(self.base.profiled_ms)

    def _error(self, predicted_ms: float) -> float:
        return 100 * (predicted_ms / self.changed.profiled_ms - 1)


def recorded(folder: Path) -> Recorded | None:
    """What a folder's capture.json says; None where the recording is not whole."""
    told: dict[str, Any] = json.loads((folder / "capture.json").read_text("utf-8"))
    ranks = told["ranks"]
    if any(rank["status"] != "complete" for rank in ranks):
        return None
    plain, profiled = slowest(ranks, "unprofiled"), slowest(ranks, "profiled")
    if plain is None or profiled is None:
        return None
    spread_pct = 100 * (plain["p90_ms"] - plain["p10_ms"]) / plain["median_ms"]
    return Recorded(folder, profiled["median_ms"], plain["median_ms"], spread_pct)


def predicted_ms(base: Recorded, change: Callable[[Job], Job]) -> float:
    """Median period over the base's profiled steps, each changed and run back to back."""
    files = sorted(str(file) for file in base.folder.glob("rank*.json.gz"))
    lengths = []
    for replay in replay_steps(record(read(files))):
        step = baseline_of(replay)
        lengths.append(step.length_of(change(step.step)))
    return median(lengths) / NS_PER_MS


def rows_of(folder: Path) -> list[Row]:
    """All changed recordings of a folder that have the recording they are held against."""
    found = [recorded(file.parent) for file in sorted(folder.glob("*/capture.json"))]
    by_name = {one.folder.name: one for one in found if one is not None}
    rows = []
    for name, change in CHANGES.items():
        base, changed = by_name.get(change.of), by_name.get(name)
        if base is not None and changed is not None:
            ms = None if change.apply is None else predicted_ms(base, change.apply)
            rows.append(Row(change, base, changed, ms))
    return rows


def table(rows: list[Row]) -> str:
    """The table as Markdown."""
    lines = [
        "| change | base ms | measured ms | predicted ms | error % | no change % "
        "| unprofiled ms, base -> changed | spread % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        told = "-", "-"
        if row.predicted_ms is not None:
            told = f"{row.predicted_ms:.2f}", f"{row.error_pct:+.1f}"
        lines.append(
            f"| {row.change.words} | {row.base.profiled_ms:.2f} | {row.changed.profiled_ms:.2f} "
            f"| {told[0]} | {told[1]} | {row.no_change_pct:+.1f} "
            f"| {row.base.unprofiled_ms:.2f} -> {row.changed.unprofiled_ms:.2f} "
            f"| {row.changed.spread_pct:.0f} |"
        )
    return "\n".join(lines)


def drift(folder: Path) -> str:
    """How far recordings of the unchanged job are apart that were made first, in between and last."""
    found = [recorded(file.parent) for file in sorted(folder.glob("base*/capture.json"))]
    medians = [one.unprofiled_ms for one in found if one is not None]
    if len(medians) < 2:
        return ""
    apart = 100 * (max(medians) / min(medians) - 1)
    return (
        f"\nThe same unchanged job recorded {len(medians)} times: medians {min(medians):.1f} to "
        f"{max(medians):.1f} ms, {apart:.1f} % apart; no error below that means anything.\n"
    )


SECTION = """## Jobs that were really changed

Each job below was run and recorded twice: as it is, and changed in its code or flags. The changed
one is predicted from the recording of the unchanged one alone (`lumos.whatif`), and held against
what was measured: the median of the profiled steps, the slowest rank's. *no change*: the error of
predicting that the step takes as long as it did. *spread*: 10th to 90th percentile of the changed
job's unprofiled steps, in % of their median. A change that cannot be expressed yet has no prediction.
What a hook that makes the change costs by itself is in the base, too.
"""


def section(folders: Iterable[Path]) -> str:
    """The tables of some folders of recordings, as a section of docs/accuracy.md."""
    parts = [SECTION]
    for folder in folders:
        if rows := rows_of(folder):
            where = f"On {_machine(folder)} (`validation/{folder.name}`):"
            parts.append(f"{where}\n\n{table(rows)}\n{drift(folder)}")
    return "\n".join(parts)


def _machine(folder: Path) -> str:
    told = json.loads(min(folder.glob("*/capture.json")).read_text("utf-8"))
    return str(told["gpu"]["name"]) if told["gpu"] else "CPUs over gloo"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    for folder in parser.parse_args().folders:
        if not (rows := rows_of(folder)):
            sys.exit(f"{folder}: no changed recording beside the one it is held against")
        print(f"{folder}\n\n{table(rows)}\n{drift(folder)}")


if __name__ == "__main__":
    main()
