"""The whole way of a job: read, record, replay, predict, inspect, export - and what must then hold."""

from __future__ import annotations

import faulthandler
import json
import math
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from jsonschema import Draft202012Validator
from numpy.typing import NDArray

from lumos import predict
from lumos.analysis.grade import grade, shortfalls
from lumos.analysis.inspection import inspect
from lumos.api import StepRun, write_timeline
from lumos.build import build
from lumos.build.host_communication import POINT_TO_POINT
from lumos.errors import LumosError, UnusableInputError
from lumos.graph.job import NONE, Program, TaskKind
from lumos.graph.trace import Trace
from lumos.ingest.read import read
from lumos.report.documents.critical_path import critical_path_document
from lumos.report.documents.encoding import encode
from lumos.report.documents.inspection import inspect_document
from lumos.report.documents.replay import replay_document
from lumos.report.plain import plain
from lumos.report.text.critical_path import critical_path_report
from lumos.report.text.inspection import inspect_report
from lumos.report.text.replay import replay_report

LONGEST_S = 20
MOST_MEMORY_BYTES = 6 * 2**30
MOST_STEPS = 4
"""Steps replayed and predicted from, of those that a trace has."""
WILD_ERROR_PCT = 1000.0


class Nonsense(AssertionError):
    """A result that no honest reading of the input can have."""


class TooSlow(AssertionError):
    """A case took longer than LONGEST_S."""


@contextmanager
def watched(seconds: int = LONGEST_S) -> Iterator[None]:
    """Fail a case that hangs or takes memory without end; compiled loops end the whole process."""

    def late(_signal: int, _frame: FrameType | None) -> None:
        raise TooSlow(f"took longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    signal.alarm(seconds)
    faulthandler.dump_traceback_later(3 * seconds, exit=True, file=sys.__stderr__)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_MEMORY_BYTES, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        faulthandler.cancel_dump_traceback_later()
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def write(folder: Path, documents: list[Any]) -> list[Path]:
    """The documents as files, by rank; text as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for rank, document in enumerate(documents):
        path = folder / f"rank{rank}.json"
        text = document if isinstance(document, str | bytes) else json.dumps(document)
        path.write_bytes(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text)
        paths.append(path)
    return paths


def go(folder: Path, output: Path) -> str:
    """The whole way; what came out in a word. Raises what is no good end."""
    try:
        traces = read(folder, cache=False)
    except LumosError as error:
        return _explained(error, folder)
    for trace in traces:
        trace.self_check()
    _inspect(traces)
    try:
        recording = predict.record(traces)
        _replay(recording, output)
    except LumosError as error:
        return _explained(error, folder)
    return "replayed"


def _explained(error: LumosError, folder: Path) -> str:
    message = str(error)
    if str(folder) not in message:
        raise Nonsense(f"the error does not name the file: {message}") from error
    if "\n" in message or len(message) > 2000:
        raise Nonsense(f"the error is no line: {message[:3000]!r}") from error
    return f"{type(error).__name__}"


def _inspect(traces: list[Trace]) -> None:
    job, problem = None, "nothing"
    try:
        job, _ = build(traces)
    except UnusableInputError as error:
        problem = str(error)
    if job is not None and not any(len(program.rows) for program in job.programs):
        job = None
    found = inspect(traces, job, problem)
    _finite(found, "inspection")
    lacks = shortfalls(found)
    document = inspect_document(found, grade(lacks), lacks)
    _valid("inspect", document)
    inspect_report(found, grade(lacks), lacks)


def _replay(recording: predict.Recording, output: Path) -> None:
    recording.job.self_check()
    names = recording.steps
    if len(set(names)) != len(names):
        raise Nonsense(f"two steps have one name: {names[:9]}")
    _times_are_those_recorded(recording)
    chosen = list(dict.fromkeys((*names[: MOST_STEPS - 1], *names[-1:])))
    replays = predict.replay_steps(recording, chosen)
    replays.append(predict.replay_whole(recording))
    predictions = [
        one
        for name in dict.fromkeys((*chosen[:1], *chosen[-1:]))
        for one in predict.predict_steps(recording, name)
    ]
    figures = [one.figures for one in replays]
    placement, findings = recording.job.placement, recording.findings
    document = replay_document(placement, figures, predictions, findings)
    _finite(document, "replay")
    _valid("replay", document)
    _finite([_nothing_negative(step) for step in document["steps"]], "replay")
    _times_are_sane(recording, document)
    for one in replays:
        one.graph.self_check()
        _replay_is_sane(one)
    replay_report(placement, figures, predictions, findings, dropped=[], files=[])
    _paths(recording, replays)
    StepRun(replays[-1]).frame()
    for one in (replays[0], replays[-1]):
        file = write_timeline(output, one)
        file.unlink()


def _paths(recording: predict.Recording, replays: list[predict.Replay]) -> None:
    """Critical paths are as long as their runs, and no task on one has any slack."""
    paths = [
        predict.critical_path_of(one, measured=measured)
        for one in replays
        for measured in (False, True)
    ]
    document = critical_path_document(recording.job.placement, paths, recording.findings)
    _finite(document, "critical path")
    _valid("critical_path", document)
    for step in document["steps"]:
        if step["length_ms"] != step["makespan_ms"]:
            raise Nonsense(f"{step['step']}: a path of {step['length_ms']} ms")
    for path in paths:
        if path.slack_ns.min(initial=0) < 0:
            raise Nonsense(f"{path.step}: slack of {path.slack_ns.min()} ns")
        critical_path_report([path])


def _finite(value: Any, where: str) -> None:
    """No NaN and no infinity anywhere."""
    if is_dataclass(value):
        for field in fields(value):
            _finite(getattr(value, field.name), f"{where}.{field.name}")
    elif isinstance(value, dict):
        for key, inner in value.items():
            _finite(inner, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for inner in value:
            _finite(inner, where)
    elif isinstance(value, float) and not math.isfinite(value):
        raise Nonsense(f"{where} is {value}")


@cache
def _validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(
        json.loads(files("lumos.schemas").joinpath(f"{name}-1.json").read_text("utf-8"))
    )


def _valid(name: str, document: dict[str, Any]) -> None:
    text = encode(document)
    _validator(name).validate(json.loads(text))
    assert plain(text.replace("\n", "")) == text.replace("\n", "")


def _nothing_negative(value: Any, path: str = "") -> None:
    """Every number of ms is 0 or more."""
    if isinstance(value, dict):
        for key, inner in value.items():
            _nothing_negative(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value:
            _nothing_negative(inner, path)
    elif isinstance(value, float) and "_ms" in path and value < 0:
        raise Nonsense(f"{path} is {value}")


def _posted_before(trace: Trace, program: Program, rows: NDArray[np.intp]) -> NDArray[np.int64]:
    """How long before its span a send or receive over gloo may have been posted: its call, at most."""
    launch = program.rows.launch[rows]
    call = program.rows.event[launch]
    message = np.array([trace.text(name) in POINT_TO_POINT for name in trace.name], bool)
    posted = (launch != NONE) & (call != NONE) & message[program.rows.event[rows]]
    return np.where(posted, trace.duration_ns[call], 0)


def _times_are_those_recorded(recording: predict.Recording) -> None:
    """Rows lie inside the events they come from, device rows are them; spans are the input's.

    The clocks of several ranks may have been aligned: there each length counts, not each time.
    """
    placement, alone = recording.job.placement, len(recording.traces) == 1
    for place, trace in enumerate(recording.traces):
        program, run = (
            recording.job.programs[placement.role[place]],
            recording.measured.ranks[place],
        )
        rows = np.flatnonzero(program.rows.event != NONE)
        event = program.rows.event[rows]
        if not len(rows):
            continue
        start, end = run.start_ns[rows], run.end_ns[rows]
        if (end < start).any():
            raise Nonsense(f"a row of rank {placement.ranks[place]} ends before it starts")
        longest = trace.duration_ns[event] + _posted_before(trace, program, rows)
        slack = np.int64(0) if alone else longest // 100 + 1000
        if (end - start > longest + slack).any():
            raise Nonsense("a row lasts longer than its event")
        on_device = np.array([p.is_stream and p.device >= NONE for p in program.processors], bool)
        device = on_device[program.rows.processor[rows]]
        known = longest == trace.duration_ns[event]  # others start somewhere in their call
        if (np.abs(end - start - longest) > slack)[device & known].any():
            raise Nonsense("a device row lasts other than its event")
        if alone:
            shift = trace.start_ns[event[device]] - start[device]
            if len(shift) and (shift != shift[0]).any():
                raise Nonsense("device rows have moved against each other")


def _times_are_sane(recording: predict.Recording, document: dict[str, Any]) -> None:
    warned = {f["code"] for f in document["findings"] if f["severity"] != "info"}
    for step in document["steps"]:
        for figures in (step, *step["ranks"]):
            error = figures["error_pct"]
            if error is not None and abs(error) > WILD_ERROR_PCT and not warned:
                raise Nonsense(f"{step['step']}: an error of {error} % without a finding")
        for rank in step["ranks"]:
            for run, span in (("measured", rank["measured_ms"]), ("replayed", rank["replayed_ms"])):
                total = sum(rank["breakdown_ms"][run].values())
                if abs(total - span) > 1e-5 + 1e-9 * span:
                    raise Nonsense(f"the breakdown sums to {total}, the span is {span}")
            idle = rank["idle_explained_pct"]
            if idle is not None and not -1e-6 <= idle <= 100.000001:
                raise Nonsense(f"{idle} % of the idle time is explained")
    span = max((t.start_ns + t.duration_ns).max() for t in recording.traces) - min(
        t.start_ns.min() for t in recording.traces
    )
    for step in document["steps"] if len(recording.traces) == 1 else ():
        if step["measured_ms"] * 1e6 > span + 1:
            raise Nonsense(
                f"{step['step']} is longer than the trace: {step['measured_ms']} ms of {span / 1e6}"
            )


def _replay_is_sane(one: predict.Replay) -> None:
    for place, rank in enumerate(one.replayed.ranks):
        rows = one.job.programs[one.job.placement.role[place]].rows
        if (rank.end_ns < rank.start_ns).any() or (rank.wait_ns < 0).any():
            raise Nonsense(
                f"{one.step}: a replayed row ends before it starts, or waits less than nothing"
            )
        if len(rows) and rank.start_ns.min() < 0:
            raise Nonsense(f"{one.step}: a replayed row starts before the step")
        assert (rows.kind <= max(TaskKind)).all()
