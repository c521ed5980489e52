"""Stragglers held against what is known: published what-if results, and ranks that were made to sleep.

    python benchmarks/stragglers.py

`make accuracy` writes the tables into docs/accuracy.md.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import lumos
from lumos.analysis.stragglers import StepStragglers
from lumos.units import NS_PER_S, ms

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT.parent / "shared" / "data" / "straggler"
ASLEEP = {
    "recordings/gpt-dp2-delayed": "recordings/gpt-dp2",
    "recordings/gpt-pp2-delayed": "recordings/gpt-pp2",
    "validation/cpu/delay-20ms": "validation/cpu/base",
}
"""Recordings in which one rank sleeps in every step, and the same jobs without."""
BAR_PCT = 0.5
"""How far a value may be off the published one."""


class Deviation(NamedTuple):
    """A value of one job beside the published one."""

    quantity: str
    where: str
    found: float
    published: float

    @property
    def pct(self) -> float:
        """(found - published) / published."""
        return 100 * (self.found / self.published - 1)


def deviations(trace: Path) -> list[Deviation]:
    """All that a job's result-NAME.json holds, beside what its trace-NAME.parquet gives."""
    name = trace.stem.removeprefix("trace-")
    truth = json.loads((trace.parent / f"result-{name}.json").read_text("utf-8"))
    stragglers = lumos.load(trace).stragglers().figures
    overall = stragglers.overall()
    found = [Deviation("slow-down", "", overall.slowdown or 0.0, truth["blocking_slowdown"])]
    found += _slowdowns(overall, "", "", truth)
    for step in stragglers.steps:
        where = f"step {step.step}"
        for quantity, key, time_ns in (
            ("measured time of a step", "step_t_base", step.measured_ns),
            ("without delay", "step_t_nodelay", step.without_delay_ns),
            ("without stragglers", "step_t_noblk", step.without_stragglers_ns),
        ):
            found.append(Deviation(quantity, where, time_ns / NS_PER_S, truth[key][step.step]))
        published = truth["blocking_step_slowdown"][step.step]
        found.append(Deviation("slow-down of a step", where, step.slowdown or 0.0, published))
        found += _slowdowns(step, where, "_per_step", truth)
    return found


def _slowdowns(
    step: StepStragglers, where: str, ending: str, truth: Mapping[str, Any]
) -> Iterator[Deviation]:
    for words, kind, groups in (
        ("data-parallel rank", "dp_rank", step.dp_ranks or {}),
        ("stage", "stage", step.stages or {}),
        ("operation type", "optype", step.operations),
    ):
        published = truth[f"blocking_decompose_by_{kind}{ending}"]
        of_step = published[step.step] if ending else published
        for key, group in groups.items():
            if str(key) in of_step:  # the ends of messages are published together alone
                slowdown = step.slowdown_of(group) or 0.0
                quantity = f"slow-down by {words}" + (", of a step" if ending else "")
                place = f"{where}, {key}" if where else str(key)
                yield Deviation(quantity, place, slowdown, of_step[str(key)])
        missing = set(of_step) - set(map(str, groups))
        if missing:
            raise SystemExit(f"published, but not found: {words} {', '.join(sorted(missing))}")


def published_jobs() -> dict[str, list[Deviation]]:
    """The deviations of each published job by its name."""
    traces = sorted(PUBLISHED.glob("trace-*.parquet"))
    return {trace.stem.removeprefix("trace-"): deviations(trace) for trace in traces}


def published_table(jobs: Mapping[str, list[Deviation]]) -> str:
    """The worst value of each quantity of each job, as Markdown."""
    lines = [
        "| job | quantity | values | worst % | where | found | published |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in jobs.items():
        for quantity in dict.fromkeys(one.quantity for one in found):
            mine = [one for one in found if one.quantity == quantity]
            worst = max(mine, key=lambda one: abs(one.pct))
            lines.append(
                f"| {name} | {quantity} | {len(mine)} | {worst.pct:+z.6f} | {worst.where} "
                f"| {worst.found:.6f} | {worst.published:.6f} |"
            )
    return "\n".join(lines)


def asleep_table() -> str:
    """Ranks that slept: what they cost by the recording alone, and how much longer steps really are."""
    lines = [
        "| recording | dearest rank | cause | cost ms | steps longer by ms | other ranks cost ms |",
        "|---|---|---|---|---|---|",
    ]
    for name, unchanged in ASLEEP.items():
        traces = lumos.load(str(ROOT / name))
        found = traces.stragglers().figures
        costs = {
            rank: median(step.cost_ns(step.ranks[rank]) for step in found.steps)
            for rank in found.steps[0].ranks
        }
        dearest = max(costs, key=lambda rank: costs[rank])
        cause = found.overall().causes[dearest].value
        others = [f"{ms(cost):z.2f}" for rank, cost in costs.items() if rank != dearest]
        longer = _span_ns(traces) - _span_ns(lumos.load(str(ROOT / unchanged)))
        lines.append(
            f"| {name} | {dearest} | `{cause}` | {ms(costs[dearest]):.2f} | {ms(longer):.2f} "
            f"| {', '.join(others)} |"
        )
    return "\n".join(lines)


def _span_ns(traces: lumos.JobTraces) -> float:
    """Median measured span of a step."""
    return median(run.figures.measured_ns for run in traces.replays())


SECTION = """## Stragglers

Two production jobs recorded operation by operation, ST (2 x 4 ranks) and SE (32 x 2), whose what-if
results Lin et al. (OSDI 2025) published. *worst*: of each quantity the value that is furthest from
the published one, over all steps, ranks, stages and types; times in s, slow-downs as factors.

{published}

The bar is {bar} %. In the recordings below rank 1 sleeps for 20 ms in every step. *cost*: what
`lumos stragglers` says from that recording alone; *longer*: how much longer its steps are than those
of the same job recorded without the sleep, in medians of the profiled steps.

{asleep}
"""


def section(jobs: Mapping[str, list[Deviation]]) -> str:
    """The tables as a section of docs/accuracy.md."""
    return SECTION.format(published=published_table(jobs), bar=BAR_PCT, asleep=asleep_table())


def main() -> None:
    """Print the tables; fails where a value is beyond the bar."""
    if not (jobs := published_jobs()):
        sys.exit(f"no published jobs at {PUBLISHED}")
    print(section(jobs))
    worst = max((one for found in jobs.values() for one in found), key=lambda one: abs(one.pct))
    print(f"worst of all: {worst.quantity}, {worst.where}: {worst.pct:+z.6f} %")
    if abs(worst.pct) > BAR_PCT:
        sys.exit(f"beyond {BAR_PCT} %")


if __name__ == "__main__":
    main()
