"""Kineto files of a run: what is read back and built again is the same program."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lumos.build import build
from lumos.errors import UsageError
from lumos.export.host_spans import host_spans, is_drawn
from lumos.export.kineto import write_kineto
from lumos.graph.job import NONE, Job, Program, TaskKind
from lumos.graph.timeline import RankTimeline, Timeline
from lumos.ingest.read import read
from lumos.lower import lower
from lumos.simulate import simulate
from tests.synthetic import ProgramBuilder, job_of, random_job

DATA = Path(__file__).parents[3] / "shared" / "data" / "kineto"


def tasks_of(program: Program, run: RankTimeline) -> dict[str, list[tuple[object, ...]]]:
    """By processor, all that a trace shows: kind, name, times, step, and when it was launched.

    Adjacent pieces of one operator are one: an event of no length between them leaves no row.
    """
    rows, shows = program.rows, is_drawn(program.rows)
    found: dict[str, list[tuple[object, ...]]] = {}
    for number, processor in enumerate(program.processors):
        tasks: list[tuple[object, ...]] = []
        last_event = NONE
        for row in np.flatnonzero(rows.processor == number).tolist():
            if not shows[row]:
                continue
            launch = int(rows.launch[row])
            task = (
                TaskKind(rows.kind[row]).name,
                program.names[rows.name[row]],
                int(run.start_ns[row]),
                int(run.end_ns[row]),
                program.blocks[rows.block[row]],
                int(run.start_ns[launch]) if launch != NONE else None,
            )
            if rows.event[row] == last_event != NONE and tasks[-1][3] == task[2]:
                task = (*task[:2], tasks.pop()[2], *task[3:])
            tasks.append(task)
            last_event = int(rows.event[row])
        if tasks:
            found[processor.label] = tasks
    return found


def events_of(path: Path) -> list[dict[str, Any]]:
    return json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]  # type: ignore[no-any-return]


def again(folder: Path, job: Job, run: Timeline, *, sync_ids: bool = False) -> tuple[Job, Timeline]:
    write_kineto(folder, job, run, sync_ids=sync_ids)
    return build(read(folder, cache=False))


def assert_same_program(first: tuple[Job, Timeline], second: tuple[Job, Timeline]) -> None:
    """The same tasks at the same times, in the same order, from the same launches."""
    (job, run), (job_2, run_2) = first, second
    assert job_2.placement == job.placement
    for number, role in enumerate(job.placement.role):
        tasks = tasks_of(job.programs[role], run.ranks[number])
        tasks_2 = tasks_of(job_2.programs[job_2.placement.role[number]], run_2.ranks[number])
        assert tasks.keys() == tasks_2.keys()
        for label in tasks:
            pairs = zip(tasks[label], tasks_2[label], strict=False)
            different = [(a, b) for a, b in pairs if a != b]
            assert not different, (label, len(different), different[:3])
            assert len(tasks[label]) == len(tasks_2[label]), label


@pytest.mark.parametrize(
    "name",
    ["dlrm-8xV100", "resnet-ddp-2xA100", "recsys-8xA100", "vgg13-H100", "resnet50-V100-13streams"],
)
def test_a_real_trace_written_and_read_is_the_same_program(tmp_path: Path, name: str) -> None:
    if not (DATA / name).exists():
        pytest.skip("the real traces of ../shared/data are not here")
    job, measured = build(read(DATA / name))
    job_2, measured_2 = again(tmp_path, job, measured)
    if not job.programs[0].blocks[0].startswith("ProfilerStep"):  # numbered where unnumbered
        count = len(job.programs[0].blocks)
        names = tuple(f"ProfilerStep#{number}" for number in range(count))
        job = replace(job, programs=tuple(replace(p, blocks=names) for p in job.programs))
    assert_same_program((job, measured), (job_2, measured_2))


def shown(job: Job) -> Job:
    """The job as a reader without ids can know it: what a call concerns is not told."""
    programs = []
    for program in job.programs:
        kind = program.rows.kind.copy()
        named = program.rows.event != NONE
        kind[named & np.isin(kind, (TaskKind.RECORD, TaskKind.WAIT_EVENT))] = TaskKind.CALL
        programs.append(replace(program, rows=program.rows.with_columns(kind=kind)))
    return replace(job, programs=tuple(programs))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), sync_ids=st.booleans())
def test_a_random_job_written_and_read_is_the_same_program(
    tmp_path_factory: pytest.TempPathFactory, seed: int, *, sync_ids: bool
) -> None:
    job, run = random_job(seed)
    folder = tmp_path_factory.mktemp("run")
    assert_same_program(
        (shown(job), run), tuple_of_shown(again(folder, job, run, sync_ids=sync_ids))
    )


def tuple_of_shown(built: tuple[Job, Timeline]) -> tuple[Job, Timeline]:
    return shown(built[0]), built[1]


@st.composite
def small_jobs(draw: st.DrawFn) -> Job:
    """Nested operators, launches and calls on one to three threads and streams, in any order."""
    write = ProgramBuilder()
    threads = [write.thread(f"thread {n + 50}") for n in range(draw(st.integers(1, 3)))]
    streams = [write.stream(n + 7) for n in range(draw(st.integers(1, 3)))]
    length = st.integers(1, 30_000)

    def body(thread: int, depth: int) -> None:
        for _ in range(draw(st.integers(1, 3))):
            choice = draw(st.sampled_from(["work", "launch", "call", "inside", "blocking"]))
            if choice == "work" or (choice == "inside" and depth == 0):
                write.work(thread, draw(length))
            elif choice == "launch":
                kind = draw(st.sampled_from([TaskKind.KERNEL, TaskKind.COPY, TaskKind.SET]))
                stream = draw(st.sampled_from(streams))
                write.launch(thread, stream, f"{kind.name} task", 3000, draw(length), kind)
            elif choice == "call":
                write.call(thread, "cudaGetDevice", draw(length))
            elif choice == "blocking":
                write.blocking_copy(thread, draw(st.sampled_from(streams)), 3000, draw(length))
            else:
                with write.operator(thread, f"aten::op{depth}"):
                    write.work(thread, draw(length))
                    body(thread, depth - 1)
                    write.work(thread, draw(length))

    # threads that never wait for each other run apart, and only one block has no order to lose
    for block in range(draw(st.integers(1, 3)) if len(threads) == 1 else 1):
        write.block(f"ProfilerStep#{block}")
        for thread in draw(st.permutations(threads)):
            write.pause(thread, 1000)
            with write.operator(thread, "outermost"):
                write.work(thread, draw(length))
                body(thread, 2)
                write.work(thread, draw(length))
    return job_of(write.program())


@settings(max_examples=60, deadline=None)
@given(job=small_jobs())
def test_any_small_job_keeps_its_launches_streams_and_times(
    tmp_path_factory: pytest.TempPathFactory, job: Job
) -> None:
    run = simulate(lower(job))
    second, run_2 = again(tmp_path_factory.mktemp("run"), job, run)
    for kind in ("device", "host"):
        assert times(job, run, kind) == times(second, run_2, kind)


def times(job: Job, run: Timeline, where: str) -> list[tuple[object, ...]]:
    """Device tasks with their launch, or operators and calls as spans: name, processor, times."""
    program, rank = job.programs[0], run.ranks[0]
    rows, found = program.rows, []
    if where == "device":
        for row in np.flatnonzero(rows.launch != NONE).tolist():
            call, processor = int(rows.launch[row]), program.processors[rows.processor[row]].label
            found.append(
                (processor, int(rank.start_ns[row]), int(rank.end_ns[row]), int(rows.kind[row]),
                 program.names[rows.name[row]], int(rank.start_ns[call]))
            )  # fmt: skip
        return sorted(found)
    for number, processor in enumerate(program.processors):
        if not processor.is_stream:
            for span in host_spans(rows, np.flatnonzero(rows.processor == number), join_calls=True):
                found.append(
                    (processor.label, int(rank.start_ns[span.first]), int(rank.end_ns[span.last]),
                     program.names[rows.name[span.first]])
                )  # fmt: skip
    return sorted(found)


def test_calls_carry_no_ids_unless_asked(tmp_path: Path) -> None:
    """
    main  | record | wait | launch b |
    s7    |== a ==|
    s20            |== b ==|
    """
    write = ProgramBuilder()
    main, first, second = write.thread("thread 9"), write.stream(7), write.stream(20)
    write.block("ProfilerStep#3")
    write.launch(main, first, "a", 3000, 50_000)
    write.record(main, first, 0, 400)
    write.wait(main, second, 0, 400)
    write.launch(main, second, "b", 3000, 50_000)
    write.synchronize(main, second, 1000)
    job = job_of(write.program())
    run = simulate(lower(job))
    plain, with_ids = (
        events_of(write_kineto(tmp_path / name, job, run, sync_ids=ids)[0])
        for name, ids in (("a", False), ("b", True))
    )
    assert with_ids[: len(plain)] == plain
    calls = {e["name"]: e for e in plain if e.get("cat") == "cuda_runtime"}
    for name in ("cudaEventRecord", "cudaStreamWaitEvent", "cudaStreamSynchronize"):
        assert calls[name]["args"].keys() == {"correlation"}
    assert [(e["cat"], e["name"], e["tid"]) for e in with_ids[len(plain) :]] == [
        ("cuda_sync", "Stream Wait Event", 20),
        ("cuda_sync", "Stream Sync", 20),
    ]
    told = with_ids[len(plain)]["args"]
    assert told["wait_on_stream"] == 7
    assert told["correlation"] == calls["cudaStreamWaitEvent"]["args"]["correlation"]
    record = calls["cudaEventRecord"]["args"]["correlation"]
    assert told["wait_on_cuda_event_record_corr_id"] == record
    kernels = {e["name"]: e for e in plain if e.get("cat") == "kernel"}
    launches = [e for e in plain if e.get("name") == "cudaLaunchKernel"]
    assert [kernels[n]["args"]["correlation"] for n in "ab"] == [
        e["args"]["correlation"] for e in launches
    ]
    assert kernels["a"]["args"]["stream"] == kernels["a"]["tid"] == 7
    (step,) = (e for e in plain if e.get("cat") == "user_annotation")
    assert (step["name"], step["tid"], step["ts"]) == ("ProfilerStep#3", 9, 0.0)


def test_with_ids_every_wait_is_read_back_as_it_was(tmp_path: Path) -> None:
    for seed in range(5):
        job, run = random_job(seed)
        second, run_2 = again(tmp_path / str(seed), job, run, sync_ids=True)
        assert waits_of(second, run_2) == waits_of(job, run)


def waits_of(job: Job, run: Timeline) -> dict[int, tuple[str, str, int]]:
    """By the start of each stream wait's call: who waits, for whom, until when."""
    found = {}
    program, rank = job.programs[0], run.ranks[0]
    rows = program.rows
    record_of = {
        (int(rows.block[r]), int(rows.signal[r])): r for r in np.flatnonzero(rows.signal != NONE)
    }
    for row in np.flatnonzero((rows.kind == TaskKind.WAIT_EVENT) & (rows.awaits != NONE)):
        record = record_of.get((int(rows.block[row] - rows.distance[row]), int(rows.awaits[row])))
        if record is None:
            continue
        before = np.flatnonzero((rows.launch != NONE) & (rows.processor == rows.stream[record]))
        before = before[before < record]
        labels = [p.label for p in program.processors]
        until = int(rank.end_ns[before[-1]]) if len(before) else -1
        if len(before):
            found[int(rank.start_ns[row])] = (
                labels[rows.stream[row]],
                labels[rows.stream[record]],
                until,
            )
    return found


def test_the_same_run_makes_the_same_bytes(tmp_path: Path) -> None:
    job, run = random_job(2)
    first, second = (write_kineto(tmp_path / name, job, run)[0].read_bytes() for name in "ab")
    assert first == second


def test_a_run_of_another_job_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="other rows"):
        write_kineto(tmp_path, random_job(1)[0], random_job(2)[1])
