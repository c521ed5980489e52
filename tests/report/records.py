"""Records written by hand, for reports and documents."""

from __future__ import annotations

from collections.abc import Sequence

from lumos.analysis.breakdown import Breakdown
from lumos.analysis.replay import RankReplay, StartError, StepReplay


def rank_replay(
    rank: int, measured_ns: int, replayed_ns: int, *, unexplained_ns: int = 0, device: bool = True
) -> RankReplay:
    """A rank that computes for half of its span and communicates for a fifth."""
    return RankReplay(
        rank=rank,
        measured_ns=measured_ns,
        replayed_ns=replayed_ns,
        task_start_error=StartError(1e3, 2e4, 3e5) if device else StartError(None, None, None),
        measured_breakdown=_parts(measured_ns),
        replayed_breakdown=_parts(replayed_ns),
        with_unexplained_error_pct=0.25,
        idle_explained_pct=98.5 if device else None,
        frozen_gap_ns=measured_ns // 4,
        unexplained_ns=unexplained_ns,
        critical_path_ns={
            "program_order": replayed_ns * 3 // 4,
            "launch": replayed_ns - replayed_ns * 3 // 4,
            "event_wait": 1,
        },
    )


def _parts(span_ns: int) -> Breakdown:
    half, tenth = span_ns // 2, span_ns // 10
    return Breakdown(half, tenth, tenth, span_ns - half - 2 * tenth)


def step_replay(
    step: str, measured_ns: int, replayed_ns: int, ranks: Sequence[RankReplay]
) -> StepReplay:
    """A step of these ranks."""
    path = {"program_order": replayed_ns // 2, "starting_state": replayed_ns // 8}
    path["launch"] = replayed_ns - sum(path.values())
    return StepReplay(step, measured_ns, replayed_ns, tuple(ranks), critical_path_ns=path)
