"""A diff exchanges parts between two jobs; what they change adds up to the change."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lumos
from lumos.analysis.diff import Diff, Side, diff, side_of, side_of_rank
from lumos.analysis.parts import Kind
from lumos.errors import UsageError
from lumos.graph.job import Job, TaskKind
from lumos.lower import lower
from lumos.simulate import simulate
from tests.drawing import LAUNCH_CALL, Drawing
from tests.simulate.jobs import jobs

RECORDINGS = Path(__file__).parents[2] / "recordings"


def side(job: Job, label: str = "run") -> Side:
    """A job measured as it is simulated."""
    return side_of(label, job, simulate(lower(job), delays=True))


def changes(found: Diff) -> dict[str, int]:
    return {
        part.label if part.layer is None else f"{part.label} {part.layer}": part.change_ns
        for part in found.parts
        if part.change_ns
    }


def host_beside_device(work: int, kernel: int, *, extra: bool = False) -> Job:
    """The host works while a kernel runs, and then waits for it.

    main | launch | work ....... | synchronize |
    s1            |= kernel ...........=|
    """
    drawing = Drawing()
    rank = drawing.rank()
    main, s1 = rank.thread(), rank.stream(1)
    main.launch(s1, "kernel", kernel, call=0)
    if extra:
        main.launch(s1, "extra kernel", 30, call=0)
    main.work("work", work)
    main.synchronize(s1)
    return drawing.job()


def test_what_is_hidden_behind_something_longer_changes_nothing() -> None:
    found = diff(side(host_beside_device(10, 100)), side(host_beside_device(60, 130)))
    assert changes(found) == {"other_work": 30}
    assert found.change_ns == 30


def test_parts_that_change_the_same_time_share_it_evenly() -> None:
    """From 100 to 80 only if both become shorter: each order gives the second one all of it."""
    found = diff(side(host_beside_device(100, 100)), side(host_beside_device(80, 80)))
    assert changes(found) == {"other_work": -10, "operators": -10}
    assert {(p.lowest_ns, p.highest_ns) for p in found.parts if p.change_ns} == {(-20, 0)}


def test_a_kernel_that_only_one_program_has_is_structure() -> None:
    found = diff(side(host_beside_device(10, 100)), side(host_beside_device(10, 100, extra=True)))
    assert changes(found) == {"program structure": 30}
    (part,) = (part for part in found.parts if part.kind == Kind.STRUCTURE)
    assert part.tasks == (0, 2)
    assert part.own_ns == (0, 30)


@pytest.mark.parametrize(
    ("workers", "expected"),
    [((1, 0), {}), ((0, 0), {"order and queues": 20})],
)
def test_the_queue_that_a_task_runs_in_is_no_structure(
    workers: tuple[int, int], expected: dict[str, int]
) -> None:
    """Two workers that change places change nothing; two tasks in one queue wait for each other.

    worker 0 | all-reduce 1 ... |                 worker 0 | all-reduce 1 ... | all-reduce 2 |
    worker 1    | all-reduce 2 |                  worker 1
    """

    def job(first: int, second: int) -> Job:
        drawing = Drawing()
        group = drawing.group("all", 0)
        rank = drawing.rank()
        main, queues = rank.thread(), (rank.worker(1), rank.worker(2))
        main.collective(queues[first], "all-reduce", 30, group, call=10)
        main.collective(queues[second], "all-reduce", 20, group, call=10)
        return drawing.job()

    found = diff(side(job(0, 1)), side(job(*workers)))
    assert changes(found) == expected
    assert found.matched_pct == 100


def test_a_call_of_which_another_piece_has_a_partner_is_no_structure() -> None:
    """A slow launch is cut in two: the launch itself and the rest of the call."""

    def job(rest: int) -> Job:
        drawing = Drawing()
        rank = drawing.rank()
        main, s1 = rank.thread(), rank.stream(1)
        call = main.launch(s1, "kernel", 20, call=5)
        if rest:
            rank.add(TaskKind.CALL, LAUNCH_CALL, main.number, rest, event=rank.rows[call]["event"])
        main.work("work", 50)
        return drawing.job()

    assert changes(diff(side(job(0)), side(job(30)))) == {"runtime calls": 30}


@pytest.mark.parametrize("pauses", [((0,), (30,)), ((30,), (0,)), ((0, 20), (30, 0))])
def test_a_pause_that_only_one_run_has_is_a_part(pauses: tuple[tuple[int, ...], ...]) -> None:
    def job(lengths: tuple[int, ...]) -> Job:
        drawing = Drawing()
        rank = drawing.rank()
        main, s1 = rank.thread(), rank.stream(1)
        for length in lengths:
            main.launch(s1, "kernel", 10, call=2)
            if length:
                main.gap(length)
            main.work("work", 5)
            main.synchronize(s1, duration=1)
        return drawing.job()

    found = diff(side(job(pauses[0])), side(job(pauses[1])))
    assert found.first_replayed_ns == found.first_measured_ns
    assert found.second_replayed_ns == found.second_measured_ns
    assert found.change_ns == sum(part.change_ns for part in found.parts) != 0
    if len(pauses[0]) == 1:  # one of the two programs has all rows of both
        assert changes(found) == {"gaps": found.change_ns}


def test_layers_are_parts_of_their_own() -> None:
    def two_layers(first: int, second: int) -> Job:
        drawing = Drawing()
        rank = drawing.rank()
        main, s1 = rank.thread(), rank.stream(1)
        main.launch(s1, "a", first, call=0)
        main.launch(s1, "b", second, call=0)
        job = drawing.job()
        rows = job.programs[0].rows.with_columns(layer=np.array([0, 0, 1, 1], np.int16))
        return replace(job, programs=(replace(job.programs[0], rows=rows),))

    found = diff(side(two_layers(50, 40)), side(two_layers(55, 38)))
    assert changes(found) == {"other_work 0": 5, "other_work 1": -2}


def test_work_under_way_at_the_start_is_a_part() -> None:
    def behind(busy: int) -> Job:
        drawing = Drawing()
        rank = drawing.rank()
        main, s1 = rank.thread(), rank.stream(1)
        main.work("begin", 1)
        main.launch(s1, "kernel", 20, call=0)
        rank.starts({s1: busy})
        return drawing.job()

    assert changes(diff(side(behind(5)), side(behind(25)))) == {"under way at the start": 20}


def test_lags_and_unexplained_delays_are_parts() -> None:
    def job(launch: int, delay: int) -> Job:
        drawing = Drawing(launch=launch)
        rank = drawing.rank()
        main, s1 = rank.thread(), rank.stream(1)
        main.launch(s1, "kernel", 20, delay=delay)
        return drawing.job()

    found = diff(side(job(2, 0)), side(job(5, 11)))
    assert changes(found) == {"launch and other lags": 3, "unexplained delays": 11}


def test_what_the_replay_does_not_reproduce_stands_by_itself() -> None:
    first = side(host_beside_device(10, 100))
    second = replace(side(host_beside_device(10, 120)), measured_ns=126)
    found = diff(first, second)
    assert changes(found) == {"other_work": 20, "not reproduced by the replay": 5}


def test_a_rank_on_its_own_waits_for_its_peers_as_in_the_job() -> None:
    drawing = Drawing()
    group = drawing.group("all", 0, 1)
    for work in (10, 70):
        rank = drawing.rank()
        main, s1 = rank.thread(), rank.worker(1)
        main.work("work", work)
        main.collective(s1, "all-reduce", 5, group, call=0)
    job = drawing.job()
    graph = lower(job)
    run = simulate(graph)
    first, second = (side_of_rank(f"rank {rank}", job, graph, run, rank) for rank in (0, 1))
    assert (first.measured_ns, second.measured_ns) == (75, 75)
    assert changes(diff(first, second)) == {"waiting for peers": -60, "other_work": 60}
    with pytest.raises(UsageError, match="rank 2 was not traced; traced are ranks 0, 1"):
        side_of_rank("rank 2", job, graph, run, 2)


def test_runs_of_different_ranks_are_no_pair() -> None:
    drawing = Drawing()
    for _ in range(2):
        drawing.rank().thread().work("work", 1)
    with pytest.raises(UsageError, match="small has ranks 0, large has 0, 1"):
        diff(side(host_beside_device(1, 1), "small"), side(drawing.job(), "large"))


def by_hand(first: tuple[int, int, int], second: tuple[int, int, int]) -> list[float]:
    """Mean over all orders in which work, kernel and launch call go from first to second."""

    def span(call: int, work: int, kernel: int) -> int:
        return max(call + work, kernel) + 1  # a task starts with its call; synchronising takes 1

    totals = [0.0, 0.0, 0.0]
    orders = list(permutations(range(3)))
    for order in orders:
        now = list(first)
        for part in order:
            before = span(*now)
            now[part] = second[part]
            totals[part] += (span(*now) - before) / len(orders)
    return totals


lengths = st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))


@settings(deadline=None, max_examples=40)
@given(lengths, lengths)
def test_changes_are_the_means_over_all_orders(first, second) -> None:
    def job(call: int, work: int, kernel: int) -> Job:
        drawing = Drawing()
        rank = drawing.rank()
        main, s1 = rank.thread(), rank.stream(1)
        main.launch(s1, "kernel", kernel, call=call)
        main.work("work", work)
        main.synchronize(s1, duration=1)
        return drawing.job()

    found = diff(side(job(*first)), side(job(*second)))
    by_label = {part.label: part.change_ns for part in found.parts}
    names = ("runtime calls", "operators", "other_work")
    for name, expected in zip(names, by_hand(first, second), strict=True):
        assert abs(by_label.get(name, 0) - expected) <= 2  # whole ns that add up


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(jobs(most_ranks=2), st.integers(0, 2**32 - 1))
def test_parts_add_up_and_the_other_way_round_change_sign(job: Job, seed: int) -> None:
    random = np.random.default_rng(seed)
    programs = tuple(
        replace(
            program,
            rows=program.rows.with_columns(
                duration_ns=program.rows.duration_ns + random.integers(0, 30, len(program.rows))
            ),
        )
        for program in job.programs
    )
    first, second = side(job, "first"), side(replace(job, programs=programs), "second")
    there, back = diff(first, second), diff(second, first)
    assert sum(part.change_ns for part in there.parts) == there.change_ns
    assert there.change_ns == -back.change_ns
    ways = [{(p.kind, p.label): p.change_ns for p in found.parts} for found in (there, back)]
    assert ways[0].keys() == ways[1].keys()
    for name, change in ways[0].items():
        assert abs(change + ways[1][name]) <= len(ways[0])
    assert not changes(diff(first, first))


def test_a_rank_that_sleeps_is_explained_by_its_pauses() -> None:
    """The second recording is of the same job with a sleep of 20 ms on one rank in each step."""
    runs = [
        lumos.load(RECORDINGS / name).replay("ProfilerStep#2")
        for name in ("gpt-dp2", "gpt-dp2-delayed")
    ]
    found = lumos.diff(*runs)
    largest = found.figures.parts[0]
    assert (largest.kind, largest.label) == (Kind.HOST, "gaps")
    assert 19e6 < largest.change_ns < 23e6
    assert found.frame()["change_ms"].sum() == pytest.approx(found.figures.change_ns / 1e6)
    assert "host: gaps" in repr(found)
