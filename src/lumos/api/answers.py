"""Answers as notebooks show them: the figures, a sentence, frames, pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lumos import predict
from lumos.analysis import communication, step_breakdown
from lumos.analysis.bounds import StepBounds
from lumos.analysis.cost import StepCosts, parse_groupings
from lumos.analysis.diff import Diff
from lumos.analysis.step_path import Ran, StepPath
from lumos.analysis.stragglers import Stragglers
from lumos.report.plain import plain
from lumos.units import ms

if TYPE_CHECKING:
    import polars
    from plotly.graph_objects import Figure


@dataclass(frozen=True, repr=False)
class StepDiff:
    """Why one step takes longer than another."""

    figures: Diff

    def frame(self) -> polars.DataFrame:
        """One row a part, largest change first; see report/frames/diff.py for the columns."""
        from lumos.report.frames.diff import diff_frame

        return diff_frame(self.figures)

    def __repr__(self) -> str:
        from lumos.report.text.diff import verdict

        return verdict(self.figures)


@dataclass(frozen=True, repr=False)
class StepCriticalPath:
    """The critical path of a step: `figures` hold its sums, its story, the slack of every task."""

    run: predict.Replay
    figures: StepPath

    def frame(self) -> polars.DataFrame:
        """One row a task of the path; see report/frames/critical_path.py for the columns."""
        from lumos.report.frames.critical_path import path_frame

        return path_frame(self.run.job, self.run.graph, self.figures)

    def slack_frame(self) -> polars.DataFrame:
        """One row a task of the step, with its slack."""
        from lumos.report.frames.critical_path import slack_frame

        measured = self.figures.ran is Ran.MEASURED
        timeline = self.run.measured if measured else self.run.replayed
        return slack_frame(self.run.job, self.run.graph, self.figures, timeline)

    def __repr__(self) -> str:
        from lumos.report.text.critical_path import verdict

        return verdict(self.figures)


@dataclass(frozen=True, repr=False)
class StepBreakdown:
    """Where the time of a step goes, and why: `figures` hold measured beside replayed ranks."""

    figures: step_breakdown.StepBreakdown

    def frame(self) -> polars.DataFrame:
        """One row a rank and run; see report/frames/breakdown.py for the columns."""
        from lumos.report.frames.breakdown import breakdown_frame

        return breakdown_frame(self.figures)

    def kernels_frame(self) -> polars.DataFrame:
        """One row a class of kernels: their time, rates, and place under the roofline."""
        from lumos.report.frames.breakdown import kernels_frame

        return kernels_frame(self.figures)

    def utilization_frame(self) -> polars.DataFrame:
        """One row a rank, run and millisecond: the fraction of it in which the device worked."""
        from lumos.report.frames.breakdown import utilization_frame

        return utilization_frame(self.figures)

    def figure(self) -> Figure:
        """Every rank, measured beside replayed, idle time by cause, as a plotly figure."""
        from lumos.report.figures import causes_figure

        return causes_figure(self.figures)

    def utilization_figure(self) -> Figure:
        """How busy the devices are from one millisecond to the next, as a plotly figure."""
        from lumos.report.figures import utilization_figure

        return utilization_figure(self.figures)

    def __repr__(self) -> str:
        from lumos.report.text.breakdown import verdict

        return verdict([self.figures])


@dataclass(frozen=True, repr=False)
class StepCommunication:
    """The communication of a step by kind and group, measured and replayed."""

    figures: communication.StepCommunication

    def frame(self) -> polars.DataFrame:
        """One row a run, kind and group; see report/frames/communication.py for the columns."""
        from lumos.report.frames.communication import communication_frame

        return communication_frame(self.figures)

    def latecomers_frame(self) -> polars.DataFrame:
        """One row a run, kind, group and rank that came last: how often, and who waited how long."""
        from lumos.report.frames.communication import latecomers_frame

        return latecomers_frame(self.figures)

    def figure(self) -> Figure:
        """Transfer against waiting by kind and group, as a plotly figure."""
        from lumos.report.figures import communication_figure

        return communication_figure(self.figures)

    def __repr__(self) -> str:
        from lumos.report.text.communication import verdict

        return verdict(self.figures)


@dataclass(frozen=True, repr=False)
class StepCost:
    """What a step gains from each of its parts made faster."""

    figures: StepCosts

    def frame(self) -> polars.DataFrame:
        """One row a part, largest gain first; see report/frames/cost.py for the columns."""
        from lumos.report.frames.cost import cost_frame

        return cost_frame(self.figures)

    def figure(self, by: str = "class") -> Figure:
        """The parts of one grouping, largest gain first, as a plotly figure."""
        from lumos.report.figures import costs_figure

        (grouping,) = parse_groupings([by])
        return costs_figure(self.figures, grouping)

    def __repr__(self) -> str:
        from lumos.report.text.cost import basis_words, verdict

        return f"{verdict(self.figures)} {basis_words(self.figures.unchanged)}"


@dataclass(frozen=True, repr=False)
class JobStragglers:
    """Which rank, stage or kind of operation makes a job how much slower than is typical."""

    figures: Stragglers

    def frame(self) -> polars.DataFrame:
        """One row a step and group; see report/frames/stragglers.py for the columns."""
        from lumos.report.frames.stragglers import stragglers_frame

        return stragglers_frame(self.figures)

    def figure(self) -> Figure:
        """How much each rank alone slows an even job, rank by step, as a plotly figure."""
        from lumos.report.figures import stragglers_figure

        return stragglers_figure(self.figures)

    def __repr__(self) -> str:
        from lumos.report.text.stragglers import verdict

        return verdict(self.figures)


@dataclass(frozen=True, repr=False)
class StepLadder:
    """How fast a step could be with one limit after another gone."""

    figures: StepBounds

    def frame(self) -> polars.DataFrame:
        """One row a rung, in their order; see report/frames/cost.py for the columns."""
        from lumos.report.frames.cost import bounds_frame

        return bounds_frame(self.figures)

    def __repr__(self) -> str:
        unchanged = self.figures.unchanged
        lines = [f"{plain(unchanged.step)}: {ms(unchanged.length_ns):.3f} ms as it is"]
        for one in self.figures.bounds:
            alone = f"{ms(one.alone_ns):.3f} ms" if one.alone_ns is not None else one.reason
            lines.append(f"  {one.rung.value}: {alone}; so far {ms(one.together_ns):.3f} ms")
        return "\n".join(lines)
