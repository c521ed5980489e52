"""One replayed step, and what is asked of it; two steps held against each other."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from lumos import predict
from lumos.analysis.baseline import Basis
from lumos.analysis.bounds import bounds
from lumos.analysis.cost import MOST_PARTS, costs, default_groupings, parse_groupings
from lumos.analysis.diff import diff as explain
from lumos.analysis.diff import side_of, side_of_rank
from lumos.analysis.replay import StepReplay
from lumos.api.answers import (
    StepBreakdown,
    StepCommunication,
    StepCost,
    StepCriticalPath,
    StepDiff,
    StepLadder,
)
from lumos.api.writing import write_run
from lumos.errors import UsageError
from lumos.graph.execution import DROPPABLE, ExecutionGraph, Rule
from lumos.report.plain import plain
from lumos.units import ms

if TYPE_CHECKING:
    import polars
    from plotly.graph_objects import Figure


@dataclass(frozen=True, repr=False)
class StepRun:
    """One replayed step: its figures, its frames, its timeline."""

    run: predict.Replay

    @property
    def figures(self) -> StepReplay:
        """Spans, errors, breakdown and critical path, rank by rank; times in ns."""
        return self.run.figures

    @property
    def error_pct(self) -> float | None:
        """(replayed - measured) / measured of the step's span, signed [%]."""
        return self.run.figures.error_pct

    @property
    def graph(self) -> ExecutionGraph:
        """The tasks and dependencies that ran."""
        return self.run.graph

    def frame(self) -> polars.DataFrame:
        """One row for each task: rank, kind, name, processor, times [ms] measured and replayed.

        `wait_ms` is what a task spent waiting inside itself in the replay, `own_ms` the rest;
        `unexplained_ms` is the recorded delay that no rule explains. Times count from the step's
        begin. `phase`, `layer`, `micro_batch`, `work` and `operator` are null where the trace does
        not tell them.
        """
        from lumos.report.frames.tasks import tasks_frame

        return tasks_frame(self.run.job, self.run.measured, self.run.replayed)

    def critical_path(self, *, measured: bool = False) -> StepCriticalPath:
        """What the end of the step waits for, across ranks: of its replay, or as `measured`."""
        return StepCriticalPath(self.run, predict.critical_path_of(self.run, measured=measured))

    def slack(self, *, measured: bool = False) -> polars.DataFrame:
        """How much later each task could run; see report/frames/critical_path.py for the columns."""
        return self.critical_path(measured=measured).slack_frame()

    def breakdown(self) -> StepBreakdown:
        """Where the time goes rank by rank, why devices were idle, how well kernels use them."""
        return StepBreakdown(predict.breakdown_of(self.run))

    def communication(self) -> StepCommunication:
        """What each kind and group of collectives moves, how fast, and who came last."""
        return StepCommunication(predict.communication_of(self.run))

    def cost(
        self, by: str | Sequence[str] = (), most: int = MOST_PARTS, *, once: bool = False
    ) -> StepCost:
        """What the step gains if a part were 10 % faster, twice as fast, free; one batch of runs.

        `by` are groupings: class, operator, kernel, layer, phase, stream, rank, host; those of
        `lumos cost` by default. The step runs back to back as in training, or `once` from its
        recorded start. Of each grouping the `most` parts of largest own time are tried.
        """
        base = predict.baseline_of(self.run, Basis.ONCE if once else Basis.BACK_TO_BACK)
        groupings = parse_groupings([by] if isinstance(by, str) else by)
        return StepCost(costs(base, groupings or default_groupings(base.job), most))

    def bounds(self, *, once: bool = False) -> StepLadder:
        """How fast the step could be with one limit after another gone."""
        base = predict.baseline_of(self.run, Basis.ONCE if once else Basis.BACK_TO_BACK)
        return StepLadder(bounds(base))

    def export(self, path: str | Path) -> Path:
        """Write it, measured beside replayed, to a .json.gz or .json file for ui.perfetto.dev."""
        return write_run(Path(path), self.run)

    def breakdown_figure(self) -> Figure:
        """Where the time goes, measured beside replayed, as a plotly figure."""
        from lumos.report.figures import breakdown_figure

        return breakdown_figure(self.figures)

    def timeline_figure(
        self, ranks: Sequence[int] | None = None, *, measured: bool = False
    ) -> Figure:
        """Threads and streams of the replay (or of the measured run) as a plotly figure."""
        from lumos.report.figures import timeline_figure

        run = self.run.measured if measured else self.run.replayed
        return timeline_figure(self.run.step, self.run.job, run, ranks)

    @cached_property
    def _error(self) -> str:
        return "unknown" if self.error_pct is None else f"{self.error_pct:+z.2f} %"

    def __repr__(self) -> str:
        figures = self.figures
        lines = [
            f"{plain(figures.step)}: measured {ms(figures.measured_ns):.3f} ms, "
            f"replayed {ms(figures.replayed_ns):.3f} ms ({self._error})"
        ]
        for rank in figures.ranks[:8]:
            error = "unknown" if rank.error_pct is None else f"{rank.error_pct:+z.2f} %"
            lines.append(
                f"  rank {rank.rank}: {ms(rank.measured_ns):.3f} ms, {ms(rank.replayed_ns):.3f} ms "
                f"({error}), unexplained {ms(rank.unexplained_ns):.3f} ms"
            )
        if len(figures.ranks) > 8:
            lines.append(f"  and {len(figures.ranks) - 8} more ranks")
        return "\n".join(lines)


def diff(first: StepRun, second: StepRun, ranks: tuple[int, int] | None = None) -> StepDiff:
    """Explain the change in makespan from one replayed step to another, part by part.

    With `ranks` that rank of the first is compared with that rank of the second. Raises UsageError
    where the two are of different ranks, or a rank was not traced.
    """
    sides = []
    for place, run in enumerate((first.run, second.run)):
        if ranks is None:
            sides.append(side_of(run.step, run.job, run.measured))
        else:
            label = f"{run.step} rank {ranks[place]}"
            sides.append(side_of_rank(label, run.job, run.graph, run.measured, ranks[place]))
    return StepDiff(explain(*sides))


def parse_rules(words: Rule | str | Collection[Rule | str]) -> tuple[Rule, ...]:
    """Rules by their names, one or several, each once; UsageError for one that cannot be dropped."""
    by_word = {rule.word: rule for rule in DROPPABLE}
    found: dict[Rule, None] = {}
    for word in [words] if isinstance(words, Rule | str) else words:
        rule = word if isinstance(word, Rule) else by_word.get(word)
        if rule is None or rule not in DROPPABLE:
            raise UsageError(f"no rule {word!r} can be dropped; the rules are {', '.join(by_word)}")
        found[rule] = None
    return tuple(found)
