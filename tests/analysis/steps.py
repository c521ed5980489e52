"""Baselines of drawn jobs: their own run stands in for the measured one."""

from __future__ import annotations

from lumos.analysis.baseline import Baseline, Basis, baseline
from lumos.analysis.replay import StepReplay, span_of
from lumos.graph.job import Job
from lumos.settle import settle
from lumos.simulate import simulate, to_timeline


def baseline_of(
    job: Job, basis: Basis = Basis.BACK_TO_BACK, period_ns: int | None = None
) -> Baseline:
    """What changes of a drawn job are run on."""
    settled = settle(job)
    run = to_timeline(settled.graph, settled.times)
    measured = simulate(settled.graph, delays=True)
    low, high = span_of(settled.job, measured)
    new_low, new_high = span_of(settled.job, run)
    figures = StepReplay("step 0", high - low, new_high - new_low, ())
    return baseline(figures, settled.job, settled.graph, measured, period_ns, basis)
