"""capture.json beside the traces: what `lumos.capture` measured in the same run, if it fits them.

It is believed only as far as the traces bear it out: another world size, other ranks, other steps,
or steps of another length, and it is left aside with a finding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np

from lumos.errors import UnusableInputError
from lumos.graph.finding import Finding
from lumos.graph.trace import CaptureNotes, EventKind, StepTimes, Trace
from lumos.ingest.files import partial_files
from lumos.units import NS_PER_MS

NAME = "capture.json"
SCHEMA = "lumos.capture/1"
MAXIMUM_BYTES = 64 * 2**20
"""Larger than the file of 30,000 ranks."""
TOLERANCE = 0.05
TOLERANCE_NS = NS_PER_MS // 2
"""How far the length of a profiled step may be from the trace's: the clock is read outside the
annotation, some 0.1 ms earlier and later."""

_Rank = Annotated[int, msgspec.Meta(ge=0, le=2**31)]
_Ms = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
_Bytes = Annotated[int, msgspec.Meta(ge=0, le=2**62)]


class _Times(msgspec.Struct):
    """Step times of a rank [ms]."""

    median_ms: _Ms
    p10_ms: _Ms
    p90_ms: _Ms
    count: Annotated[int, msgspec.Meta(ge=1)]
    clock: Literal["host", "gpu"]
    host_ms: list[_Ms]

    def steps(self) -> StepTimes:
        """The same in ns."""
        median, p10, p90 = (
            round(x * NS_PER_MS) for x in (self.median_ms, self.p10_ms, self.p90_ms)
        )
        return StepTimes(median, p10, p90, self.count)


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
            message = f"{folder / NAME} does not fit the traces and is not used: {wrong}"
            findings.append(Finding("capture-disagrees", "warning", message, None, _AGAIN))
            continue
        findings += _cut_short(capture)
        for n in places:
            entry = entries[Path(traces[n].source).name]
            found[n] = replace(traces[n], capture=entry.notes())
    if findings:
        found[0] = replace(found[0], findings=(*found[0].findings, *findings))
    return found


_AGAIN = "record again, into a folder of its own"


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
        message = f"the recording of rank {ranks} is {short[0].status}: {short[0].reason}"
        yield Finding("capture-incomplete", "warning", message, None, "record again")


def _disagreements(
    capture: CaptureFile, entries: Mapping[str, _RankEntry], traces: Sequence[Trace]
) -> Iterator[str]:
    """Where the file says something else than the traces, in words."""
    for trace in traces:
        name = Path(trace.source).name
        entry = entries.get(name)
        if entry is None:
            yield f"it knows no {name}"
            continue
        if trace.world_size is not None and trace.world_size != capture.world_size:
            yield f"it tells of {capture.world_size} ranks, {name} of {trace.world_size}"
        if trace.rank is not None and trace.rank != entry.rank:
            yield f"it says that {name} is of rank {entry.rank}, the trace says rank {trace.rank}"
        yield from _other_steps(name, entry, _marked_steps_ns(trace))


def _marked_steps_ns(trace: Trace) -> list[int]:
    """Lengths of the steps that the profiler marked, in order [ns]."""
    mark = np.array([text.startswith("ProfilerStep#") for text in trace.strings], bool)
    rows = np.flatnonzero((trace.kind == EventKind.ANNOTATION) & mark[trace.name])
    return trace.duration_ns[rows[np.argsort(trace.start_ns[rows], kind="stable")]].tolist()


def _other_steps(name: str, entry: _RankEntry, marked_ns: Sequence[int]) -> Iterator[str]:
    told_ns = [round(x * NS_PER_MS) for x in entry.profiled.host_ms] if entry.profiled else []
    whole = entry.status == "complete"
    # what was cut short may hold a step that did not come to its end
    if len(marked_ns) != len(told_ns) and (whole or len(marked_ns) != len(told_ns) + 1):
        yield f"it tells of {len(told_ns)} profiled steps of {name}, the trace holds {len(marked_ns)}"
        return
    for number, (told, marked) in enumerate(zip(told_ns, marked_ns, strict=False), start=1):
        if abs(told - marked) > max(TOLERANCE * marked, TOLERANCE_NS):
            yield (
                f"it says that step {number} of {name} took {told / NS_PER_MS:.2f} ms, "
                f"the trace says {marked / NS_PER_MS:.2f} ms"
            )
            return
