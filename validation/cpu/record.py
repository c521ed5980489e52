"""Record the CPU suite: a base, a ladder of changes around it, and the interventions.

    python validation/cpu/record.py [--out validation/cpu] [--only NAME ...] [--list]

Each recording is a folder with one trace per rank and capture.json: the steps without the profiler
in the same run. The base is recorded first, in the middle and last: how far its three medians are
apart says how much this machine drifts. Record on an idle machine.
"""

from __future__ import annotations

import argparse
import math
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "examples"), str(ROOT / "validation")]

from interventions import INTERVENTIONS, flags_of
from ranks import remove_names, run_ranks
from table import write_table

JOB = ROOT / "validation" / "job.py"
# A step of 40 to 100 ms on one core per process; two replicas, gradient buckets of about a layer.
BASE: dict[str, Any] = {
    "layers": 4, "hidden": 256, "heads": 4, "vocabulary": 256, "sequence": 128,
    "micro-batch": 2, "micro-batches": 1, "dp": 2, "bucket-mb": 4,
}  # fmt: skip
ATTEMPTS = 3
"""Torch's CPU profiler fails now and then as it stops (std::bad_array_new_length)."""
PIPELINE = {"dp": 1, "pp": 2, "micro-batch": 1, "micro-batches": 4}


class Item(NamedTuple):
    """One recording: flags that differ from the base, the change of code, the cores it may use."""

    name: str
    flags: dict[str, Any]
    intervention: str | None = None
    of: str = "base"
    cores: int | None = None


def items() -> list[Item]:
    """All recordings, in the order in which they are made."""
    ladder = [
        Item("layers-2", {"layers": 2}),
        Item("hidden-128", {"hidden": 128}),
        Item("hidden-512", {"hidden": 512}),
        Item("sequence-64", {"sequence": 64}),
        Item("sequence-256", {"sequence": 256}),
        Item("micro-batch-1", {"micro-batch": 1}),
        Item("recompute", {"recompute": True}),
        Item("dp1", {"dp": 1}),
        Item("fsdp2", {"fsdp": True}),
        Item("tp2", {"dp": 1, "tp": 2}),
        Item("pp2", PIPELINE),
        Item("pp2-front-20ms", {**PIPELINE, "delay-rank": 0, "delay-ms": 20}, of="pp2"),
        Item("pp2-back-60ms", {**PIPELINE, "delay-rank": 1, "delay-ms": 60}, of="pp2"),
    ]
    changed = [
        Item(name, flags_of(one, BASE), name if one.change else None, one.of)
        for name, one in INTERVENTIONS.items()
        if not one.cuda
    ]
    changed += [
        Item("delay-20ms", {"delay-rank": 1, "delay-ms": 20}),
        # on one core two replicas have half a core each, as four have on two
        Item("dp2-half-cores", {}, cores=1),
        Item("dp4-half-cores", {"dp": 4}, of="dp2-half-cores", cores=2),
    ]
    first, middle, last = (Item(name, {}) for name in ("base", "base-middle", "base-last"))
    return [first, *changed, middle, *ladder, last]


def record(item: Item, folder: Path) -> None:
    """Make one recording in the place of an earlier one."""
    flags = {**BASE, **item.flags, "reserve-mb": 600}
    arguments = ["--folder", str(folder), "--name", item.name]
    if item.intervention:
        arguments += ["--intervention", item.intervention]
    for flag, value in flags.items():
        arguments += [f"--{flag}"] if value is True else [f"--{flag}", str(value)]
    world_size = math.prod(int(flags.get(kind, 1)) for kind in ("dp", "tp", "pp"))
    for attempt in range(ATTEMPTS):
        shutil.rmtree(folder, ignore_errors=True)
        try:
            run_ranks(JOB, arguments, world_size, item.cores)
            break
        except SystemExit as failed:
            if attempt == ATTEMPTS - 1:
                raise
            print(f"{item.name}: once more, {str(failed).splitlines()[-1]}", flush=True)
    for rank in range(world_size):
        remove_names(folder / f"rank{rank}.json.gz")


def main() -> None:
    """Make the recordings asked for, one after the other, and the table of all that are there."""
    known = {item.name: item for item in items()}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--only", nargs="*", metavar="NAME", help="without a name: the table alone")
    parser.add_argument("--list", action="store_true", help="name the recordings and end")
    options = parser.parse_args()
    if options.list:
        print("\n".join(known))
        return
    names = list(known) if options.only is None else options.only
    if unknown := [name for name in names if name not in known]:
        parser.error(f"no recording is called {', '.join(unknown)}; --list names them")
    for name in names:
        record(known[name], options.out / name)
        print(name, flush=True)
    write_table(options.out, [(item.name, item.of) for item in known.values()])


if __name__ == "__main__":
    main()
