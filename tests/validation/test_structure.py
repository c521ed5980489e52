"""What is recognised of a program's structure when its annotations are hidden, against them.

The annotations of examples/gpt.py tell layer, phase and micro-batch of every operator: the truth of
a recording. A user's script has none of them. Some public traces are annotated, too.
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
DATA = ROOT.parent / "shared" / "data" / "kineto"
VALIDATION = ROOT / "validation" / "cpu"
RECORDINGS = [
    *(ROOT / "recordings" / name for name in ("gpt-dp2", "gpt-pp2", "gpt-tp2")),
    *(VALIDATION / name for name in ("recompute", "micro-batch-1")),
    *sorted((ROOT / "validation" / "gpu").glob("*/base")),
]
PUBLIC = {"resnet-ddp-2xA100": 99.6, "dlrm-8xV100": 99.2, "recsys-8xA100": 99.3}
"""Share of the time for which the phase is the annotated one; their `## backward ##` has the loss in it."""
OF_TORCH = (
    "ProfilerStep#", "gloo:", "nccl:", "Optimizer.", "FSDP::", "DistributedDataParallel.",
    "enumerate(DataLoader)",
)  # fmt: skip
"""What annotations are called that torch writes by itself."""


def without_annotations(trace: Trace) -> Trace:
    """The trace as a script without annotations leaves it: what torch writes by itself stays."""
    torchs = np.array([text.startswith(OF_TORCH) for text in trace.strings], bool)
    gone = (trace.kind == EventKind.ANNOTATION) & ~torchs[trace.name]
    return trace.take(np.flatnonzero(~gone))


def agreement(traces: list[Trace]) -> tuple[float, float, float]:
    """Of the time whose phase is annotated, % recognised as such, of host and device; % else told.

    Time of operators, calls and device tasks; the data loader's left aside.
    """
    truth, _ = build(traces)
    seen, _ = build([without_annotations(trace) for trace in traces])
    right, wrong, all_ = np.zeros(2), 0, np.zeros(2)
    for told, found in zip(truth.programs, seen.programs, strict=True):
        rows = told.rows
        assert (rows.kind == found.rows.kind).all()
        known = (rows.phase != Phase.UNKNOWN) & (rows.phase != Phase.DATA_LOADING)
        known &= rows.kind != TaskKind.GAP
        same = rows.phase == found.rows.phase
        other = known & ~same & (found.rows.phase != Phase.UNKNOWN)
        wrong += int(rows.duration_ns[other].sum())
        for place, where in enumerate((known & ~rows.on_device, known & rows.on_device)):
            all_[place] += rows.duration_ns[where].sum()
            right[place] += rows.duration_ns[where & same].sum()
    host, device = 100 * right / np.maximum(all_, 1)
    return host, device if all_[1] else 100.0, 100 * wrong / all_.sum()


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


@pytest.mark.parametrize(
    "folder",
    [*RECORDINGS, VALIDATION / "fsdp2"],  # FSDP names layers, too
    ids=lambda path: f"{path.parent.name}-{path.name}",
)
def test_phases_are_recognised_without_annotations(folder: Path) -> None:
    host, device, wrong = agreement(read(folder, cache=False))
    assert host > 99.9
    assert device > 99.9
    assert wrong == 0


@pytest.mark.parametrize("name", PUBLIC)
def test_phases_of_public_traces_are_recognised_without_annotations(name: str) -> None:
    if not DATA.is_dir():
        pytest.skip(f"{DATA} is absent: no real traces here")
    host, device, wrong = agreement(read(DATA / name, cache=False))
    assert host > PUBLIC[name]
    assert device > 99.8
    assert wrong < 0.5


def test_layers_and_micro_batches_are_unknown_without_annotations_and_never_guessed(pairs):
    """Nothing else in these traces tells them: no Python stacks, no names of modules."""
    assert all(seen[1] == NONE for _, seen in pairs)
    assert all(seen[2] == NONE for _, seen in pairs)


def test_what_is_recognised_of_a_phase_is_never_wrong(pairs):
    known = [(told[0], seen[0]) for told, seen in pairs if seen[0] != Phase.UNKNOWN and told[0]]
    assert known
    assert all(told == seen for told, seen in known)
