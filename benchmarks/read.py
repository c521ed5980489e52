"""How fast traces are read, next to HolisticTraceAnalysis and msgspec, in one run; figures, no test.

    python3 -m venv peer && peer/bin/pip install HolisticTraceAnalysis==0.5.0
    python benchmarks/read.py --peer-python peer/bin/python

Each measurement is a process of its own and gives CPU seconds (the machine may be shared), wall
seconds and the largest memory. Imports are not counted. A "warm" process has read the source
trace before: a process's first read also makes numba set itself up (some 0.15 s).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from big_trace import write_big_trace

SOURCE = Path("../shared/data/kineto/recsys-8xA100/rank3.json.gz")
FRAME = """
import json, resource, time
{setup}
cpu, wall = time.process_time(), time.perf_counter()
{work}
cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
print(json.dumps([cpu, wall, peak]))
"""
LUMOS = (
    "from pathlib import Path; from lumos.ingest import read",
    "read(Path({file}), cache={cache})",
)
SCANNER = (
    "from pathlib import Path; from lumos.ingest.scanner import scan_document",
    "assert scan_document(Path({file})) is not None",
)
MSGSPEC = (
    "from pathlib import Path; from lumos.ingest.files import read_bytes; import msgspec\n"
    "from lumos.ingest.typed import _Event\n"
    "class Document(msgspec.Struct): traceEvents: list[_Event]\n"
    "decoder = msgspec.json.Decoder(Document)",
    "events = decoder.decode(read_bytes(Path({file}))[0]).traceEvents",
)
HTA = (
    "import logging; logging.disable(logging.WARNING); from hta.common.trace import Trace",
    "trace = Trace(trace_files={{0: {file}}}, trace_dir='')\n"
    "trace.parse_traces(use_multiprocessing=False)",
)


def measured(python: str, setup: str, work: str, cache: Path) -> tuple[float, ...]:
    """CPU seconds, wall seconds and MiB of one process that does `work`."""
    program = FRAME.format(setup=setup, work=work)
    environment = {**os.environ, "LUMOS_CACHE_DIR": str(cache)}
    done = subprocess.run(
        [python, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Make the files, measure each reader, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer-python", help="a Python that has HolisticTraceAnalysis 0.5.0")
    parser.add_argument("--source", type=Path, default=SOURCE)
    parser.add_argument("--bytes", type=float, default=1e9, help="size of the large file")
    parser.add_argument("--repeat", type=int, default=3, help="runs of our reader: best and worst")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="lumos-read-"))
    try:
        _compare(folder, options)
    finally:
        shutil.rmtree(folder)


def _compare(folder: Path, options: argparse.Namespace) -> None:
    small, large = folder / "small.json.gz", folder / "large.json.gz"
    sizes = {
        small: write_big_trace(options.source, small, 10**8),
        large: write_big_trace(options.source, large, int(options.bytes)),
    }

    def row(
        name: str,
        path: Path,
        program: tuple[str, str],
        python: str = sys.executable,
        *,
        warm: bool = False,
        cache: bool = False,
    ) -> float:
        setup, work = program
        if warm:
            setup += "\n" + work.format(file=repr(str(options.source)), cache=cache)
        work = work.format(file=repr(str(path)), cache=cache)
        cpu, wall, peak = measured(python, setup, work, folder / "cache")
        speed, size = sizes[path] / 1e6 / cpu, f"{sizes[path] / 1e6:6.0f} MB"
        name += ", warm" if warm else ""
        print(f"{name:34} {size} {cpu:8.2f} {wall:8.2f} {speed:8.0f} {peak:8.0f}", flush=True)
        return cpu

    def ratio(name: str, theirs: float, ours: list[float]) -> None:
        print(f"-> {name} / lumos: {theirs / max(ours):.0f} to {theirs / min(ours):.0f}")

    runs = range(options.repeat)
    print(f"{'reader':34} {'text':>9} {'CPU s':>8} {'wall s':>8} {'MB/s':>8} {'MiB':>8}")
    row("lumos, first run ever: compiles", small, LUMOS)
    first = [row("lumos", small, LUMOS) for _ in runs]
    warm = [row("lumos", small, LUMOS, warm=True) for _ in runs]
    ratio("msgspec", row("msgspec, typed structs, no columns", small, MSGSPEC), first)
    if options.peer_python:
        ratio("HTA", row("HTA 0.5.0", small, HTA, options.peer_python), first)
        peer = row("HTA 0.5.0", small, HTA, options.peer_python, warm=True)
        ratio("HTA, both warm", peer, warm)
    for _ in runs:
        row("lumos", large, LUMOS)
    for _ in runs:
        row("lumos, scanner alone", large, SCANNER)
    row("lumos, fills the cache", large, LUMOS, cache=True)
    row("lumos, from the cache", large, LUMOS, cache=True)


if __name__ == "__main__":
    main()
