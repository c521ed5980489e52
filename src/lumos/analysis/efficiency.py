"""How well kernels use the hardware: operations and bytes a second, the roofline, MFU.

Rates are over the time of those kernels whose operations (bytes) the trace tells; how much that is
of all stands beside them. What is not known is None, with a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lumos.catalog.hardware import Hardware, Precision, find_hardware
from lumos.estimate.counts import count
from lumos.estimate.roofline import roofline_of_rows
from lumos.graph.job import NONE, Job, Program, TaskKind
from lumos.graph.labels import By, labels
from lumos.graph.timeline import RankTimeline, Timeline
from lumos.graph.work import WorkKind, kind_of_kernel
from lumos.units import NS_PER_S

_KERNELS = (TaskKind.KERNEL, TaskKind.COPY, TaskKind.SET)
MATRIX_KINDS = (WorkKind.GEMM, WorkKind.ATTENTION, WorkKind.CONVOLUTION)
LEAST_KNOWN_PCT = 99.0
"""With less of the time of matrix kernels known, MFU would be a guess."""


@dataclass(frozen=True)
class KernelClass:
    """The kernels of one class over all ranks of a step; times in ns.

    `flops` and `bytes` are those that the trace tells, done in `flops_time_ns` and
    `bytes_time_ns` of the class's time. `roofline_ns` is the least time of the kernels that took
    `bounded_ns`; 0 where nothing is known.
    """

    name: str
    tasks: int
    time_ns: int
    flops: float
    flops_time_ns: int
    bytes: float
    bytes_time_ns: int
    roofline_ns: int
    bounded_ns: int

    @property
    def flops_per_s(self) -> float | None:
        """Operations a second while kernels of known operations ran."""
        return self.flops * NS_PER_S / self.flops_time_ns if self.flops_time_ns else None

    @property
    def bytes_per_s(self) -> float | None:
        """Bytes a second while kernels of known bytes ran; a lower bound, as the bytes are."""
        return self.bytes * NS_PER_S / self.bytes_time_ns if self.bytes_time_ns else None

    @property
    def roofline_pct(self) -> float | None:
        """How much of their time kernels would need at the hardware's peak rates."""
        return 100.0 * self.roofline_ns / self.bounded_ns if self.bounded_ns else None

    @property
    def flops_known_pct(self) -> float | None:
        """Share of the class's time whose operations are known."""
        return 100.0 * self.flops_time_ns / self.time_ns if self.time_ns else None

    @property
    def bytes_known_pct(self) -> float | None:
        """Share of the class's time whose bytes are known."""
        return 100.0 * self.bytes_time_ns / self.time_ns if self.time_ns else None


@dataclass(frozen=True)
class Efficiency:
    """The kernels of a step by class, longest first, and its model FLOPs utilisation.

    `hardware` is None where the GPU is unknown. MFU is matrix operations (products, attention,
    convolutions) over span times peak, mean over the ranks (Chowdhery et al., PaLM, appendix B);
    operations of recomputed activations count, too. It is None with a `reason`.
    """

    gpu: str
    hardware: Hardware | None
    classes: tuple[KernelClass, ...]
    mfu_pct: float | None
    reason: str
    formats: tuple[Precision, ...]


def efficiency(job: Job, run: Timeline, spans_ns: Sequence[int]) -> Efficiency:
    """How well the kernels of a run of `job` use its GPUs; `spans_ns` are the spans of its ranks."""
    hardware = find_hardware(job.placement.gpu)
    totals: dict[str, NDArray[np.float64]] = {}
    at_peak, matrix = 0.0, np.zeros(2)
    formats: dict[Precision, float] = {}
    for role, rank in zip(job.placement.role, run.ranks, strict=True):
        program = job.programs[role]
        columns = _columns(program, rank, hardware)
        _add(totals, program, columns)
        at_peak += _time_at_peak(program, hardware, formats)
        matrix += _matrix_time(program, columns)
    order = sorted(totals.items(), key=lambda item: -item[1][1])
    classes = tuple(_class(name, values) for name, values in order)
    reason = _reason(job, hardware, classes, matrix, sum(spans_ns))
    mfu = None if reason else 100.0 * at_peak / sum(spans_ns)
    used = sorted(formats, key=lambda one: -formats[one])
    return Efficiency(job.placement.gpu, hardware, classes, mfu, reason, tuple(used))


def _columns(program: Program, run: RankTimeline, hardware: Hardware | None) -> NDArray[np.float64]:
    """Of each row: whether it is a kernel, time, operations, their time, bytes, theirs, bound, its.

    Rows that are no kernel, and what is unknown of one, are zero.
    """
    rows = program.rows
    kernel = np.isin(rows.kind, _KERNELS)
    time = np.where(kernel, run.end_ns - run.start_ns, 0)
    least = np.full(len(rows), NONE) if hardware is None else roofline_of_rows(program, hardware)
    counted = [count(work) for work in program.works]
    found = [kernel, time]
    for values in ([one.flops for one in counted], [one.bytes for one in counted]):
        of_work = np.array([np.nan if one is None else one for one in values] + [np.nan])
        of_row = of_work[rows.work] * rows.work_share
        known = kernel & ~np.isnan(of_row)
        found += [np.where(known, of_row, 0), np.where(known, time, 0)]
    bounded = kernel & (least != NONE)
    found += [np.where(bounded, least, 0), np.where(bounded, time, 0)]
    return np.stack(found).astype(np.float64)


def _add(
    totals: dict[str, NDArray[np.float64]], program: Program, columns: NDArray[np.float64]
) -> None:
    known = labels(program, By.CLASS)
    kernel = columns[0] > 0
    number = known.number[kernel]
    sums = [np.bincount(number, one[kernel], len(known.texts)) for one in columns]
    for place, text in enumerate(known.texts):
        if sums[0][place]:
            totals[text] = totals.get(text, 0) + np.array([one[place] for one in sums])


def _class(name: str, values: NDArray[np.float64]) -> KernelClass:
    tasks, time, flops, flops_time, moved, moved_time, least, bounded = values.tolist()
    return KernelClass(
        name, int(tasks), int(time), flops, int(flops_time), moved, int(moved_time), int(least),
        int(bounded),
    )  # fmt: skip


def _time_at_peak(
    program: Program, hardware: Hardware | None, formats: dict[Precision, float]
) -> float:
    """How long the matrix operations of a program take at the peak of their formats [ns]."""
    share = np.zeros(len(program.works) + 1)
    kernel = program.rows.kind == TaskKind.KERNEL
    np.add.at(share, program.rows.work[kernel], program.rows.work_share[kernel])
    total = 0.0
    for work, calls in zip(program.works, share.tolist(), strict=False):
        one = count(work)
        if not calls or hardware is None or one.flops is None or one.precision is None:
            continue
        peak = hardware.matrix_peak(one.precision) if work.kind in MATRIX_KINDS else None
        if peak is not None:
            used = hardware.matrix_format(one.precision)
            formats[used] = formats.get(used, 0.0) + calls * one.flops
            total += calls * one.flops * NS_PER_S / peak
    return total


def _matrix_time(program: Program, columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Time of kernels that multiply matrices, and of those among them of known operations [ns].

    A kernel does so by its operator or, where its operations are unknown, by its own name.
    """
    rows = program.rows
    kinds = np.array([work.kind in MATRIX_KINDS for work in program.works] + [False])
    kernel = rows.kind == TaskKind.KERNEL
    unknown = np.flatnonzero(kernel & (columns[3] == 0))
    names, number = np.unique(rows.name[unknown], return_inverse=True)
    named = [kind_of_kernel(program.names[name]) in MATRIX_KINDS for name in names.tolist()]
    chosen = kernel & kinds[rows.work]
    chosen[unknown] |= np.array(named, bool)[number]
    return np.array([columns[1][chosen].sum(), columns[3][chosen].sum()])


def _reason(
    job: Job,
    hardware: Hardware | None,
    classes: Sequence[KernelClass],
    matrix: NDArray[np.float64],
    spans_ns: int,
) -> str:
    """Why no MFU can be told; empty where it can."""
    if not classes or not spans_ns:
        return "no kernel was recorded"
    if hardware is None:
        gpu = job.placement.gpu
        return f"the peak rates of {gpu} are unknown" if gpu else "the trace names no GPU"
    time, known = matrix.tolist()
    if not time:
        return "no kernel is known to multiply matrices"
    if 100.0 * known < LEAST_KNOWN_PCT * time:
        if not any(work.shapes for program in job.programs for work in program.works):
            return "the trace has no shapes (profile with record_shapes=True)"
        unknown = 100.0 * (1 - known / time)
        return f"for {unknown:.0f} % of the time of matrix kernels the trace tells no operations"
    return ""
