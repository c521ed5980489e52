"""Speed of the answers on graphs of a million tasks: python benchmarks/analyses.py [--write docs/speed.md]

Wall seconds after compilation, worst of three runs; a small trace has gone the same way before the
clock starts. The jobs are one recorded rank's program, repeated and run by 4 coupled ranks: one whose
tasks run in one order, and one in which kernels of several streams share GPUs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from big_job import coupled_job
from sections import machine_class, today, write_section

from lumos.analysis.baseline import Baseline, baseline
from lumos.analysis.bounds import bounds
from lumos.analysis.communication import step_communication
from lumos.analysis.cost import Grouping, costs
from lumos.analysis.diff import diff, side_of
from lumos.analysis.replay import StepReplay
from lumos.analysis.step_breakdown import step_breakdown
from lumos.analysis.step_path import Ran, step_path
from lumos.analysis.stragglers import stragglers
from lumos.analysis.task_times import measured_task_times
from lumos.graph.job import Job
from lumos.graph.labels import By
from lumos.lower import lower
from lumos.simulate import run, simulate, to_timeline
from lumos.whatif.scale import scale
from lumos.whatif.selection import labelled

DATA = Path(__file__).parents[2] / "shared" / "data" / "kineto"
JOBS = {
    "one order": DATA / "resnet-ddp-2xA100" / "rank0.json.gz",
    "streams that share GPUs": DATA / "dlrm-8xV100" / "worker0.pt.trace.json.gz",
}
RANKS, RUNS = 4, 3
WHAT_IFS = 200
PARTS = -(-WHAT_IFS // 3)  # each is made 10 % faster, twice as fast and free


class Answer(NamedTuple):
    """One thing asked of a step: its name, the most seconds it may take, and the asking."""

    name: str
    floor_s: float
    ask: Callable[[Baseline], int]


def ask_costs(base: Baseline) -> int:
    """Costs of as many parts as make 200 what-ifs; returns how many were run."""
    groupings = (Grouping.OPERATOR, Grouping.KERNEL)
    few = PARTS // len(groupings) + 1
    return 3 * len(costs(base, groupings, most=few).costs)


def ask_bounds(base: Baseline) -> int:
    """The bounds ladder; returns how many rungs."""
    return len(bounds(base).bounds)


def ask_path(base: Baseline) -> int:
    """A run, its critical path with sums and story, the slack of every task; returns its tasks."""
    times = run(base.graph)
    timeline = to_timeline(base.graph, times)
    found = step_path("step", Ran.REPLAYED, base.job, base.graph, timeline, times, None)
    return len(found.path)


def ask_measured_path(base: Baseline) -> int:
    """The same of a run of which only the rows' starts and ends are known, as measured."""
    timeline = simulate(base.graph)
    times = measured_task_times(base.graph, timeline)
    found = step_path("step", Ran.MEASURED, base.job, base.graph, timeline, times, None)
    return len(found.path)


def ask_breakdown(base: Baseline) -> int:
    """Where the time of the run goes, twice as measured and replayed; returns its ranks."""
    timeline = simulate(base.graph)
    found = step_breakdown("step", base.job, base.graph, timeline, timeline)
    return len(found.ranks)


def ask_communication(base: Baseline) -> int:
    """All communication of the run, twice; returns its kinds and groups."""
    timeline = simulate(base.graph)
    return len(step_communication("step", base.job, timeline, timeline).measured)


def ask_stragglers(base: Baseline) -> int:
    """Stragglers in all steps; returns their number."""
    return len(stragglers(base.job, simulate(base.graph)).steps)


def ask_diff(base: Baseline) -> int:
    """The difference to the same job with slower products and hosts; returns its parts."""
    products = labelled(base.job, By.CLASS, "gemm", "convolution")
    slower = scale(base.job, products, 1.2)
    sides = [
        side_of(name, job, simulate(lower(job))) for name, job in (("a", base.job), ("b", slower))
    ]
    return len(diff(*sides).parts)


ANSWERS = (
    Answer("cost what-ifs", 2.0, ask_costs),
    Answer("rungs of the bounds", 5.0, ask_bounds),
    Answer("tasks on the critical path, with all slack", 1.0, ask_path),
    Answer("tasks on the measured critical path, with all slack", 1.0, ask_measured_path),
    Answer("ranks broken down", 1.0, ask_breakdown),
    Answer("kinds of communication", 1.0, ask_communication),
    Answer("steps searched for stragglers", 5.0, ask_stragglers),
    Answer("parts of a difference", 5.0, ask_diff),
)
ALL_S = 5.0
"""All answers about one run together; a difference is one of two."""


def step_of(job: Job) -> Baseline:
    """A job's own run in the place of a measured one; back to back, so its graph is 4 times as large."""
    graph = lower(job)
    ran = simulate(graph)
    return baseline(StepReplay("step", ran.span_ns, ran.span_ns, ()), job, graph, ran, None)


def measured(base: Baseline, answer: Answer) -> tuple[float, int]:
    """The slowest of some runs, in seconds, and what was answered."""
    seconds, count = [], 0
    for _ in range(RUNS):
        begin = time.perf_counter()
        count = answer.ask(base)
        seconds.append(time.perf_counter() - begin)
    return max(seconds), count


class Line(NamedTuple):
    """One measured line: of which job, what was asked, how long it took, what it may take."""

    job: str
    what: str
    seconds: float
    floor_s: float

    @property
    def met(self) -> str:
        """Whether it stays below."""
        return "yes" if self.seconds <= self.floor_s else "**no**"


def lines(tasks: int) -> Iterator[Line]:
    """One line for each job and answer, then all but the difference together."""
    for kind, source in JOBS.items():
        small = step_of(coupled_job(source, 2, 10_000))
        for answer in ANSWERS:
            answer.ask(small)
        base = step_of(coupled_job(source, RANKS, tasks / 4))
        job, together = f"{kind}, {len(base.graph) / 1e6:.2f} M tasks", 0.0
        for answer in ANSWERS:
            worst, count = measured(base, answer)
            together += worst if answer.ask is not ask_diff else 0.0
            yield Line(job, f"{count} {answer.name}", worst, answer.floor_s)
        yield Line(job, "all of these but the difference", together, ALL_S)


def section(found: Sequence[Line], machine: str) -> list[str]:
    """The table as lines of a section of docs/speed.md."""
    table = [
        f"| {one.job} | {one.what} | {one.seconds:.2f} | {one.floor_s:.0f} | {one.met} |"
        for one in found
    ]
    return [
        "Generated by `python benchmarks/analyses.py --write docs/speed.md`",
        f"on {today()}, on {machine}, after compilation; worst of {RUNS} runs.",
        "The jobs are one recorded rank's program, repeated, back to back, on 4 coupled ranks.",
        "",
        "| job | asked | s | floor s | met |",
        "|---|---|---|---|---|",
        *table,
    ]


def main() -> None:
    """Measure and print; write the section when asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=float, default=1e6, help="tasks of the graph that is run")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the section there")
    options = parser.parse_args()
    found = []
    for line in lines(int(options.tasks)):
        found.append(line)
        print(
            f"{line.job}: {line.what}: {line.seconds:.2f} s (floor {line.floor_s:.0f} s)",
            flush=True,
        )
    if options.write:
        write_section(options.write, "Answers", section(found, machine_class()))


if __name__ == "__main__":
    main()
