"""Accuracy on the real traces, as tables: python benchmarks/accuracy.py [--write docs/accuracy.md]

Every figure is by rules only unless its column says otherwise. Nothing here is tuned: lags are one
value a class, fitted on the trace that is replayed (predictions: on the source step alone).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from interventions import section as changed_jobs
from stragglers import published_jobs
from stragglers import section as stragglers

from lumos.analysis.prediction import periods_ns
from lumos.analysis.replay import StepReplay
from lumos.build import build
from lumos.fit import fit
from lumos.fit.readiness import holding_record, latest_ready, measured_times
from lumos.graph.execution import DROPPABLE, Rule
from lumos.graph.job import NONE, Job
from lumos.graph.timeline import Timeline
from lumos.ingest import read
from lumos.lower import lower
from lumos.lower.classes import launch_classes, values_of
from lumos.predict import Recording, predict_steps, record, replay_steps, replay_whole
from lumos.units import ms

DATA = Path(__file__).parents[2] / "shared" / "data" / "kineto"
VALIDATION = Path(__file__).parents[1] / "validation"
TRACES = {
    "resnet-ddp-2xA100": (0.5, 0.5),
    "resnet50-V100": (0.5, 0.5),
    "resnet50-V100-13streams": (0.5, 0.5),
    "linear-RTX2080Ti": (0.5, 0.5),
    "vgg13-H100": (0.5, 0.5),
    "amd/resnet18-ddp-MI300X.json.gz": (0.5, 0.5),
    "recsys-8xA100": (2.5, 3.0),
    "recsys-2xV100": (2.5, 3.0),
    "dlrm-8xV100": (0.5, 0.5),
}
"""Traces, and the bars for the worst step's error and start error (95 %), both in % of the span."""
OTHERS = ("amd", "event-sync", "inference", "odd")
"""Folders of single files: short, odd or of inference. They have no bars, and stand in the tables all the same."""
WHOLE_BAR_PCT = 3.0
REPAIRED_PCT = 2.0
"""A step with more of its time repaired than this is left out, and counted."""
EASY_PCT = 0.5
"""A trace whose steps a crude list replay gets right within this is marked easy."""


@dataclass
class Figures:
    """What is measured of one trace; errors in %."""

    name: str
    steps: int
    left_out: int
    worst: StepReplay
    start_p95: float
    whole: float
    crude: float
    with_unexplained: float
    unexplained: float
    idle_explained: float | None
    ablations: dict[Rule, float] = field(default_factory=dict)
    periods: list[tuple[float, float]] = field(default_factory=list)
    steady: list[tuple[str, float]] = field(default_factory=list)
    host_bound: bool = False


def names() -> list[str]:
    """All traces: those with bars, then the files of the other folders."""
    files = [file for folder in OTHERS for file in sorted((DATA / folder).glob("*.json.gz"))]
    found = [file.relative_to(DATA).as_posix() for file in files]
    return [*TRACES, *(name for name in found if name not in TRACES)]


def measure(name: str) -> Figures:
    """All figures of one trace."""
    recording = record(read(DATA / name))
    replays = [run.figures for run in replay_steps(recording)]
    replays, left_out = _without_repaired(recording, replays)
    ranks = [rank for step in replays for rank in step.ranks]
    worst = max(replays, key=lambda step: abs(step.error_pct or 0))
    explained = [r.idle_explained_pct for r in ranks if r.idle_explained_pct is not None]
    figures = Figures(
        name=name.removesuffix(".json.gz"),
        steps=len(replays),
        left_out=left_out,
        worst=worst,
        start_p95=max(100 * (r.task_start_error.p95_ns or 0) / r.measured_ns for r in ranks),
        whole=replay_whole(recording).figures.error_pct or 0.0,
        crude=_crude(recording),
        with_unexplained=max((r.with_unexplained_error_pct or 0 for r in ranks), key=abs),
        unexplained=max(100 * r.unexplained_ns / r.measured_ns for r in ranks),
        idle_explained=min(explained, default=None),
        host_bound=bool(_busy_share(recording) < 0.5),
    )
    for rule in DROPPABLE:
        errors = [
            rank.error_pct or 0.0
            for run in replay_steps(recording, drop=(rule,))
            for rank in run.figures.ranks
        ]
        figures.ablations[rule] = max(errors, key=abs)
    _predict(recording, figures)
    return figures


def _without_repaired(
    recording: Recording, replays: list[StepReplay]
) -> tuple[list[StepReplay], int]:
    repaired = sum(
        finding.affected_ns or 0
        for finding in recording.findings
        if finding.code in ("negative-duration", "impossible-duration")
    )
    span = sum(step.measured_ns for step in replays)
    return (replays, 0) if 100 * repaired <= REPAIRED_PCT * span else ([], len(replays))


def _crude(recording: Recording) -> float:
    """Worst step error of a list replay: the host as recorded, each stream a queue behind it."""
    job, measured = recording.job, recording.measured
    errors = []
    for block in range(len(recording.steps)):
        spans = []
        for role, run in zip(job.placement.role, measured.ranks, strict=True):
            program = job.programs[role]
            rows = program.rows
            mine = (rows.block == block) & (rows.event != NONE)
            if not mine.any():
                continue
            device = np.flatnonzero(mine & (rows.launch != NONE))
            lag = values_of(job.lags.launch, launch_classes(program, device))
            free: dict[int, int] = {}
            for row, gap in zip(device.tolist(), np.asarray(lag).tolist(), strict=True):
                stream = int(rows.processor[row])
                ready = int(run.start_ns[rows.launch[row]]) + gap
                start = max(ready, free.get(stream, ready))
                free[stream] = start + int(run.end_ns[row] - run.start_ns[row])
            host = mine & (rows.launch == NONE)
            last = max([*run.end_ns[host].tolist(), *free.values()])
            spans.append((int(run.start_ns[mine].min()), int(run.end_ns[mine].max()), last))
        if not spans:
            continue
        first = min(low for low, _, _ in spans)
        true = max(high for _, high, _ in spans) - first
        errors.append(100 * (max(last for _, _, last in spans) - first - true) / true)
    return max(errors, key=abs)


def _busy_share(recording: Recording) -> float:
    """Busy time of the busiest stream over the whole run."""
    shares = []
    for role, run in zip(recording.job.placement.role, recording.measured.ranks, strict=True):
        rows = recording.job.programs[role].rows
        device = rows.launch != NONE
        length = (run.end_ns - run.start_ns)[device]
        busy = np.bincount(rows.processor[device], weights=length).max(initial=0)
        shares.append(busy / max(int(run.end_ns.max() - run.start_ns.min()), 1))
    return max(shares)


def _predict(recording: Recording, figures: Figures) -> None:
    """Errors of all ordered pairs of steps, and each source's steady period against the median."""
    if len(recording.steps) < 2:
        return
    known = [p for p in periods_ns(recording.job, recording.measured) if p is not None]
    median = float(np.median(known))
    for source in recording.steps[:12]:
        predictions = predict_steps(recording, source)
        for one in predictions:
            period = one.period
            if period.error_pct is not None and period.naive_error_pct is not None:
                figures.periods.append((period.error_pct, period.naive_error_pct))
        predicted = predictions[0].period.predicted_ns
        if predicted is not None:
            figures.steady.append((source, 100 * (predicted - median) / median))


def tables(found: Sequence[Figures]) -> str:
    """All tables as Markdown, the worst trace first."""
    found = sorted(found, key=lambda one: -abs(one.worst.error_pct or 0))
    return "\n\n".join([_own(found), _ablations(found), _predictions(found), _contention()])


def _own(found: Sequence[Figures]) -> str:
    lines = [
        "## Own-step replay, worst step of each trace",
        "",
        "Each step from its recorded starting state, by rules only. *start*: 95 % of the device tasks",
        "start at most this far off, in % of the span. *crude*: the worst error of a list replay (host",
        "as recorded, every stream a queue behind it); traces that it gets right within "
        f"{EASY_PCT} % are marked",
        "*easy*, and *host* where the device is busy less than half of the time. *+delays*: with the",
        "recorded delays that no rule explains. *unexplained*: those delays in % of the span, worst",
        "step and rank; *idle explained*: share of the device's idle time that ends as a rule says.",
        "",
        "| trace | steps | span ms | error % | bar | start % | bar | whole % | crude % | +delays % "
        "| unexplained % | idle explained % | |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in found:
        known = (bars for name, bars in TRACES.items() if name.removesuffix(".json.gz") == one.name)
        error_bar, start_bar = next(known, ("-", "-"))
        marks = [
            word
            for word, holds in (("easy", abs(one.crude) <= EASY_PCT), ("host", one.host_bound))
            if holds
        ]
        idle = "-" if one.idle_explained is None else f"{one.idle_explained:.1f}"
        lines.append(
            f"| {one.name} | {one.steps} | {ms(one.worst.measured_ns):.{1 if one.worst.measured_ns > 10**7 else 3}f} "
            f"| {one.worst.error_pct:+.2f} | {error_bar} | {one.start_p95:.2f} | {start_bar} "
            f"| {one.whole:+.2f} | {one.crude:+.2f} | {one.with_unexplained:+.2f} "
            f"| {one.unexplained:.2f} | {idle} | {', '.join(marks)} |"
        )
    left_out = sum(one.left_out for one in found)
    lines += [
        "",
        f"Steps left out because more than {REPAIRED_PCT} % of them was repaired: {left_out}.",
    ]
    lines += [
        f"The bar for `--whole` is {WHOLE_BAR_PCT} % wherever there is one. `vllm-piecewise-graph` begins while the",
        "device is busy with work that was launched before the recording and is not in it: its first task",
        "starts 149 ms late for no reason that the trace tells.",
    ]
    return "\n".join(lines)


def _ablations(found: Sequence[Figures]) -> str:
    head = " | ".join(rule.word for rule in DROPPABLE)
    lines = [
        "## What each rule is worth",
        "",
        "Worst error of any step and rank, in %, when the rule is dropped (`--drop`): durations, lags",
        "and frozen gaps stay as fitted with all rules.",
        "",
        f"| trace | all rules | {head} |",
        "|---|---|" + "---|" * len(DROPPABLE),
    ]
    for one in found:
        worst = max((rank.error_pct or 0.0 for rank in one.worst.ranks), key=abs)
        cells = " | ".join(f"{one.ablations[rule]:+.2f}" for rule in DROPPABLE)
        lines.append(f"| {one.name} | {worst:+.2f} | {cells} |")
    return "\n".join(lines)


def _predictions(found: Sequence[Figures]) -> str:
    lines = [
        "## Other steps predicted from one step alone",
        "",
        "The source step is built, fitted and run back to back with nothing else known. *median pair*:",
        "median |error| of the period over all ordered pairs of steps whose naive error is known;",
        "*naive*: taking the source's own period. *steady*: each source step's period against the",
        "median measured one, worst source after the first.",
        "",
        "| trace | pairs | median pair % | naive % | worst pair % | steady, worst source % |",
        "|---|---|---|---|---|---|",
    ]
    for one in found:
        if not one.periods:
            continue
        errors, naive = np.abs(np.array(one.periods)).T
        source, steady = max(one.steady[1:] or one.steady, key=lambda item: abs(item[1]))
        lines.append(
            f"| {one.name} | {len(errors)} | {np.median(errors):.2f} | {np.median(naive):.2f} "
            f"| {errors.max():.2f} | {steady:+.2f} (from {source}) |"
        )
    v100 = next((one for one in found if one.name == "recsys-2xV100"), None)
    if v100 is not None:
        values = ", ".join(f"{source} {error:+.2f}" for source, error in v100.steady)
        lines += ["", f"recsys-2xV100, every source step against the median period: {values} %."]
    return "\n".join(lines)


def _contention() -> str:
    """How often kernels held those of other streams back, by waves: what the rule rests on."""
    bounds = [2, 4, 8, 16, 64, np.inf]
    lines = [
        "## What the contention rule rests on",
        "",
        "Kernels that became ready while a kernel of another stream still had blocks to hand out, by",
        "the waves of that kernel: how many were held back to its end, how many started freely. Those",
        "that started freely did so beside one kind of kernel, whose blocks are uneven; the fit finds",
        "such kernels by this very count and exempts them.",
        "",
        "| waves | held | free | free beside |",
        "|---|---|---|---|",
    ]
    counts = {bound: [0, 0, set()] for bound in bounds}
    for name in ("recsys-8xA100", "recsys-2xV100", "resnet50-V100-13streams"):
        job, measured = _unexempted(*build(read(DATA / name)))
        graph = lower(job)
        start, end = measured_times(graph, measured)
        held, free = holding_record(graph, start, end, latest_ready(graph, start, end))
        names = job.programs[0].names
        for task in np.flatnonzero(held + free):
            bound = next(b for b in bounds if graph.waves[task] <= b)
            counts[bound][0] += int(held[task])
            counts[bound][1] += int(free[task])
            if free[task]:
                counts[bound][2].add(names[job.programs[0].rows.name[task]])
    low = 2.0
    for bound in bounds[1:]:
        held_count, free_count, beside = counts[bound]
        short = "; ".join(sorted({_short(text) for text in beside}))
        high = "" if bound == np.inf else f" to {bound:g}"
        lines.append(f"| {low:g}{high} | {held_count} | {free_count} | {short} |")
        low = bound
    return "\n".join(lines)


def _unexempted(job: Job, measured: Timeline) -> tuple[Job, Timeline]:
    """The fitted job with the waves that the grids tell."""
    waves = [program.rows.waves for program in job.programs]
    fitted = fit(job, measured)
    programs = tuple(
        replace(program, rows=program.rows.with_columns(waves=own))
        for program, own in zip(fitted.programs, waves, strict=True)
    )
    return replace(fitted, programs=programs), measured


def _short(name: str) -> str:
    return (
        "`"
        + name.replace("void at::native::(anonymous namespace)::", "").partition("<")[0][:40]
        + "`"
    )


HEADER = """# Accuracy

Generated by `make accuracy` from the real traces beside the checkout (`../shared/data`); not
edited by hand. How each figure is made is said above its table; what the model leaves unexplained
stands beside every error. Accuracy is claimed on these GPU traces only: the recordings bundled with
the project show the mechanics.

A replay of one's own step is an easy test where the host decides (see *crude*); the harder ones are
the dropped rules and the steps predicted from one step alone.
"""


def main() -> None:
    """Print the tables, or write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="Markdown file to write")
    arguments = parser.parse_args()
    if not DATA.exists():
        sys.exit(f"no real traces at {DATA}: accuracy is measured on them alone")
    found = []
    for name in names():
        print(f"{name} ...", file=sys.stderr)
        found.append(measure(name))
    print("interventions ...", file=sys.stderr)
    suites = [VALIDATION / "cpu", *sorted((VALIDATION / "gpu").glob("*/"))]
    text = HEADER + "\n" + tables(found) + "\n\n" + changed_jobs(suites)
    print("stragglers ...", file=sys.stderr)
    text += "\n" + stragglers(published_jobs())
    if arguments.write is None:
        print(text)
    else:
        arguments.write.write_text(text)


if __name__ == "__main__":
    main()
