"""Record the traces that are bundled with the project: run gpt.py once per recording.

    python examples/record.py [--out recordings] [--only NAME ...]

Each recording is a folder with one trace per rank, `rank{R}.json.gz`, and `recording.json`: how it
was made, and how long a step takes on each rank without the profiler, measured in the same run.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import re
import socket
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

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
# One compute thread per process, and a C library that never gives memory back (see gpt.py's reserve_memory).
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
}


def free_port() -> int:
    """Return a TCP port that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def cores_of_ranks(world_size: int) -> list[int] | None:
    """Return the CPU core of each rank, taken in turn, or None where processes cannot be pinned."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    allowed = sorted(os.sched_getaffinity(0))
    return [allowed[rank % len(allowed)] for rank in range(world_size)]


def settle(core: int) -> None:
    """Pin this process to a core, as a batch job.

    Threads of a batch job do not interrupt each other when they wake up. Without this rule, all-reduces
    of tensor parallelism took milliseconds at random, and steps of gpt-tp2 60 ms instead of 40 ms.
    """
    os.sched_setaffinity(0, {core})
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def run_ranks(arguments: list[str], world_size: int) -> None:
    """Run gpt.py once per rank, one thread each and pinned to a core, and wait; raise if a rank fails."""
    cores = cores_of_ranks(world_size)
    meeting = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": str(world_size),
    }
    with tempfile.TemporaryDirectory() as scratch:
        logs = [Path(scratch, f"rank{rank}.log") for rank in range(world_size)]
        processes = []
        for rank, log in enumerate(logs):
            environment = {**os.environ, **ENVIRONMENT, **meeting, "RANK": str(rank)}
            start = partial(settle, cores[rank]) if cores else None
            command = [sys.executable, str(Path(__file__).with_name("gpt.py")), *arguments]
            with log.open("w") as stream:
                process = subprocess.Popen(
                    command, env=environment, stdout=stream, stderr=stream, preexec_fn=start
                )
            processes.append(process)
        failed = [rank for rank, process in enumerate(processes) if process.wait() != 0]
        if failed:
            raise SystemExit(
                "\n".join(f"rank {rank} failed:\n{logs[rank].read_text()}" for rank in failed)
            )


def remove_names(trace: Path) -> None:
    """Replace the names of the host and of torch's temporary file in a trace; every event stays as written."""
    with gzip.open(trace, "rt", encoding="utf-8") as stream:
        text = stream.read()
    text = re.sub(r'"host_name": "[^"]*"', '"host_name": "host"', text, count=1)
    text = re.sub(r'"traceName": "[^"]*"', f'"traceName": "{trace.stem}"', text, count=1)
    # No time in the gzip header: the same trace packs to the same bytes.
    trace.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))


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


def describe_machine(world_size: int) -> str:
    """Return the kind of machine in words, without its name."""
    cores = cores_of_ranks(world_size)
    pinned = (
        f"each rank a batch job pinned to one of {len(set(cores))} cores"
        if cores
        else "processes not pinned"
    )
    count = os.cpu_count()
    return f"{platform.system()} on {platform.machine()}, {count} CPU cores, one thread per process, {pinned}"


def record(name: str, folder: Path) -> None:
    """Make one recording."""
    flags = {**MODEL, **RECORDINGS[name], **RUN}
    layout = {kind: int(flags.get(kind, 1)) for kind in ("dp", "tp", "pp")}
    world_size = layout["dp"] * layout["tp"] * layout["pp"]
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        report_path = Path(scratch, "report.json")
        arguments = [text for flag, value in flags.items() for text in (f"--{flag}", str(value))]
        run_ranks([*arguments, "--profile", str(folder), "--report", str(report_path)], world_size)
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
