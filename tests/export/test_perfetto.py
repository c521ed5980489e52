"""The Perfetto file: what its reader would make of it, checked with a reader of our own."""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from lumos.build import build
from lumos.errors import UsageError
from lumos.export.perfetto import write_perfetto
from lumos.fit import fit
from lumos.graph.job import Job
from lumos.graph.timeline import Timeline
from lumos.ingest.read import read
from lumos.lower import lower
from lumos.simulate import simulate
from tests.synthetic import ProgramBuilder, job_of, random_job

DATA = Path(__file__).parents[3] / "shared" / "data" / "kineto"
Events = list[dict[str, Any]]


def load(path: Path) -> Events:
    return json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]  # type: ignore[no-any-return]


def ns(time_us: float) -> int:
    return round(time_us * 1000)


def read_as_perfetto(events: Events) -> dict[int, tuple[dict[str, Any], dict[str, Any]]]:
    """The innermost slices at both ends of each arrow; fails where the file is not sound."""
    stacks: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    begins: dict[int, dict[str, Any]] = {}
    ends: dict[int, dict[str, Any]] = {}
    timed = sorted((e for e in events if e["ph"] != "M"), key=lambda e: ns(e["ts"]))
    for event in timed:
        stack, now = stacks[event["pid"], event["tid"]], ns(event["ts"])
        while stack and ns(stack[-1]["ts"]) + ns(stack[-1]["dur"]) <= now:
            stack.pop()
        if event["ph"] == "X":
            end = now + ns(event["dur"])
            assert ns(event["dur"]) >= 0
            if stack:
                assert end <= ns(stack[-1]["ts"]) + ns(stack[-1]["dur"]), (stack[-1], event)
            stack.append(event)
            continue
        side = begins if event["ph"] == "s" else ends
        assert event["ph"] in "sf"
        assert event["id"] not in side, "each end is written once"
        assert event["ph"] == "s" or event["bp"] == "e"
        assert stack, f"no slice is open where the arrow {event} ends"
        side[event["id"]] = stack[-1]
    assert begins.keys() == ends.keys(), "every arrow has two ends"
    return {number: (begins[number], ends[number]) for number in begins}


def check_metadata(events: Events) -> dict[int, str]:
    """Every process and thread has one name and one place; returns the names of the processes."""
    told = Counter((e["name"], e["pid"], e["tid"]) for e in events if e["ph"] == "M")
    assert set(told.values()) == {1}
    processes = {e["pid"] for e in events}
    assert {(pid, name) for name, pid, tid in told if name.startswith("process") and tid == 0} == {
        (pid, name) for pid in processes for name in ("process_name", "process_sort_index")
    }
    for event in events:
        if event["ph"] != "M":
            assert ("thread_name", event["pid"], event["tid"]) in told
            assert ("thread_sort_index", event["pid"], event["tid"]) in told
            assert event["tid"] not in processes, "it would be taken for a main thread"
    return {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}


def write_replay(path: Path, job: Job, measured: Timeline) -> Events:
    graph = lower(job)
    write_perfetto(path, job, {"measured": measured, "replayed": simulate(graph)}, graph)
    return load(path)


def drawn_job() -> Job:
    """
    main   | linear | addmm | launch | addmm | linear | ... | synchronize ......|
    s7                          |== gemm ==|                                    |
    s20                                     |== all-reduce (waits for gemm) ====|
    """
    build = ProgramBuilder()
    main, compute, reduces = build.thread("thread 1"), build.stream(7), build.stream(20)
    build.block("ProfilerStep#1")
    with build.operator(main, "aten::linear"):
        build.work(main, 1000)
        with build.operator(main, "aten::addmm"):
            build.work(main, 2000)
            build.launch(main, compute, "gemm", 3000, 50_000)
            build.work(main, 500)
        build.work(main, 700)
    build.pause(main, 400)
    build.record(main, compute, 0, 300)
    build.wait(main, reduces, 0, 300)
    build.launch(main, reduces, "ncclDevKernel_AllReduce", 3000, 80_123)
    build.synchronize(main, reduces, 1000)
    return job_of(build.program())


def test_operators_nest_as_they_did_in_the_trace(tmp_path: Path) -> None:
    job = drawn_job()
    write_perfetto(tmp_path / "x.json.gz", job, {"measured": simulate(lower(job))})
    slices = [e for e in load(tmp_path / "x.json.gz") if e["ph"] == "X" and e["tid"] % 1000 == 0]
    assert [(e["name"], e["cat"], e["ts"], e["dur"]) for e in slices] == [
        ("aten::linear", "operator", 0.0, 7.2),
        ("aten::addmm", "operator", 1.0, 5.5),
        ("cudaLaunchKernel", "launch", 3.0, 3.0),
        ("cudaEventRecord", "record", 7.6, 0.3),
        ("cudaStreamWaitEvent", "wait_event", 7.9, 0.3),
        ("cudaLaunchKernel", "launch", 8.2, 3.0),
        ("cudaStreamSynchronize", "synchronize", 11.2, 136.123),
    ]
    assert slices[0]["args"] == {"step": "ProfilerStep#1", "own_us": 1.7}


def test_arrows_show_what_bound(tmp_path: Path) -> None:
    job = drawn_job()
    graph = lower(job)
    write_perfetto(tmp_path / "x.json.gz", job, {"replayed": simulate(graph)}, graph)
    events = load(tmp_path / "x.json.gz")
    arrows = read_as_perfetto(events)
    names = {e["id"]: e["name"] for e in events if e["ph"] == "s"}
    assert sorted((names[n], a["name"], b["name"]) for n, (a, b) in arrows.items()) == [
        ("event_wait", "gemm", "ncclDevKernel_AllReduce"),
        ("launch", "cudaLaunchKernel", "gemm"),
        ("synchronize", "ncclDevKernel_AllReduce", "cudaStreamSynchronize"),
    ]
    held = {e["name"]: e["args"].get("held_by") for e in events if e["ph"] == "X"}
    assert held["gemm"] == "launch"
    assert held["ncclDevKernel_AllReduce"] == "event_wait"
    assert held["cudaStreamSynchronize"] == "synchronize"


@pytest.mark.parametrize("seed", range(6))
def test_a_random_job_is_sound(tmp_path: Path, seed: int) -> None:
    job, measured = random_job(seed)
    events = write_replay(tmp_path / "x.json.gz", job, measured)
    assert read_as_perfetto(events)
    assert list(check_metadata(events).values()) == ["rank 0 measured", "rank 0 replayed"]


@pytest.mark.parametrize("name", ["dlrm-8xV100", "resnet-ddp-2xA100", "recsys-8xA100"])
def test_a_real_job_is_sound(tmp_path: Path, name: str) -> None:
    if not (DATA / name).exists():
        pytest.skip("the real traces of ../shared/data are not here")
    job, measured = build(read(DATA / name))
    job = fit(job, measured)
    events = write_replay(tmp_path / "x.json.gz", job, measured)
    arrows = read_as_perfetto(events)
    assert len(arrows) > 100
    processes = check_metadata(events)
    runs = ("measured", "replayed")
    assert list(processes.values()) == [
        f"rank {r} {run}" for r in job.placement.ranks for run in runs
    ]
    order = {e["pid"]: e["args"]["sort_index"] for e in events if e["name"] == "process_sort_index"}
    assert [order[pid] for pid in processes] == sorted(order.values()), (
        "runs of a rank stand together"
    )


def test_events_of_a_process_are_in_order_of_time_and_times_are_exact(tmp_path: Path) -> None:
    job, measured = random_job(3)
    events = write_replay(tmp_path / "x.json.gz", job, measured)
    times: dict[int, list[float]] = defaultdict(list)
    for event in events:
        if event["ph"] != "M":
            times[event["pid"]].append(event["ts"])
    assert all(list(t) == sorted(t) for t in times.values())
    kernels = [e for e in events if e["ph"] == "X" and e["cat"] == "kernel" and e["pid"] == 1]
    rows = job.programs[0].rows
    on_device = [i for i in range(len(rows)) if rows.launch[i] >= 0]
    exact = {
        (int(measured.ranks[0].start_ns[i]), int(measured.ranks[0].end_ns[i])) for i in on_device
    }
    assert {(ns(e["ts"]), ns(e["ts"]) + ns(e["dur"])) for e in kernels} <= exact


def test_the_same_runs_make_the_same_bytes(tmp_path: Path) -> None:
    job, measured = random_job(1)
    files = [tmp_path / "a.json.gz", tmp_path / "b.json.gz"]
    for file in files:
        write_replay(file, job, measured)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_tasks_that_cross_on_a_stream_are_cut_where_the_next_begins(tmp_path: Path) -> None:
    """
    s7  |== a ====|            |== a =|
               |== b ====|  ->        |== b ====|
    """
    build = ProgramBuilder()
    main, compute = build.thread("thread 1"), build.stream(7)
    build.block("step")
    build.launch(main, compute, "a", 1000, 10_000)
    build.launch(main, compute, "b", 1000, 10_000)
    job = job_of(build.program())
    rank = simulate(lower(job)).ranks[0]
    rank.start_ns[3] -= 3000  # as kernels of one CUDA graph do
    rank.end_ns[3] -= 3000
    write_perfetto(tmp_path / "x.json.gz", job, {"measured": Timeline((rank,))})
    events = load(tmp_path / "x.json.gz")
    read_as_perfetto(events)
    first, second = (e for e in events if e["ph"] == "X" and e["cat"] == "kernel")
    assert ns(first["ts"]) + ns(first["dur"]) == ns(second["ts"])
    assert ns(second["dur"]) == 10_000


def test_a_run_of_another_job_is_refused(tmp_path: Path) -> None:
    job, other = drawn_job(), random_job(1)[1]
    with pytest.raises(UsageError, match="other rows"):
        write_perfetto(tmp_path / "x.json.gz", job, {"measured": other})
    graph = lower(job)
    with pytest.raises(UsageError, match="the runs are a"):
        write_perfetto(tmp_path / "x.json.gz", job, {"a": simulate(graph)}, graph)
