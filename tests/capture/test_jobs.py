"""Real training jobs recorded from inside: complete, cut short, and with everything that can fail."""

from __future__ import annotations

import gzip
import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from tests.capture.torch_jobs import (
    JOB,
    files_in,
    needs_torch,
    recorded,
    run,
    run_ranks,
    script,
)

pytestmark = needs_torch
NEEDED = "a recording takes 7 = 1 skipped + 3 timed + 1 warm-up + 2 profiled"


def trace(path: Path) -> dict[str, Any]:
    with gzip.open(path) as file:
        return json.load(file)


def steps_of(path: Path) -> list[str]:
    events = sorted(
        (event["ts"], event["name"])
        for event in trace(path)["traceEvents"]
        if event["name"].startswith("ProfilerStep") and event["cat"] == "user_annotation"
    )
    return [name for _, name in events]


@pytest.mark.parametrize(
    ("way", "layout"),
    [("ddp", None), ("fsdp", {"dp": 2}), ("tensor_parallel", {"tp": 2}), ("pipeline", None)],
)
def test_both_ranks_of_a_job_are_recorded(tmp_path: Path, way: str, layout: dict[str, int]) -> None:
    ranks = run_ranks([JOB, way, tmp_path, 9], 2)
    assert [(one.code, one.out) for one in ranks] == [(0, "trained 9 done True\n")] * 2
    assert [len(one.lines) for one in ranks] == [1, 0], "rank 0 speaks for all"
    assert files_in(tmp_path) == {"capture.json", "rank0.json.gz", "rank1.json.gz"}
    notes = recorded(tmp_path)
    assert (notes["world_size"], notes["layout"], notes["model"]) == (2, layout, "two layers")
    for number, one in enumerate(notes["ranks"]):
        assert (one["rank"], one["status"], one["reason"]) == (number, "complete", None)
        assert len(one["unprofiled"]["host_ms"]) == one["unprofiled"]["count"] == 3
        assert len(one["profiled"]["host_ms"]) == 2
        medians = [statistics.median(one[kind]["host_ms"]) for kind in ("unprofiled", "profiled")]
        assert one["inflation_pct"] == pytest.approx(100 * (medians[1] / medians[0] - 1), abs=0.1)
        assert one["peak_allocated_bytes"] is None
        assert one["peak_resident_bytes"] > 2**24
        document = trace(tmp_path / one["file"])
        assert document["distributedInfo"]["rank"] == number
        assert document["distributedInfo"]["world_size"] == 2
        assert steps_of(tmp_path / one["file"]) == ["ProfilerStep#5", "ProfilerStep#6"]
        assert any(e.get("args", {}).get("Input Dims") for e in document["traceEvents"])


def test_the_profiled_steps_are_as_long_as_the_trace_says(tmp_path: Path) -> None:
    assert run([JOB, "alone", tmp_path, 7]).code == 0
    marked = [
        event["dur"] / 1e3
        for event in trace(tmp_path / "rank0.json.gz")["traceEvents"]
        if event["name"].startswith("ProfilerStep") and event["cat"] == "user_annotation"
    ]
    assert recorded(tmp_path)["ranks"][0]["profiled"]["host_ms"] == pytest.approx(marked, abs=0.5)


def test_nothing_of_ours_stands_in_a_profiled_step(tmp_path: Path) -> None:
    slow = script(
        tmp_path,
        f"""
        import time
        import torch
        from lumos.capture import Capture, sidecar
        write = sidecar._write
        def slow(*arguments):  # a file system that many ranks share
            time.sleep(0.1)
            write(*arguments)
        sidecar._write = slow
        for plan in [(0, 0, 0, 1), (0, 0, 0, 3), (0, 0, 1, 2), (0, 1, 0, 2), (1, 0, 0, 2)]:
            names = ("skip_steps", "timed_steps", "warm_up_steps", "profiled_steps")
            with Capture(f"{tmp_path}/{{plan}}", **dict(zip(names, plan))) as capture:
                while not capture.done:
                    torch.ones(8, 8).sum()
                    capture.step()
        """,
    )
    assert run([slow]).code == 0
    folders = sorted(tmp_path.glob("(*"))
    assert len(folders) == 5
    for folder in folders:
        told = recorded(folder)["ranks"][0]["profiled"]["host_ms"]
        marked = [
            event["dur"] / 1e3
            for event in trace(folder / "rank0.json.gz")["traceEvents"]
            if event["name"].startswith("ProfilerStep") and event["cat"] == "user_annotation"
        ]
        assert max(told) < 90
        assert told == pytest.approx(marked, abs=50), folder.name


def test_a_loop_without_a_step_leaves_an_earlier_recording_as_it_was(tmp_path: Path) -> None:
    assert run([JOB, "alone", tmp_path, 9]).code == 0
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert run([JOB, "alone", tmp_path, 0]).code == 0
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


ENDS = {
    0: ("failed", None, 0),
    1: ("failed", None, 0),
    3: ("failed", None, 2),
    5: ("failed", None, 3),
    6: ("partial", "rank0.partial.json.gz", 3),
    7: ("complete", "rank0.json.gz", 3),
    12: ("complete", "rank0.json.gz", 3),
}


def test_a_loop_that_ends_early_keeps_what_there_is(tmp_path: Path) -> None:
    loops = script(
        tmp_path,
        f"""
        import torch
        from lumos.capture import Capture
        for steps in {list(ENDS)}:
            with Capture(f"{tmp_path}/{{steps}}", skip_steps=1, timed_steps=3, warm_up_steps=1, profiled_steps=2) as capture:
                for step in range(steps):
                    torch.ones(8, 8).sum()
                    capture.step()
            print(capture.done)
        """,
    )
    done = run([loops])
    assert (done.code, done.out) == (0, "True\n" * len(ENDS))
    for (steps, (status, file, timed)), line in zip(ENDS.items(), done.lines, strict=True):
        folder = tmp_path / str(steps)
        one = recorded(folder)["ranks"][0]
        assert (one["status"], one["file"]) == (status, file), steps
        assert (one["unprofiled"] or {"count": 0})["count"] == timed
        assert files_in(folder) == {"capture.json", *([file] if file else [])}
        if steps < 7:
            assert one["reason"] == f"the training ended after {steps} steps; {NEEDED}"
            what = "cut short" if file else "no trace"
            assert line == f"lumos: rank 0: {what}: {one['reason']}"


def test_a_crash_of_the_training_passes_through_and_its_recording_is_partial(
    tmp_path: Path,
) -> None:
    done = run([JOB, "alone", tmp_path, 9, "--crash-at", 6])
    assert done.code == 1
    assert done.err.endswith("ZeroDivisionError: the training's own mistake\n")
    one = recorded(tmp_path)["ranks"][0]
    assert (one["status"], one["file"]) == ("partial", "rank0.partial.json.gz")
    assert one["reason"] == f"ZeroDivisionError in the training after 6 steps; {NEEDED}"
    assert len(one["profiled"]["host_ms"]) == 1
    assert "ProfilerStep#5" in steps_of(tmp_path / "rank0.partial.json.gz")


def test_a_rank_that_crashes_does_not_hang_the_recording_of_the_other(tmp_path: Path) -> None:
    other, crashed = run_ranks(
        [JOB, "ddp", tmp_path, 9, "--crash-at", 5, "--rank-that-crashes", 1], 2
    )
    assert other.code != 0
    assert crashed.code != 0
    assert "the training's own mistake" in crashed.err
    assert [one["status"] for one in recorded(tmp_path)["ranks"]] == ["failed", "failed"]


def test_a_killed_process_is_known_to_have_begun(tmp_path: Path) -> None:
    killed = script(
        tmp_path,
        f"""
        import os, signal
        from lumos.capture import Capture
        with Capture({str(tmp_path / "traces")!r}, skip_steps=1) as capture:
            for step in range(9):
                capture.step()
                if step == 4:
                    os.kill(os.getpid(), signal.SIGKILL)
        """,
    )
    assert run([killed]).code == -9
    one = recorded(tmp_path / "traces")["ranks"][0]
    assert (one["status"], one["reason"]) == (
        "failed",
        "the process ended before the recording did",
    )


def test_an_earlier_recording_is_replaced_as_a_whole(tmp_path: Path) -> None:
    run_ranks([JOB, "ddp", tmp_path, 9], 2)
    assert run([JOB, "alone", tmp_path, 9]).code == 0
    assert files_in(tmp_path) == {"capture.json", "rank0.json.gz"}
    assert [one["rank"] for one in recorded(tmp_path)["ranks"]] == [0]
    assert recorded(tmp_path)["world_size"] == 1


def test_a_run_that_records_nothing_leaves_an_earlier_recording_as_it_was(tmp_path: Path) -> None:
    run_ranks([JOB, "ddp", tmp_path, 9], 2)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert run([JOB, "alone", tmp_path, 3]).code == 0
    assert run([JOB, "alone", tmp_path, 9, "--crash-at", 6]).code == 1
    after = {name: (tmp_path / name).read_bytes() for name in before}
    assert after == before
    assert {name for name in files_in(tmp_path) if name[0] != "."} == set(before)


def test_files_of_others_in_the_folder_are_not_touched_and_the_training_goes_on(
    tmp_path: Path,
) -> None:
    (tmp_path / "rank0.json.gz").write_text("mine")
    done = run([JOB, "alone", tmp_path, 9])
    assert (done.code, len(done.lines)) == (0, 1)
    assert "holds rank0.json.gz, which no recording of lumos in it wrote" in done.lines[0]
    assert "give another folder, or overwrite=True" in done.lines[0]
    assert files_in(tmp_path) == {"rank0.json.gz"}
    assert (tmp_path / "rank0.json.gz").read_text() == "mine"


# --- what can fail, and must not reach the training


TRAINING = """
import torch
from lumos.capture import Capture
layer = torch.nn.Linear(64, 64)
{before}
with Capture({folder!r}, skip_steps=1, timed_steps=2, warm_up_steps=1, profiled_steps=2{more}) as capture:
    for step in range(8):
        layer(torch.ones(8, 64)).sum().backward()
        capture.step()
print("trained")
"""


def train(tmp_path: Path, folder: Path, before: str = "", more: str = ""):
    text = TRAINING.format(folder=str(folder), before=before, more=more)
    return run([script(tmp_path, text)])


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = train(tmp_path, tmp_path / "file" / "traces")
    assert (done.code, done.out, len(done.lines)) == (0, "trained\n", 1)
    assert "cannot be written" in done.lines[0]
    assert "give another folder" in done.lines[0]


FULL = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))"


@pytest.mark.parametrize("limit_bytes", [20_000, 2_000])
def test_a_full_disk_costs_the_trace_and_nothing_else(tmp_path: Path, limit_bytes: int) -> None:
    done = train(tmp_path, tmp_path / "traces", before=FULL.format(limit_bytes))
    assert (done.code, done.out, len(done.lines)) == (0, "trained\n", 1)
    assert "the training goes on" in done.lines[0]
    assert files_in(tmp_path / "traces") == {"capture.json"}
    one = recorded(tmp_path / "traces")["ranks"][0]
    assert (one["status"], one["file"]) == ("failed", None)
    assert one["unprofiled"]["count"] == 2


OTHER_PROFILER = """
import atexit
other = torch.profiler.profile({schedule})
other.__enter__()
atexit.register(lambda: (other.__exit__(None, None, None), print(bool(other.profiler and other.events()))))
"""


@pytest.mark.parametrize(
    "schedule", ["", "schedule=torch.profiler.schedule(wait=9, warmup=1, active=1)"]
)
def test_a_profiler_of_the_training_itself_keeps_its_right(tmp_path: Path, schedule: str) -> None:
    before = OTHER_PROFILER.format(schedule=schedule)
    done = train(tmp_path, tmp_path / "traces", before)
    assert (done.code, done.out, len(done.lines)) == (0, f"trained\n{not schedule}\n", 1)
    one = recorded(tmp_path / "traces")["ranks"][0]
    assert (one["status"], one["file"]) == ("failed", None)
    assert "a profiler of its own" in one["reason"]
    assert one["reason"] in done.lines[0]
    assert one["unprofiled"]["count"] == 2


FAILING = """
def fail(*arguments, **settings):
    raise RuntimeError("no CUPTI\\nin this driver")
torch.profiler.profile.{method} = fail
"""


def test_a_failing_profiler_costs_the_trace_and_nothing_else(tmp_path: Path) -> None:
    methods = ["__init__", "__enter__", "step", "export_chrome_trace"]
    failing = script(
        tmp_path,
        f"""
        import torch
        from lumos.capture import Capture

        def fail(*arguments, **settings):
            raise RuntimeError("no CUPTI\\nin this driver")

        for method in {methods}:
            real = getattr(torch.profiler.profile, method)
            setattr(torch.profiler.profile, method, fail)
            with Capture(f"{tmp_path}/{{method}}", skip_steps=1, timed_steps=2, profiled_steps=2) as capture:
                for step in range(9):
                    torch.ones(8, 8).sum()
                    capture.step()
            setattr(torch.profiler.profile, method, real)
        print("trained")
        """,
    )
    done = run([failing])
    assert (done.code, done.out, len(done.lines)) == (0, "trained\n", len(methods))
    for method in methods:
        one = recorded(tmp_path / method)["ranks"][0]
        assert (one["status"], one["file"]) == ("failed", None)
        assert one["unprofiled"]["count"] == 2
        assert one["reason"] == "RuntimeError: no CUPTI in this driver"
        assert files_in(tmp_path / method) == {"capture.json"}


def test_who_wants_failures_raised_gets_them(tmp_path: Path) -> None:
    done = train(tmp_path, tmp_path / "traces", FAILING.format(method="step"), ', on_error="raise"')
    assert (done.code, done.out) == (1, "")
    assert "RuntimeError: no CUPTI" in done.err
    assert recorded(tmp_path / "traces")["ranks"][0]["status"] == "failed"


def test_a_fork_of_the_training_records_nothing(tmp_path: Path) -> None:
    forked = script(
        tmp_path,
        f"""
        import os
        from lumos.capture import Capture
        with Capture({str(tmp_path / "traces")!r}, skip_steps=1, timed_steps=1, profiled_steps=2) as capture:
            for step in range(2):
                capture.step()
            child = os.fork()
            for step in range(5):
                capture.step()
            if not child:
                assert not capture._session.complete
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        """,
    )
    assert run([forked]).code == 0
    assert recorded(tmp_path / "traces")["ranks"][0]["status"] == "complete"


THREADS = """
import threading
import torch
from lumos.capture import Capture
capture = Capture({folder!r}, skip_steps=1, timed_steps=2, warm_up_steps=1, profiled_steps=2)
capture.start()
def train(steps):
    for step in range(steps):
        torch.ones(8, 8).sum()
        capture.step()
for steps in {steps}:
    thread = threading.Thread(target=train, args=(steps,))
    thread.start()
    thread.join()
print("trained")
"""


@pytest.mark.parametrize(
    ("steps", "status", "file", "reason"),
    [
        ([7], "complete", "rank0.json.gz", None),
        ([5], "partial", "rank0.partial.json.gz", "the thread of the training ended after 5"),
        ([4, 9], "failed", None, "the thread of the training ended after 4"),
        ([2, 9], "complete", "rank0.json.gz", None),
        ([2], "failed", None, "the training ended after 2"),
    ],
)
def test_a_recording_ends_with_the_thread_that_is_profiled(
    tmp_path: Path, steps: list[int], status: str, file: str | None, reason: str | None
) -> None:
    text = THREADS.format(folder=str(tmp_path / "traces"), steps=steps)
    done = run([script(tmp_path, text)])
    assert (done.code, done.out) == (0, "trained\n")
    one = recorded(tmp_path / "traces")["ranks"][0]
    assert (one["status"], one["file"]) == (status, file)
    assert (one["reason"] or "").partition(" steps;")[0] == (reason or "")


def test_steps_of_several_threads_are_not_profiled(tmp_path: Path) -> None:
    text = f"""
    import threading
    import torch
    from lumos.capture import Capture
    with Capture({str(tmp_path / "traces")!r}, skip_steps=1, timed_steps=2, profiled_steps=2) as capture:
        for step in range(4):
            capture.step()
        other = threading.Thread(target=capture.step)
        other.start()
        other.join()
        capture.step()
    print("trained")
    """
    done = run([script(tmp_path, text)])
    assert (done.code, done.out, len(done.lines)) == (0, "trained\n", 1)
    assert "steps end in several threads" in recorded(tmp_path / "traces")["ranks"][0]["reason"]


def test_a_step_inside_of_backward_costs_the_trace_and_nothing_else(tmp_path: Path) -> None:
    before = "layer.weight.register_post_accumulate_grad_hook(lambda _: capture.step())"
    done = train(tmp_path, tmp_path / "traces", before)
    assert (done.code, done.out, len(done.lines)) == (0, "trained\n", 1)
    one = recorded(tmp_path / "traces")["ranks"][0]
    assert (one["status"], one["file"]) == ("failed", None)
    assert one["reason"] == "a step ended inside of backward(); tell of it behind that"
