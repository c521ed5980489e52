"""The critical path of a step: its sums, its story, what is nearly critical; on real traces too."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings

from lumos import predict
from lumos.analysis.path_segments import segments
from lumos.analysis.path_sums import Part, path_sums
from lumos.analysis.replay import span_of
from lumos.analysis.step_path import Ran, StepPath, step_path
from lumos.graph.execution import Rule
from lumos.graph.job import Job
from lumos.graph.work import Phase
from lumos.ingest.read import read
from lumos.lower import lower
from lumos.simulate import run, to_timeline
from tests.analysis.test_critical_path import thorough
from tests.cli.conftest import DATA, RECORDINGS
from tests.drawing import Drawing
from tests.simulate.jobs import jobs


def path_of_job(job: Job) -> StepPath:
    graph = lower(job)
    times = run(graph)
    return step_path("step", Ran.REPLAYED, job, graph, to_timeline(graph, times), times, None)


def check_sums(found: StepPath) -> None:
    sums = found.sums
    assert found.path.length_ns == found.makespan_ns
    for table in (
        sums.by_part, sums.by_kind, sums.by_rule, sums.by_rank, sums.by_stream, sums.by_layer,
        sums.by_phase, sums.by_operator,
    ):  # fmt: skip
        assert sum(table.values()) == found.makespan_ns
        assert min(table.values(), default=1) > 0, "what takes no time is not told"
        assert list(table.values()) == sorted(table.values(), reverse=True)


def two_ranks() -> Job:
    """
    rank 0 | a 10 |l| .......... wait ............|== all-reduce 50 ==|
           |  gemm 20 |
    rank 1 | b 30 |l|= gemm 40 =|= add 6 =|  |l|  |== all-reduce 50 ==|= c 5 =|
    """
    drawn = Drawing(launch=2, stream_order=1)
    drawn.group("all", 0, 1)
    for name, length in (("a", 10), ("b", 30)):
        rank = drawn.rank()
        main, s1 = rank.thread(), rank.stream(1)
        main.work(name, length)
        if name == "a":
            main.launch(s1, "gemm", 20)
        else:
            main.launch(s1, "gemm", 40)
            main.launch(s1, "add", 6)
        main.collective(s1, "all-reduce", 50, "all")
        main.launch(s1, "c", 5 if name == "b" else 3)
        for row in rank.rows:
            row["phase"] = Phase.FORWARD if row["kind"] < 8 else Phase.UNKNOWN
        rank.rows[-1]["phase"] = Phase.OPTIMIZER
    return drawn.job()


def test_every_sum_is_the_makespan() -> None:
    found = path_of_job(two_ranks())
    check_sums(found)
    sums = found.sums
    assert found.makespan_ns == 30 + 2 + 40 + 1 + 6 + 1 + 50 + 1 + 5
    assert sums.by_part == {Part.COMMUNICATION: 50, Part.COMPUTE: 51, Part.HOST: 30, Part.LAG: 5}
    assert sums.by_kind == {"all_reduce": 50, "gemm": 40, "host": 30, "other_work": 11, "lag": 5}
    assert sums.by_rule == {
        Rule.RENDEZVOUS.word: 50, Rule.LAUNCH.word: 42, Rule.PROGRAM_ORDER.word: 30,
        Rule.STREAM_ORDER.word: 14,
    }  # fmt: skip
    assert sums.by_rank == {1: 136}
    assert sums.by_operator == {"all-reduce": 50, "gemm": 40, "b": 30, "add": 6, "c": 5, "lag": 5}
    assert sums.by_phase == {"unknown": 100, "forward": 30, "optimizer": 6}


def test_neighbours_of_one_stream_and_phase_are_one_stretch() -> None:
    """What has no phase is no part of a stretch that has one."""
    found = path_of_job(two_ranks())
    assert found.segment_count == 3
    host, untold, stream = found.segments
    assert (host.rank, host.stream, host.phase, host.rule) == (
        1,
        "main",
        "forward",
        "starting_state",
    )
    assert (host.start_ns, host.length_ns, host.operators) == (0, 30, (("b", 30),))
    assert (untold.stream, untold.phase, untold.rule) == ("stream 1", None, "launch")
    assert (untold.start_ns, untold.end_ns, untold.lag_ns) == (30, 130, 4)
    assert untold.kinds == (("all_reduce", 50), ("gemm", 40), ("other_work", 6))
    assert (stream.phase, stream.rule, stream.end_ns) == ("optimizer", "stream_order", 136)
    assert stream.kinds == (("other_work", 5),)
    assert [(hop.kind, hop.task, hop.length_ns, hop.task_ns) for hop in found.hops] == [
        ("starting_state", "b", 0, 30),
        ("program_order", "cudaLaunchKernel", 0, 0),
        ("launch", "gemm", 2, 40),
        ("stream_order", "add", 1, 6),
        ("stream_order", "all-reduce", 1, 0),
        ("rendezvous", "all-reduce", 0, 50),
        ("stream_order", "c", 1, 5),
    ]


def test_what_has_no_phase_is_in_that_of_its_neighbours_where_they_agree() -> None:
    """
    main | ? 90 | forward 20 | gap 5 | forward 30 | gap 7 | backward 40 |
    """
    drawn = Drawing()
    main = drawn.rank().thread()
    for name, length in (("a", 90), ("b", 20), ("gap", 5), ("c", 30), ("gap", 7), ("d", 40)):
        main.gap(length) if name == "gap" else main.work(name, length)
    for row, phase in zip(main.rank.rows, (0, 1, 0, 1, 0, 2), strict=True):
        row["phase"] = phase
    found = path_of_job(drawn.job())
    assert [(one.phase, one.length_ns) for one in found.segments] == [
        (None, 90), ("forward", 55), (None, 7), ("backward", 40),
    ]  # fmt: skip


@settings(thorough, max_examples=60)
@given(jobs(most_ranks=3, waves=True))
def test_sums_and_stretches_of_any_job_add_up(job: Job) -> None:
    found = path_of_job(job)
    check_sums(found)
    count, story = segments(job, lower(job), found.path, len(found.path))
    assert [one.number for one in story] == list(range(count))
    assert sum(one.length_ns for one in story) == found.makespan_ns
    assert story[0].start_ns == found.path.begin_ns
    for before, one in pairwise(story):
        assert before.end_ns == one.start_ns
    assert sum(hop.length_ns + hop.task_ns for hop in found.hops) == found.makespan_ns


def test_what_is_off_the_path_by_little_is_nearly_critical() -> None:
    """
    main | l | l | synchronize
    s1     |==== a 1000 ====|
    s2       |==== b 995 ===|     b could run 4 later, k 992
    s3         |= k 5 =|
    """
    drawn = Drawing()
    rank = drawn.rank()
    main, streams = rank.thread(), [rank.stream(number) for number in (1, 2, 3)]
    for stream, (name, length) in zip(streams, (("a", 1000), ("b", 995), ("k", 5)), strict=True):
        main.launch(stream, name, length)
    main.synchronize(duration=0)
    near = path_of_job(drawn.job()).near
    assert [(one.stream, one.kind, one.tasks, one.own_ns, one.least_slack_ns) for one in near] == [
        ("stream 2", "other_work", 1, 995, 4),
        ("main", "host", 2, 1, 0),
    ]


def test_a_step_without_any_task_has_an_empty_path() -> None:
    drawn = Drawing()
    drawn.rank().thread().gap(5)
    found = path_of_job(drawn.job())
    check_sums(found)
    assert (found.makespan_ns, len(found.path), found.segments, found.hops) == (0, 0, (), ())


def sources() -> list[object]:
    skip = pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is absent: no real traces here")
    real = (
        "dlrm-8xV100", "recsys-8xA100", "resnet-ddp-2xA100", "resnet50-V100-13streams",
        "vgg13-H100", "linear-RTX2080Ti", "amd/resnet18-ddp-MI300X.json.gz",
        "event-sync/alexnet.json.gz", "inference/qwen1.5-0.5b-H100.json.gz",
        "odd/rank-missing.json.gz",
    )  # fmt: skip
    bundled = sorted(path for path in RECORDINGS.iterdir() if path.is_dir())
    return [pytest.param(path, id=path.name) for path in bundled] + [
        pytest.param(DATA / name, id=name, marks=skip) for name in real
    ]


@pytest.mark.parametrize("source", sources())
def test_the_path_of_every_real_run_is_as_long_as_the_run(source: Path) -> None:
    for replay in predict.replay_steps(predict.record(read(source))):
        for measured in (False, True):
            found = predict.critical_path_of(replay, measured=measured)
            check_sums(found)
            timeline = replay.measured if measured else replay.replayed
            low, high = span_of(replay.job, timeline)
            assert found.path.length_ns == high - low
            assert min(column.min() for column in (found.path.lag_ns, found.path.own_ns)) >= 0
            assert found.path.unexplained_ns.any() <= measured
            assert found.slack_ns.min() >= 0
            assert not found.slack_ns[found.path.row].any()
        replayed = predict.critical_path_of(replay)
        assert replay.figures.critical_path_ns == replayed.sums.by_rule
        assert sum(replay.figures.critical_path_ns.values()) == replay.figures.replayed_ns


@pytest.mark.parametrize("measured", [False, True])
def test_a_delayed_rank_makes_up_the_path(measured: bool) -> None:
    """Rank 1 stalls for 20 ms in front of every step's work: nearly all of the path is on it."""
    for replay in predict.replay_steps(predict.record(read(RECORDINGS / "gpt-dp2-delayed"))):
        found = predict.critical_path_of(replay, measured=measured)
        assert found.share_pct(found.sums.by_rank[1]) > 90
        assert found.sums.by_operator["(gap)"] > 18e6
        assert found.segments[0].rank == 1


def test_a_pipeline_is_passed_from_stage_to_stage() -> None:
    (replay,) = predict.replay_steps(predict.record(read(RECORDINGS / "gpt-pp2")), ["3"])
    found = predict.critical_path_of(replay, measured=True)
    assert {one.rank for one in found.segments} == {0, 1}
    assert min(found.share_pct(time) for time in found.sums.by_rank.values()) > 30
    sums = path_sums(replay.job, replay.graph, found.path)
    assert sums == found.sums
