"""Roofline: the least time that a GPU can take for a piece of work (Williams et al., CACM 2009).

    time >= max(operations / peak rate, bytes / memory bandwidth)

A bound, not an estimate. Data that is still in a cache can beat it, and so can algorithms that need fewer
operations than the definition (Winograd convolutions).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lumos.catalog.hardware import Hardware
from lumos.estimate.counts import count
from lumos.graph.job import NONE, Program, TaskKind
from lumos.graph.work import Work
from lumos.units import NS_PER_S


def roofline_ns(work: Work, hardware: Hardware) -> int | None:
    """Least time of all tasks of one call of the operator [ns]; None where nothing is known of it."""
    counted = count(work)
    times = [peak_time for peak_time in (_compute_ns(work, hardware),) if peak_time is not None]
    if counted.bytes is not None:
        times.append(counted.bytes * NS_PER_S / hardware.memory_bytes_per_s)
    return int(max(times)) if times else None


def peak_flops_per_s(work: Work, hardware: Hardware) -> float | None:
    """The rate that the hardware has for the work's number format; None where unknown."""
    counted = count(work)
    if counted.precision is None:
        return None
    peak = hardware.matrix_peak if counted.matrix else hardware.vector_peak
    return peak(counted.precision)


def roofline_of_rows(program: Program, hardware: Hardware) -> NDArray[np.int64]:
    """Least time of each row of a program [ns]; NONE where unknown, and for host rows.

    The tasks of one call of an operator share its least time as they share its work, by the time
    they take. Copies from and to the host and communication have none: links bound them.
    """
    rows = program.rows
    of_work = [roofline_ns(work, hardware) for work in program.works]
    least = np.array([NONE if one is None else one for one in of_work] + [NONE], np.int64)[
        rows.work
    ]
    on_device = np.isin(rows.kind, (TaskKind.KERNEL, TaskKind.COPY, TaskKind.SET))
    crosses = np.array(
        ["HtoD" in name or "DtoH" in name or "HtoH" in name for name in program.names]
    )
    bounded = on_device & (least != NONE) & ~crosses[rows.name]
    return np.where(bounded, (least * rows.work_share).astype(np.int64), NONE)


def _compute_ns(work: Work, hardware: Hardware) -> float | None:
    peak, operations = peak_flops_per_s(work, hardware), count(work).flops
    return None if peak is None or operations is None else operations * NS_PER_S / peak
