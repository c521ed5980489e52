"""Record the traces that are bundled with the project: run gpt.py once per recording.

    python examples/record.py [--out recordings] [--only NAME ...]

Each recording is a folder with one trace per rank, `rank{R}.json.gz`, and `recording.json`: how it
was made, and how long a step takes on each rank without the profiler, measured in the same run.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
from pathlib import Path

from ranks import ENVIRONMENT, describe_machine, remove_names, run_ranks

# A step of 40 to 100 ms on one core per process: long against the scheduler's noise, and small enough to bundle.
MODEL = {"layers": 4, "hidden": 256, "heads": 4, "vocabulary": 256, "sequence": 128}
WHOLE = {"micro-batch": 2, "micro-batches": 1}
FOUR_PARTS = {"micro-batch": 1, "micro-batches": 4}
# Buckets of about one layer: gradients leave while backward still runs.
SMALL_BUCKETS = {"bucket-mb": 4}

RECORDINGS: dict[str, dict[str, float]] = {
    "gpt-dp2": {"dp": 2, **WHOLE, **SMALL_BUCKETS},
    "gpt-dp2-delayed": {"dp": 2, **WHOLE, **SMALL_BUCKETS, "delay-rank": 1, "delay-ms": 20},
    "gpt-tp2": {"tp": 2, **WHOLE},
    "gpt-pp2": {"pp": 2, **FOUR_PARTS},
    "gpt-pp2-delayed": {"pp": 2, **FOUR_PARTS, "delay-rank": 1, "delay-ms": 40},
    "gpt-dp2-tp2": {"dp": 2, "tp": 2, **WHOLE, **SMALL_BUCKETS},
}
RUN = {"warm-up-steps": 5, "steps": 20, "profile-steps": 3, "reserve-mb": 600}


def spread(times_ms: list[float]) -> dict[str, float]:
    """Return the median of step times and how far they scatter."""
    tenths = statistics.quantiles(times_ms, n=10, method="inclusive")
    numbers = {
        "min": min(times_ms),
        "p10": tenths[0],
        "median": statistics.median(times_ms),
        "p90": tenths[-1],
        "max": max(times_ms),
    }
    return {name: round(value, 3) for name, value in numbers.items()}


def record(name: str, folder: Path) -> None:
    """Make one recording."""
    flags = {**MODEL, **RECORDINGS[name], **RUN}
    layout = {kind: int(flags.get(kind, 1)) for kind in ("dp", "tp", "pp")}
    world_size = layout["dp"] * layout["tp"] * layout["pp"]
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        report_path = Path(scratch, "report.json")
        arguments = [text for flag, value in flags.items() for text in (f"--{flag}", str(value))]
        run_ranks(
            Path(__file__).with_name("gpt.py"),
            [*arguments, "--profile", str(folder), "--report", str(report_path)],
            world_size,
        )
        report = json.loads(report_path.read_text(encoding="utf-8"))
    for rank in range(world_size):
        remove_names(folder / f"rank{rank}.json.gz")
    step_ms = {
        str(rank): spread(times_ms) for rank, times_ms in enumerate(report["step_ms_of_rank"])
    }
    description = {
        "name": name,
        "torch": report["torch"],
        "python": platform.python_version(),
        "machine": describe_machine(world_size),
        "world_size": world_size,
        "layout": layout,
        "environment": ENVIRONMENT,
        "flags": flags,
        "unprofiled_step_ms_of_rank": step_ms,
        "loss": {"first": report["losses"][0], "last": report["losses"][-1]},
    }
    (folder / "recording.json").write_text(
        json.dumps(description, indent=2) + "\n", encoding="utf-8"
    )
    print(
        name,
        *(f"rank {rank}: {times['median']} ms" for rank, times in step_ms.items()),
        sep="  ",
        flush=True,
    )


def main() -> None:
    """Make the recordings asked for, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).resolve().parent.parent / "recordings"
    parser.add_argument(
        "--out", type=Path, default=default, help="default: recordings/ of this checkout"
    )
    parser.add_argument(
        "--only", nargs="+", choices=RECORDINGS, default=list(RECORDINGS), metavar="NAME"
    )
    options = parser.parse_args()
    for name in options.only:
        record(name, options.out / name)


if __name__ == "__main__":
    main()
