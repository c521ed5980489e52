"""Stragglers as a frame."""

from __future__ import annotations

import polars

from lumos.analysis.stragglers import Stragglers
from lumos.units import ms


def stragglers_frame(found: Stragglers) -> polars.DataFrame:
    """One row a step and group; times in ms.

    Columns: step, by (rank, dp_rank, stage, operation), group, slowdown (of an even job by this group
    alone), cost_ms (what the step gains where it alone is typical), cause (of ranks, else null).
    Slow-downs and costs are null where nothing has a like to be held against.
    """
    return polars.DataFrame(
        [
            {
                "step": step.step,
                "by": by,
                "group": str(key),
                "slowdown": step.slowdown_of(group) if found.compares else None,
                "cost_ms": ms(step.cost_ns(group)) if found.compares else None,
                "cause": step.causes[int(key)].value if by == "rank" else None,
            }
            for step in found.steps
            for by, groups in (
                ("rank", step.ranks),
                ("dp_rank", step.dp_ranks or {}),
                ("stage", step.stages or {}),
                ("operation", step.operations),
            )
            for key, group in groups.items()
        ],
        schema={
            "step": polars.String, "by": polars.String, "group": polars.String,
            "slowdown": polars.Float64, "cost_ms": polars.Float64, "cause": polars.String,
        },
    )  # fmt: skip
