"""capture.json beside the traces: believed as far as the traces bear it out, never in the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import pytest

from lumos.errors import UnusableInputError
from lumos.graph.finding import Finding
from lumos.graph.trace import CaptureNotes, StepTimes, Trace
from lumos.ingest.read import read
from tests.ingest.documents import document, span

MS = 1_000_000
Change = Callable[[dict[str, Any]], object]


def step(number: int, length_ms: float) -> dict[str, Any]:
    name = f"ProfilerStep#{number}"
    return span(name, cat="user_annotation", ts=1e6 * number, dur=1e3 * length_ms)


def trace(rank: int, lengths_ms: tuple[float, ...] = (20.0, 22.0), **header: Any) -> bytes:
    steps = [step(number, length) for number, length in enumerate(lengths_ms)]
    distributed = {"rank": rank, "world_size": 2, "backend": "gloo", **header}
    return document(*steps, span(ts=5, dur=3), distributedInfo=distributed)


def times(*host_ms: float) -> dict[str, Any]:
    tenths = quantiles(host_ms, n=10, method="inclusive") if len(host_ms) > 1 else 9 * host_ms
    return {
        "median_ms": median(host_ms), "p10_ms": tenths[0], "p90_ms": tenths[-1],
        "min_ms": min(host_ms), "max_ms": max(host_ms), "count": len(host_ms),
        "clock": "host", "host_ms": list(host_ms), "gpu_ms": None,
    }  # fmt: skip


def entry(rank: int) -> dict[str, Any]:
    return {
        "rank": rank, "file": f"rank{rank}.json.gz", "status": "complete", "reason": None,
        "unprofiled": times(15.0, 16.0, 18.0), "profiled": times(20.1, 22.2), "inflation_pct": 32.19,
        "peak_allocated_bytes": None, "peak_reserved_bytes": None, "peak_resident_bytes": 2**30,
    }  # fmt: skip


def recording(folder: Path, change: Change = lambda _: None) -> Path:
    folder.mkdir(exist_ok=True)
    for rank in range(2):
        (folder / f"rank{rank}.json.gz").write_bytes(trace(rank))
    capture = {
        "schema": "lumos.capture/1",
        "world_size": 2,
        "ranks": [entry(0), entry(1)],
        "more": {"from": "a later version"},
    }
    change(capture)
    (folder / "capture.json").write_text(json.dumps(capture), "utf-8")
    return folder


def findings(traces: list[Trace]) -> list[Finding]:
    told = ("capture-", "partial-", "fake-")
    return [one for t in traces for one in t.findings if one.code.startswith(told)]


def test_what_was_measured_in_the_same_run_goes_with_each_trace(tmp_path: Path) -> None:
    traces = read(recording(tmp_path / "traces"))
    assert findings(traces) == []
    assert [one.capture for one in traces] == 2 * [
        CaptureNotes(
            unprofiled=StepTimes(16 * MS, round(15.2 * MS), round(17.6 * MS), 3),
            profiled=StepTimes(round(21.15 * MS), round(20.31 * MS), round(21.99 * MS), 2),
            inflation_pct=32.19,
            peak_resident_bytes=2**30,
        )
    ]


def test_a_file_alone_is_told_of_as_in_its_folder(tmp_path: Path) -> None:
    (one,) = read(recording(tmp_path / "traces") / "rank1.json.gz")
    assert one.capture is not None
    assert findings([one]) == []


def test_traces_without_a_capture_json_know_nothing_of_unprofiled_steps(tmp_path: Path) -> None:
    folder = recording(tmp_path / "traces")
    (folder / "capture.json").unlink()
    assert [one.capture for one in read(folder)] == [None, None]


def of_rank_1(**changes: Any) -> Change:
    return lambda capture: capture["ranks"][1].update(changes)


def unprofiled(**changes: Any) -> Change:
    return lambda capture: capture["ranks"][1]["unprofiled"].update(changes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda capture: capture.update(world_size=4), "it tells of 4 ranks, rank0.json.gz of 2"),
        (lambda capture: capture["ranks"].pop(), "it knows no rank1.json.gz"),
        (of_rank_1(rank=5), "rank1.json.gz is of rank 5, the trace says rank 1"),
        (of_rank_1(profiled=times(20.0), inflation_pct=25.0), "it tells of 1 profiled steps of rank1.json.gz, the trace holds 2"),
        (of_rank_1(profiled=None, inflation_pct=None), "it tells of 0 profiled steps of rank1.json.gz, the trace holds 2"),
        (of_rank_1(profiled=times(20.0, 28.0), inflation_pct=50.0), "step 2 of rank1.json.gz took 28.00 ms, the trace says 22.00 ms"),
        (unprofiled(median_ms=4.0), "contradicts itself: of rank 1's steps without the profiler it gives 4 ms as median, the times it lists give 16 ms"),
        (unprofiled(p10_ms=14.0), "gives 14 ms as 10 %, the times it lists give 15.2 ms"),
        (unprofiled(p90_ms=14.0), "gives 14 ms as 90 %"),
        (unprofiled(max_ms=17.0), "gives 17 ms as maximum"),
        (unprofiled(count=20), "tells of 20 steps and lists 3"),
        (unprofiled(host_ms=[15.0, 16.0]), "tells of 3 steps and lists 2"),
        (unprofiled(clock="gpu"), "tells of 3 steps and lists 0"),
        (unprofiled(clock="gpu", gpu_ms=[1.5, 1.6, 1.8]), "gives 15 ms as minimum, the times it lists give 1.5 ms"),
        (of_rank_1(unprofiled=times(1.5, 1.6, 1.8)), "it gives 32.19 % as inflation of rank 1, the medians give 1221.87 %"),
        (of_rank_1(inflation_pct=0.0), "it gives 0.00 % as inflation of rank 1, the medians give 32.19 %"),
        (of_rank_1(inflation_pct=None), "it gives nothing as inflation of rank 1, the medians give 32.19 %"),
        (of_rank_1(unprofiled=None), "it gives 32.19 % as inflation of rank 1, the medians give nothing"),
        (of_rank_1(status="partial"), "calls the recording of rank 1 partial and gives no reason"),
        (of_rank_1(reason="none"), "calls the recording of rank 1 complete and says why it is not"),
    ],
)  # fmt: skip
def test_one_that_tells_of_another_recording_is_left_aside(
    change: Change, words: str, tmp_path: Path
) -> None:
    traces = read(recording(tmp_path / "traces", change))
    (finding,) = findings(traces)
    assert (finding.code, finding.severity) == ("capture-disagrees", "warning")
    assert words in finding.message
    assert "capture.json" in finding.message
    assert "folder of its own" not in finding.advice
    assert [one.capture for one in traces] == [None, None]


def test_short_steps_may_be_longer_in_the_trace_by_a_time_slice(tmp_path: Path) -> None:
    folder = recording(
        tmp_path / "traces", of_rank_1(profiled=times(0.9, 1.1), inflation_pct=-93.75)
    )
    (folder / "rank1.json.gz").write_bytes(trace(1, (3.4, 1.2)))
    assert findings(read(folder)) == []


def test_a_cut_file_may_hold_fewer_steps_than_were_recorded(tmp_path: Path) -> None:
    folder = recording(tmp_path / "traces")
    whole = (folder / "rank1.json.gz").read_bytes()
    (folder / "rank1.json.gz").write_bytes(whole[: whole.index(b"ProfilerStep#1")])
    traces = read(folder)
    assert "cut-off" in {one.code for one in traces[1].findings}
    assert findings(traces) == []
    assert all(one.capture is not None for one in traces)


def test_a_gpu_s_clock_counts_where_it_was_read(tmp_path: Path) -> None:
    def by_gpu(capture: dict[str, Any]) -> None:
        for kind, host_ms in (("unprofiled", [1.0, 1.0, 9.0]), ("profiled", [20.1, 22.2])):
            one = capture["ranks"][0][kind]
            one.update(clock="gpu", gpu_ms=one["host_ms"], host_ms=host_ms)

    assert findings(read(recording(tmp_path / "traces", by_gpu))) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no capture.json"),
        ("[1, 2", "is no capture.json"),
        ('{"schema": "lumos.capture/1"}', "world_size"),
        ('{"schema": "lumos.capture/9", "world_size": 1, "ranks": []}', "this lumos reads lumos.capture/1"),
        ('{"schema": "lumos.capture/1", "world_size": -1, "ranks": []}', "world_size"),
        ('{"schema": "lumos.capture/1", "world_size": 1, "ranks": [{"rank": 1e99}]}', "rank"),
        ("[" * 100_000, "is no capture.json"),
        ("\udcff", "is no capture.json"),
    ],
)  # fmt: skip
def test_one_that_cannot_be_used_is_told_and_the_traces_are_read(
    text: str, words: str, tmp_path: Path
) -> None:
    folder = recording(tmp_path / "traces")
    (folder / "capture.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    traces = read(folder)
    (finding,) = findings(traces)
    assert (finding.code, finding.severity) == ("capture-unreadable", "warning")
    assert words in finding.message
    assert [len(one) for one in traces] == [3, 3]


def test_a_step_that_did_not_come_to_its_end_may_be_in_a_trace_cut_short(tmp_path: Path) -> None:
    short = {
        "status": "partial",
        "reason": "the training ended",
        "profiled": times(20.0),
        "inflation_pct": 25.0,
    }
    traces = read(recording(tmp_path / "traces", of_rank_1(**short)))
    (finding,) = findings(traces)
    assert (finding.code, finding.severity) == ("capture-incomplete", "warning")
    assert "there is no whole recording of rank 1: the training ended" in finding.message
    assert all(one.capture is not None for one in traces)


def test_recordings_cut_short_stay_out_unless_they_are_named(tmp_path: Path) -> None:
    folder = recording(
        tmp_path / "traces", of_rank_1(file="rank1.partial.json.gz", status="partial", reason="x")
    )
    (folder / "rank1.json.gz").rename(folder / "rank1.partial.json.gz")
    traces = read(folder)
    assert [one.rank for one in traces] == [0]
    assert {one.code for one in findings(traces)} == {"partial-recording", "capture-incomplete"}
    named = read([folder / "rank0.json.gz", folder / "rank1.partial.json.gz"])
    assert [one.rank for one in named] == [0, 1]


def test_what_a_killed_process_was_writing_is_no_trace(tmp_path: Path) -> None:
    folder = recording(tmp_path / "traces")
    (folder / ".rank0.json.gz.abc").mkdir()
    (folder / ".rank0.json.gz.abc" / "trace.json").write_bytes(trace(0)[:-9])
    assert [one.rank for one in read(folder)] == [0, 1]


def test_folders_in_the_folder_of_a_recording_hold_no_traces_of_it(tmp_path: Path) -> None:
    folder = recording(tmp_path / "traces")
    (folder / "truth").mkdir()
    (folder / "truth" / "rank7.json").write_bytes(trace(7, world_size=16))
    assert [one.rank for one in read(folder)] == [0, 1]
    (folder / "capture.json").unlink()
    with pytest.raises(UnusableInputError, match="different world sizes"):
        read(folder)


def test_a_fake_world_is_told(tmp_path: Path) -> None:
    (tmp_path / "rank0.json").write_bytes(trace(0, backend="fake"))
    (finding,) = findings(read(tmp_path / "rank0.json"))
    assert (finding.code, finding.severity) == ("fake-world", "info")
