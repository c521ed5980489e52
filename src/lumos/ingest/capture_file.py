"""capture.json beside the traces: what `lumos.capture` measured in the same run, if it fits them.

It is believed only as far as the traces and its own lists of times bear it out: another world size,
other ranks, other steps, steps of another length, a median that is none of the times beside it, and
it is left aside with a finding. No trace tells how long steps took without the profiler: of those
times no more is known than that they fit each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec
import numpy as np

from lumos.errors import UnusableInputError
from lumos.graph.finding import CUT_OFF, Finding
from lumos.graph.trace import CaptureNotes, EventKind, StepTimes, Trace
from lumos.ingest.files import partial_files
from lumos.units import NS_PER_MS

NAME = "capture.json"
SCHEMA = "lumos.capture/1"
MAXIMUM_BYTES = 64 * 2**20
"""Larger than the file of 30,000 ranks."""
TOLERANCE = 0.05
TOLERANCE_NS = 3 * NS_PER_MS
"""How far the length of a profiled step may be from the trace's: the clock is read some 0.1 ms beside
the annotation, and in between the host may lose a time slice (3 ms on 8 CPUs and more:
`sched_base_slice_ns` of Linux 6.6)."""

_ROUNDED_MS, _ROUNDED_PCT = 1e-4, 1e-2
"""The last digits that are written."""

_Rank = Annotated[int, msgspec.Meta(ge=0, le=2**31)]
_Ms = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
_Bytes = Annotated[int, msgspec.Meta(ge=0, le=2**62)]


class _Times(msgspec.Struct):
    """Step times of a rank [ms]."""

    median_ms: _Ms
    p10_ms: _Ms
    p90_ms: _Ms
    min_ms: _Ms
    max_ms: _Ms
    count: Annotated[int, msgspec.Meta(ge=1)]
    clock: Literal["host", "gpu"]
    host_ms: list[_Ms]
    gpu_ms: list[_Ms] | None

    def steps(self) -> StepTimes:
        """The same in ns."""
        median, p10, p90 = (
            round(x * NS_PER_MS) for x in (self.median_ms, self.p10_ms, self.p90_ms)
        )
        return StepTimes(median, p10, p90, self.count)

    def contradictions(self) -> Iterator[str]:
        """What is told of the times and is not so of those that are listed, in words."""
        listed = self.host_ms if self.clock == "host" else self.gpu_ms or []
        if len(listed) != self.count or len(self.host_ms) != self.count:
            yield f"tells of {self.count} steps and lists {len(listed)}"
            return
        percentiles = {"minimum": 0, "10 %": 10, "median": 50, "90 %": 90, "maximum": 100}
        told_ms = (self.min_ms, self.p10_ms, self.median_ms, self.p90_ms, self.max_ms)
        found_ms = np.percentile(listed, list(percentiles.values())).tolist()
        for name, told, found in zip(percentiles, told_ms, found_ms, strict=True):
            if not math.isclose(told, found, rel_tol=1e-9, abs_tol=_ROUNDED_MS):
                yield f"gives {told:.4g} ms as {name}, the times it lists give {found:.4g} ms"


class _RankEntry(msgspec.Struct):
    """What one rank wrote."""

    rank: _Rank
    file: str | None
    status: Literal["complete", "partial", "failed"]
    reason: str | None
    unprofiled: _Times | None
    profiled: _Times | None
    inflation_pct: Annotated[float, msgspec.Meta(ge=-100, le=1e12)] | None
    peak_allocated_bytes: _Bytes | None
    peak_reserved_bytes: _Bytes | None
    peak_resident_bytes: _Bytes | None

    def notes(self) -> CaptureNotes:
        """The part of it that goes with the rank's trace."""
        return CaptureNotes(
            unprofiled=None if self.unprofiled is None else self.unprofiled.steps(),
            profiled=None if self.profiled is None else self.profiled.steps(),
            inflation_pct=self.inflation_pct,
            peak_allocated_bytes=self.peak_allocated_bytes,
            peak_reserved_bytes=self.peak_reserved_bytes,
            peak_resident_bytes=self.peak_resident_bytes,
        )

    def contradictions(self) -> Iterator[str]:
        """Where its parts exclude each other, in words."""
        if (self.status == "complete") is not (self.reason is None):
            because = "gives no reason" if self.reason is None else "says why it is not"
            yield f"it calls the recording of rank {self.rank} {self.status} and {because}"
        for times, kind in ((self.unprofiled, "without"), (self.profiled, "with")):
            for wrong in times.contradictions() if times else ():
                yield f"of rank {self.rank}'s steps {kind} the profiler it {wrong}"
        found = self._inflation_pct()
        if self.inflation_pct is None or found is None:
            same = self.inflation_pct is found
        else:
            same = math.isclose(self.inflation_pct, found, rel_tol=1e-6, abs_tol=_ROUNDED_PCT)
        if not same:
            yield (
                f"it gives {_percent(self.inflation_pct)} as inflation of rank {self.rank}, "
                f"the medians give {_percent(found)}"
            )

    def _inflation_pct(self) -> float | None:
        """By how much the median step is longer with the profiler, where both are by one clock."""
        without, during = self.unprofiled, self.profiled
        if not without or not during or without.clock != during.clock or not without.median_ms:
            return None
        return 100 * (during.median_ms / without.median_ms - 1)


def _percent(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.2f} %"


class CaptureFile(msgspec.Struct, rename={"schema_": "schema"}):
    """What `lumos.capture` wrote: of the job as a whole, and of each rank."""

    schema_: str
    world_size: Annotated[int, msgspec.Meta(ge=1, le=2**31)]
    ranks: list[_RankEntry]


def read_capture(path: Path) -> CaptureFile:
    """A capture.json; UnusableInputError for what is none."""
    try:
        with path.open("rb") as file:
            text = file.read(MAXIMUM_BYTES + 1)
    except OSError as error:
        raise UnusableInputError(f"{path}: cannot be read ({error.strerror or error})") from error
    if len(text) > MAXIMUM_BYTES:
        raise UnusableInputError(f"{path}: larger than any capture.json, {MAXIMUM_BYTES} bytes")
    try:
        found = msgspec.json.decode(text, type=CaptureFile)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnusableInputError(f"{path}: is no capture.json of lumos ({error})") from error
    if found.schema_ != SCHEMA:
        raise UnusableInputError(
            f"{path}: its schema is {found.schema_!r}, this lumos reads {SCHEMA}; "
            "record again, or update lumos"
        )
    return found


def with_captures(traces: Sequence[Trace], paths: Sequence[str | Path]) -> list[Trace]:
    """The traces with what the capture.json in their folders says, and what is wrong with it."""
    found, findings = list(traces), [*_partial(paths), *_fake(traces)]
    for folder in dict.fromkeys(Path(trace.source).parent for trace in traces):
        if not (folder / NAME).is_file():
            continue
        places = [n for n, trace in enumerate(traces) if Path(trace.source).parent == folder]
        try:
            capture = read_capture(folder / NAME)
        except UnusableInputError as error:
            findings.append(
                Finding("capture-unreadable", "warning", f"{error}; it is not used", None, _AGAIN)
            )
            continue
        entries = {entry.file: entry for entry in capture.ranks if entry.file is not None}
        wrong = next(_disagreements(capture, entries, [traces[n] for n in places]), None)
        if wrong is not None:
            message = f"{folder / NAME} is not used: {wrong.words}"
            findings.append(Finding("capture-disagrees", "warning", message, None, wrong.advice))
            continue
        findings += _cut_short(capture)
        for n in places:
            entry = entries[Path(traces[n].source).name]
            found[n] = replace(traces[n], capture=entry.notes())
    if findings:
        found[0] = replace(found[0], findings=(*found[0].findings, *findings))
    return found


_AGAIN = "record again"


def _partial(paths: Sequence[str | Path]) -> list[Finding]:
    """Recordings that were cut short stay out unless they are named."""
    left = partial_files(paths)
    if not left:
        return []
    names = ", ".join(file.name for file in left[:4]) + (", ..." if len(left) > 4 else "")
    message = f"left out, for they were cut short: {names}; name a file to read it"
    return [Finding("partial-recording", "warning", message, None, "let the training run longer")]


def _fake(traces: Sequence[Trace]) -> Iterator[Finding]:
    """Where the other ranks did not exist, communication is in name only."""
    if any(trace.backend == "fake" for trace in traces):
        message = "recorded in a fake world: communication moved nothing and took no time"
        yield Finding("fake-world", "info", message)


def _cut_short(capture: CaptureFile) -> Iterator[Finding]:
    short = [entry for entry in capture.ranks if entry.status != "complete"]
    if short:
        ranks = ", ".join(str(entry.rank) for entry in short[:8]) + ", ..." * (len(short) > 8)
        message = f"there is no whole recording of rank {ranks}: {short[0].reason}"
        yield Finding("capture-incomplete", "warning", message, None, "record again")


class _Wrong(NamedTuple):
    """Why a file is not believed, and what to do."""

    words: str
    advice: str = _AGAIN


def _disagreements(
    capture: CaptureFile, entries: Mapping[str, _RankEntry], traces: Sequence[Trace]
) -> Iterator[_Wrong]:
    """Where the file says something else than the traces, or than itself."""
    for entry in capture.ranks:
        for words in entry.contradictions():
            yield _Wrong(f"it contradicts itself: {words}")
    for trace in traces:
        name = Path(trace.source).name
        if name in entries:
            for words in _of_trace(trace, name, capture.world_size, entries[name]):
                yield _Wrong(f"it does not fit the traces: {words}")
        else:
            yield _Wrong(f"it knows no {name}", f"move {name} away, if it is of another recording")


def _of_trace(trace: Trace, name: str, world_size: int, entry: _RankEntry) -> Iterator[str]:
    if trace.world_size is not None and trace.world_size != world_size:
        yield f"it tells of {world_size} ranks, {name} of {trace.world_size}"
    if trace.rank is not None and trace.rank != entry.rank:
        yield f"it says that {name} is of rank {entry.rank}, the trace says rank {trace.rank}"
    is_cut = any(finding.code == CUT_OFF for finding in trace.findings)
    yield from _other_steps(name, entry, _marked_steps_ns(trace), is_cut=is_cut)


def _marked_steps_ns(trace: Trace) -> list[int]:
    """Lengths of the steps that the profiler marked, in order [ns]."""
    mark = np.array([text.startswith("ProfilerStep#") for text in trace.strings], bool)
    rows = np.flatnonzero((trace.kind == EventKind.ANNOTATION) & mark[trace.name])
    return trace.duration_ns[rows[np.argsort(trace.start_ns[rows], kind="stable")]].tolist()


def _other_steps(
    name: str, entry: _RankEntry, marked_ns: Sequence[int], *, is_cut: bool
) -> Iterator[str]:
    told_ns = [round(x * NS_PER_MS) for x in entry.profiled.host_ms] if entry.profiled else []
    whole = entry.status == "complete"
    # a recording cut short may hold a step that did not come to its end, a cut file lack some
    fits = len(marked_ns) == len(told_ns) or (not whole and len(marked_ns) == len(told_ns) + 1)
    if not fits and not (is_cut and len(marked_ns) < len(told_ns)):
        yield f"it tells of {len(told_ns)} profiled steps of {name}, the trace holds {len(marked_ns)}"
        return
    for number, (told, marked) in enumerate(zip(told_ns, marked_ns, strict=False), start=1):
        if abs(told - marked) > max(TOLERANCE * marked, TOLERANCE_NS):
            yield (
                f"it says that step {number} of {name} took {told / NS_PER_MS:.2f} ms, "
                f"the trace says {marked / NS_PER_MS:.2f} ms"
            )
            return
