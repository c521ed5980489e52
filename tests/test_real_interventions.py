"""Jobs that were really changed, predicted from the recording of the unchanged job alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest

import lumos
from lumos.graph.job import Job
from lumos.graph.labels import By
from lumos.graph.work import WorkKind
from lumos.predict import baseline_of
from lumos.whatif.delay import add_host_work, stall
from lumos.whatif.remove import remove
from lumos.whatif.run_twice import run_twice
from lumos.whatif.selection import inside, labelled, operators_of_kind

SUITE = Path(__file__).parents[1] / "validation" / "cpu"
DRIFT_PCT = 7.5
"""How far the three recordings of the unchanged job are apart."""


def gemms_twice(job: Job) -> Job:
    return run_twice(job, operators_of_kind(job, WorkKind.GEMM), innermost=True)


def without_attention(job: Job) -> Job:
    return remove(job, inside(job, operators_of_kind(job, WorkKind.ATTENTION)))


def host_work(job: Job) -> Job:
    return add_host_work(job, labelled(job, By.OPERATOR, "PythonDispatchMode"), 20_000)


def delayed(rank: int, time_ms: int) -> Callable[[Job], Job]:
    return lambda job: stall(job, rank, time_ms * 1_000_000)


def measured_ms(name: str) -> float:
    """Median of the profiled steps, of the slowest rank."""
    ranks = json.loads((SUITE / name / "capture.json").read_text("utf-8"))["ranks"]
    return max(rank["profiled"]["median_ms"] for rank in ranks)


def predicted_ms(name: str, change: Callable[[Job], Job]) -> float:
    """Each recorded step changed and run back to back."""
    traces = lumos.load(sorted((SUITE / name).glob("rank*.json.gz")))
    bases = [baseline_of(traces.replay(step).run) for step in traces.steps]
    return median(base.length_of(change(base.step)) for base in bases) / 1e6


@pytest.mark.parametrize(
    ("changed", "base", "change"),
    [
        ("gemm_twice", "gemm_hook", gemms_twice),
        ("no_attention", "base", without_attention),
        ("host_work", "operator_hook", host_work),
        ("delay-20ms", "base", delayed(1, 20)),
        ("pp2-front-20ms", "pp2", delayed(0, 20)),
        ("pp2-back-60ms", "pp2", delayed(1, 60)),
    ],
)
def test_a_real_change_is_predicted_within_the_machine_s_drift(
    changed: str, base: str, change: Callable[[Job], Job]
) -> None:
    measured = measured_ms(changed)
    error_pct = 100 * (predicted_ms(base, change) / measured - 1)
    no_change_pct = 100 * (measured_ms(base) / measured - 1)
    assert abs(error_pct) < DRIFT_PCT
    assert abs(error_pct) < abs(no_change_pct) / 2
