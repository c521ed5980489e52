"""The traces of a job: its steps, its findings, and what is asked of all of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lumos import predict
from lumos.analysis.prediction import StepPrediction
from lumos.answer import answer
from lumos.api.answers import JobStragglers, StepCost, StepLadder
from lumos.api.step_run import StepRun, parse_rules
from lumos.api.writing import title_of, write_page, write_timeline
from lumos.graph.execution import ExecutionGraph, Rule
from lumos.graph.finding import Finding
from lumos.graph.job import Job
from lumos.graph.timeline import Timeline
from lumos.graph.trace import Trace
from lumos.report.plain import plain
from lumos.units import ms

if TYPE_CHECKING:
    import polars
    from plotly.graph_objects import Figure

WHOLE = "whole"
"""In the place of a step's name: all steps in one run."""


def load(paths: str | Path | Sequence[str | Path], *, cache: bool = True) -> JobTraces:
    """The traces of one job from files, folders and globs, built into a Job and fitted.

    Traces of the profiler, or one operation-level trace (`trace-NAME.parquet`, with its
    `meta-NAME.yaml` beside it).

    Raises UnusableInputError where no usable trace is found.
    """
    return JobTraces(predict.open_recording(paths, cache=cache))


class JobTraces:
    """The traces of one job. Steps go by their names; `10` finds `ProfilerStep#10` too.

    `recording` holds everything: traces, fitted Job, measured run.
    """

    def __init__(self, recording: predict.Recording) -> None:
        self.recording = recording

    @property
    def traces(self) -> tuple[Trace, ...]:
        """What each rank recorded; empty where the file holds whole operations."""
        return self.recording.traces

    @property
    def job(self) -> Job:
        """What the program does, with its own durations and lags."""
        return self.recording.job

    @property
    def measured(self) -> Timeline:
        """The recorded run of the job's rows."""
        return self.recording.measured

    @property
    def steps(self) -> tuple[str, ...]:
        """Names of the steps, in order."""
        return self.recording.steps

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was repaired, dropped, missing or assumed."""
        return self.recording.findings

    def graph(self, step: str = WHOLE) -> ExecutionGraph:
        """Tasks and dependencies of one step, as the simulator runs them."""
        return self.replay(step).graph

    def replay(self, step: str = WHOLE, drop: Rule | str | Collection[Rule | str] = ()) -> StepRun:
        """One step replayed from its recorded start, or all in one run; without the rules in `drop`."""
        rules = parse_rules(drop)
        if step == WHOLE:
            return StepRun(predict.replay_whole(self.recording, rules))
        name = self.steps[predict.block_of(self.recording, step)]
        return StepRun(predict.replay_steps(self.recording, [name], rules)[0])

    def replays(self, drop: Rule | str | Collection[Rule | str] = ()) -> list[StepRun]:
        """Each step replayed on its own."""
        return [self.replay(step, drop) for step in self.steps]

    def predict(self, from_step: str) -> list[StepPrediction]:
        """Period and host time of all other steps, from this one alone."""
        return predict.predict_steps(self.recording, from_step)

    def stragglers(self, *steps: str) -> JobStragglers:
        """Who makes the job slower than is typical, and why: in these steps, all by default."""
        return JobStragglers(predict.stragglers(self.recording, steps or None))

    def cost(
        self, step: str | None = None, by: str | Sequence[str] = (), *, once: bool = False
    ) -> StepCost:
        """What a step gains from faster parts, that of median span by default; see StepRun.cost."""
        return self.replay(step or predict.median_step(self.recording)).cost(by, once=once)

    def bounds(self, step: str | None = None, *, once: bool = False) -> StepLadder:
        """The bounds ladder of a step, that of median span by default; see StepRun.bounds."""
        return self.replay(step or predict.median_step(self.recording)).bounds(once=once)

    def frame(self, step: str = WHOLE) -> polars.DataFrame:
        """The rows of a step, measured and replayed; see StepRun.frame."""
        return self.replay(step).frame()

    def export(self, folder: str | Path) -> list[Path]:
        """Write each step, measured beside replayed, as a file for ui.perfetto.dev."""
        files: list[Path] = []
        for run in self.replays():
            files.append(write_timeline(Path(folder), run.run, files))
        return files

    def errors_figure(self) -> Figure:
        """Replay errors of all steps, rank by step, as a plotly figure."""
        from lumos.report.figures import errors_figure

        return errors_figure([run.figures for run in self.replays()])

    def report(
        self, path: str | Path, step: str | None = None, *, title: str | None = None
    ) -> Path:
        """Write all answers about a step, that of median span by default, as one HTML file.

        `title` is the head of the page, the folder of the traces by default.
        """
        name = title_of(self.recording) if title is None else title
        return write_page(answer(self.recording, step), name, Path(path))

    def __repr__(self) -> str:
        placement, ranks = self.job.placement, self.job.placement.ranks
        events = sum(len(trace) for trace in self.traces)
        rows = sum(len(self.job.programs[role].rows) for role in placement.role)
        lines = [
            f"JobTraces of {len(ranks)} of {placement.world_size} ranks"
            + (f" on {plain(placement.gpu)}" if placement.gpu else "")
            + (f": {events:,} events" if self.traces else ": whole operations")
            + f", {rows:,} rows, {ms(self.measured.span_ns):,.1f} ms",
            f"  steps: {_some(self.steps)}",
            f"  files: {_some([Path(file).name for file in self.recording.files])}",
        ]
        lines += [f"  {finding.severity}: {plain(finding.message)}" for finding in self.findings]
        return "\n".join(lines)


def _some(names: Sequence[str], most: int = 6) -> str:
    shown = [plain(name) for name in names]
    if len(shown) > most:
        shown = [*shown[: most - 1], "...", shown[-1]]
    return f"{len(names)} ({', '.join(shown)})"
