"""Answers: all records about a job that one page is made of."""

from __future__ import annotations

from dataclasses import dataclass, field

from lumos.analysis.bounds import StepBounds
from lumos.analysis.communication import StepCommunication
from lumos.analysis.cost import StepCosts
from lumos.analysis.replay import StepReplay
from lumos.analysis.step_breakdown import StepBreakdown
from lumos.analysis.step_path import StepPath
from lumos.analysis.stragglers import Stragglers
from lumos.graph.execution import ExecutionGraph
from lumos.graph.finding import Finding
from lumos.graph.job import Job
from lumos.graph.timeline import Timeline


@dataclass(frozen=True)
class Answers:
    """The replay of every step, its stragglers, and everything that was asked about one step.

    `chosen` is the place of that step in `steps`; `job`, `graph`, `measured` and `replayed` are of
    it. `path` is the critical path of the replay.
    """

    steps: tuple[StepReplay, ...]
    chosen: int
    job: Job = field(repr=False)
    graph: ExecutionGraph = field(repr=False)
    measured: Timeline = field(repr=False)
    replayed: Timeline = field(repr=False)
    path: StepPath = field(repr=False)
    measured_path: StepPath = field(repr=False)
    costs: StepCosts
    bounds: StepBounds
    breakdown: StepBreakdown
    communication: StepCommunication
    stragglers: Stragglers
    findings: tuple[Finding, ...] = ()

    @property
    def step(self) -> StepReplay:
        """The replay of the step that was looked at."""
        return self.steps[self.chosen]
