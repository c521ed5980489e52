"""All questions at once: a recording -> the answers that one page is made of."""

from __future__ import annotations

from lumos.analysis.answers import Answers
from lumos.analysis.bounds import bounds
from lumos.analysis.communication import step_communication
from lumos.analysis.cost import costs, default_groupings
from lumos.analysis.step_breakdown import step_breakdown
from lumos.predict import (
    Recording,
    baseline_of,
    block_of,
    critical_path_of,
    median_step,
    replay_steps,
    stragglers,
)


def answer(recording: Recording, step: str | None = None) -> Answers:
    """Every step replayed, and everything asked about one: that of median span by default.

    Raises UsageError where no step has that name.
    """
    chosen = block_of(recording, median_step(recording) if step is None else step)
    replays = replay_steps(recording)
    one = replays[chosen]
    base, name = baseline_of(one), one.figures.step
    return Answers(
        steps=tuple(replay.figures for replay in replays),
        chosen=chosen,
        job=one.job,
        graph=one.graph,
        measured=one.measured,
        replayed=one.replayed,
        path=critical_path_of(one),
        measured_path=critical_path_of(one, measured=True),
        costs=costs(base, default_groupings(base.job)),
        bounds=bounds(base),
        breakdown=step_breakdown(name, one.job, one.graph, one.measured, one.replayed),
        communication=step_communication(name, one.job, one.measured, one.replayed),
        stragglers=stragglers(recording),
        findings=recording.findings,
    )
