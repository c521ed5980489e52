"""From odd files to Traces, or to an error that says which file and what to do."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from lumos.errors import UnusableInputError
from lumos.graph.trace import ALL_STREAMS, MISSING, EventKind, Trace
from lumos.ingest import read
from lumos.ingest.typed import read_document
from tests.ingest.documents import document, kernel, launch, real_files, span


def written(folder: Path, text: bytes, name: str = "trace.json") -> Path:
    """A file with this text."""
    path = folder / name
    path.write_bytes(text)
    return path


def read_one(folder: Path, text: bytes) -> Trace:
    """The one trace in a file with this text."""
    (trace,) = read(written(folder, text))
    trace.self_check()
    return trace


def codes(trace: Trace) -> set[str]:
    """Codes of what was found."""
    return {finding.code for finding in trace.findings}


def test_threads_may_be_texts_or_numbers(tmp_path: Path) -> None:
    trace = read_one(tmp_path, document(span(tid="1441273664"), span(tid=1441273664)))
    assert {trace.text(thread) for thread in trace.thread} == {"1441273664"}


def test_relative_times_are_made_absolute(tmp_path: Path) -> None:
    base = 1735632360000000000
    trace = read_one(tmp_path, document(span(ts=1.5), baseTimeNanoseconds=base))
    assert trace.start_ns.tolist() == [base + 1500]


def test_absolute_times_keep_every_nanosecond(tmp_path: Path) -> None:
    text = document(span(ts=-1)).replace(b"-1", b"1661203462598738.123")
    assert read_one(tmp_path, text).start_ns.tolist() == [1661203462598738123]


def test_the_events_need_not_come_last_and_the_text_may_be_laid_out(tmp_path: Path) -> None:
    parts = {"traceEvents": [span()], "distributedInfo": {"rank": 5, "world_size": 8}}
    trace = read_one(tmp_path, json.dumps(parts, indent=4).encode())
    assert (trace.rank, trace.world_size, len(trace)) == (5, 8, 1)


def test_a_bare_list_of_events_is_a_trace(tmp_path: Path) -> None:
    assert len(read_one(tmp_path, json.dumps([span(), span()]).encode())) == 2


def test_nan_is_read_as_no_value_and_counted(tmp_path: Path) -> None:
    text = document(span(args={"x": float("nan")}), span(dur=float("nan")), span())
    trace = read_one(tmp_path, text)
    assert len(trace) == 2
    assert "event-without-time" in codes(trace)


def test_a_cut_off_text_gives_what_came_before(tmp_path: Path) -> None:
    text = document(*(span(ts=n) for n in range(10)), distributedInfo={"rank": 2})
    trace = read_one(tmp_path, text[:-30])
    assert len(trace) == 9
    assert trace.rank == 2
    assert "cut-off" in codes(trace)


def test_a_cut_off_gzip_gives_what_came_before(tmp_path: Path) -> None:
    events = [span(f"operator {n * 7919 % 10007}", ts=n) for n in range(5000)]
    packed = gzip.compress(document(*events))
    (trace,) = read(written(tmp_path, packed[: len(packed) // 2], "trace.json.gz"))
    assert 1000 < len(trace) < 4000
    assert "cut-off" in codes(trace)


def test_gzip_is_known_by_its_bytes_not_by_its_name(tmp_path: Path) -> None:
    assert len(read_one(tmp_path, gzip.compress(document(span())))) == 1


def test_bytes_that_are_no_text_spoil_only_themselves(tmp_path: Path) -> None:
    text = document(span("good"), span("bad"), kernel(args={"dtype": "odd", "stream": 7}))
    trace = read_one(tmp_path, text.replace(b'"bad"', b'"b\xffd"').replace(b'"odd"', b'"\xfe"'))
    assert [trace.text(name) for name in trace.name] == ["good", "b\ufffdd", "gemm"]


def test_bytes_that_are_no_text_in_arguments_do_not_end_the_reading() -> None:
    for key in ("pid", "dtype", "Input Dims"):
        event = span(pid="ODD") if key == "pid" else span(args={key: "ODD"})
        found = read_document(document(event).replace(b"ODD", b"\xff"))
        assert len(found.columns["kind"]) == 1


def test_a_stream_is_one_only_where_the_event_has_one(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"stream": 4294967295, "device": 0}
    trace = read_one(
        tmp_path,
        document(
            span("Context Sync", cat="cuda_sync", args=arguments),
            launch(args={"stream": 94810312345678, "correlation": 1}),
            kernel(),
        ),
    )
    assert trace.stream.tolist() == [ALL_STREAMS, MISSING, 7]


def test_old_names_of_categories_mean_the_same(tmp_path: Path) -> None:
    events = (span(cat=cat) for cat in ("Operator", "Runtime", "Kernel", "Memcpy", "Memset"))
    kinds = read_one(tmp_path, document(*events)).kind.tolist()
    wanted = ("OPERATOR", "CALL", "KERNEL", "COPY", "SET")
    assert kinds == [EventKind[name] for name in wanted]


def test_unknown_categories_are_counted(tmp_path: Path) -> None:
    trace = read_one(tmp_path, document(span(), span(cat="novel"), span(cat="novel"), span(ph="i")))
    assert trace.skipped == {"novel": 2, "ph:i": 1}


def test_an_endless_number_in_the_header_is_no_rank(tmp_path: Path) -> None:
    trace = read_one(tmp_path, document(span(), distributedInfo={"rank": "9" * 5000}))
    assert trace.rank == 0


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        b"not JSON at all",
        b"{}",
        b"[]",
        b"\x1f\x8b",
        b"\x1f\x8bbroken",
        b'{"traceEvents": []}',
        b'{"traceEvents": {}}',
        b"[" * 100_000,
        b'{"traceEvents": [' + b'{"a":' * 10_000,
        bytes(1000),
    ],
)
def test_a_file_without_events_is_refused_by_name(tmp_path: Path, text: bytes) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UnusableInputError, match=r"trace\.json"):
        read(path)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UnusableInputError, match="no such file"):
        read(tmp_path / "nothing.json")


def test_a_folder_without_traces_is_refused_by_name(tmp_path: Path) -> None:
    written(tmp_path, b"text", "readme.txt")
    with pytest.raises(UnusableInputError, match="holds no"):
        read(tmp_path)


def test_a_file_that_may_not_be_read_is_refused_by_name(tmp_path: Path) -> None:
    path = written(tmp_path, document(span()))
    path.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may read everything, nobody may not
    try:
        with pytest.raises(UnusableInputError, match=r"trace\.json.*Permission denied"):
            read(path)
    finally:
        os.seteuid(user)


def test_a_name_that_no_file_can_have_is_refused() -> None:
    for name in ("a\0b", "x" * 5000):
        with pytest.raises(UnusableInputError):
            read(name)


def test_ranks_come_from_the_metadata_then_the_names_then_the_order(tmp_path: Path) -> None:
    for name, rank in (("a", 1), ("b", 0)):
        written(tmp_path, document(span(), distributedInfo={"rank": rank}), f"{name}.json")
    assert [(t.rank, Path(t.source).stem) for t in read(tmp_path)] == [(0, "b"), (1, "a")]
    named = tmp_path / "named"
    named.mkdir()
    for number in (10, 9):
        written(named, document(span()), f"rank{number}.json")
    assert [t.rank for t in read(named)] == [9, 10]
    plain = tmp_path / "plain"
    plain.mkdir()
    for name in ("x10", "x9"):
        written(plain, document(span()), f"{name}.json")
    assert [(t.rank, Path(t.source).stem) for t in read(plain)] == [(0, "x9"), (1, "x10")]


def test_one_rank_given_twice_is_refused(tmp_path: Path) -> None:
    for name in "ab":
        written(tmp_path, document(span(), distributedInfo={"rank": 3}), f"{name}.json")
    with pytest.raises(UnusableInputError, match=r"b\.json: rank 3 is also in .*a\.json"):
        read(tmp_path)


def test_files_of_different_jobs_are_refused(tmp_path: Path) -> None:
    for size in (4, 8):
        header = {"distributedInfo": {"rank": size, "world_size": size}}
        written(tmp_path, document(span(), **header), f"{size}.json")
    with pytest.raises(UnusableInputError, match="different world sizes"):
        read(tmp_path)


def one_rank(pid: int, device: int, launches: int = 3) -> list[dict[str, Any]]:
    """Calls of a process and the tasks they launch.

    process   | launch | launch | launch |
    device          | gemm | gemm | gemm |
    """
    events = []
    for n in range(launches):
        events.append(launch(n + 1, pid=pid, ts=1000 + 10 * n + pid, dur=5))
        arguments = {"device": device, "stream": 7, "correlation": n + 1, "bytes": pid}
        events.append(kernel(pid=device, args=arguments, ts=1004 + 10 * n + pid, dur=8))
    return events


def test_documents_one_behind_the_other_are_one_trace_each(tmp_path: Path) -> None:
    one = document(*one_rank(70, 0), distributedInfo={"rank": 0, "world_size": 2})
    other = document(*one_rank(71, 1, 5), distributedInfo={"rank": 1, "world_size": 2})
    for between in (b"", b"\n"):
        traces = read(written(tmp_path, one + between + other))
        assert [(trace.rank, len(trace)) for trace in traces] == [(0, 6), (1, 10)]
        assert all("several-ranks-in-one-file" in codes(trace) for trace in traces)


def test_of_two_documents_the_second_may_be_cut_off(tmp_path: Path) -> None:
    one, other = document(*one_rank(70, 0)), document(*one_rank(71, 1, 5))
    traces = read(written(tmp_path, one + other[:-50]))
    assert [len(trace) for trace in traces] == [6, 9]
    assert ["cut-off" in codes(trace) for trace in traces] == [False, True]


def test_ranks_in_one_document_are_told_apart_by_process(tmp_path: Path) -> None:
    events = one_rank(70, 3) + one_rank(71, 2, 5) + [span(pid=99)]
    traces = read(
        written(tmp_path, document(*events, distributedInfo={"rank": 0, "world_size": 2}))
    )
    assert [(trace.rank, len(trace)) for trace in traces] == [(0, 10), (1, 6)]
    for trace, pid, device in zip(traces, ("71", "70"), (2, 3), strict=True):
        trace.self_check()
        calls = trace.kind == EventKind.CALL
        assert {trace.text(process) for process in trace.process[calls]} == {pid}
        assert set(trace.device[~calls].tolist()) == {device}
        assert set(trace.argument_value.tolist()) == {int(pid)}
        (finding,) = [f for f in trace.findings if f.code == "several-ranks-in-one-file"]
        assert "1 events belong to none" in finding.message


def test_processes_on_one_device_stay_one_trace_and_are_reported(tmp_path: Path) -> None:
    (trace,) = read(written(tmp_path, document(*one_rank(70, 0), *one_rank(71, 0))))
    assert len(trace) == 12
    assert "processes-share-device" in codes(trace)


def test_a_process_with_two_devices_is_one_rank(tmp_path: Path) -> None:
    (trace,) = read(written(tmp_path, document(*one_rank(70, 0), *one_rank(70, 1), span(pid=5))))
    assert len(trace) == 13


def test_real_ranks_in_one_file_are_read_as_from_their_own(tmp_path: Path) -> None:
    files = [path for path in real_files() if path.parent.name == "dlrm-8xV100"][:2]
    if not files:
        pytest.skip("no ../shared/data/kineto beside the project")
    texts = [gzip.decompress(path.read_bytes()) for path in files]
    merged = json.loads(texts[0])
    merged["traceEvents"] += json.loads(texts[1])["traceEvents"]
    own = [len(trace) for trace in read(files)]
    for text in (texts[0] + texts[1], json.dumps(merged).encode()):
        assert [len(trace) for trace in read(written(tmp_path, text))] == own
