"""Inferred stream waits against the truth of jobs whose every record and wait is known.

truth     | record | wait |  (slots)   ->  a run with noise  ->  a trace without any ids
inferred  from calls and times alone   <-  read and built   <-
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from lumos.build import build
from lumos.export.binding import binding
from lumos.export.kineto import write_kineto
from lumos.fit import fit
from lumos.graph.execution import ExecutionGraph, Rule
from lumos.graph.job import NONE, Job, Program, TaskKind
from lumos.graph.timeline import RankTimeline, Timeline
from lumos.ingest.read import read
from lumos.lower import lower
from lumos.simulate import simulate
from lumos.units import NS_PER_US
from tests.synthetic import random_job, with_noise

SEEDS = range(30)
LEAST_RECALL = 0.95
LARGEST_FALSE_MOVE_NS = 10 * NS_PER_US

LARGEST_ERROR = 0.03
CHANGES: dict[str, dict[TaskKind, float]] = {
    "nothing changed": {},
    "collectives x3": {TaskKind.COLLECTIVE: 3},
    "collectives x0.2": {TaskKind.COLLECTIVE: 0.2},
    "copies x4": {TaskKind.COPY: 4},
    "kernels x3": {TaskKind.KERNEL: 3},
    "kernels x0.3": {TaskKind.KERNEL: 0.3},
}
"""A self-replay forgives a wait for something else that ends at the same time; these do not."""

Task = tuple[int, int]
"""A device task, whatever row it has: number of its stream, start in the recorded run [ns]."""
Edge = tuple[Task, Task]
"""(task that waits, task that it awaits)."""


@dataclass(frozen=True)
class Comparison:
    """What inference made of one job."""

    seed: int
    binding: frozenset[Edge]  # true waits that decided a start in the recorded run
    truth: frozenset[Edge]
    inferred: frozenset[Edge]
    false_moves_ns: dict[Edge, int]  # by how much a wait that is not true moves its task
    errors: dict[str, float]  # of the predicted end when durations change, (inferred - true) / true

    @property
    def missed(self) -> frozenset[Edge]:
        return self.binding - self.inferred

    def describe(self) -> str:
        """The figures of this job, with the first cases of what is wrong."""
        moves = {edge: ns for edge, ns in self.false_moves_ns.items() if ns > LARGEST_FALSE_MOVE_NS}
        return (
            f"seed {self.seed}: binding {len(self.binding)}, missed {len(self.missed)} "
            f"{sorted(self.missed)[:2]}; inferred {len(self.inferred)}, not true "
            f"{len(self.inferred - self.truth)}, of them moving a task {len(moves)} "
            f"{sorted(moves.items(), key=lambda item: -item[1])[:2]}"
        )


def task_at(program: Program, run: RankTimeline, row: int) -> Task:
    return program.processors[program.rows.processor[row]].stream, int(run.start_ns[row])


def edges_of(program: Program, run: RankTimeline) -> dict[Edge, list[int]]:
    """The waits that order two tasks: (next task of the waiting stream, captured task) -> rows.

    Found by looking, row by row: nothing of how the package does it is used.
    """
    rows = program.rows
    on_device = np.flatnonzero(rows.launch != NONE)
    record_of = {
        (int(rows.block[row]), int(rows.signal[row])): row
        for row in np.flatnonzero(rows.kind == TaskKind.RECORD).tolist()
    }
    found: dict[Edge, list[int]] = {}
    for row in np.flatnonzero((rows.kind == TaskKind.WAIT_EVENT) & (rows.awaits != NONE)).tolist():
        record = record_of.get((int(rows.block[row] - rows.distance[row]), int(rows.awaits[row])))
        if record is None:
            continue
        after = on_device[(rows.processor[on_device] == rows.stream[row]) & (on_device > row)]
        before = on_device[
            (rows.processor[on_device] == rows.stream[record]) & (on_device < record)
        ]
        if len(after) and len(before):
            edge = task_at(program, run, int(after[0])), task_at(program, run, int(before[-1]))
            found.setdefault(edge, []).append(row)
    return found


def binding_edges(graph: ExecutionGraph, program: Program, run: Timeline) -> set[Edge]:
    """The waits that decided when a task of `run`, a run of `graph`, started."""
    bound = binding(graph, run)
    rank = run.ranks[0]
    return {
        (task_at(program, rank, row), task_at(program, rank, int(bound.source[row])))
        for row in np.flatnonzero((bound.rule == Rule.EVENT_WAIT) & (bound.source != NONE)).tolist()
        if program.rows.launch[bound.source[row]] != NONE
    }


def must_precede(graph: ExecutionGraph, task: int) -> set[int]:
    """Tasks whose end `task` cannot precede, by any chain of dependencies."""
    ended: set[int] = set()
    reached, waiting = {task}, [task]
    while waiting:
        one = waiting.pop()
        for edge in range(graph.first[one], graph.first[one + 1]):
            before = int(graph.before[edge])
            if not graph.from_start[edge]:
                ended.add(before)
            if before not in reached:
                reached.add(before)
                waiting.append(before)
    return ended


def moved_by(job: Job, waits: list[int], next_row: int, recorded_start: int) -> int:
    """How much later than recorded these waits make row `next_row` start in a replay [ns]."""
    rows = job.programs[0].rows
    kind, awaits = rows.kind.copy(), rows.awaits.copy()
    kind[waits], awaits[waits] = TaskKind.CALL, NONE
    program = replace(job.programs[0], rows=rows.with_columns(kind=kind, awaits=awaits))
    start, start_without = (
        int(simulate(lower(one)).ranks[0].start_ns[next_row])
        for one in (job, replace(job, programs=(program,)))
    )
    return max(0, min(start - start_without, start - recorded_start))


def changed(job: Job, factors: Mapping[TaskKind, float]) -> Job:
    """The job with device tasks that take so many times as long."""
    program = job.programs[0]
    duration = program.rows.duration_ns.copy()
    for kind, factor in factors.items():
        chosen = program.rows.kind == kind
        duration[chosen] = np.round(duration[chosen] * factor)
    rows = program.rows.with_columns(duration_ns=duration)
    return replace(job, programs=(replace(program, rows=rows),))


def last_end(job: Job) -> int:
    """When all but pauses has ended in a run of `job` [ns]."""
    works = job.programs[0].rows.kind != TaskKind.GAP
    return int(simulate(lower(job)).ranks[0].end_ns[works].max())


def compare(seed: int, folder: Path) -> Comparison:
    """Write what was recorded of the job of `seed`, build it again and compare."""
    job, recorded = random_job(seed)
    program, graph = job.programs[0], lower(job)
    truth = edges_of(program, recorded.ranks[0])
    bound = binding_edges(with_noise(graph, seed), program, recorded)
    write_kineto(folder, job, recorded)
    second, measured = build(read(folder, cache=False))
    inferred = edges_of(second.programs[0], measured.ranks[0])
    row_of = {task_at(program, recorded.ranks[0], r): r for r in device_rows(program)}
    row_in_second = {
        task_at(second.programs[0], measured.ranks[0], r): r
        for r in device_rows(second.programs[0])
    }
    wrong = [
        edge
        for edge in sorted(inferred.keys() - truth.keys())
        if row_of[edge[1]] not in must_precede(graph, row_of[edge[0]])
    ]
    fitted = fit(second, measured)
    return Comparison(
        seed, frozenset(bound), frozenset(truth), frozenset(inferred),
        {
            edge: moved_by(fitted, inferred[edge], row_in_second[edge[0]], edge[0][1])
            for edge in wrong
        },
        {
            name: last_end(changed(fitted, factors)) / last_end(changed(job, factors)) - 1
            for name, factors in CHANGES.items()
        },
    )  # fmt: skip


def device_rows(program: Program) -> list[int]:
    return np.flatnonzero(program.rows.launch != NONE).tolist()  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def comparisons(tmp_path_factory: pytest.TempPathFactory) -> list[Comparison]:
    return [compare(seed, tmp_path_factory.mktemp(f"seed{seed}")) for seed in SEEDS]


def test_waits_that_decided_a_start_are_found(comparisons: list[Comparison]) -> None:
    binding_count = sum(len(one.binding) for one in comparisons)
    missed = sum(len(one.missed) for one in comparisons)
    recall = 1 - missed / binding_count
    figures = "\n".join(one.describe() for one in comparisons if one.missed)
    assert binding_count > 500, "the jobs test something"
    assert recall >= LEAST_RECALL, f"{recall:.1%} of {binding_count} were found\n{figures}"


def test_no_wait_is_invented_that_moves_a_task(comparisons: list[Comparison]) -> None:
    largest = {one.seed: max(one.false_moves_ns.values(), default=0) for one in comparisons}
    bad = [one.describe() for one in comparisons if largest[one.seed] > LARGEST_FALSE_MOVE_NS]
    assert not bad, f"in {len(bad)} of {len(comparisons)} jobs\n" + "\n".join(bad)


def test_the_inferred_job_predicts_changed_durations_as_the_true_one_does(
    comparisons: list[Comparison],
) -> None:
    bad = [
        f"seed {one.seed}: {name} {error:+.1%}"
        for one in comparisons
        for name, error in one.errors.items()
        if abs(error) > LARGEST_ERROR
    ]
    assert not bad, f"{len(bad)} of {len(comparisons) * len(CHANGES)} predictions\n" + "\n".join(
        bad
    )


def test_the_unchanged_job_replays_as_it_was_recorded(comparisons: list[Comparison]) -> None:
    errors = {one.seed: one.errors["nothing changed"] for one in comparisons}
    assert max(map(abs, errors.values())) < 0.015, errors
