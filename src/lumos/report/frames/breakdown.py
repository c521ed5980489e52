"""Where a step's time goes, as frames."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars

from lumos.analysis.idle import Cause
from lumos.analysis.step_breakdown import RankBreakdown, StepBreakdown
from lumos.analysis.utilization import WINDOW_NS
from lumos.units import ms

_TIMES = (
    "span_ms", "exposed_compute_ms", "overlapped_ms", "exposed_communication_ms",
    "waiting_for_peers_ms", "pipeline_bubble_ms", "other_ms",
)  # fmt: skip


def breakdown_frame(found: StepBreakdown) -> polars.DataFrame:
    """One row a rank and run; times in ms.

    Columns: rank, run (measured or replayed), span_ms, exposed_compute_ms, overlapped_ms,
    exposed_communication_ms, of which waiting_for_peers_ms and pipeline_bubble_ms (null where
    unknown), other_ms, and of that one column a cause: host_bound_ms, launch_queue_ms, ...
    """
    causes = [f"{cause.value}_ms" for cause in Cause]
    return polars.DataFrame(
        [{"rank": rank, "run": run, **_times(one)} for rank, run, one in _runs(found)],
        schema={
            "rank": polars.Int32,
            "run": polars.String,
            **dict.fromkeys((*_TIMES, *causes), polars.Float64),
        },
    )


def kernels_frame(found: StepBreakdown) -> polars.DataFrame:
    """One row a class of kernels, longest first, over all ranks.

    Columns: class, tasks, time_ms, flops_per_s, flops_known_pct, bytes_per_s, bytes_known_pct,
    roofline_pct; null where unknown.
    """
    rates = ("flops_per_s", "flops_known_pct", "bytes_per_s", "bytes_known_pct", "roofline_pct")
    return polars.DataFrame(
        [
            {
                "class": one.name,
                "tasks": one.tasks,
                "time_ms": ms(one.time_ns),
                **{rate: getattr(one, rate) for rate in rates},
            }
            for one in found.efficiency.classes
        ],
        schema={
            "class": polars.String, "tasks": polars.Int64, "time_ms": polars.Float64,
            **dict.fromkeys(rates, polars.Float64),
        },
    )  # fmt: skip


def utilization_frame(found: StepBreakdown) -> polars.DataFrame:
    """One row a rank, run and window of 1 ms: rank, run, begin_ms of the window, utilization (0-1)."""
    rows = [
        (rank, run, place * ms(WINDOW_NS), busy)
        for rank, run, one in _runs(found)
        for place, busy in enumerate(one.utilization.tolist())
    ]
    return polars.DataFrame(
        rows,
        schema={
            "rank": polars.Int32, "run": polars.String, "begin_ms": polars.Float64,
            "utilization": polars.Float64,
        },
        orient="row",
    )  # fmt: skip


def _runs(found: StepBreakdown) -> Iterator[tuple[int, str, RankBreakdown]]:
    for one in found.ranks:
        yield one.rank, "measured", one.measured
        yield one.rank, "replayed", one.replayed


def _times(one: RankBreakdown) -> dict[str, Any]:
    parts = one.parts
    times = (
        one.span_ns, parts.exposed_compute_ns, parts.overlapped_ns, parts.exposed_communication_ns,
        one.waiting_for_peers_ns, one.bubble_ns, parts.other_ns,
    )  # fmt: skip
    return {
        **{
            name: None if time is None else ms(time)
            for name, time in zip(_TIMES, times, strict=True)
        },
        **{f"{cause.value}_ms": ms(time) for cause, time in one.idle_ns.items()},
    }
