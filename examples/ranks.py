"""Run one process per rank on this machine's cores, as evenly as such a machine allows."""

from __future__ import annotations

import gzip
import os
import platform
import re
import socket
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

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


def cores_of_ranks(world_size: int, cores: int | None = None) -> list[int] | None:
    """Return the CPU core of each rank, taken in turn from the first `cores` or all of them.

    None where processes cannot be pinned.
    """
    if not hasattr(os, "sched_setaffinity"):
        return None
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    return [allowed[rank % len(allowed)] for rank in range(world_size)]


def settle(core: int) -> None:
    """Pin this process to a core, as a batch job.

    Threads of a batch job do not interrupt each other when they wake up. Without this rule, all-reduces
    of tensor parallelism took milliseconds at random, and steps of gpt-tp2 60 ms instead of 40 ms.
    """
    os.sched_setaffinity(0, {core})
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def run_ranks(
    script: Path, arguments: list[str], world_size: int, cores: int | None = None
) -> None:
    """Run a script once per rank, one thread each and pinned to a core, and wait; raise if a rank fails."""
    own = cores_of_ranks(world_size, cores)
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
            start = partial(settle, own[rank]) if own else None
            command = [sys.executable, str(script), *arguments]
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
