"""A diff as a frame."""

from __future__ import annotations

import polars

from lumos.analysis.diff import Diff
from lumos.units import ms


def diff_frame(diff: Diff) -> polars.DataFrame:
    """One row a part, largest change first; times in ms.

    Columns: kind, label, layer (null where a part is of no layer), change_ms, lowest_ms,
    highest_ms, and of the first and the second run tasks, own_ms, waiting_ms.
    """
    return polars.DataFrame(
        [
            {
                "kind": part.kind.value,
                "label": part.label,
                "layer": part.layer,
                "change_ms": ms(part.change_ns),
                "lowest_ms": ms(part.lowest_ns),
                "highest_ms": ms(part.highest_ns),
                **{
                    f"{what}_{side}": value
                    for side, place in (("first", 0), ("second", 1))
                    for what, value in (
                        ("tasks", part.tasks[place]),
                        ("own_ms", ms(part.own_ns[place])),
                        ("waiting_ms", ms(part.waiting_ns[place])),
                    )
                },
            }
            for part in diff.parts
        ],
        schema_overrides={"layer": polars.Int32},
    )
