"""The communication of a step, as frames."""

from __future__ import annotations

import polars

from lumos.analysis.communication import StepCommunication
from lumos.units import ms

_TIMES = ("time_ms", "transfer_ms", "wait_ms", "unmatched_ms", "exposed_ms")
_RATES = ("algorithm_bytes_per_s", "bus_bytes_per_s", "link_pct", "skew_p50_ms", "skew_max_ms")


def communication_frame(found: StepCommunication) -> polars.DataFrame:
    """One row a run (measured or replayed), kind and group, longest first; times in ms.

    Columns: run, kind, group, description, ranks, count, bytes, time_ms, transfer_ms, wait_ms,
    unmatched_ms, exposed_ms, algorithm_bytes_per_s, bus_bytes_per_s, link_pct, skew_p50_ms,
    skew_max_ms; null where unknown. Times are sums over the group's traced ranks.
    """
    return polars.DataFrame(
        [
            {
                "run": run,
                "kind": one.kind.name.lower(),
                "group": None if one.group is None else one.group.name,
                "description": None if one.group is None else one.group.description,
                "ranks": None if one.group is None else list(one.group.ranks),
                "count": one.count,
                "bytes": one.bytes,
                "time_ms": ms(one.time_ns),
                "transfer_ms": None if one.transfer_ns is None else ms(one.transfer_ns),
                "wait_ms": None if one.wait_ns is None else ms(one.wait_ns),
                "unmatched_ms": ms(one.unmatched_ns),
                "exposed_ms": ms(one.exposed_ns),
                "algorithm_bytes_per_s": one.algorithm_bytes_per_s,
                "bus_bytes_per_s": one.bus_bytes_per_s,
                "link_pct": found.link_pct(one),
                "skew_p50_ms": None if one.skew is None else ms(one.skew.p50_ns),
                "skew_max_ms": None if one.skew is None else ms(one.skew.max_ns),
            }
            for run, groups in (("measured", found.measured), ("replayed", found.replayed))
            for one in groups
        ],
        schema={
            **dict.fromkeys(("run", "kind", "group", "description"), polars.String),
            "ranks": polars.List(polars.Int32), "count": polars.Int64, "bytes": polars.Int64,
            **dict.fromkeys((*_TIMES, *_RATES), polars.Float64),
        },
    )  # fmt: skip


def latecomers_frame(found: StepCommunication) -> polars.DataFrame:
    """One row a run, kind, group and rank that came last: times, others_waited_ms, behind_ms."""
    return polars.DataFrame(
        [
            {
                "run": run,
                "kind": one.kind.name.lower(),
                "group": None if one.group is None else one.group.name,
                "rank": late.rank,
                "times": late.times,
                "others_waited_ms": ms(late.waited_ns),
                "behind_ms": ms(late.behind_ns),
            }
            for run, groups in (("measured", found.measured), ("replayed", found.replayed))
            for one in groups
            for late in one.latecomers
        ],
        schema={
            **dict.fromkeys(("run", "kind", "group"), polars.String),
            "rank": polars.Int32, "times": polars.Int64,
            **dict.fromkeys(("others_waited_ms", "behind_ms"), polars.Float64),
        },
    )  # fmt: skip
