"""Scenarios run side by side end as each does alone."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lumos.graph.job import Job
from lumos.lower import lower
from lumos.simulate import run
from lumos.simulate.batch import Scenarios, ends_of_each
from tests.drawing import Drawing
from tests.simulate.jobs import jobs

thorough = settings(
    deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


@st.composite
def scenarios(draw: st.DrawFn, tasks: int) -> Scenarios:
    """Up to 20 scenarios over one to three groupings of up to four groups."""
    groupings, groups = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    seed = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.integers(0, 20))
    return Scenarios(
        seed.integers(-1, groups, (groupings, tasks)).astype(np.int32),
        seed.integers(0, groupings, count).astype(np.int32),
        seed.integers(0, groups, count).astype(np.int32),
        np.array(draw(st.lists(st.floats(0, 3), min_size=count, max_size=count)), np.float64),
    )


def one_by_one(
    job: Job, several: Scenarios, mark: NDArray[np.int32], *, delays: bool
) -> list[list[int]]:
    """Every scenario by the simulator of single runs."""
    graph = lower(job)
    ends = []
    for k in range(len(several)):
        chosen = several.number[several.grouping[k]] == several.group[k]
        factor = several.factor[k]
        lengths = [
            round(length * factor) if inside else length
            for length, inside in zip(graph.duration_ns.tolist(), chosen.tolist(), strict=True)
        ]
        end = run(graph, np.array(lengths), delays=delays).end_ns
        ends.append([int(end[mark == m].max(initial=0)) for m in range(mark.max(initial=-1) + 1)])
    return ends


@thorough
@given(jobs(most_ranks=2), st.data(), st.booleans())
def test_scenarios_in_lanes_end_as_each_does_alone(
    job: Job, data: st.DataObject, delays: bool
) -> None:
    tasks = len(lower(job))
    several = data.draw(scenarios(tasks))
    mark = np.arange(tasks, dtype=np.int32) % 4 - 1
    ends = ends_of_each(lower(job), several, mark, delays=delays)
    assert ends.tolist() == one_by_one(job, several, mark, delays=delays)


@thorough
@given(jobs(most_ranks=2, waves=True), st.data())
def test_scenarios_of_streams_that_share_a_gpu_end_as_each_does_alone(
    job: Job, data: st.DataObject
) -> None:
    tasks = len(lower(job))
    several = data.draw(scenarios(tasks))
    mark = np.arange(tasks, dtype=np.int32) % 4 - 1
    assert ends_of_each(lower(job), several, mark).tolist() == one_by_one(
        job, several, mark, delays=False
    )


def test_a_scenario_scales_one_group_and_leaves_the_others() -> None:
    """main | a 10 | b 20 |: a twice as fast, b free, b three times as slow."""
    drawn = Drawing()
    main = drawn.rank().thread()
    main.work("a", 10)
    main.work("b", 20)
    several = Scenarios(
        np.array([[0, 1]], np.int32),
        np.zeros(3, np.int32),
        np.array([0, 1, 1], np.int32),
        np.array([0.5, 0.0, 3.0]),
    )
    ends = ends_of_each(lower(drawn.job()), several, np.array([0, 1], np.int32))
    assert ends.tolist() == [[5, 25], [10, 10], [10, 70]]


def test_nothing_is_run_for_no_scenario() -> None:
    drawn = Drawing()
    drawn.rank().thread().work("a", 10)
    none = np.empty(0, np.int32)
    several = Scenarios(np.zeros((1, 1), np.int32), none, none, np.empty(0))
    assert ends_of_each(lower(drawn.job()), several, np.zeros(1, np.int32)).shape == (0, 1)


def test_marks_of_no_task_are_there_and_end_at_0() -> None:
    drawn = Drawing()
    drawn.rank().thread().work("a", 10)
    one = np.zeros(1, np.int32)
    several = Scenarios(np.zeros((1, 1), np.int32), one, one, np.ones(1))
    unwatched = np.full(1, -1, np.int32)
    assert ends_of_each(lower(drawn.job()), several, unwatched, marks=2).tolist() == [[0, 0]]
