"""Ranks that wrote into one document, told apart: a host process with the devices it launched on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumos.graph.finding import Finding
from lumos.graph.trace import MISSING, EventKind
from lumos.ingest.events import Document

HOST_KINDS = (
    EventKind.OPERATOR,
    EventKind.ANNOTATION,
    EventKind.CALL,
    EventKind.PYTHON,
    EventKind.OVERHEAD,
)
MOST_PROCESSES = 64


@dataclass(frozen=True)
class Part:
    """The document of one rank, and what the user should know about how it was cut out."""

    document: Document
    findings: tuple[Finding, ...] = ()


def split_ranks(document: Document) -> list[Part]:
    """One part for each host process that has a device of its own; most documents are one part.

    A device belongs to the process whose calls its tasks answer (equal correlation, call first).
    Ids of several processes can coincide, so the one with most answers wins. Where two processes
    share one device, its tasks cannot be told apart and the document stays whole.
    """
    columns = document.columns
    calls = (columns["kind"] == EventKind.CALL) & (columns["correlation"] >= 0)
    processes = np.flatnonzero(np.bincount(columns["process"][calls]))
    if not 2 <= len(processes) <= MOST_PROCESSES:
        return [Part(document)]
    on_device = ~np.isin(columns["kind"], HOST_KINDS)
    answers = _answers(columns, calls, on_device, processes)
    launching = np.array([any(row[p] for row in answers.values()) for p in range(len(processes))])
    owner = {device: int(np.argmax(row)) for device, row in answers.items() if row.any()}
    if launching.sum() < 2:
        return [Part(document)]
    if len(set(owner.values())) < launching.sum():
        return [Part(document, (_inseparable(int(launching.sum())),))]
    return _parts(document, on_device, processes, owner)


def _answers(
    columns: Mapping[str, NDArray[Any]],
    calls: NDArray[np.bool_],
    on_device: NDArray[np.bool_],
    processes: NDArray[np.int64],
) -> dict[int, NDArray[np.int64]]:
    """How many tasks of each device answer a call of each process."""
    tasks = on_device & (columns["correlation"] >= 0) & (columns["device"] != MISSING)
    device, wanted = columns["device"][tasks], columns["correlation"][tasks]
    start = columns["start_ns"][tasks]
    found = {int(d): np.zeros(len(processes), np.int64) for d in np.unique(device)}
    for place, process in enumerate(processes):
        own = calls & (columns["process"] == process)
        ids, first = np.unique(columns["correlation"][own], return_index=True)
        at = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
        answered = (ids[at] == wanted) & (columns["start_ns"][own][first][at] <= start)
        for number, counts in found.items():
            counts[place] = np.count_nonzero(answered & (device == number))
    return found


def _parts(
    document: Document,
    on_device: NDArray[np.bool_],
    processes: NDArray[np.int64],
    owner: dict[int, int],
) -> list[Part]:
    columns = document.columns
    devices = np.array(sorted(owner), np.int64)
    part_of_device = np.array([owner[device] for device in devices.tolist()], np.int64)
    part_of_process = np.full(len(document.strings), MISSING, np.int64)
    part_of_process[processes] = np.arange(len(processes))
    place = np.minimum(np.searchsorted(devices, columns["device"]), len(devices) - 1)
    by_device = np.where(devices[place] == columns["device"], part_of_device[place], MISSING)
    part = np.where(on_device, by_device, part_of_process[columns["process"]])
    strays = int(np.count_nonzero(part == MISSING))
    order = dict.fromkeys(owner[device] for device in sorted(owner))
    parts: list[Part] = []
    for number in order:
        pid = document.strings[processes[number]]
        message = (
            f"{len(order)} ranks wrote one file; this one is the process {pid}, "
            "and ranks are counted in the order of their devices"
        )
        if strays:
            message += f"; {strays} events belong to none of them and were left out"
        finding = Finding(
            "several-ranks-in-one-file", "warning", message, None, "write one file for each rank"
        )
        others = {document.strings[p] for p in processes} - {pid}
        parts.append(Part(_rows(document, part == number, others, first=not parts), (finding,)))
    return parts


def _rows(
    document: Document, chosen: NDArray[np.bool_], others: set[str], *, first: bool
) -> Document:
    """The document with the chosen rows only, without a rank of its own."""
    position = np.cumsum(chosen) - 1
    kept = chosen[document.argument_row]
    distributed = document.header.get("distributedInfo")
    header = dict(document.header)
    if isinstance(distributed, Mapping):
        header["distributedInfo"] = {k: v for k, v in distributed.items() if k != "rank"}
    return replace(
        document,
        header=header,
        columns={name: column[chosen] for name, column in document.columns.items()},
        argument_row=position[document.argument_row[kept]],
        argument_key=document.argument_key[kept],
        argument_value=document.argument_value[kept],
        thread_names={k: name for k, name in document.thread_names.items() if k[0] not in others},
        skipped=document.skipped if first else {},
    )


def _inseparable(processes: int) -> Finding:
    message = f"{processes} processes launched work on the same devices; read as one rank"
    return Finding(
        "processes-share-device", "warning", message, None, "write one file for each rank"
    )
