"""Stragglers: which rank, stage and kind of operation makes the job how much slower than is typical.

Two opposite experiments, each a run of the same graph with other durations:

    only one group keeps its real durations, all else is typical:   how much it slows an even job
    only one group is made typical, all else stays real:            what the job gains, its cost

The first are the slow-downs of Lin et al., Understanding Stragglers in Large Model Training Using
What-if Analysis (OSDI 2025). A group may slow an even job and yet cost nothing: another is as slow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lumos.analysis.replay import event_rows, span_of
from lumos.analysis.straggler_causes import Cause, Columns, parts_made_typical
from lumos.analysis.typical import Durations, Typical, typical
from lumos.graph.job import NONE, Grain, Job
from lumos.graph.labels import By, labels
from lumos.graph.layout import layout_of
from lumos.graph.step import steps_of
from lumos.graph.timeline import Timeline
from lumos.settle import Settled, settle
from lumos.simulate import to_timeline
from lumos.simulate.batch import ends_with_each

Key = TypeVar("Key", int, str)
LEAST_COST = 0.01
"""Share of the step below which a rank's cost has no cause: it is noise."""
MESSAGES = {
    "forward-pp-comm": ("forward-send", "forward-recv"),
    "backward-pp-comm": ("backward-send", "backward-recv"),
}
"""Both ends of a message: what is published counts them as one type of operation."""


@dataclass(frozen=True)
class Group:
    """Some rows of a step in both experiments: how long the step takes [ns]."""

    only_ns: int  # they alone keep their real durations
    without_ns: int  # they alone are typical


@dataclass(frozen=True)
class StepStragglers:
    """A step without delays, without stragglers, and with either group by group; times in ns.

    `without_delay_ns` is the replay by rules alone. Groups are None where the layout is unknown.
    """

    step: str
    measured_ns: int
    without_delay_ns: int
    without_stragglers_ns: int
    ranks: Mapping[int, Group]
    dp_ranks: Mapping[int, Group] | None
    stages: Mapping[int, Group] | None
    operations: Mapping[str, Group]
    causes: Mapping[int, Cause]

    @property
    def slowdown(self) -> float | None:
        """By which factor the step is slower than with everything typical."""
        return ratio(self.without_delay_ns, self.without_stragglers_ns)

    def slowdown_of(self, group: Group) -> float | None:
        """By which factor this group alone slows an even job."""
        return ratio(group.only_ns, self.without_stragglers_ns)

    def cost_ns(self, group: Group) -> int:
        """What the step gains where only this group is made typical; negative where that loses."""
        return self.without_delay_ns - group.without_ns


@dataclass(frozen=True)
class Stragglers:
    """The stragglers of some steps.

    `compared_pct` is the share of time in rows that were held against other ranks, `alone_pct` that
    of rows which only other steps of their own rank were there for; the rest kept its own.
    """

    steps: tuple[StepStragglers, ...]
    grain: Grain
    compared_pct: float
    alone_pct: float

    @property
    def compares(self) -> bool:
        """Whether anything has a like to be held against; else nothing is known to be typical."""
        return self.compared_pct + self.alone_pct > 0

    def overall(self) -> StepStragglers:
        """All steps together: sums, so that a ratio of two is one of means.

        The cause of a rank is the one that cost most over the steps; a rank that costs next to
        nothing over all of them has none.
        """
        return _overall(self.steps)


def ratio(time_ns: int, typical_ns: int) -> float | None:
    """How many times as long; None where nothing takes time."""
    return time_ns / typical_ns if typical_ns else None


@dataclass(frozen=True)
class Study:
    """A job with what its rows typically take, ready for the experiments of each step."""

    job: Job = field(repr=False)
    typical: Typical
    parts: Columns = field(repr=False)


def study_of(job: Job) -> Study:
    """Hold all steps and ranks of a fitted job against each other."""
    found = typical(job)
    return Study(job, found, parts_made_typical(job, found))


def stragglers(job: Job, measured: Timeline) -> Stragglers:
    """The stragglers in all steps of a fitted job."""
    study = study_of(job)
    steps = range(len(job.programs[0].blocks))
    return gathered(study, [step_stragglers(study, measured, block) for block in steps])


def gathered(study: Study, steps: Sequence[StepStragglers]) -> Stragglers:
    """The steps of one study."""
    found = study.typical
    return Stragglers(tuple(steps), study.job.grain, found.compared_pct, found.alone_pct)


def step_stragglers(study: Study, measured: Timeline, block: int) -> StepStragglers:
    """Both experiments on one step, from its recorded start."""
    lab = _lab(study, measured, block)
    placement, layout = lab.settled.job.placement, layout_of(study.job.placement)
    everything = lab.ends([lambda column: np.copyto(column, lab.typical)])[0]
    ranks = lab.groups(lab.rank_of, {rank: [n] for n, rank in enumerate(placement.ranks)})
    by_layout = [
        None if numbers is None else lab.groups(lab.rank_of, _places(placement.ranks, numbers))
        for numbers in (layout.dp_rank, layout.stage)
    ]
    costs = {rank: lab.real_ns - group.without_ns for rank, group in ranks.items()}
    return StepStragglers(
        step=study.job.programs[0].blocks[block],
        measured_ns=lab.measured_ns,
        without_delay_ns=lab.real_ns,
        without_stragglers_ns=everything,
        ranks=ranks,
        dp_ranks=by_layout[0],
        stages=by_layout[1],
        operations=lab.groups(*_operations(lab.settled.job, len(lab.real))),
        causes=lab.causes(costs, {rank: n for n, rank in enumerate(placement.ranks)}),
    )


@dataclass(frozen=True)
class _Lab:
    """One settled step, and columns of its tasks: real and typical durations, the rank of each."""

    settled: Settled
    measured_ns: int
    start_ns: int
    real_ns: int
    real: Durations
    typical: Durations
    parts: Mapping[Cause, Durations]
    rank_of: NDArray[np.int64]
    mark: NDArray[np.int32]

    def ends(self, columns: Sequence[Callable[[Durations], None]]) -> list[int]:
        """How long the step takes with each of several columns of durations [ns]."""
        found = ends_with_each(self.settled.graph, columns, self.mark, marks=1)
        return [int(end) - self.start_ns for end in found[:, 0]]

    def groups(
        self, number: NDArray[np.int64], keys: Mapping[Key, Sequence[int]]
    ) -> dict[Key, Group]:
        """Both experiments with the tasks of some numbers, by what these are called."""
        columns = []
        for numbers in keys.values():
            columns.append(partial(self._mixed, self.real, self.typical, number, numbers))
            columns.append(partial(self._mixed, self.typical, self.real, number, numbers))
        ends = self.ends(columns)
        return {
            key: Group(only, without)
            for key, only, without in zip(keys, ends[::2], ends[1::2], strict=True)
        }

    def causes(self, costs: Mapping[int, int], place: Mapping[int, int]) -> dict[int, Cause]:
        """Why a rank is slow: what made typical gains most where all other ranks are typical.

        There no other straggler hides it; ranks that cost next to nothing have no cause.
        """
        dear = [rank for rank, cost in costs.items() if cost > LEAST_COST * self.real_ns]
        columns = [
            partial(self._mixed, made_typical, self.typical, self.rank_of, [place[rank]])
            for rank in dear
            for made_typical in self.parts.values()
        ]
        found = dict.fromkeys(costs, Cause.NONE)
        ends = np.array(self.ends(columns)).reshape(len(dear), len(self.parts))
        for rank, of_rank in zip(dear, ends, strict=True):
            found[rank] = list(self.parts)[int(of_rank.argmin())]
        return found

    @staticmethod
    def _mixed(
        inside: Durations,
        outside: Durations,
        number: NDArray[np.int64],
        numbers: Sequence[int],
        column: Durations,
    ) -> None:
        """Write one column for the tasks of some numbers, another for the rest."""
        chosen = np.zeros(int(number.max(initial=0)) + 2, bool)  # the last is what NONE indexes
        chosen[list(numbers)] = True
        np.copyto(column, outside)
        np.copyto(column, inside, where=chosen[number])


def _lab(study: Study, measured: Timeline, block: int) -> _Lab:
    one, of_step = steps_of(study.job, measured, block, block + 1)
    settled = settle(one)
    low, high = span_of(one, of_step)
    graph = settled.graph
    start, end = span_of(settled.job, to_timeline(graph, settled.times))
    programs = [settled.job.programs[role] for role in settled.job.placement.role]
    own_rows = [study.job.programs[role].rows.block == block for role in study.job.placement.role]

    def tasks(columns: Sequence[Durations]) -> Durations:
        """Columns of all steps' rows -> one of this step's tasks."""
        found = np.zeros(len(graph), np.int64)
        for place, (column, own, order) in enumerate(
            zip(columns, own_rows, settled.order, strict=True)
        ):
            rows = slice(int(graph.row_offset[place]), int(graph.row_offset[place + 1]))
            found[rows] = column[own] if order is None else column[own][order]
        return found

    mark = np.full(len(graph), NONE, np.int32)
    mark[: graph.rows] = np.concatenate(
        [np.where(event_rows(program), 0, NONE) for program in programs]
    )
    return _Lab(
        settled, high - low, start, end - start, graph.duration_ns, tasks(study.typical.duration_ns),
        {cause: tasks(columns) for cause, columns in study.parts.items()},
        graph.rank.astype(np.int64), mark,
    )  # fmt: skip


def _places(ranks: Sequence[int], numbers: Mapping[int, int]) -> dict[int, list[int]]:
    """Which places of the placement have each number, in the order of numbers."""
    found: dict[int, list[int]] = {number: [] for number in sorted(set(numbers.values()))}
    for place, rank in enumerate(ranks):
        found[numbers[rank]].append(place)
    return found


def _operations(job: Job, tasks: int) -> tuple[NDArray[np.int64], dict[str, list[int]]]:
    """The kind of operation of each of the graph's tasks, and the kinds by name.

    In a job of whole operations their types, and both ends of a message together; else classes.
    """
    by = By.KERNEL if job.grain is Grain.OPERATION else By.CLASS
    numbers: dict[str, int] = {}
    columns = []
    for role in job.placement.role:
        program = job.programs[role]
        found = labels(program, by)
        of_text = np.array([numbers.setdefault(text, len(numbers)) for text in found.texts] or [0])
        known = program.rows.on_device if by is By.KERNEL else found.number != NONE
        columns.append(np.where(known, of_text[found.number], NONE))
    used = set(np.unique(np.concatenate(columns)).tolist())
    keys = {text: [number] for text, number in sorted(numbers.items()) if number in used}
    for text, ends in MESSAGES.items():
        if job.grain is Grain.OPERATION and any(end in keys for end in ends):
            keys[text] = [numbers[end] for end in ends if end in keys]
    rows = np.concatenate(columns)
    return np.concatenate([rows, np.full(tasks - len(rows), NONE)]), keys


def _overall(steps: Sequence[StepStragglers]) -> StepStragglers:
    ranks = _summed(steps, [step.ranks for step in steps])
    length_ns = sum(step.without_delay_ns for step in steps)
    costs = {rank: length_ns - group.without_ns for rank, group in ranks.items()}
    return StepStragglers(
        step="overall",
        measured_ns=sum(step.measured_ns for step in steps),
        without_delay_ns=length_ns,
        without_stragglers_ns=sum(step.without_stragglers_ns for step in steps),
        ranks=ranks,
        dp_ranks=_summed_where_known(steps, [step.dp_ranks for step in steps]),
        stages=_summed_where_known(steps, [step.stages for step in steps]),
        operations=_summed(steps, [step.operations for step in steps]),
        causes={
            # what a rank costs in one step it may gain in the others
            rank: _main_cause(steps, rank) if cost > LEAST_COST * length_ns else Cause.NONE
            for rank, cost in costs.items()
        },
    )


def _main_cause(steps: Sequence[StepStragglers], rank: int) -> Cause:
    costs = dict.fromkeys(Cause, 0)
    for step in steps:
        if step.causes[rank] is not Cause.NONE:
            costs[step.causes[rank]] += step.cost_ns(step.ranks[rank])
    return max(Cause, key=lambda cause: costs[cause]) if any(costs.values()) else Cause.NONE


def _summed(
    steps: Sequence[StepStragglers], groups: Sequence[Mapping[Key, Group]]
) -> dict[Key, Group]:
    """Each group over all steps; one that a step does not have changes nothing there."""
    found: dict[Key, Group] = {}
    for key in dict.fromkeys(key for each in groups for key in each):
        pairs = [
            each.get(key, Group(step.without_stragglers_ns, step.without_delay_ns))
            for step, each in zip(steps, groups, strict=True)
        ]
        found[key] = Group(sum(one.only_ns for one in pairs), sum(one.without_ns for one in pairs))
    return found


def _summed_where_known(
    steps: Sequence[StepStragglers], groups: Sequence[Mapping[int, Group] | None]
) -> dict[int, Group] | None:
    known = [each for each in groups if each is not None]
    return _summed(steps, known) if len(known) == len(groups) else None
