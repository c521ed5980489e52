"""Record the GPU suite: one command on a machine with one NVIDIA GPU and PyTorch, nothing else.

    python validation/gpu/record.py [--out DIR] [--budget-s 540] [--list] [--dry-run]

What is recorded in validation/gpu/<gpu>/ already is left out; the most valuable of the rest comes
first, and the command stops in time. It leaves packs (at most 8 files, 30 MB) in DIR, by default
$OUT, and prints what is still open; packs.py unpacks them into the project.

Every item has a process of its own, forked from this one, which loads PyTorch once and never uses
the GPU: no item times steps behind another's profiler (CUPTI stays and slows launches down), counts
another's memory, or ends another when it fails, hangs or takes its process down. Packs are written
behind each item, so that a command that is ended from outside loses little.
What has failed is tried once more when there is time left.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(HERE.parent), str(ROOT / "src"), str(ROOT / "examples")]

from items import Item, items, tiny
from packs import pack, size_of
from ranks import remove_names

PROCESSES = multiprocessing.get_context("fork")
PACKING_S = 15
LATE_S, LATE_FACTOR = 30.0, 3.0
"""An item is given up when it takes so much longer, and so many times longer, than it may."""
FAILED = "failed.json"
DRY_RUN = "dry-run"
"""Recorded in the place of a GPU's name."""


def slug(name: str) -> str:
    """The folder of a GPU: nvidia-h200."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "gpu"


def known_recordings(gpu: str | None) -> set[str]:
    """Items that the project holds of this GPU; of any where it is not known."""
    folders = [HERE / gpu] if gpu else [path for path in HERE.iterdir() if path.is_dir()]
    return {
        path.name
        for folder in folders
        if folder.is_dir()
        for path in folder.iterdir()
        if (path / "capture.json").is_file() or (path / "operators.csv").is_file()
    }


# --- the process of one item ------------------------------------------------------------------------


def work(item: Item, folder: Path, *, on_gpu: bool) -> None:
    """Record an item in this process; what went wrong is noted in its folder."""
    import torch

    try:
        record_item(item, folder, torch.device("cuda:0" if on_gpu else "cpu"))
    except Exception as error:
        traceback.print_exc(limit=-3)
        fail(folder, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")


def record_item(item: Item, folder: Path, device: Any) -> None:
    """Record one item into its folder."""
    on_gpu = device.type == "cuda"
    if item.kind == "streams":
        from streams import record_case

        size = 4096 if on_gpu else 64
        record_case(item.name.removeprefix("streams-"), folder, device, size)
    elif item.kind == "operators":
        from operators import write_table

        left = write_table(folder / "operators.csv", device, small=not on_gpu, seconds=item.seconds)
        if left:
            print(f"  {left} operators were left out for time", flush=True)
    else:
        record_gpt(item, folder, device)
    for trace in folder.glob("rank*.json.gz"):
        if on_gpu:
            require_kernels(trace)
        remove_names(trace)


def record_gpt(item: Item, folder: Path, device: Any) -> None:
    """Train gpt.py as the item says, alone or as one rank of a fake world."""
    import gpt
    import job

    from lumos.capture import fake_world

    arguments = ["--device", device.type]
    for flag, value in item.flags.items():
        arguments += [f"--{flag}"] if value is True else [f"--{flag}", str(value)]
    options = gpt.parse_arguments(arguments)
    world = fake_world(item.ranks) if item.kind == "fake" else contextlib.nullcontext()
    # skipped steps are also what the clock of an idle GPU gets to rise in
    plan = {**job.PLAN, "skip_steps": 10}
    with world, job.connected(options) as layout:
        told = job.record(
            folder, item.name, options, layout, item.intervention, against=item.of, **plan
        )
    if told:
        job.write_truth(folder, "intervention", {"name": item.intervention, **told})


def require_kernels(trace: Path) -> None:
    """A profiler that sees no GPU says nothing: its trace is of the host alone."""
    with gzip.open(trace, "rt", encoding="utf-8") as stream:
        if not any('"cat": "kernel"' in line for line in stream):
            raise RuntimeError("the profiler recorded no kernel; does CUPTI work on this machine?")


def fail(folder: Path, reason: str) -> None:
    """Note why there is no recording in a folder; what was noted first stays."""
    if not (folder / FAILED).exists():
        text = json.dumps({"name": folder.name, "reason": reason}) + "\n"
        (folder / FAILED).write_text(text, encoding="utf-8")


# --- the process that looks after them --------------------------------------------------------------


def record_all(gpu: str | None, out: Path, end_s: float, only: Sequence[str] | None) -> None:
    """Record what is open, one item after the other, until the time is up."""
    import job  # noqa: F401 - with all of PyTorch that items use, once for their processes

    everything = {item.name: item for item in items()}
    wanted = list(only or everything)
    known = known_recordings(gpu) if gpu and not only else set()
    needing = [name for name in wanted if gpu is None and everything[name].needs_gpu]
    if needing:
        print(f"needs a GPU: {', '.join(needing)}", flush=True)
    with tempfile.TemporaryDirectory(prefix="lumos-gpu-") as scratch:
        recordings = Path(scratch, gpu or DRY_RUN)
        left: list[str] = []
        for name in [*wanted, *wanted]:  # what has failed once more, behind all the rest
            item = everything[name] if gpu else tiny(everything[name])
            if name in known or name in needing or name in made(recordings, wanted):
                continue
            if time.monotonic() + item.seconds > end_s:
                continue
            begin_s = time.monotonic()
            attend(item, recordings / name, end_s, on_gpu=gpu is not None)
            took_s = time.monotonic() - begin_s
            print(f"{name}: {took_s:.1f} s, {in_short(recordings / name)}", flush=True)
            if names := made(recordings, wanted):
                left = pack(recordings, names, out)
        tell(recordings, wanted, known, left)


def attend(item: Item, folder: Path, end_s: float, *, on_gpu: bool) -> None:
    """Let a process record an item, and end it where it hangs."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    late_s = LATE_S + LATE_FACTOR * item.seconds
    left_s = end_s + PACKING_S / 3 - time.monotonic()
    process = PROCESSES.Process(target=work, args=(item, folder), kwargs={"on_gpu": on_gpu})
    process.start()
    process.join(min(late_s, left_s))
    if process.is_alive():
        process.kill()
        process.join()
        fail(folder, f"it was ended after {late_s:.0f} s" if late_s < left_s else "time was up")
    elif process.exitcode:
        fail(folder, f"its process ended with {process.exitcode}")


def in_short(folder: Path) -> str:
    """What came of an item, for who reads the output alone."""
    with contextlib.suppress(FileNotFoundError):
        return f"failed, {json.loads((folder / FAILED).read_text('utf-8'))['reason']}"
    told = f"{size_of(folder) / 1e6:.2f} MB"
    with contextlib.suppress(FileNotFoundError):
        rank = json.loads((folder / "capture.json").read_text("utf-8"))["ranks"][0]
        plain, profiled = rank["unprofiled"], rank["profiled"]
        told += f", {plain['median_ms']:.2f} ms, profiled {profiled['median_ms']:.2f} ms"
        told += f", {(rank['peak_allocated_bytes'] or 0) / 2**30:.2f} GiB"
    return told


def made(recordings: Path, wanted: Sequence[str]) -> list[str]:
    """Items whose recordings are there and whole."""
    folders = (recordings / name for name in wanted)
    return [folder.name for folder in folders if folder.is_dir() and not (folder / FAILED).exists()]


def tell(recordings: Path, wanted: Sequence[str], known: set[str], left: Sequence[str]) -> None:
    """Say what was recorded, what failed, and what is still open."""
    names = made(recordings, wanted)
    print(f"recorded: {len(names)}, packed: {len(names) - len(left)}, known before: {len(known)}")
    for name in wanted:
        with contextlib.suppress(FileNotFoundError):
            failed = json.loads((recordings / name / FAILED).read_text("utf-8"))
            print(f"failed: {name}: {failed['reason']}")
    done = known | (set(names) - set(left))
    open_items = [name for name in wanted if name not in done]
    print(f"open: {', '.join(open_items) or 'nothing'}", flush=True)


def gpu_folder() -> str:
    """The folder name of this machine's GPU; ends with one line where there is none.

    Asked in another process: one that has asked for a GPU cannot fork processes that use it.
    """
    with ProcessPoolExecutor(1, mp_context=PROCESSES) as pool:
        name = pool.submit(_gpu_name).result()
    if name is None:
        raise SystemExit("PyTorch sees no NVIDIA GPU here; --dry-run tries the suite on the CPU")
    return slug(name)


def _gpu_name() -> str | None:
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def main() -> None:
    """Read the command line."""
    begin_s = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "gpu-recordings")))
    parser.add_argument("--budget-s", type=float, default=540.0)
    parser.add_argument("--only", nargs="+", choices=[i.name for i in items()], metavar="NAME")
    parser.add_argument("--list", action="store_true", help="name what is open and end")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes on the CPU")
    options = parser.parse_args()
    if options.list:
        known = known_recordings(None)
        print("\n".join(item.name for item in items() if item.name not in known))
        return
    end_s = begin_s + options.budget_s - PACKING_S
    record_all(None if options.dry_run else gpu_folder(), options.out, end_s, options.only)


if __name__ == "__main__":
    main()
