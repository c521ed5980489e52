"""The way from paths to Traces, top to bottom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lumos.errors import UnusableInputError
from lumos.graph.finding import CUT_OFF, CUT_OFF_ADVICE, Finding
from lumos.graph.trace import DEVICE_KINDS, MISSING, EventKind, Trace
from lumos.ingest.cache import entry_of, load, store
from lumos.ingest.capture_file import with_captures
from lumos.ingest.events import Document
from lumos.ingest.files import find_files, rank_in_name, read_bytes
from lumos.ingest.header import parse_header
from lumos.ingest.repair import out_of_reach, repair_times
from lumos.ingest.scanner import scan_document
from lumos.ingest.split import split_ranks
from lumos.ingest.typed import read_documents


def read(paths: str | Path | Sequence[str | Path], *, cache: bool = True) -> list[Trace]:
    """Traces of one job, in order of rank, from files, folders and globs.

    The rank is the one in the metadata, else the one in the file's name, else the file's place
    in the order. What a capture.json beside them tells goes with them. Raises UnusableInputError
    where no usable trace is found, two traces claim one rank, or they belong to jobs of different
    sizes.
    """
    if isinstance(paths, str | Path):
        paths = [paths]
    traces = [trace for file in find_files(paths) for trace in read_file(file, cache=cache)]
    return with_captures(_give_ranks(traces), paths)


def read_file(path: Path, *, cache: bool = True) -> list[Trace]:
    """The traces in one file: one of each rank that wrote to it."""
    entry = entry_of(path) if cache else None
    traces = load(entry, path) if entry else None
    if traces is None:
        traces = _read_afresh(path)
        if entry:
            store(entry, traces)
    return [_naming_the_file(trace) for trace in traces]


def _naming_the_file(trace: Trace) -> Trace:
    """The trace, and what to do about its file says which file; an entry may be read by another name."""
    findings = tuple(
        replace(finding, message=f"{trace.source}: {finding.message}")
        if finding.code == CUT_OFF
        else finding
        for finding in trace.findings
    )
    return replace(trace, findings=findings)


def _read_afresh(path: Path) -> list[Trace]:
    traces = [
        _trace(path, part.document, findings + part.findings)
        for document, findings in _documents(path)
        for part in split_ranks(document)
    ]
    if not any(len(trace) for trace in traces):
        raise UnusableInputError(
            f"{path}: no trace events in it; expected the JSON of the PyTorch profiler "
            "(an object with traceEvents)"
        )
    return [trace for trace in traces if len(trace)]


def _documents(path: Path) -> list[tuple[Document, tuple[Finding, ...]]]:
    """The documents in a file, each with what to tell the user about it."""
    document = scan_document(path)
    if document is not None:
        return [(document, ())]
    text, complete = read_bytes(path)
    documents = read_documents(text)
    if not complete:
        documents[-1] = replace(documents[-1], complete=False)
    findings: tuple[Finding, ...] = ()
    if len(documents) > 1:
        message = f"{len(documents)} traces stand in one file, one behind the other"
        advice = "write one file for each rank"
        findings = (Finding("several-ranks-in-one-file", "warning", message, None, advice),)
    return [(document, findings) for document in documents]


def _trace(path: Path, document: Document, findings: tuple[Finding, ...]) -> Trace:
    header = parse_header(document.header)
    raw = document.columns
    start_ns = raw["start_ns"] + header.base_time_ns
    kind = _mark_annotations(raw["kind"], raw["name"], document.strings)
    trace = Trace(
        source=str(path),
        columns={**raw, "start_ns": start_ns, "kind": kind},
        strings=document.strings,
        argument_row=document.argument_row,
        argument_key=document.argument_key,
        argument_value=document.argument_value,
        rank=header.rank,
        world_size=header.world_size,
        backend=header.backend,
        host=header.host,
        gpu=header.gpu,
        process_groups=header.process_groups,
        thread_names=document.thread_names,
        skipped=document.skipped,
    )
    trace, strays = _without_strays(trace)
    columns, repairs = repair_times(trace.columns)
    trace = replace(trace, columns=columns)
    cut: list[Finding] = []
    if not document.complete:
        trace, cut = _up_to_the_cut(trace)
    return replace(trace, findings=(*findings, *strays, *repairs, *cut, *_unread(document)))


def _without_strays(trace: Trace) -> tuple[Trace, list[Finding]]:
    """The trace without events that start more than a day from the middle one."""
    stray = out_of_reach(trace.start_ns)
    if not stray.any():
        return trace, []
    message = f"{int(stray.sum())} events start more than a day from the others and were left out"
    finding = Finding("impossible-time", "warning", message, None, "record the trace again")
    return trace.take(np.flatnonzero(~stray)), [finding]


def _up_to_the_cut(trace: Trace) -> tuple[Trace, list[Finding]]:
    """The trace of a file that ends in the middle, up to where operators and calls both are known.

    They stand in the file in the order of their start; what other threads did comes at its end, or
    its begin. ::

        file  | operators ...    x (the file ends)
        other thread    | late |            begins behind the last operator: what it belongs to is unknown
    """
    host = ~np.isin(trace.kind, (*DEVICE_KINDS, EventKind.SYNC, EventKind.DEVICE_ANNOTATION))
    sorts = (trace.kind == EventKind.OPERATOR, trace.kind == EventKind.CALL)
    known_ns = min((int(trace.start_ns[rows].max()) for rows in sorts if rows.any()), default=None)
    behind = np.zeros(len(trace), bool)
    if known_ns is not None:
        behind = host & (trace.start_ns > known_ns)
        calls = trace.correlation[behind & sorts[1] & (trace.correlation != MISSING)]
        behind |= ~host & np.isin(trace.correlation, calls)
    message = "the file ends in the middle; what came before was read"
    if left_out := int(behind.sum()):
        message += f", less what begins behind its last operator or call ({left_out} in all)"
    finding = Finding(CUT_OFF, "warning", message, None, CUT_OFF_ADVICE)
    return trace.take(np.flatnonzero(~behind)), [finding]


_ANNOTATION = ("ProfilerStep", "Optimizer.", "## ", "enumerate(DataLoader)")


def _mark_annotations(
    kind: NDArray[np.uint8], name: NDArray[np.int32], strings: Sequence[str]
) -> NDArray[np.uint8]:
    """Old files write annotations as operators; a step around all others is no operator."""
    is_annotation = np.array([text.startswith(_ANNOTATION) for text in strings], bool)
    chosen = (kind == EventKind.OPERATOR) & is_annotation[name]
    return np.where(chosen, EventKind.ANNOTATION, kind).astype(np.uint8)


def _unread(document: Document) -> list[Finding]:
    findings = []
    for why, text in (("malformed", "are no JSON"), ("no time", "have no usable time")):
        if count := document.skipped.get(why, 0):
            message = f"{count} events {text} and were left out"
            code = "malformed-event" if why == "malformed" else "event-without-time"
            findings.append(Finding(code, "warning", message, None, "record the trace again"))
    return findings


def _give_ranks(traces: list[Trace]) -> list[Trace]:
    """Ranks from metadata, then names, then order; sorted by rank."""
    if len({trace.world_size for trace in traces if trace.world_size is not None}) > 1:
        sizes = ", ".join(f"{trace.source}: {trace.world_size}" for trace in traces[:8])
        raise UnusableInputError(f"the files belong to jobs of different world sizes ({sizes})")
    if all(trace.rank is None for trace in traces):
        named = [rank_in_name(trace.source) for trace in traces]
        unique = len(set(named)) == len(named) and None not in named
        numbers = [rank for rank in named if rank is not None] if unique else range(len(traces))
        traces = [replace(t, rank=rank) for t, rank in zip(traces, numbers, strict=True)]
    else:
        traces = _fill_ranks(traces)
    owner: dict[int | None, str] = {}
    for trace in traces:
        if trace.rank in owner:
            raise UnusableInputError(
                f"{trace.source}: rank {trace.rank} is also in {owner[trace.rank]}; "
                "give the files of one job, each rank once"
            )
        owner[trace.rank] = trace.source
    return sorted(traces, key=lambda trace: trace.rank or 0)


def _fill_ranks(traces: list[Trace]) -> list[Trace]:
    taken = {trace.rank for trace in traces}
    free = (rank for rank in range(len(traces) + len(taken)) if rank not in taken)
    filled = []
    for trace in traces:
        rank = trace.rank
        if rank is None:
            named = rank_in_name(trace.source)
            rank = named if named is not None and named not in taken else next(free)
            taken.add(rank)
        filled.append(replace(trace, rank=rank))
    return filled
