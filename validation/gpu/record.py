"""Record the GPU suite: one command on a machine with one NVIDIA GPU and PyTorch, nothing else.

    python validation/gpu/record.py [--out DIR] [--budget-s 540] [--list] [--dry-run]

What is recorded in validation/gpu/<gpu>/ already is left out; the most valuable of the rest comes
first, and the command stops in time. It leaves packs (at most 8 files, 30 MB) in DIR, by default
$OUT, and prints what is still open; packs.py unpacks them into the project. An item that fails is
told with its reason and does not stop the others.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(HERE.parent), str(ROOT / "src"), str(ROOT / "examples")]

from items import Item, items, tiny
from packs import pack, size_of
from ranks import remove_names

PACKING_S = 15
STARTED, FAILED = "started", "failed.json"


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


# --- the process that records -----------------------------------------------------------------------


def work(names: Sequence[str], out: Path, end_s: float, *, dry_run: bool) -> None:
    """Record items one after the other in this process, until the time is up."""
    import torch

    device = torch.device("cpu" if dry_run else "cuda:0")
    gpu = "dry-run" if dry_run else slug(torch.cuda.get_device_name(device))
    by_name = {item.name: item for item in items()}
    for name in names:
        item = tiny(by_name[name]) if dry_run else by_name[name]
        if time.time() + item.seconds > end_s:
            print(f"{name}: no time left for its {item.seconds:.0f} s", flush=True)
            continue
        folder = out / gpu / name
        folder.mkdir(parents=True, exist_ok=True)
        (out / STARTED).write_text(f"{gpu}/{name}", encoding="utf-8")
        begin_s = time.time()
        try:
            record_item(item, folder, device, end_s - time.time())
            reason = None
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            (folder / FAILED).write_text(
                json.dumps({"name": name, "reason": reason}) + "\n", "utf-8"
            )
        tidy(device)
        (out / STARTED).unlink()
        told = f"failed, {reason}" if reason else f"{size_of(folder) / 1e6:.2f} MB"
        print(f"{name}: {time.time() - begin_s:.1f} s, {told}", flush=True)


def record_item(item: Item, folder: Path, device: Any, seconds: float) -> None:
    """Record one item into its folder."""
    if item.kind == "streams":
        from streams import record_case

        size = 4096 if device.type == "cuda" else 64
        record_case(item.name.removeprefix("streams-"), folder, device, size)
    elif item.kind == "operators":
        from operators import write_table

        on_gpu = device.type == "cuda"
        left = write_table(
            folder / "operators.csv", device, small=not on_gpu, seconds=min(item.seconds, seconds)
        )
        if left:
            print(f"  {left} operators were left out for time", flush=True)
    else:
        record_gpt(item, folder, device)
    for trace in folder.glob("rank*.json.gz"):
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
    with world, job.connected(options) as layout:
        told = job.record(folder, item.name, options, layout, item.intervention, **job.PLAN)
    if told:
        job.write_truth(folder, "intervention", {"name": item.intervention, **told})


def tidy(device: Any) -> None:
    """Give back what the item held, so that the next one's peak is its own."""
    import torch

    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


# --- the process that looks after it ----------------------------------------------------------------


def supervise(out: Path, budget_s: float, only: Sequence[str] | None, *, dry_run: bool) -> None:
    """Run the recording process, and run it again behind an item that took it down."""
    end_s = time.time() + budget_s - PACKING_S
    gpu = "dry-run" if dry_run else gpu_folder()
    wanted = list(only or [item.name for item in items()])
    known = set() if dry_run or only else known_recordings(gpu)
    remaining = [name for name in wanted if name not in known]
    with tempfile.TemporaryDirectory(prefix="lumos-gpu-") as scratch:
        while remaining and time.time() < end_s:
            command = [
                sys.executable,
                __file__,
                "--work",
                scratch,
                "--end-s",
                str(end_s),
                "--only",
                *remaining,
            ]
            subprocess.run([*command, *(["--dry-run"] if dry_run else [])], check=False)
            started = Path(scratch, STARTED)
            if not started.exists():
                break
            place = started.read_text(encoding="utf-8")
            name = place.rpartition("/")[2]
            text = json.dumps({"name": name, "reason": "it ended the process"}) + "\n"
            Path(scratch, place, FAILED).write_text(text, encoding="utf-8")
            started.unlink()
            print(f"{name}: it ended the process; going on with the next", flush=True)
            remaining = remaining[remaining.index(name) + 1 :]
        deliver(Path(scratch, gpu), wanted, known, out)


def deliver(recordings: Path, wanted: Sequence[str], known: set[str], out: Path) -> None:
    """Pack what was recorded, and say what is still open."""
    made = [
        name
        for name in wanted
        if (recordings / name).is_dir() and not (recordings / name / FAILED).exists()
    ]
    failed = {
        name: json.loads((recordings / name / FAILED).read_text("utf-8"))["reason"]
        for name in wanted
        if (recordings / name / FAILED).exists()
    }
    left = pack(recordings, made, out) if made else []
    done = known | (set(made) - set(left))
    print(f"recorded: {len(made)}, packed: {len(made) - len(left)}, known before: {len(known)}")
    for name, reason in failed.items():
        print(f"failed: {name}: {reason}")
    open_items = [name for name in wanted if name not in done]
    print(f"open: {', '.join(open_items) or 'nothing'}")


def gpu_folder() -> str:
    """The folder name of this machine's GPU; ends with one line where there is none."""
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("PyTorch sees no NVIDIA GPU here; --dry-run tries the suite on the CPU")
    return slug(torch.cuda.get_device_name(0))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "gpu-recordings")))
    parser.add_argument("--budget-s", type=float, default=540.0)
    parser.add_argument("--only", nargs="+", choices=[i.name for i in items()], metavar="NAME")
    parser.add_argument("--list", action="store_true", help="name what is open and end")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes on the CPU")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--end-s", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.only, options.work, options.end_s, dry_run=options.dry_run)
    elif options.list:
        known = known_recordings(None)
        print("\n".join(item.name for item in items() if item.name not in known))
    else:
        supervise(options.out, options.budget_s, options.only, dry_run=options.dry_run)


if __name__ == "__main__":
    main()
