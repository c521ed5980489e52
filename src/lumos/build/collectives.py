"""What each communication task is: kind, process group, bytes - from metadata, else its operator.

Newer traces tell it in the kernel's arguments; in older ones the operator around the launch
(`record_param_comms`, `nccl:all_reduce`) tells kind and sizes, and the group is assumed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lumos.build.device import DeviceTasks
from lumos.build.inputs import told_member
from lumos.build.kernels import collective_kind
from lumos.build.threads import Segments
from lumos.graph.job import NONE, POINT_TO_POINT, CollectiveKind
from lumos.graph.trace import MISSING, Argument, EventKind, Trace

BYTES_OF_DTYPE = {
    "byte": 1, "char": 1, "bool": 1, "int8": 1, "uint8": 1, "float8": 1, "float8_e4m3fn": 1,
    "float8_e5m2": 1, "short": 2, "half": 2, "bfloat16": 2, "float16": 2, "c10::half": 2,
    "c10::bfloat16": 2, "int": 4, "float": 4, "float32": 4, "int32": 4, "long": 8, "double": 8,
    "int64": 8, "float64": 8, "long int": 8, "unsigned char": 1, "signed char": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Communication:
    """One communication event as the trace tells it; None or NONE where it does not.

    `group` is the name of its process group, `members` its ranks as text, `sequence` the number
    of the collective in its group, `peer` the other rank of a send or receive, `member` which
    member of its group that is (0 the first). `waited_ns` is how long after the start of a
    send or receive over gloo the wait for it returned, None for all others.
    """

    event: int
    kind: CollectiveKind
    group: str | None
    members: tuple[int, ...]
    in_bytes: int | None
    out_bytes: int | None
    dtype: str
    sequence: int
    peer: int
    member: int
    waited_ns: int | None


def describe_communication(
    trace: Trace, segments: Segments, tasks: DeviceTasks, communicates: NDArray[np.bool_]
) -> list[Communication]:
    """A description of each communicating device task, in the order of `tasks`."""
    arguments = _Arguments(trace)
    operators = _Operators(trace)
    found = []
    for task in np.flatnonzero(communicates):
        event = int(tasks.event[task])
        segment = int(tasks.segment[task])
        around = operators.around(int(segments.event[segment])) if segment != NONE else []
        one = _describe(trace, arguments, event, around)
        if one.kind in POINT_TO_POINT and trace.kind[event] == EventKind.ANNOTATION:
            end = int(trace.start_ns[event] + trace.duration_ns[event])
            one = replace(one, waited_ns=end - int(tasks.start_ns[task]))
        found.append(one)
    return found


class _Arguments:
    """The sparse arguments by row, those that are asked for."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.known: dict[Argument, dict[int, int]] = {}

    def number(self, key: Argument, rows: list[int]) -> int | None:
        """The first of `rows` that carries `key`."""
        if key not in self.known:
            carrying, values = self.trace.argument(key)
            self.known[key] = dict(zip(carrying.tolist(), values.tolist(), strict=True))
        for row in rows:
            if (value := self.known[key].get(row, MISSING)) != MISSING:
                return value
        return None

    def text(self, key: Argument, rows: list[int]) -> str | None:
        value = self.number(key, rows)
        return None if value is None else self.trace.text(value)


class _Operators:
    """The operators and annotations of communication around a host event."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        wanted = np.array([is_communication_operator(text) for text in trace.strings], bool)
        kinds = (trace.kind == EventKind.OPERATOR) | (trace.kind == EventKind.ANNOTATION)
        rows = np.flatnonzero(kinds & wanted[trace.name])
        self.rows = rows[np.argsort(trace.start_ns[rows], kind="stable")]
        self.start = trace.start_ns[self.rows]
        self.end = self.start + trace.duration_ns[self.rows]

    def around(self, event: int) -> list[int]:
        """Rows around `event` on its thread, innermost first; at most the last few begun."""
        trace = self.trace
        time_ns = int(trace.start_ns[event])
        last = int(np.searchsorted(self.start, time_ns, side="right"))
        inside = []
        for place in range(last - 1, max(last - 16, 0) - 1, -1):
            row = int(self.rows[place])
            if self.end[place] >= time_ns and trace.thread[row] == trace.thread[event]:
                inside.append(row)
        return inside


_CALLS = frozenset({"c10d::send", "c10d::recv_"})
"""Operators that send and receive."""


def is_communication_operator(name: str) -> bool:
    """Whether an operator or annotation of this name stands around communication."""
    return name == "record_param_comms" or name.startswith(
        ("c10d::", "nccl:", "gloo:", "_c10d_functional::")
    )


def _describe(trace: Trace, arguments: _Arguments, event: int, around: list[int]) -> Communication:
    rows = [event, *around]
    dtype = arguments.text(Argument.DTYPE, rows) or ""
    size = BYTES_OF_DTYPE.get(dtype.lower())
    elements = [
        arguments.number(key, rows) for key in (Argument.IN_ELEMENTS, Argument.OUT_ELEMENTS)
    ]
    in_bytes, out_bytes = (None if n is None or size is None else n * size for n in elements)
    if in_bytes is None and out_bytes is None:
        in_bytes = _bytes_of_shapes(trace, rows)
    group = arguments.text(Argument.GROUP_NAME, rows)
    ranks = arguments.text(Argument.GROUP_RANKS, rows) or ""
    sequence = arguments.number(Argument.COLLECTIVE_SEQUENCE, rows)
    peers = [arguments.number(k, rows) for k in (Argument.PEER_DESTINATION, Argument.PEER_SOURCE)]
    return Communication(
        event=event,
        kind=_kind(trace, arguments, rows),
        group=group or None,
        members=_members(ranks),
        in_bytes=in_bytes,
        out_bytes=out_bytes,
        dtype=dtype,
        sequence=NONE if sequence is None else sequence,
        peer=next((peer for peer in peers if peer is not None), NONE),
        member=_member(trace, arguments, around),
        waited_ns=None,
    )


def _member(trace: Trace, arguments: _Arguments, around: list[int]) -> int:
    """The member of its group that a send or receive is called with; NONE where it is not told."""
    for row in around:
        if trace.text(trace.name[row]) in _CALLS:
            return told_member(arguments.text(Argument.INPUT_VALUES, [row]) or "")
    return NONE


def _kind(trace: Trace, arguments: _Arguments, rows: list[int]) -> CollectiveKind:
    """From the metadata, else the kernel's name, else the operators' - the first that tells.

    An all-to-all runs as a SendRecv kernel: there the operator knows better.
    """
    told = arguments.text(Argument.COLLECTIVE_NAME, rows)
    return _first_kind((told or "", *(trace.text(trace.name[row]) for row in rows)))


@lru_cache(maxsize=4096)
def _first_kind(names: tuple[str, ...]) -> CollectiveKind:
    kinds = [kind for kind in map(collective_kind, names) if kind != CollectiveKind.UNKNOWN]
    if kinds and kinds[0] == CollectiveKind.SEND_RECEIVE:
        return next((kind for kind in kinds if kind != CollectiveKind.SEND_RECEIVE), kinds[0])
    return kinds[0] if kinds else CollectiveKind.UNKNOWN


@lru_cache(maxsize=1024)
def _members(ranks: str) -> tuple[int, ...]:
    """The ranks of a group from their text; none where it was shortened."""
    if "..." in ranks:
        return ()
    return tuple(int(number) for number in re.findall(r"\b\d{1,9}\b", ranks))


_SHAPE = re.compile(r"\[\s*(\d{1,18}(?:\s*,\s*\d{1,18})*)\s*\]")


def _bytes_of_shapes(trace: Trace, rows: list[int]) -> int | None:
    """Bytes of an operator's first tensor (all of a list of tensors), None where it has no shape."""
    for row in rows:
        if trace.shapes[row] == MISSING or trace.dtypes[row] == MISSING:
            continue
        shapes = _SHAPE.findall(trace.text(trace.shapes[row]))
        dtypes = re.findall(r'"([^"]+)"', trace.text(trace.dtypes[row]))
        size = next(
            (BYTES_OF_DTYPE[d.lower()] for d in dtypes if d.lower() in BYTES_OF_DTYPE), None
        )
        if shapes and size is not None:
            elements = 1
            for extent in shapes[0].split(","):
                elements *= int(extent)
            return elements * size
    return None
