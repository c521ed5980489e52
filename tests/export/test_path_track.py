"""The critical path in the Perfetto file: a process of its own, checked as its reader reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from lumos import predict
from lumos.analysis.critical_path import CriticalPath
from lumos.analysis.step_path import Ran, step_path
from lumos.errors import UsageError
from lumos.export.path_slices import STRETCH, path_slices
from lumos.export.perfetto import write_perfetto
from lumos.graph.job import Job
from lumos.ingest.read import read
from lumos.lower import lower
from lumos.simulate import run, to_timeline
from tests.cli.conftest import DATA, RECORDINGS
from tests.export.test_perfetto import (
    check_metadata,
    drawn_job,
    load,
    ns,
    read_as_perfetto,
)
from tests.simulate.jobs import jobs


def path_of(job: Job) -> CriticalPath:
    graph = lower(job)
    times = run(graph)
    return step_path("step", Ran.REPLAYED, job, graph, to_timeline(graph, times), times, None).path


def write(path: Path, job: Job) -> list[dict[str, Any]]:
    """The slices of the path."""
    graph = lower(job)
    runs = {"replayed": to_timeline(graph, run(graph))}
    write_perfetto(path, job, runs, graph, paths={"replayed": path_of(job)})
    events = load(path)
    read_as_perfetto(events)
    (process,) = (p for p, n in check_metadata(events).items() if n == "critical path, replayed")
    return [event for event in events if event["ph"] == "X" and event["pid"] == process]


def test_the_path_is_a_track_of_its_own(tmp_path: Path) -> None:
    slices = write(tmp_path / "x.json.gz", drawn_job())
    told = [(e["name"].partition(",")[0], e["cat"], e["args"]["rule"], e["dur"]) for e in slices]
    assert told == [
        ("rank 0: thread 1", STRETCH, "starting_state", 3.0),
        ("aten::linear", "host", "starting_state", 1.0),
        ("aten::addmm", "host", "program_order", 2.0),
        ("rank 0: stream 7", STRETCH, "launch", 56.5),
        ("launch lag", "lag", "launch", 6.5),
        ("gemm", "gemm", "launch", 50.0),
        ("rank 0: stream 20", STRETCH, "event_wait", 82.823),
        ("event_wait lag", "lag", "event_wait", 2.7),
        ("ncclDevKernel_AllReduce", "other_work", "event_wait", 80.123),
        ("rank 0: thread 1", STRETCH, "synchronize", 5.0),
        ("synchronize lag", "lag", "synchronize", 4.0),
        ("cudaStreamSynchronize", "host", "synchronize", 1.0),
    ]
    assert slices[5]["args"] == {"rank": 0, "processor": "stream 7", "rule": "launch"}


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck), derandomize=True)
@given(jobs(most_ranks=3, waves=True))
def test_pieces_follow_each_other_without_a_gap_inside_their_stretches(job: Job) -> None:
    path = path_of(job)
    slices = list(path_slices(job, lower(job), path))
    pieces = [one for one in slices if one.kind != STRETCH]
    stretches = [one for one in slices if one.kind == STRETCH]
    for row in (pieces, stretches):
        assert sum(one.length_ns for one in row) == path.length_ns
        at = path.begin_ns
        for one in row:
            assert one.start_ns == at
            assert one.length_ns > 0
            at += one.length_ns


@pytest.mark.parametrize(
    "source",
    [
        RECORDINGS / "gpt-pp2",
        pytest.param(
            DATA / "dlrm-8xV100",
            marks=pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is absent"),
        ),
    ],
    ids=lambda path: path.name,
)
def test_the_exported_file_of_a_real_step_carries_both_paths(tmp_path: Path, source: Path) -> None:
    from lumos.api import write_timeline

    recording = predict.record(read(source))
    replay = predict.replay_steps(recording, [predict.median_step(recording)])[0]
    events = load(write_timeline(tmp_path, replay))
    assert read_as_perfetto(events)
    processes = {name: process for process, name in check_metadata(events).items()}
    order = {e["pid"]: e["args"]["sort_index"] for e in events if e["name"] == "process_sort_index"}
    for run_name in ("measured", "replayed"):
        found = predict.critical_path_of(replay, measured=run_name == "measured")
        process = processes[f"critical path, {run_name}"]
        assert order[process] < min(order[p] for n, p in processes.items() if n.startswith("rank"))
        own = [e for e in events if e["ph"] == "X" and e["pid"] == process]
        pieces = [e for e in own if e["cat"] != STRETCH]
        assert sum(ns(e["dur"]) for e in pieces) == found.makespan_ns
        assert {e["args"]["rank"] for e in pieces} == set(found.sums.by_rank)


def test_a_path_needs_its_graph(tmp_path: Path) -> None:
    job = drawn_job()
    graph = lower(job)
    runs = {"replayed": to_timeline(graph, run(graph))}
    with pytest.raises(UsageError, match="give both"):
        write_perfetto(tmp_path / "x.json.gz", job, runs, paths={"replayed": path_of(job)})
