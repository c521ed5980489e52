"""What notebooks use: the traces of a job, and what hangs off them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from lumos import predict
from lumos.analysis import communication, step_breakdown
from lumos.analysis.answers import Answers
from lumos.analysis.baseline import Basis
from lumos.analysis.bounds import StepBounds, bounds
from lumos.analysis.cost import (
    MOST_PARTS,
    StepCosts,
    costs,
    default_groupings,
    parse_groupings,
)
from lumos.analysis.diff import Diff, side_of, side_of_rank
from lumos.analysis.diff import diff as explain
from lumos.analysis.prediction import StepPrediction
from lumos.analysis.replay import StepReplay
from lumos.analysis.step_path import Ran, StepPath
from lumos.analysis.stragglers import Stragglers
from lumos.answer import answer
from lumos.errors import UsageError
from lumos.export.perfetto import write_perfetto
from lumos.graph.execution import DROPPABLE, ExecutionGraph, Rule
from lumos.graph.finding import Finding
from lumos.graph.job import Job
from lumos.graph.timeline import Timeline
from lumos.graph.trace import Trace
from lumos.report.plain import plain
from lumos.units import ms

if TYPE_CHECKING:
    import numpy as np
    import polars
    from numpy.typing import NDArray
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

    def replay(self, step: str = WHOLE, drop: Collection[Rule | str] = ()) -> StepRun:
        """One step replayed from its recorded start, or all in one run; without the rules in `drop`."""
        rules = parse_rules(drop)
        if step == WHOLE:
            return StepRun(predict.replay_whole(self.recording, rules))
        name = self.steps[predict.block_of(self.recording, step)]
        return StepRun(predict.replay_steps(self.recording, [name], rules)[0])

    def replays(self, drop: Collection[Rule | str] = ()) -> list[StepRun]:
        """Each step replayed on its own."""
        return [self.replay(step, drop) for step in self.steps]

    def predict(self, from_step: str) -> list[StepPrediction]:
        """Period and host time of all other steps, from this one alone."""
        return predict.predict_steps(self.recording, from_step)

    def stragglers(self, *steps: str) -> JobStragglers:
        """Who makes the job slower than is typical, and why: in these steps, all by default."""
        return JobStragglers(predict.stragglers(self.recording, steps or None))

    def cost(
        self, step: str | None = None, by: Sequence[str] = (), *, once: bool = False
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
        import polars

        return polars.concat(list(_frames(self.run)))

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
        self, by: Sequence[str] = (), most: int = MOST_PARTS, *, once: bool = False
    ) -> StepCost:
        """What the step gains if a part were 10 % faster, twice as fast, free; one batch of runs.

        `by` are groupings: class, operator, kernel, layer, phase, stream, rank, host; those of
        `lumos cost` by default. The step runs back to back as in training, or `once` from its
        recorded start. Of each grouping the `most` parts of largest own time are tried.
        """
        base = predict.baseline_of(self.run, Basis.ONCE if once else Basis.BACK_TO_BACK)
        return StepCost(costs(base, parse_groupings(by) or default_groupings(base.job), most))

    def bounds(self, *, once: bool = False) -> StepLadder:
        """How fast the step could be with one limit after another gone."""
        base = predict.baseline_of(self.run, Basis.ONCE if once else Basis.BACK_TO_BACK)
        return StepLadder(bounds(base))

    def export(self, path: str | Path) -> Path:
        """Write it, measured beside replayed, to a .json.gz or .json file for ui.perfetto.dev."""
        path = Path(path)
        _write(path, self.run)
        return path

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
        return "unknown" if self.error_pct is None else f"{self.error_pct:+.2f} %"

    def __repr__(self) -> str:
        figures = self.figures
        lines = [
            f"{plain(figures.step)}: measured {ms(figures.measured_ns):.3f} ms, "
            f"replayed {ms(figures.replayed_ns):.3f} ms ({self._error})"
        ]
        for rank in figures.ranks[:8]:
            error = "unknown" if rank.error_pct is None else f"{rank.error_pct:+.2f} %"
            lines.append(
                f"  rank {rank.rank}: {ms(rank.measured_ns):.3f} ms, {ms(rank.replayed_ns):.3f} ms "
                f"({error}), unexplained {ms(rank.unexplained_ns):.3f} ms"
            )
        if len(figures.ranks) > 8:
            lines.append(f"  and {len(figures.ranks) - 8} more ranks")
        return "\n".join(lines)


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


def parse_rules(words: Collection[Rule | str]) -> tuple[Rule, ...]:
    """Rules by their names, each once; UsageError for one that cannot be dropped."""
    by_word = {rule.word: rule for rule in DROPPABLE}
    found: dict[Rule, None] = {}
    for word in words:
        rule = word if isinstance(word, Rule) else by_word.get(word)
        if rule is None or rule not in DROPPABLE:
            raise UsageError(f"no rule {word!r} can be dropped; the rules are {', '.join(by_word)}")
        found[rule] = None
    return tuple(found)


def write_timeline(folder: Path, run: predict.Replay, taken: Collection[Path] = ()) -> Path:
    """Write a replayed step to `folder`/<step>.json.gz, under a name that is not in `taken`."""
    name = re.sub(r"[^\w.-]+", "-", run.step, flags=re.ASCII).strip("-.")[:100] or "step"
    path, number = folder / f"{name}.json.gz", 2
    while path in taken:
        path, number = folder / f"{name}-{number}.json.gz", number + 1
    _write(path, run)
    return path


def _write(path: Path, run: predict.Replay) -> None:
    runs = {"measured": run.measured, "replayed": run.replayed}
    paths = {name: predict.critical_path_of(run, measured=name == "measured").path for name in runs}
    with _writing(path):
        write_perfetto(path, run.job, runs, run.graph, paths=paths)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """A place that cannot be written is the user's to change."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"{path}: cannot be written ({reason}); give another place") from error


def title_of(recording: predict.Recording) -> str:
    """What a page is called unless the user says so: the folder of the traces, or their one file."""
    first = Path(recording.files[0])
    if len(recording.files) == 1:
        return first.name.partition(".")[0]
    return first.resolve().parent.name


def write_page(answers: Answers, title: str, path: Path) -> Path:
    """Write the page of these answers to `path`."""
    from lumos.report.page import page

    text = page(answers, title)
    with _writing(path):
        path.write_text(text, encoding="utf-8")
    return path


def _frames(run: predict.Replay) -> Iterator[polars.DataFrame]:
    import polars

    from lumos.graph.job import TaskKind
    from lumos.graph.work import Phase

    phases = polars.Series([None, *(phase.name.lower() for phase in list(Phase)[1:])])
    kinds = polars.Series([kind.name.lower() for kind in TaskKind])
    for place, rank in enumerate(run.job.placement.ranks):
        program = run.job.programs[run.job.placement.role[place]]
        rows, measured, replayed = (
            program.rows,
            run.measured.ranks[place],
            run.replayed.ranks[place],
        )
        names = polars.Series(program.names)
        labels = polars.Series([processor.label for processor in program.processors])
        works = polars.Series(
            [None, *(work.kind.name.lower() for work in program.works)], dtype=polars.String
        )
        operators = polars.Series(
            [None, *(work.operator for work in program.works)], dtype=polars.String
        )
        yield polars.DataFrame(
            {
                "rank": polars.Series([rank], dtype=polars.Int32).new_from_index(0, len(rows)),
                "step": polars.Series(program.blocks).gather(rows.block),
                "kind": kinds.gather(rows.kind.astype("int64")),
                "name": names.gather(rows.name),
                "processor": labels.gather(rows.processor),
                "on_device": rows.on_device,
                "measured_start_ms": measured.start_ns / 1e6,
                "measured_end_ms": measured.end_ns / 1e6,
                "replayed_start_ms": replayed.start_ns / 1e6,
                "replayed_end_ms": replayed.end_ns / 1e6,
                "own_ms": rows.duration_ns / 1e6,
                "wait_ms": replayed.wait_ns / 1e6,
                "unexplained_ms": rows.delay_ns / 1e6,
                "phase": phases.gather(rows.phase.astype("int64")),
                "layer": _known(rows.layer),
                "micro_batch": _known(rows.micro_batch),
                "work": works.gather(rows.work + 1),
                "operator": operators.gather(rows.work + 1),
            }
        )


def _known(numbers: NDArray[np.int16]) -> polars.Series:
    """Numbers with null where nothing told them."""
    import polars

    return polars.Series(numbers).replace(-1, None)


def _some(names: Sequence[str], most: int = 6) -> str:
    shown = [plain(name) for name in names]
    if len(shown) > most:
        shown = [*shown[: most - 1], "...", shown[-1]]
    return f"{len(names)} ({', '.join(shown)})"
