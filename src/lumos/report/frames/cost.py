"""Costs and bounds as frames."""

from __future__ import annotations

import polars

from lumos.analysis.bounds import StepBounds
from lumos.analysis.cost import StepCosts
from lumos.units import ms


def cost_frame(costs: StepCosts) -> polars.DataFrame:
    """One row a part, largest gain first; times in ms.

    Columns: by, label, tasks, own_ms, gain_10_pct_ms, gain_half_ms, gain_free_ms.
    """
    return polars.DataFrame(
        [
            {
                "by": one.by.value,
                "label": one.label,
                "tasks": one.tasks,
                "own_ms": ms(one.own_ns),
                "gain_10_pct_ms": ms(one.gain_10_pct_ns),
                "gain_half_ms": ms(one.gain_half_ns),
                "gain_free_ms": ms(one.gain_free_ns),
            }
            for one in costs.costs
        ],
        schema={
            "by": polars.String, "label": polars.String, "tasks": polars.Int64,
            **dict.fromkeys(
                ("own_ms", "gain_10_pct_ms", "gain_half_ms", "gain_free_ms"), polars.Float64
            ),
        },
    )  # fmt: skip


def bounds_frame(ladder: StepBounds) -> polars.DataFrame:
    """One row a rung, in the order of the ladder; times in ms.

    Columns: rung, alone_ms (null where the rung does not apply), together_ms, unknown_pct, reason.
    """
    return polars.DataFrame(
        [
            {
                "rung": one.rung.value,
                "alone_ms": None if one.alone_ns is None else ms(one.alone_ns),
                "together_ms": ms(one.together_ns),
                "unknown_pct": one.unknown_pct,
                "reason": one.reason or None,
            }
            for one in ladder.bounds
        ],
        schema={
            "rung": polars.String, "alone_ms": polars.Float64, "together_ms": polars.Float64,
            "unknown_pct": polars.Float64, "reason": polars.String,
        },
    )  # fmt: skip
