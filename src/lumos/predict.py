"""The whole way on one page: traces -> Job -> fitted Job -> graph -> simulated run -> figures."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from lumos.analysis.baseline import Baseline, Basis, Period, baseline, measured_periods
from lumos.analysis.communication import StepCommunication, step_communication
from lumos.analysis.prediction import Quantity, StepPrediction, host_ns, periods_ns
from lumos.analysis.replay import StepReplay, compare, span_of
from lumos.analysis.step_breakdown import StepBreakdown, step_breakdown
from lumos.analysis.step_path import Ran, StepPath, step_path
from lumos.analysis.stragglers import Stragglers, gathered, step_stragglers, study_of
from lumos.analysis.task_times import measured_task_times
from lumos.build import build
from lumos.errors import UnusableInputError, UsageError
from lumos.fit import fit
from lumos.fit.back_pressure import observed_depth
from lumos.graph.execution import ExecutionGraph, Rule
from lumos.graph.finding import Finding
from lumos.graph.job import Grain, Job
from lumos.graph.step import steps_of
from lumos.graph.timeline import Timeline
from lumos.graph.trace import Trace
from lumos.ingest.op_level import find_job_trace, read_job
from lumos.ingest.read import read
from lumos.settle import settle
from lumos.simulate import run, simulate, to_timeline
from lumos.whatif.back_to_back import back_to_back, without_late_delays

WARM_UP_COPIES = 6
MEASURED_COPIES = 4
"""Back-to-back copies before the period is read, and those over which it is averaged."""


@dataclass(frozen=True)
class Recording:
    """The fitted Job that some files recorded, and the run it was recorded in.

    `traces` are those of the profiler; there are none where the files hold operations.
    """

    traces: tuple[Trace, ...] = field(repr=False)
    job: Job = field(repr=False)
    measured: Timeline = field(repr=False)
    files: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[str, ...]:
        """Names of the steps, in order."""
        return self.job.programs[0].blocks

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What reading and building found."""
        return self.job.findings

    @property
    def unprofiled_ns(self) -> int | None:
        """How long a step takes without the profiler, measured beside the traces [ns].

        Of each rank the median, of the ranks the slowest; None where not every rank tells.
        """
        known = [
            trace.capture.unprofiled.median_ns
            for trace in self.traces
            if trace.capture is not None and trace.capture.unprofiled is not None
        ]
        return max(known) if known and len(known) == len(self.traces) else None


@dataclass(frozen=True)
class Replay:
    """One replayed step with everything that led to it: for figures, timelines and exports.

    `period` is the measured one of the step, or of steps like it; None where there is none.
    """

    step: str
    job: Job = field(repr=False)
    graph: ExecutionGraph = field(repr=False)
    measured: Timeline = field(repr=False)
    replayed: Timeline = field(repr=False)
    figures: StepReplay
    period: Period | None = None


def open_recording(
    paths: str | Path | Sequence[str | Path],
    *,
    cache: bool = True,
    doing: Callable[[str], None] = lambda _: None,
) -> Recording:
    """The job in files, folders and globs: traces of the profiler, or one operation-level trace.

    `doing` hears what is being done. Raises UnusableInputError where no usable trace is found.
    """
    doing("reading traces")
    file = find_job_trace(paths)
    if file is not None:
        job, measured = read_job(file)
        with _naming_files((str(file),)):
            return Recording((), fit(job, measured), measured, (str(file),))
    traces = read(paths, cache=cache)
    doing(f"building the job of {len(traces)} ranks")
    return record(traces)


def record(traces: Sequence[Trace]) -> Recording:
    """Build and fit the Job that the traces recorded."""
    if not traces:
        raise UnusableInputError("no traces were given")
    job, measured = build(traces)
    if not any(len(program.rows) for program in job.programs):
        raise UnusableInputError(
            f"{traces[0].source}: no operator or runtime call in any step; "
            "record with both the CPU and the GPU activity"
        )
    files = tuple(trace.source for trace in traces)
    with _naming_files(files):
        return Recording(tuple(traces), fit(job, measured), measured, files)


@contextmanager
def _naming_files(files: Sequence[str]) -> Iterator[None]:
    """A job knows ranks; whoever reads that it cannot be run wants to know the files."""
    try:
        yield
    except UnusableInputError as error:
        more = f" and {len(files) - 1} more files" if len(files) > 1 else ""
        raise type(error)(f"{files[0]}{more}: {error}") from error


def replay_steps(
    recording: Recording, steps: Iterable[str] | None = None, drop: Collection[Rule] = ()
) -> list[Replay]:
    """Each step on its own, from its recorded starting state; all steps by default."""
    chosen = recording.steps if steps is None else tuple(steps)
    blocks = [block_of(recording, name) for name in chosen]
    periods = measured_periods(recording.job, recording.measured)
    with _naming_files(recording.files):
        replays = [
            _replay(name, *steps_of(recording.job, recording.measured, block, block + 1), drop)
            for name, block in zip(chosen, blocks, strict=True)
        ]
    unprofiled = recording.unprofiled_ns
    return [
        replace(one, period=periods[block], figures=replace(one.figures, unprofiled_ns=unprofiled))
        for one, block in zip(replays, blocks, strict=True)
    ]


def replay_whole(recording: Recording, drop: Collection[Rule] = ()) -> Replay:
    """All steps in one run, from the recorded start of the first."""
    last = len(recording.steps)
    with _naming_files(recording.files):
        return _replay("whole", *steps_of(recording.job, recording.measured, 0, last), drop)


def block_of(recording: Recording, step: str) -> int:
    """The number of the step called `step`; `10` finds `ProfilerStep#10` too."""
    names = recording.steps
    for wanted in (step, f"ProfilerStep#{step}", f"step {step}"):
        if wanted in names:
            return names.index(wanted)
    known = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    raise UsageError(f"no step is called {step!r}; the trace has {known}")


def names_of(recording: Recording, steps: Iterable[str]) -> list[str]:
    """The names of steps as the recording has them, each once."""
    return list(dict.fromkeys(recording.steps[block_of(recording, step)] for step in steps))


def median_step(recording: Recording) -> str:
    """The step of median measured span: the one to look at where only one is looked at.

    Of an even number the shorter of the middle two. Steps in which nothing was recorded do not
    count: a profiler that stops behind a step often marks the begin of another.
    """
    spans = []
    for block, name in enumerate(recording.steps):
        low, high = span_of(*steps_of(recording.job, recording.measured, block, block + 1))
        spans.append((high - low, block, name))
    spans = sorted(one for one in spans if one[0]) or spans
    return spans[(len(spans) - 1) // 2][2]


def _replay(step: str, job: Job, measured: Timeline, drop: Collection[Rule]) -> Replay:
    settled = settle(job, drop)
    job, graph, measured = settled.job, settled.graph, settled.reorder(measured)
    replayed = to_timeline(graph, settled.times)
    with_delays = None if drop else simulate(graph, delays=True)
    figures = compare(step, job, graph, measured, replayed, with_delays, settled.times)
    return Replay(step, job, graph, measured, replayed, figures)


def baseline_of(replay: Replay, basis: Basis = Basis.BACK_TO_BACK) -> Baseline:
    """What the changes of a replayed step are run on: the step back to back, or once as recorded."""
    return baseline(replay.figures, replay.job, replay.graph, replay.measured, replay.period, basis)


def critical_path_of(replay: Replay, *, measured: bool = False) -> StepPath:
    """The critical path of a step as replayed by rules alone, or as `measured`."""
    if measured:
        times = measured_task_times(replay.graph, replay.measured)
        ran, timeline = Ran.MEASURED, replay.measured
    else:
        times = run(replay.graph)
        ran, timeline = Ran.REPLAYED, replay.replayed
    error = replay.figures.error_pct
    return step_path(replay.step, ran, replay.job, replay.graph, timeline, times, error)


def breakdown_of(replay: Replay) -> StepBreakdown:
    """Where the time of a step goes, measured beside replayed, and how busy its devices are."""
    return step_breakdown(replay.step, replay.job, replay.graph, replay.measured, replay.replayed)


def communication_of(replay: Replay) -> StepCommunication:
    """What collectives and messages of a step move, how fast, and who came last."""
    return step_communication(replay.step, replay.job, replay.measured, replay.replayed)


def stragglers(
    recording: Recording,
    steps: Iterable[str] | None = None,
    *,
    doing: Callable[[str], None] = lambda _: None,
) -> Stragglers:
    """Who is slower than is typical in these steps, all by default; all are held against each other."""
    names = recording.steps if steps is None else steps
    blocks = dict.fromkeys(block_of(recording, name) for name in names)
    doing("holding ranks and steps against each other")
    study, found = study_of(recording.job), []
    with _naming_files(recording.files):
        for number, block in enumerate(blocks):
            doing(f"looking for stragglers ({number + 1} of {len(blocks)} steps)")
            found.append(step_stragglers(study, recording.measured, block))
    return gathered(study, found)


def predict_steps(recording: Recording, from_step: str) -> list[StepPrediction]:
    """All other steps from `from_step` alone, run back to back with the host running ahead."""
    source = block_of(recording, from_step)
    if recording.job.grain is Grain.OPERATION:
        raise UsageError(
            f"{recording.files[0]}: other steps cannot be predicted from a trace of whole "
            "operations; it does not tell what one step waits for in the step before"
        )
    with _naming_files(recording.files):
        alone = _alone(recording, source)
        period, host = steady(alone) if alone is not None else (None, None)
    measured_periods = periods_ns(recording.job, recording.measured)
    measured_hosts = host_ns(recording.job, recording.measured)
    return [
        StepPrediction(
            recording.steps[source],
            name,
            Quantity(measured_periods[block], period, measured_periods[source]),
            Quantity(measured_hosts[block], host, measured_hosts[source]),
            recording.unprofiled_ns,
        )
        for block, name in enumerate(recording.steps)
        if block != source
    ]


def assumptions(recording: Recording) -> tuple[Finding, ...]:
    """What predictions of other steps take for granted and the recording does not show."""
    depth = recording.job.lags.back_pressure_depth
    if not depth or observed_depth(recording.job, recording.measured):
        return ()
    message = (
        f"no launch blocked in this recording; back-to-back steps are predicted with launches "
        f"blocking at {depth} outstanding on a stream"
    )
    return (Finding("launch-queue-assumed", "info", message),)


def _alone(recording: Recording, block: int) -> Job | None:
    """The Job built and fitted from one step alone; None for a step in which no host did anything.

    Delays of device tasks that ran beside the next step are not taken over: the next copy's tasks
    are simulated instead.
    """
    job, measured = build(recording.traces, block)
    if not any(len(run) for run in measured.ranks):
        return None
    return without_late_delays(fit(job, measured), measured)


def steady(job: Job) -> tuple[int | None, int]:
    """Period of the last device end and the host's time of a step run back to back [ns]."""
    settled = settle(back_to_back(job, WARM_UP_COPIES + MEASURED_COPIES))
    simulated = simulate(settled.graph, delays=True)
    periods = periods_ns(settled.job, simulated)[-MEASURED_COPIES:]
    hosts = host_ns(settled.job, simulated)[-MEASURED_COPIES:]
    known = [period for period in periods if period is not None]
    period = round(float(np.mean(known))) if len(known) == len(periods) else None
    return period, round(float(np.mean(hosts)))
