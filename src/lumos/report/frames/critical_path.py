"""A critical path and slack as frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars
from numpy.typing import NDArray

from lumos.analysis.critical_path import rule_word
from lumos.analysis.path_sums import labels_of
from lumos.analysis.slack import UNLIMITED
from lumos.analysis.step_path import StepPath
from lumos.graph.execution import ExecutionGraph
from lumos.graph.job import Job
from lumos.graph.labels import By, Labels
from lumos.graph.timeline import Timeline


def path_frame(job: Job, graph: ExecutionGraph, found: StepPath) -> polars.DataFrame:
    """One row a task of the path, from first to last; times in ms, starts from the path's begin.

    The path comes to a task by `rule` after `lag_ms` and `unexplained_ms`, and is on it for `own_ms`
    from `start_ms` on. `layer` and `phase` are null where the trace does not tell them.
    """
    path = found.path
    words = {int(rule): rule_word(int(rule)) for rule in np.unique(path.rule)}
    return polars.DataFrame(
        {
            **_where(job, graph, path.row, (By.CLASS, By.OPERATOR, By.KERNEL, By.LAYER, By.PHASE)),
            "rule": polars.Series([words[int(rule)] for rule in path.rule], dtype=polars.String),
            "start_ms": (path.own_start_ns - path.begin_ns) / 1e6,
            "own_ms": path.own_ns / 1e6,
            "lag_ms": path.lag_ns / 1e6,
            "unexplained_ms": path.unexplained_ns / 1e6,
        }
    )


def slack_frame(
    job: Job, graph: ExecutionGraph, found: StepPath, run: Timeline
) -> polars.DataFrame:
    """One row a task of the step; times in ms, as in the run's frame.

    `slack_ms` is how much later it could run without the step ending later, null where the end does
    not depend on it; `critical` tells what the path goes through.
    """
    rows = np.arange(graph.rows)
    critical = np.zeros(graph.rows, bool)
    critical[found.path.row] = True
    room = polars.Series(found.slack_ns)
    return polars.DataFrame(
        {
            **_where(job, graph, rows, (By.CLASS, By.OPERATOR, By.KERNEL)),
            "start_ms": np.concatenate([rank.start_ns for rank in run.ranks]) / 1e6,
            "end_ms": np.concatenate([rank.end_ns for rank in run.ranks]) / 1e6,
            "slack_ms": polars.select(
                polars.when(room != UNLIMITED).then(room / 1e6).otherwise(None)
            ).to_series(),
            "critical": critical,
        }
    )


_COLUMNS = {By.CLASS: "kind", By.OPERATOR: "operator", By.KERNEL: "name",
            By.LAYER: "layer", By.PHASE: "phase"}  # fmt: skip


def _where(
    job: Job, graph: ExecutionGraph, rows: NDArray[np.int64], named: Sequence[By]
) -> dict[str, polars.Series]:
    ranks = polars.Series(job.placement.ranks, dtype=polars.Int32)
    return {
        "rank": ranks.gather(graph.rank[rows].astype(np.int64)),
        "stream": _texts(labels_of(job, graph, rows, By.STREAM)),
        **{_COLUMNS[by]: _texts(labels_of(job, graph, rows, by)) for by in named},
    }


def _texts(found: Labels) -> polars.Series:
    texts = polars.Series([*found.texts, None], dtype=polars.String)
    return texts.gather(np.where(found.number < 0, len(found.texts), found.number))
