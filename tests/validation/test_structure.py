"""What is recognised of a program's structure when its annotations are hidden, against them.

The annotations of examples/gpt.py tell layer, phase and micro-batch of every operator: the truth of
a recording. A user's script has none of them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lumos.build import build
from lumos.graph.job import NONE, Job, TaskKind
from lumos.graph.timeline import Timeline
from lumos.graph.trace import EventKind, Trace
from lumos.graph.work import Phase
from lumos.ingest.read import read

ROOT = Path(__file__).parents[2]
RECORDINGS = [
    *(ROOT / "recordings" / name for name in ("gpt-dp2", "gpt-pp2")),
    *sorted((ROOT / "validation" / "gpu").glob("*/base")),
]


def without_annotations(trace: Trace) -> Trace:
    """The trace as a script without annotations leaves it; the profiler's own steps stay."""
    step = np.array([text.startswith("ProfilerStep#") for text in trace.strings], bool)
    gone = (trace.kind == EventKind.ANNOTATION) & ~step[trace.name]
    names = np.array([text.startswith("gloo:") for text in trace.strings], bool)
    return trace.take(np.flatnonzero(~gone | names[trace.name]))


def operators(job: Job, run: Timeline) -> dict[tuple[int, str, int], tuple[int, int, int]]:
    """Phase, layer and micro-batch of each operator's first piece, by rank, name and start."""
    found = {}
    for place, role in enumerate(job.placement.role):
        program, rows = job.programs[role], job.programs[role].rows
        for row in np.flatnonzero(rows.kind == TaskKind.OPERATOR).tolist():
            key = (place, program.names[rows.name[row]], int(run.ranks[place].start_ns[row]))
            found[key] = (int(rows.phase[row]), int(rows.layer[row]), int(rows.micro_batch[row]))
    return found


@pytest.fixture(
    scope="module", params=RECORDINGS, ids=lambda path: f"{path.parent.name}-{path.name}"
)
def pairs(request):
    """(truth, recognised) of every operator of a recording."""
    traces = read(request.param, cache=False)
    truth = operators(*build(traces))
    recognised = operators(*build([without_annotations(trace) for trace in traces]))
    shared = truth.keys() & recognised.keys()
    assert len(shared) > 0.99 * len(truth)
    return [(truth[key], recognised[key]) for key in sorted(shared)]


def test_backward_is_recognised_by_the_autograd_engine_and_nothing_else_is_taken_for_it(pairs):
    backward = [seen[0] for told, seen in pairs if told[0] == Phase.BACKWARD]
    told_as_such = np.mean([phase == Phase.BACKWARD for phase in backward])
    assert told_as_such > 0.9
    others = [seen[0] for told, seen in pairs if told[0] in (Phase.FORWARD, Phase.OPTIMIZER)]
    assert not any(phase == Phase.BACKWARD for phase in others)


def test_layers_and_micro_batches_are_unknown_without_annotations_and_never_guessed(pairs):
    """Nothing else in these traces tells them: no Python stacks, no names of modules."""
    assert all(seen[1] == NONE for _, seen in pairs)
    assert all(seen[2] == NONE for _, seen in pairs)


def test_what_is_recognised_of_a_phase_is_never_wrong(pairs):
    known = [(told[0], seen[0]) for told, seen in pairs if seen[0] != Phase.UNKNOWN and told[0]]
    assert known
    assert all(told == seen for told, seen in known)
