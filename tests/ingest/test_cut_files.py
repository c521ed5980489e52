"""Files that end in the middle: steps count that they hold to their end, and the file is named."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from lumos.build import build
from lumos.graph.job import Job
from lumos.ingest.read import read
from tests.ingest.documents import document, kernel, launch, span

BASE = Path(__file__).parents[2] / "validation" / "cpu" / "base"


def step(number: int, begin_us: int) -> list[dict[str, Any]]:
    """100 us, four operators; each launches a kernel that runs when the step is over."""
    events = [span(f"ProfilerStep#{number}", cat="user_annotation", ts=begin_us, dur=100)]
    for place in range(4):
        events.append(span(f"aten::mm{place}", ts=begin_us + 20 * place + 5, dur=15))
    return events


def launches(begin_us: int, first: int) -> list[dict[str, Any]]:
    found = []
    for place in range(4):
        number, at = first + place, begin_us + 20 * place
        arguments = {"device": 0, "stream": 7, "correlation": number}
        found.append(launch(number, ts=at + 7, dur=3))
        found.append(kernel(f"k{number}", ts=at + 130, dur=10, args=arguments))
    return found


def three_steps(*, gpu: bool = False) -> list[dict[str, Any]]:
    events = [event for number in range(3) for event in step(number + 5, 100 * number)]
    if gpu:
        for number in range(3):
            events += launches(100 * number, 1 + 4 * number)
    return events


def written(path: Path, events: list[dict[str, Any]], kept: int | None, rank: int = 0) -> Path:
    """The document, cut in the middle of the event behind the first `kept`."""
    text = document(*events, distributedInfo={"rank": rank, "world_size": 2, "backend": "gloo"})
    if kept is not None:
        place = -1
        for _ in range(kept + 1):
            place = text.index(b'"ph"', place + 1)
        text = text[:place]
    path.write_bytes(text)
    return path


def messages(job: Job, code: str) -> list[str]:
    return [finding.message for finding in job.findings if finding.code == code]


@pytest.mark.parametrize(
    ("kept", "held"),
    [
        (13, 2),  # an operator of the third step is there
        (11, 1),  # the third step is marked, and nothing in it is there
        (7, 1),
    ],
)
def test_a_step_that_a_cut_file_does_not_hold_to_its_end_is_left_out(
    kept: int, held: int, tmp_path: Path
) -> None:
    path = written(tmp_path / "rank0.json", three_steps(), kept)
    job, _ = build(read(path))
    assert job.programs[0].blocks == ("ProfilerStep#5", "ProfilerStep#6")[:held]
    (cut,) = messages(job, "cut-off")
    assert cut.startswith(f"{path}: the file ends in the middle")
    (left_out,) = messages(job, "step-cut-off")
    assert left_out.startswith(f"{path}: ")
    assert "ProfilerStep#7" in left_out or "ProfilerStep#6" in left_out


@pytest.mark.parametrize(
    ("kept", "held"),
    [
        (15 + 8 + 2, 1),  # a launch of the second step and its kernel are there
        (15 + 8 + 7, 1),
        (15 + 16 + 2, 2),
        (15 + 24 + 1, 2),  # of what comes behind the third step only the launch
        (15 + 24 + 2, 3),
    ],
)
def test_of_a_gpu_a_step_is_held_when_what_a_later_one_launched_is_there(
    kept: int, held: int, tmp_path: Path
) -> None:
    """The file ends among launches and kernels, 8 of each step, behind all host events."""
    events = [*three_steps(gpu=True), *launches(400, 20)]
    events.insert(15, span("behind", ts=500))
    job, _ = build(read(written(tmp_path / "rank0.json", events, kept + 1)))
    program = job.programs[0]
    assert len(program.blocks) == held
    kernels = {program.names[name] for name in program.rows.name}
    assert {f"k{number}" for number in range(1, 4 * held + 1)} <= kernels


def test_a_file_with_no_whole_step_says_that_figures_are_of_a_part(tmp_path: Path) -> None:
    path = written(tmp_path / "rank0.json", three_steps(), 3)
    job, _ = build(read(path))
    assert job.programs[0].blocks == ("ProfilerStep#5",)
    (part,) = messages(job, "step-cut-off")
    assert part.endswith("ends in the middle of ProfilerStep#5: figures are of a part of it")


def test_steps_that_the_profiler_numbered_are_the_same_under_the_same_number(
    tmp_path: Path,
) -> None:
    written(tmp_path / "rank0.json", three_steps(), 13, rank=0)
    written(tmp_path / "rank1.json", three_steps()[5:], None, rank=1)
    job, _ = build(read(tmp_path))
    assert [program.blocks for program in job.programs] == [("ProfilerStep#6",)] * 2
    (differ,) = messages(job, "steps-differ")
    assert "those count that all ranks have (ProfilerStep#6)" in differ


def test_ranks_without_a_step_in_common_count_as_one_each(tmp_path: Path) -> None:
    written(tmp_path / "rank0.json", three_steps()[:5], None, rank=0)
    written(tmp_path / "rank1.json", three_steps()[5:], None, rank=1)
    job, _ = build(read(tmp_path))
    assert [program.blocks for program in job.programs] == [("whole",)] * 2
    assert "each trace counts as one step" in messages(job, "steps-differ")[0]


def test_what_begins_behind_the_last_operator_of_a_cut_file_is_left_out(tmp_path: Path) -> None:
    """A worker's record stands in front, its begin is in the part that was cut off."""
    late = span("gloo:all_reduce", cat="user_annotation", tid=9, ts=250, dur=40)
    path = written(tmp_path / "rank0.json", [late, *three_steps()], 13)
    (trace,) = read(path)
    assert "gloo:all_reduce" not in {trace.text(name) for name in trace.name}
    (cut,) = (f.message for f in trace.findings if f.code == "cut-off")
    assert "less what begins behind its last operator or call (1 in all)" in cut


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_recording_that_was_cut_has_the_steps_of_the_whole_one_up_to_there(
    share: float, tmp_path: Path
) -> None:
    text = gzip.decompress((BASE / "rank0.json.gz").read_bytes())
    (tmp_path / "rank0.json").write_bytes(text[: int(share * len(text))])
    whole, _ = build(read(BASE / "rank0.json.gz"))
    job, run = build(read(tmp_path / "rank0.json"))
    program, timeline = job.programs[0], run.ranks[0]
    assert program.blocks == whole.programs[0].blocks[: len(program.blocks)]
    assert len(program.blocks) == max(int(3 * share), 1)
    if 3 * share < 1:
        assert messages(job, "step-cut-off")[0].endswith("figures are of a part of it")
        return
    marks = {
        event["name"]: event["dur"]
        for event in json.loads(text)["traceEvents"]
        if str(event.get("name")).startswith("ProfilerStep#") and event["ph"] == "X"
    }
    for block, name in enumerate(program.blocks):
        rows = (program.rows.block == block) & (program.rows.processor == program.main_thread)
        length_ns = timeline.end_ns[rows].max() - timeline.start_ns[rows].min()
        assert length_ns / 1e3 == pytest.approx(marks[name], rel=0.02)
