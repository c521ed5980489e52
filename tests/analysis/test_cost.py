"""What a step gains from faster parts: drawn steps, and what holds for every step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

import lumos
from lumos.analysis.baseline import (
    COPIES,
    MEASURED_COPIES,
    WARM_UP_COPIES,
    Baseline,
    Basis,
    Period,
    measured_periods,
)
from lumos.analysis.cost import Cost, Grouping, costs, default_groupings, parse_groupings
from lumos.errors import UsageError
from lumos.graph.job import Job, TaskKind
from lumos.graph.labels import By
from lumos.lower import lower
from lumos.simulate import simulate
from lumos.whatif.back_to_back import back_to_back
from lumos.whatif.scale import durations_of, scale
from lumos.whatif.selection import labelled
from tests.analysis.steps import baseline_of
from tests.cli.conftest import DATA, RECORDINGS
from tests.drawing import Drawing
from tests.graph.test_segments import piece
from tests.oracle import oracle_times
from tests.simulate.jobs import jobs

thorough = settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
real = pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is absent: no real GPU traces here")


def two_streams() -> Drawing:
    """A gemm of 100 beside a copy of 80, and a kernel of 20 behind the gemm; the host takes 40.

    main | 10 | l |     | l |     | l |  synchronize       the step ends with what both streams did
    s1            |==== gemm 100 ====|= b 20 =|
    s2                  |=== c 80 ===|
    """
    drawn = Drawing()
    rank = drawn.rank()
    main, s1, s2 = rank.thread(), rank.stream(1), rank.stream(2)
    main.work("begin", 10)
    main.launch(s1, "gemm", 100, 10)
    main.launch(s1, "b", 20, 10)
    main.launch(s2, "c", 80, 10)
    main.synchronize(duration=0)
    return drawn


def kernels(base: Baseline) -> dict[str, Cost]:
    return {one.label: one for one in costs(base, [Grouping.KERNEL]).costs}


def gains(one: Cost) -> tuple[int, int, int]:
    return one.gain_10_pct_ns, one.gain_half_ns, one.gain_free_ns


@pytest.mark.parametrize("basis", list(Basis))
def test_a_part_gains_until_something_else_takes_longer(basis: Basis) -> None:
    """As it is 10 + 100 + 20; without the gemm stream 2 decides, 30 + 80."""
    base = baseline_of(two_streams().job(), basis)
    assert base.unchanged.length_ns == 130
    found = kernels(base)
    assert gains(found["gemm"]) == (10, 20, 20)
    assert gains(found["b"]) == (2, 10, 20)
    assert gains(found["c"]) == (0, 0, 0)
    assert (found["c"].tasks, found["c"].own_ns) == (1, 80)


def test_a_host_that_ran_ahead_at_the_begin_saves_nothing_back_to_back() -> None:
    """The host limits this step: in the recorded one it had begun long before the device was free.

    main |===== 100 =====| l |                main |===== 100 =====| l |===== 100 =====| l |
    s1   |== before 150 ==|= k 20 =|          s1                    |= k 20 =|         |= k 20 =|
    """
    drawn = Drawing()
    rank = drawn.rank()
    main, stream = rank.thread(), rank.stream(1)
    main.work("python", 100)
    main.launch(stream, "k", 20, 1)
    rank.starts({stream: 150})
    once, training = (
        kernels(baseline_of(drawn.job(), basis)) for basis in (Basis.ONCE, Basis.BACK_TO_BACK)
    )
    assert gains(once["k"]) == (2, 10, 20)
    assert gains(once["python"]) == (0, 0, 0)
    assert gains(training["k"]) == (0, 0, 0)
    assert gains(training["python"]) == (10, 50, 81)  # the kernel of 20 is longer than the call


def test_a_step_that_gets_longer_has_a_negative_gain() -> None:
    """Kernel b fills the GPU; where it comes a little earlier, a has to wait for it, and c for a.

    s1 | prepare |== b 100 ==|            s1 | p |== b 100 ==|
    s2     | a 10 |=== c 200 ===|   ->    s2                 | a 10 |=== c 200 ===|
    """
    drawn = Drawing()
    rank = drawn.rank()
    main, other = rank.thread(), rank.thread("other")
    s1, s2 = rank.stream(1), rank.stream(2)
    main.work("prepare", 22)
    main.launch(s1, "b", 100, 0, waves=100)
    other.work("aside", 20)
    other.launch(s2, "a", 10, 0)
    other.launch(s2, "Memcpy HtoD", 200, 0, kind=TaskKind.COPY)
    found = costs(baseline_of(drawn.job(), Basis.ONCE), [Grouping.KERNEL])
    assert not found.fixed_order
    prepare = next(one for one in found.costs if one.label == "prepare")
    assert gains(prepare) == (0, -90, -79)


def waiting() -> Drawing:
    """Rank 1 computes 60 where rank 0 computes 40; then both reduce for 30."""
    drawn = Drawing()
    drawn.group("all", 0, 1)
    for length in (40, 60):
        rank = drawn.rank()
        main, stream = rank.thread(), rank.stream(1)
        main.launch(stream, "gemm", length, 5)
        main.collective(stream, "all-reduce", 30, "all", call=5)
        main.synchronize(duration=0)
    return drawn


def test_only_the_rank_that_the_others_wait_for_gains() -> None:
    found = costs(baseline_of(waiting().job()), [Grouping.RANK, Grouping.HOST])
    by_rank = {one.label: gains(one) for one in found.of(Grouping.RANK)}
    assert by_rank == {"rank 0": (0, 0, 0), "rank 1": (6, 20, 20)}
    assert [one.own_ns for one in found.of(Grouping.HOST)] == [10, 10]


def test_communication_is_of_no_rank_and_a_part_of_its_own() -> None:
    base = baseline_of(waiting().job())
    (reduce,) = [one for one in costs(base, [Grouping.CLASS]).costs if one.label == "all_reduce"]
    assert (reduce.tasks, reduce.own_ns) == (2, 60)
    assert gains(reduce) == (3, 15, 30)
    (slow,) = [one for one in costs(base, [Grouping.RANK]).costs if one.label == "rank 1"]
    assert slow.own_ns == 60 + 10


def test_data_loading_is_apart_from_the_host() -> None:
    drawn = Drawing()
    rank = drawn.rank()
    main, stream = rank.thread(), rank.stream(1)
    piece(main, "enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", 7, 50)
    main.launch(stream, "k", 5, 10)
    main.synchronize(duration=0)
    found = costs(baseline_of(drawn.job()), [Grouping.CLASS])
    assert {one.label: one.own_ns for one in found.costs} == {
        "data_loading": 50,
        "host": 10,
        "other_work": 5,
    }


def test_a_thread_that_launches_nothing_is_idle_between_its_tasks() -> None:
    """Its pause is of no class, and does not keep the step as long as it was recorded.

    main    | python 60 | l |        helper | check 1 |.... pause 60 ....|
    """
    drawn = Drawing()
    rank = drawn.rank()
    main, helper, stream = rank.thread(), rank.thread("helper"), rank.stream(1)
    main.work("python", 60)
    main.launch(stream, "k", 1, 1)
    helper.work("check", 1)
    helper.gap(60)
    helper.work("check", 0)
    found = costs(baseline_of(drawn.job()), [Grouping.CLASS])
    (host,) = [one for one in found.costs if one.label == "host"]
    assert host.own_ns == 62
    assert host.gain_half_ns == 31  # the call of 1 rounds to 0


def test_parts_beyond_the_most_are_counted_and_parts_without_time_are_none() -> None:
    drawn = Drawing()
    main = drawn.rank().thread()
    for number in range(5):
        main.work(f"operator {number}", 10 * number)
    found = costs(baseline_of(drawn.job()), [Grouping.OPERATOR, Grouping.LAYER], most=3)
    assert [one.label for one in found.costs] == ["operator 4", "operator 3", "operator 2"]
    assert found.left_out == {Grouping.OPERATOR: 1, Grouping.LAYER: 0}


def test_ranks_are_parts_where_there_are_several() -> None:
    assert Grouping.RANK in default_groupings(waiting().job())
    assert Grouping.RANK not in default_groupings(two_streams().job())


def test_groupings_go_by_their_names() -> None:
    assert parse_groupings(["rank", "class", "rank"]) == (Grouping.RANK, Grouping.CLASS)
    with pytest.raises(UsageError, match="no parts by 'module'; they are by class, operator"):
        parse_groupings(["module"])


def test_the_measured_period_is_the_steps_own_and_of_the_first_that_of_steps_like_it() -> None:
    """Steps end at 10, 30, 41 and 96: periods 20, 11 and 55; the first is as long as the third."""
    drawn = Drawing()
    rank = drawn.rank()
    main = rank.thread()
    for number, length in enumerate((10, 20, 11, 55)):
        rank.block(f"step {number}")
        main.work("a", length)
    job = drawn.job()
    assert measured_periods(job, simulate(lower(job))) == [
        Period(11, own=False), Period(20, own=True), Period(11, own=True), Period(55, own=True),
    ]  # fmt: skip


def test_the_measured_period_is_unknown_where_no_step_is_before_it_or_like_it() -> None:
    alone = two_streams().job()
    assert measured_periods(alone, simulate(lower(alone))) == [None]
    drawn = Drawing()
    rank = drawn.rank()
    main = rank.thread()
    for number, length in enumerate((10, 20)):
        rank.block(f"step {number}")
        main.work("a", length)
    job = drawn.job()
    assert measured_periods(job, simulate(lower(job))) == [None, Period(20, own=True)]


# --- what holds for every step


def slow_gain(job: Job, by: By, label: str, factor: float) -> int:
    """The gain as the oracle of jobs sees it: copies of the changed job run the slow way."""

    def period(changed: Job) -> float:
        many = back_to_back(changed, COPIES)
        ends = [0] * COPIES
        for place, times in enumerate(oracle_times(many, contention=False)):
            rows = many.programs[many.placement.role[place]].rows
            calls = set(rows.processor[rows.kind == TaskKind.LAUNCH].tolist()) | {0}
            counts = [
                event != -1 and (launch != -1 or processor in calls)
                for event, launch, processor in zip(
                    rows.event.tolist(), rows.launch.tolist(), rows.processor.tolist(), strict=True
                )
            ]
            steps = len(job.programs[0].blocks)
            for row, (_, end, _) in enumerate(times):
                if counts[row]:
                    copy = int(rows.block[row]) // steps
                    ends[copy] = max(ends[copy], end)
        return (
            ends[WARM_UP_COPIES + MEASURED_COPIES - 1] - ends[WARM_UP_COPIES - 1]
        ) / MEASURED_COPIES

    return round(period(job)) - round(period(scale(job, labelled(job, by, label), factor)))


@thorough
@given(jobs(most_ranks=2, most_threads=1))
def test_gains_are_those_of_the_oracle(job: Job) -> None:
    for one in costs(baseline_of(job), [Grouping.KERNEL], most=2).costs:
        expected = tuple(slow_gain(job, By.KERNEL, one.label, factor) for factor in (0.9, 0.5, 0))
        assert gains(one) == expected


@thorough
@given(jobs(most_ranks=2, most_threads=1))
def test_a_faster_part_never_costs_time_where_the_order_is_fixed(job: Job) -> None:
    """Once: the end. (A period is a difference of ends, of which the earlier may gain more.)"""
    found = costs(baseline_of(job, Basis.ONCE), [Grouping.KERNEL, Grouping.STREAM])
    for one in found.costs:
        assert 0 <= one.gain_10_pct_ns <= one.gain_half_ns <= one.gain_free_ns <= one.own_ns


@thorough
@given(jobs(most_ranks=2, waves=True))
def test_the_parts_of_a_grouping_have_all_its_time(job: Job) -> None:
    base = baseline_of(job)
    total = sum(int(p.rows.duration_ns.sum()) for p in job.programs)
    for by in (Grouping.OPERATOR, Grouping.KERNEL, Grouping.STREAM):
        assert sum(one.own_ns for one in costs(base, [by], most=10**6).costs) == total


# --- real traces


@pytest.fixture(scope="module")
def delayed() -> lumos.JobTraces:
    """A recording in which rank 1 sleeps for 20 ms in every step."""
    return lumos.load(RECORDINGS / "gpt-dp2-delayed")


@pytest.mark.parametrize("step", ["2", "3", "4"])
def test_the_cost_of_a_sleeping_host_is_its_sleep(delayed: lumos.JobTraces, step: str) -> None:
    hosts = delayed.cost(step, ["host"]).figures.of(Grouping.HOST)
    cost_ms = {one.label: one.gain_free_ns / 1e6 for one in hosts}
    pauses_ms = hosts[1].own_ns / 1e6  # the other rank's pauses: what a host has without a sleep
    assert hosts[0].label == "rank 1"
    assert cost_ms["rank 1"] - pauses_ms == pytest.approx(20, abs=2)
    assert cost_ms["rank 0"] == pytest.approx(0, abs=1)


def test_a_column_of_durations_gains_what_the_changed_job_gains(delayed: lumos.JobTraces) -> None:
    run = delayed.replay("3").run
    base = baseline_of_replay(run, Basis.ONCE)
    gemm = next(one for one in costs(base, [Grouping.CLASS]).costs if one.label == "gemm")
    faster = scale(run.job, labelled(run.job, By.CLASS, "gemm"), 0.5)
    column = durations_of(base.graph, faster)
    for graph in (replace(base.graph, duration_ns=column), lower(faster)):
        assert base.unchanged.length_ns - base.length_in(graph) == gemm.gain_half_ns


def baseline_of_replay(run: Any, basis: Basis) -> Baseline:
    from lumos.predict import baseline_of

    return baseline_of(run, basis)


@thorough
@given(jobs(most_ranks=2, most_threads=1))
def test_a_changed_step_gains_what_its_part_does(job: Job) -> None:
    """Lowered anew or as a scenario of one graph; unchanged it is the step as it is."""
    for basis in Basis:
        base = baseline_of(job, basis)
        assert base.length_of(base.step) == base.unchanged.length_ns
        for one in costs(base, [Grouping.KERNEL], most=1).costs:
            faster = scale(base.step, labelled(base.step, By.KERNEL, one.label), 0.5)
            assert base.unchanged.length_ns - base.length_of(faster) == one.gain_half_ns


@real
@pytest.mark.parametrize("name", ["recsys-8xA100", "dlrm-8xV100", "resnet50-V100", "vgg13-H100"])
def test_real_steps_are_close_to_their_measured_period(name: str) -> None:
    found = lumos.load(DATA / name).cost(by=["class"]).figures
    if found.unchanged.error_pct is not None:
        assert abs(found.unchanged.error_pct) < 2
    length = found.unchanged.length_ns
    assert all(one.gain_free_ns <= min(length, one.own_ns) for one in found.costs)
    assert found.costs[0].gain_half_ns > 0


@real
def test_of_a_step_that_the_host_limits_kernels_gain_nothing() -> None:
    """In a single run the convolutions of this step seem to cost 9 ms: its host had begun early."""
    traces = lumos.load(DATA / "resnet50-V100")
    step = traces.steps[3]
    once, training = (
        {one.label: one for one in traces.cost(step, ["class"], once=way).figures.costs}
        for way in (True, False)
    )
    assert once["convolution"].gain_free_ns > 5e6
    assert training["convolution"].gain_free_ns == 0
    assert once["host"].gain_half_ns < 20e6
    assert training["host"].gain_half_ns > 50e6
    assert training["data_loading"].gain_half_ns > 30e6
