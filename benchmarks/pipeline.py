"""From file to what-if: our figures over their floors, beside HolisticTraceAnalysis, in one run.

    python3 -m venv peer && peer/bin/pip install HolisticTraceAnalysis==0.5.0 'pandas<3'
    python benchmarks/pipeline.py --peer-python peer/bin/python [--write docs/speed.md]

Each measurement is a process of its own (measures.py, hta_critical_path.py). Ratios to HTA are of
CPU seconds on the same file; the other figures are wall seconds. Of several runs the worst counts.
Without --peer-python the rows that need it are left out. Reading alone is in read.py.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from big_trace import write_big_trace
from sections import machine_class, today, write_section

HERE = Path(__file__).parent
HEADING = "From traces to what-ifs"
DATA = Path("../shared/data/kineto")
SOURCE = DATA / "recsys-8xA100" / "rank3.json.gz"
MANY_RANKS = {
    "one order": DATA / "resnet-ddp-2xA100" / "rank0.json.gz",
    "streams that share GPUs": DATA / "dlrm-8xV100" / "worker0.pt.trace.json.gz",
}
RANKS, TASKS = 256, 64e6
RUNS = 3
TOUCHED_GIB = 10


class Row(NamedTuple):
    """A line of the table: what, the worst case measured, the floor, whether it was met."""

    what: str
    figure: str
    floor: str
    met: bool
    more: str


def measured(program: list[str], **environment: str) -> dict[str, Any]:
    """The JSON that a process prints."""
    done = subprocess.run(
        program, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def ours(name: str, *arguments: object) -> dict[str, Any]:
    """One measurement of measures.py."""
    return measured([sys.executable, str(HERE / "measures.py"), name, *map(str, arguments)])


def wall_s(*command: str, **environment: str) -> float:
    """Wall seconds of a command."""
    begin = time.perf_counter()
    subprocess.run(
        command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, check=True
    )
    return time.perf_counter() - begin


def against_peer(python: str, file: Path, text_bytes: int) -> list[Row]:
    """Graph and re-run against HTA's critical path, on one file."""
    text = f"{text_bytes / 1e6:.0f} MB of text"
    theirs = measured([python, str(HERE / "hta_critical_path.py"), str(file)])
    mine = [ours("graph_and_rerun", SOURCE, file) for _ in range(RUNS)]
    peer_graph = theirs["events"] / theirs["graph_s"]
    peer_rerun = theirs["events"] / theirs["rerun_s"]
    graph = min(one["events"] / one["graph_s"] for one in mine)
    fitted = min(one["events"] / one["with_fit_s"] for one in mine)
    rerun = min(one["tasks"] / one["rerun_s"] for one in mine)
    return [
        Row(
            "Trace -> Job -> lowered graph, events/s against HTA's critical-path graph",
            f"{graph / peer_graph:.0f}x", "100x", graph >= 100 * peer_graph,
            f"{text}: {graph / 1e6:.2f} M/s; HTA {peer_graph / 1e6:.3f} M/s; "
            f"with the fit {fitted / peer_graph:.0f}x",
        ),
        Row(
            "re-simulate after a what-if, tasks/s against HTA's critical path run again",
            f"{rerun / peer_rerun:.0f}x", "500x", rerun >= 500 * peer_rerun,
            f"{text}: {rerun / 1e6:.0f} M/s; HTA {peer_rerun / 1e6:.2f} M/s",
        ),
    ]  # fmt: skip


def whole_way(file: Path, text_bytes: int) -> Row:
    """A large file to its replay and 8 what-ifs."""
    runs = [ours("whole_way", SOURCE, file) for _ in range(RUNS)]
    worst, best = max(runs, key=lambda one: one["all_s"]), min(one["all_s"] for one in runs)
    parts = ", ".join(
        f"{part} {worst[part]:.2f}"
        for part in ("read", "build", "fit", "lower", "replay", "what-ifs")
    )
    return Row(
        f"{text_bytes / 1e9:.1f} GB .json.gz -> graph -> replay -> 8 what-ifs, one process",
        f"{worst['all_s']:.1f} s", "6 s", worst["all_s"] <= 6,
        f"{parts}; best of {RUNS} {best:.1f} s; {worst['tasks'] / 1e6:.1f} M tasks, "
        f"{worst['peak_mib']:.0f} MiB",
    )  # fmt: skip


def touch_memory() -> None:
    """Have the machine hand out its memory before the clock starts.

    A virtual machine gets each page from its host the first time that anybody touches it, at a
    third of the speed of the second time; whoever runs first would pay for all.
    """
    touch = f"import numpy; numpy.ones({TOUCHED_GIB} * 2**27)"
    subprocess.run([sys.executable, "-c", touch], check=True)


def many_ranks(kind: str, source: Path) -> Row:
    """A job of many coupled ranks."""
    found = ours("many_ranks", source, RANKS, TASKS)
    rate, best = (found["tasks"] / found[key] / 1e6 for key in ("run_s", "best_s"))
    return Row(
        f"{RANKS} ranks coupled, {found['tasks'] / 1e6:.0f} M tasks, {kind}",
        f"{rate:.0f} M tasks/s", "10 M tasks/s", rate >= 10,
        f"best of 3 {best:.0f} M/s; lowered in {found['lower_s']:.0f} s; "
        f"{found['peak_mib'] / 1024:.1f} GiB; one recorded role on all ranks",
    )  # fmt: skip


def first_replay(file: Path, text_bytes: int, folder: Path) -> Row:
    """`lumos replay` with nothing compiled yet."""
    cache = folder / "cache"
    command = (str(Path(sys.executable).with_name("lumos")), "replay", str(file))
    first, second = (wall_s(*command, LUMOS_CACHE_DIR=str(cache)) for _ in range(2))
    return Row(
        f"first `lumos replay` after installation, {text_bytes / 1e6:.0f} MB of text",
        f"{first:.1f} s", "30 s", first <= 30, f"the second time {second:.1f} s",
    )  # fmt: skip


def help_page() -> Row:
    """`lumos --help`."""
    command = (str(Path(sys.executable).with_name("lumos")), "--help")
    seconds = [wall_s(*command) for _ in range(2 * RUNS)][1:]
    return Row(
        "`lumos --help`", f"{max(seconds):.2f} s", "0.3 s", max(seconds) <= 0.3,
        f"best {min(seconds):.2f} s",
    )  # fmt: skip


def section(rows: list[Row], machine: str) -> list[str]:
    """The table as lines of a section of docs/speed.md."""
    table = [
        f"| {row.what} | {row.figure} | {row.floor} | {'yes' if row.met else '**no**'} | {row.more} |"
        for row in rows
    ]
    return [
        "Generated by `python benchmarks/pipeline.py --peer-python PYTHON --write docs/speed.md`",
        f"on {today()}, on {machine}. Each figure is the worst of its runs.",
        "Reading alone: `benchmarks/read.py`. HTA is HolisticTraceAnalysis 0.5.0. Before the last rows the memory of the",
        f"virtual machine is touched once ({TOUCHED_GIB} GiB): the first touch of all takes three times as long.",
        "",
        "| what | worst | floor | met | more |",
        "|---|---|---|---|---|",
        *table,
    ]


def main() -> None:
    """Make the files, measure, print; write the page when asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer-python", help="a Python that has HolisticTraceAnalysis 0.5.0")
    parser.add_argument("--bytes", type=float, default=1e9, help="size of the large file")
    parser.add_argument("--machine", default=machine_class(), help="the machine, in words")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the section there")
    options = parser.parse_args()
    rows: list[Row] = []

    def add(row: Row) -> None:
        rows.append(row)
        print(
            f"{row.what}: {row.figure} (floor {row.floor}, {'met' if row.met else 'NOT MET'}); {row.more}",
            flush=True,
        )

    folder = Path(tempfile.mkdtemp(prefix="lumos-pipeline-"))
    try:
        small, large = folder / "small.json.gz", folder / "large.json.gz"
        small_bytes = write_big_trace(SOURCE, small, 45_000_000)
        large_bytes = write_big_trace(SOURCE, large, int(options.bytes))
        add(help_page())
        add(first_replay(small, small_bytes, folder))
        if options.peer_python:
            middle = folder / "middle.json.gz"
            middle_bytes = write_big_trace(SOURCE, middle, 200_000_000)
            for row in against_peer(options.peer_python, middle, middle_bytes):
                add(row)
        touch_memory()
        add(whole_way(large, large_bytes))
        for kind, source in MANY_RANKS.items():
            touch_memory()
            add(many_ranks(kind, source))
    finally:
        shutil.rmtree(folder)
    if options.write:
        write_section(options.write, HEADING, section(rows, options.machine))


if __name__ == "__main__":
    main()
