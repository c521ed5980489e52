"""Record the GPU suite: one command on a machine with one NVIDIA GPU and PyTorch, nothing else.

    python validation/gpu/record.py [--out DIR] [--budget-s 540] [--list] [--dry-run]

What is recorded in validation/gpu/<gpu>/ already is left out; the most valuable of the rest comes
first, and the command stops in time. It leaves packs (at most 8 files, 30 MB) in DIR, by default
$OUT, and prints what is still open; packs.py unpacks them into the project. An item that fails, hangs
or takes its process down is told with its reason and does not stop the others; packs are written as
the recordings come, so that a command that is ended from outside loses little.
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
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(HERE.parent), str(ROOT / "src"), str(ROOT / "examples")]

from items import Item, items, tiny
from packs import pack, size_of
from ranks import remove_names

PACKING_S = 15
PACK_EVERY_S = 30.0
LATE_S, LATE_FACTOR = 30.0, 3.0
"""An item is given up when it takes so much longer, and so many times longer, than it may."""
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
        (out / f"{STARTED}.part").write_text(f"{gpu}/{name}", encoding="utf-8")
        (out / f"{STARTED}.part").replace(out / STARTED)  # whole, for who looks on
        folder.mkdir(parents=True, exist_ok=True)
        begin_s = time.time()
        try:
            record_item(item, folder, device, end_s - time.time())
            reason = None
        except Exception as error:
            traceback.print_exc(limit=-3)
            reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            fail(folder, reason)
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


def fail(folder: Path, reason: str) -> None:
    """Note why there is no recording in a folder; what was noted first stays."""
    if not (folder / FAILED).exists():
        text = json.dumps({"name": folder.name, "reason": reason}) + "\n"
        (folder / FAILED).write_text(text, encoding="utf-8")


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
            arguments = ["--work", scratch, "--end-s", str(end_s), "--only", *remaining]
            command = [sys.executable, __file__, *arguments, *(["--dry-run"] if dry_run else [])]
            reason = look_after(
                command, Path(scratch), end_s, lambda: _pack(scratch, gpu, wanted, out)
            )
            place = started(Path(scratch))
            if place is None:
                break
            fail(place, reason)
            Path(scratch, STARTED).unlink()
            print(f"{place.name}: {reason}", flush=True)
            remaining = remaining[remaining.index(place.name) + 1 :]
        tell(Path(scratch, gpu), wanted, known, _pack(scratch, gpu, wanted, out))


def look_after(
    command: Sequence[str], scratch: Path, end_s: float, pack_now: Callable[[], Any]
) -> str:
    """Run a recording process to its end, or end it where an item hangs; why it has ended."""
    seconds = {item.name: item.seconds for item in items()}
    process = subprocess.Popen(command)
    packed_s = time.time()
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1)
            return "it ended the process"
        now_s, place = time.time(), started(scratch)
        if place is not None:
            most_s = LATE_S + LATE_FACTOR * seconds[place.name]
            late = now_s - (scratch / STARTED).stat().st_mtime > most_s
            if late or now_s > end_s + PACKING_S / 3:
                process.kill()
                process.wait()
                return f"it was ended after {most_s:.0f} s" if late else "the time was up"
        if now_s - packed_s > PACK_EVERY_S:
            pack_now()
            packed_s = time.time()


def started(scratch: Path) -> Path | None:
    """The folder of the item that is being recorded."""
    try:
        return scratch / (scratch / STARTED).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def made(recordings: Path, wanted: Sequence[str]) -> list[str]:
    """Items whose recordings are there and whole."""
    under_way = started(recordings.parent)
    folders = (recordings / name for name in wanted)
    return [
        folder.name
        for folder in folders
        if folder.is_dir() and folder != under_way and not (folder / FAILED).exists()
    ]


def _pack(scratch: str, gpu: str, wanted: Sequence[str], out: Path) -> list[str]:
    """Pack what is there; the items that did not fit."""
    recordings = Path(scratch, gpu)
    names = made(recordings, wanted)
    return pack(recordings, names, out) if names else []


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
