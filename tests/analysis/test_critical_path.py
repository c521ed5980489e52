"""The critical path: drawn runs piece by piece, and what holds for every run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lumos.analysis.critical_path import CriticalPath, by_rule, path_of, rule_word
from lumos.analysis.replay import event_rows, span_of
from lumos.analysis.slack import UNLIMITED, slack
from lumos.analysis.task_times import measured_task_times
from lumos.graph.execution import ExecutionGraph, Rule
from lumos.graph.job import Job
from lumos.graph.timeline import RankTimeline, TaskTimes, Timeline
from lumos.lower import lower
from lumos.simulate import run, to_timeline
from tests.drawing import Drawing
from tests.simulate.jobs import jobs

thorough = settings(
    deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


def is_task(job: Job) -> np.ndarray:
    return np.concatenate([event_rows(job.programs[role]) for role in job.placement.role])


def path_through(job: Job, graph: ExecutionGraph, times: TaskTimes, ran: Timeline) -> CriticalPath:
    return path_of(graph, times, is_task(job), span_of(job, ran)[0])


def names(job: Job, path: CriticalPath) -> list[str]:
    found = []
    offset = np.cumsum([0, *(len(job.programs[role].rows) for role in job.placement.role)])
    for row in path.row:
        place = int(np.searchsorted(offset, row, side="right")) - 1
        program = job.programs[job.placement.role[place]]
        name = program.names[program.rows.name[row - offset[place]]]
        found.append(f"{name} {place}" if len(offset) > 2 else name)
    return found


def told(job: Job, path: CriticalPath) -> list[tuple[str, str, int, int, int]]:
    """(task, rule, lag, unexplained, own) of each entry."""
    rules = [rule_word(int(rule)) for rule in path.rule]
    columns = (path.lag_ns.tolist(), path.unexplained_ns.tolist(), path.own_ns.tolist())
    return list(zip(names(job, path), rules, *columns, strict=True))


def replayed(drawn: Drawing, *, delays: bool = False) -> list[tuple[str, str, int, int, int]]:
    job = drawn.job()
    graph = lower(job)
    times = run(graph, delays=delays)
    return told(job, path_through(job, graph, times, to_timeline(graph, times)))


def measured(drawn: Drawing, *ranks: list[tuple[int, int]]) -> list[tuple[str, str, int, int, int]]:
    """The path of a run with these (start, end) of each row of each rank."""
    job = drawn.job()
    graph = lower(job)
    runs = [np.array(rank, np.int64).reshape(-1, 2) for rank in ranks]
    ran = Timeline(
        tuple(RankTimeline(one[:, 0], one[:, 1], np.zeros(len(one), np.int64)) for one in runs)
    )
    times = measured_task_times(graph, ran)
    path = path_through(job, graph, times, ran)
    assert path.length_ns == span_of(job, ran)[1] - span_of(job, ran)[0]
    return told(job, path)


def one_kernel() -> Drawing:
    """
    main | a 10 | launch 5 | b 3 |  synchronize ......|2|
    s1                ....|== k 100 ==|                       lag of the launch: 7 from its begin
    """
    drawn = Drawing(launch=7, synchronize=4)
    rank = drawn.rank()
    main, s1 = rank.thread(), rank.stream(1)
    main.work("a", 10)
    main.launch(s1, "k", 100, 5)
    main.work("b", 3)
    main.synchronize(s1, 2)
    return drawn


def test_a_launch_is_left_at_its_begin_and_lags_stand_between_tasks() -> None:
    assert replayed(one_kernel()) == [
        ("a", "starting_state", 0, 0, 10),
        ("cudaLaunchKernel", "program_order", 0, 0, 0),
        ("k", "launch", 7, 0, 100),
        ("cudaStreamSynchronize", "synchronize", 4, 0, 2),
    ]


def test_a_measured_task_that_starts_late_is_unexplained_behind_its_lag() -> None:
    """k may start at 17, starts at 30; the call could return at 134 + 2, returns at 150."""
    rows = [(0, 10), (10, 15), (30, 130), (15, 18), (18, 150)]
    assert measured(one_kernel(), rows) == [
        ("a", "starting_state", 0, 0, 10),
        ("cudaLaunchKernel", "program_order", 0, 0, 0),
        ("k", "launch", 7, 13, 100),
        ("cudaStreamSynchronize", "synchronize", 4, 0, 16),
    ]


def test_what_overlaps_counts_once() -> None:
    """The kernel starts 4 before its launch's lag is over, the call returns 10 before it ends."""
    rows = [(0, 10), (10, 15), (13, 130), (15, 18), (18, 120)]
    assert measured(one_kernel(), rows)[1:] == [
        ("cudaLaunchKernel", "program_order", 0, 0, 0),
        ("k", "launch", 3, 0, 117),
    ]
    rows[4] = (18, 131)
    assert measured(one_kernel(), rows)[1:] == [
        ("cudaLaunchKernel", "program_order", 0, 0, 0),
        ("k", "launch", 3, 0, 117),
        ("cudaStreamSynchronize", "synchronize", 1, 0, 0),
    ]


def test_recorded_delays_are_unexplained_where_they_were_put_back() -> None:
    drawn = one_kernel()
    drawn.ranks[0].rows[2]["delay_ns"] = 25
    assert replayed(drawn)[2] == ("k", "launch", 7, 0, 100)
    assert replayed(drawn, delays=True)[2] == ("k", "launch", 7, 25, 100)


def test_the_path_crosses_to_the_rank_that_came_last() -> None:
    """
    rank 0 | a 10 |l| ... wait ....|== sum 50 ==|
    rank 1 | b ........ 60 |l|     |== sum 50 ==|= k 5 =|
    """
    drawn = Drawing()
    drawn.group("all", 0, 1)
    for name, length in (("a", 10), ("b", 60)):
        rank = drawn.rank()
        main, s1 = rank.thread(), rank.stream(1)
        main.work(name, length)
        main.collective(s1, "sum", 50, "all", call=2)
        if name == "a":
            main.launch(s1, "k", 5, 2)
    assert replayed(drawn) == [
        ("b 1", "starting_state", 0, 0, 60),
        ("cudaLaunchKernel 1", "program_order", 0, 0, 0),
        ("sum 1", "launch", 0, 0, 0),
        ("sum 0", "rendezvous", 0, 0, 50),
        ("k 0", "stream_order", 0, 0, 5),
    ]
    rank_0 = [(0, 10), (10, 12), (12, 112), (12, 14), (112, 117)]
    rank_1 = [(0, 60), (60, 62), (65, 112)]
    assert measured(drawn, rank_0, rank_1) == [
        ("b 1", "starting_state", 0, 0, 60),
        ("cudaLaunchKernel 1", "program_order", 0, 0, 0),
        ("sum 1", "launch", 0, 5, 0),
        ("sum 0", "rendezvous", 0, 0, 47),
        ("k 0", "stream_order", 0, 0, 5),
    ]


def test_a_kernel_behind_a_stream_wait_is_held_by_what_that_awaits() -> None:
    """
    main | l | record | wait | l |
    s1     |====== a 80 =====|
    s2                       ..|= b 20 =|      lags: 2 for the event, 3 for the stream
    """
    drawn = Drawing(launch=1, stream_order=3, event_wait=2)
    rank = drawn.rank()
    main, s1, s2 = rank.thread(), rank.stream(1), rank.stream(2)
    main.launch(s1, "a", 80)
    main.record(s1, "done")
    main.wait(s2, "done")
    main.launch(s2, "b", 20)
    assert replayed(drawn)[1:] == [("a", "launch", 1, 0, 80), ("b", "event_wait", 5, 0, 20)]
    job = drawn.job()
    graph = lower(job)
    times = run(graph)
    path = path_through(job, graph, times, to_timeline(graph, times))
    assert by_rule(graph, path) == {Rule.LAUNCH: 81, Rule.EVENT_WAIT: 25}


def test_what_was_under_way_at_the_begin_stands_in_front() -> None:
    """main | a 5 |l|, and stream 1 is busy for 90 with what came before."""
    drawn = Drawing(launch=1)
    rank = drawn.rank()
    main, s1 = rank.thread(), rank.stream(1)
    main.work("a", 5)
    main.launch(s1, "k", 10)
    rank.starts({s1: 90})
    assert replayed(drawn) == [("k", "starting_state", 90, 0, 10)]


def test_a_pause_in_front_of_the_first_task_is_no_part_of_the_path() -> None:
    drawn = Drawing()
    main = drawn.rank().thread()
    main.gap(40)
    main.work("a", 5)
    assert replayed(drawn) == [("a", "program_order", 0, 0, 5)]


def test_a_kernel_that_fills_its_gpu_is_left_where_it_hands_out_its_last_wave() -> None:
    """
    s1 |== big: 4 waves of 25 ======|
    s2    ready .............|= n =========================== 200 =|
    """
    drawn = Drawing()
    rank = drawn.rank()
    main, s1, s2 = rank.thread(), rank.stream(1), rank.stream(2)
    main.launch(s1, "big", 100, waves=4)
    main.launch(s2, "n", 200, waves=1)
    assert replayed(drawn)[1:] == [("big", "launch", 0, 0, 75), ("n", "contention", 0, 0, 200)]


# --- what holds for every run


def check(job: Job, graph: ExecutionGraph, times: TaskTimes, ran: Timeline) -> CriticalPath:
    path = path_through(job, graph, times, ran)
    low, high = span_of(job, ran)
    assert path.length_ns == high - low
    for column in (path.lag_ns, path.unexplained_ns, path.own_ns):
        assert column.min() >= 0
    room = slack(graph, times, is_task(job), high)
    assert room.min() >= 0
    return path


@thorough
@given(jobs(most_ranks=3, waves=True))
def test_the_path_of_a_simulated_run_is_as_long_as_the_run(job: Job) -> None:
    graph = lower(job)
    times = run(graph)
    path = check(job, graph, times, to_timeline(graph, times))
    assert not path.unexplained_ns.any()
    assert not slack(graph, times, is_task(job), int(times.end_ns[path.row[-1]]))[path.row].any()


@thorough
@given(jobs(most_ranks=3, waves=True), st.data())
def test_unexplained_are_the_delays_that_were_put_back(job: Job, data: st.DataObject) -> None:
    graph = lower(job)
    numbers = st.integers(0, 30).map(lambda number: max(number - 20, 0))
    drawn = data.draw(st.lists(numbers, min_size=graph.rows, max_size=graph.rows))
    graph.delay_ns[: graph.rows] = drawn
    times = run(graph, delays=True)
    path = check(job, graph, times, to_timeline(graph, times))
    late = path.unexplained_ns > 0
    assert (path.unexplained_ns[late] <= graph.delay_ns[path.row[late]]).all()
    inside = path.own_start_ns > path.begin_ns  # what lies before the first task is cut off
    assert (path.unexplained_ns == graph.delay_ns[path.row])[inside & (path.own_ns > 0)].all()


@thorough
@given(jobs(most_ranks=3, waves=True), st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_the_path_of_a_noisy_run_is_as_long_as_the_run(job: Job, seed: int, noise: int) -> None:
    """Every start and end off by up to `noise`, some tasks much later: clocks and the unknown."""
    graph = lower(job)
    rng = np.random.default_rng(seed)
    ranks = []
    for rank in to_timeline(graph, run(graph)).ranks:
        late = np.where(rng.random(len(rank)) < 0.1, 100, 0) + rng.integers(
            -noise, noise, len(rank)
        )
        start = rank.start_ns + late
        end = np.maximum(rank.end_ns + late + rng.integers(-noise, noise, len(rank)), start)
        ranks.append(RankTimeline(start, end, np.zeros(len(rank), np.int64)))
    ran = Timeline(tuple(ranks))
    times = measured_task_times(graph, ran)
    path = check(job, graph, times, ran)
    if not graph.shares_gpus:
        assert not slack(graph, times, is_task(job), span_of(job, ran)[1])[path.row].any()


@thorough
@given(jobs(most_ranks=3, waves=True))
def test_waiting_is_found_again_in_the_rows_of_a_simulated_run(job: Job) -> None:
    graph = lower(job)
    times = run(graph)
    again = measured_task_times(graph, to_timeline(graph, times))
    assert (again.start_ns == times.start_ns)[: graph.rows].all()
    assert (again.end_ns == times.end_ns).all()


def end_of(job: Job, graph: ExecutionGraph, task: int, delay_ns: int) -> int:
    """The last end of a run in which one task starts later."""
    delays = np.zeros(len(graph), np.int64)
    delays[task] = delay_ns
    times = run(replace(graph, delay_ns=delays), delays=True)
    return int(times.end_ns[: graph.rows][is_task(job)].max())


@settings(thorough, max_examples=40)
@given(jobs(most_ranks=2, calls=15))
def test_a_task_may_be_late_by_its_slack_and_not_by_more(job: Job) -> None:
    graph = lower(job)
    end = end_of(job, graph, 0, 0)
    room = slack(graph, run(graph), is_task(job), end)
    for row in range(graph.rows):
        both = {row, int(graph.opening[row])}
        if room[row] == UNLIMITED:
            assert {end_of(job, graph, task, 10**6) for task in both} == {end}
            continue
        assert {end_of(job, graph, task, int(room[row])) for task in both} == {end}
        assert max(end_of(job, graph, task, int(room[row]) + 1) for task in both) > end


def test_slack_of_a_drawn_run() -> None:
    """
    main | l | l | l | synchronize
    s1     |==== a 100 ====|= c 10 =|
    s2         |= b 30 =|                 b could run 79 later, its launch too
    """
    drawn = Drawing()
    rank = drawn.rank()
    main, s1, s2 = rank.thread(), rank.stream(1), rank.stream(2)
    main.launch(s1, "a", 100)
    main.launch(s2, "b", 30)
    main.launch(s1, "c", 10)
    main.synchronize(duration=0)
    main.gap(500)
    job = drawn.job()
    graph = lower(job)
    times = run(graph)
    room = slack(graph, times, is_task(job), 110).tolist()
    assert room == [0, 0, 79, 79, 98, 0, 0, UNLIMITED]
