"""All questions at once: a recording -> the answers that one page is made of."""

from __future__ import annotations

import numpy as np

from lumos.analysis.answers import Answers
from lumos.analysis.bounds import bounds
from lumos.analysis.cost import costs, default_groupings
from lumos.analysis.critical_path import critical_path
from lumos.predict import Recording, baseline_of, block_of, median_step, replay_steps
from lumos.simulate import run


def answer(recording: Recording, step: str | None = None) -> Answers:
    """Every step replayed, and everything asked about one: that of median span by default.

    Raises UsageError where no step has that name.
    """
    chosen = block_of(recording, median_step(recording) if step is None else step)
    replays = replay_steps(recording)
    one = replays[chosen]
    base = baseline_of(one)
    times = run(one.graph)
    last = int(np.argmax(times.end_ns[: one.graph.rows]))
    return Answers(
        steps=tuple(replay.figures for replay in replays),
        chosen=chosen,
        job=one.job,
        graph=one.graph,
        measured=one.measured,
        replayed=one.replayed,
        path=critical_path(one.graph, times, last),
        costs=costs(base, default_groupings(base.job)),
        bounds=bounds(base),
        findings=recording.findings,
    )
