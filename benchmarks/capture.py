"""What the recorder costs a training: steps with it and without it, in turn, in one process.

    python benchmarks/capture.py [--seconds 60] [--device cuda] [--write docs/speed.md]

Needs PyTorch and this source tree, nothing installed. Each step with the recorder (it is timed, not
profiled) has a step without it for a neighbour, now in front of it, now behind; the figure is the
median of the differences, so neither a slow drift nor another program on the machine counts. The
interval is that of the median at 95 %, by ranks. It is held against the same job's median step.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "examples")]

import gpt
import torch
import torch.distributed as dist
from sections import today, write_section
from torch.optim import optimizer as optimizers

from lumos.capture import Capture
from lumos.capture.plan import Plan
from lumos.capture.unmodified import Follower, Order

FLOOR_PCT = 1.0
HEADING = "What recording costs"
ENDLESS = Plan(skip_steps=1, timed_steps=10**9)
RECORDINGS = 5
BLOCK_OF_DEVICE = {"cpu": 1, "cuda": 10}  # steps between two looks at the clock
SIZES = {
    "cpu": {
        "short steps": ["--layers", "2", "--hidden", "64", "--heads", "2", "--sequence", "32"],
        "long steps": ["--layers", "4", "--hidden", "256", "--heads", "4", "--sequence", "128"],
    },
    "cuda": {
        "short steps": ["--layers", "2", "--hidden", "256", "--heads", "4"],
        "long steps": [
            *("--layers", "8", "--hidden", "2048", "--heads", "16", "--sequence", "2048"),
            *("--vocabulary", "32768", "--dtype", "bfloat16"),
        ],
    },
}
Step = Callable[[], None]


class Cost(NamedTuple):
    """What the recorder adds to a step [ms], with its interval, and the step without it [ms]."""

    added_ms: float
    low_ms: float
    high_ms: float
    step_ms: float
    pairs: int

    @property
    def worst_pct(self) -> float:
        """The upper end of the interval, in % of the step."""
        return 100 * self.high_ms / self.step_ms


# --- the two ways to record, each as a step with it and a step without it


@contextmanager
def in_the_loop(trainer: Any, folder: Path) -> Iterator[tuple[Step, Step]]:
    """`capture.step()` behind each step."""
    capture = Capture(folder, **asdict(ENDLESS), quiet=True)

    def recorded() -> None:
        trainer.step()
        capture.step()

    with capture:
        for _ in range(3):
            recorded()
        yield recorded, trainer.step


@contextmanager
def followed(trainer: Any, folder: Path) -> Iterator[tuple[Step, Step]]:
    """`lumos capture --`: the optimizer is followed from outside; without it, as it was before."""
    follower = Follower(Order(str(folder), str(folder), asdict(ENDLESS)))
    hooks = optimizers._global_optimizer_post_hooks
    for _ in range(3):
        trainer.step()
    ours, word = dict(hooks), trainer.optimizer.step

    def without() -> None:
        del trainer.optimizer.step
        hooks.clear()
        try:
            trainer.step()
        finally:
            hooks.update(ours)
            trainer.optimizer.step = word

    try:
        yield trainer.step, without
    finally:
        del trainer.optimizer.step
        hooks.clear()
        follower._capture.stop()


WAYS = {"capture.step() in the loop": in_the_loop, "lumos capture -- COMMAND": followed}


# --- the measurement


def measured(recorded: Step, without: Step, seconds: float, device: str) -> Cost:
    """Pairs of blocks of steps for so long; which of the two comes first changes."""
    differences, plain, end = [], [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(plain) < 20:
        turn = (recorded, without) if len(plain) % 2 else (without, recorded)
        times = {step: _time_ms(step, device) for step in turn}
        differences.append(times[recorded] - times[without])
        plain.append(times[without])
    ordered, count = sorted(differences), len(differences)
    reach = round(0.98 * math.sqrt(count))  # ranks around the median, normal approximation
    middle = count // 2
    return Cost(
        median(ordered), ordered[max(middle - reach, 0)],
        ordered[min(middle + reach, count - 1)], median(plain), count,
    )  # fmt: skip


def _time_ms(step: Step, device: str) -> float:
    block = BLOCK_OF_DEVICE[device]
    begin = time.perf_counter_ns()
    for _ in range(block):
        step()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter_ns() - begin) / block / 1e6


def inflations(trainer: Any, folder: Path) -> list[float]:
    """By how much profiled steps were longer in some recordings of the default plan [%]."""
    found = []
    for number in range(RECORDINGS):
        place = folder / str(number)
        with Capture(place, on_error="raise", quiet=True) as capture:
            while not capture.done:
                trainer.step()
                capture.step()
        (rank,) = json.loads((place / "capture.json").read_text("utf-8"))["ranks"]
        found.append(rank["inflation_pct"])
    return found


# --- the table


def row(size: str, way: str, cost: Cost, longer_pct: list[float]) -> str:
    """One line of the table."""
    us = [1e3 * value for value in (cost.added_ms, cost.low_ms, cost.high_ms)]
    met = "yes" if cost.worst_pct < FLOOR_PCT else "**no**"
    return (
        f"| {size}, `{way}` | {cost.step_ms:.2f} | {us[0]:+.1f} ({us[1]:+.1f} to {us[2]:+.1f}) "
        f"| {cost.worst_pct:.2f} | {met} | {cost.pairs} "
        f"| {median(longer_pct):+.0f} ({min(longer_pct):+.0f} to {max(longer_pct):+.0f}) |"
    )


def section(rows: list[str], machine: str) -> list[str]:
    """The table as lines of a section of docs/speed.md."""
    return [
        "Generated by `python benchmarks/capture.py --write docs/speed.md`",
        f"on {machine}.",
        "Steps that are timed but not profiled, against the same steps without the recorder, in turn in",
        "one process. *added*: median difference and its 95 % interval; *worst*: the interval's upper end",
        f"in % of the step, to be below {FLOOR_PCT:.0f} %. *profiled*: how much longer profiled steps are",
        f"(`inflation_pct` of {RECORDINGS} recordings: median, least and most); the profiler's cost is an",
        "operator's, so it falls as operators grow.",
        "",
        "| job | step ms | added us | worst % | below 1 % | pairs | profiled % |",
        "|---|---|---|---|---|---|---|",
        *rows,
    ]


def machine_class(device: str) -> str:
    """Cores or GPU, PyTorch and day, in words."""
    where = f"{os.cpu_count()} cores" if device == "cpu" else torch.cuda.get_device_name()
    return f"{today()}, {where}, PyTorch {torch.__version__}, Python {platform.python_version()}"


def main() -> None:
    """Measure every size of job in both ways; write the section when asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="for each line of the table")
    parser.add_argument("--device", choices=SIZES, default="cpu")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for size, flags in SIZES[options.device].items():
        arguments = gpt.parse_arguments([*flags, "--device", options.device])
        trainer = gpt.Trainer(arguments, gpt.connect(arguments))
        gpt.time_steps(trainer, 10)
        with tempfile.TemporaryDirectory() as scratch:
            longer_pct = inflations(trainer, Path(scratch))
            for way, recording in WAYS.items():
                folder = Path(scratch, recording.__name__)
                folder.mkdir()
                with recording(trainer, folder) as steps:
                    cost = measured(*steps, options.seconds, options.device)
                rows.append(row(size, way, cost, longer_pct))
                print(rows[-1], flush=True)
        dist.destroy_process_group()
    if options.write:
        write_section(options.write, HEADING, section(rows, machine_class(options.device)))


if __name__ == "__main__":
    main()
