"""An entry of the cache gives what reading gives, and only as long as the file is the same."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest

from lumos.graph.trace import Trace
from lumos.ingest import read
from lumos.ingest.cache import SMALLEST_BYTES, delete_oldest
from tests.ingest.documents import document, kernel, launch, span

HEADER = {
    "distributedInfo": {
        "rank": 3,
        "world_size": 8,
        "backend": "nccl",
        "pg_config": [{"pg_name": "0", "pg_desc": "mesh_dp", "ranks": [0, 3]}],
    },
    "baseTimeNanoseconds": 5,
}


def big(name: str = "aten::add") -> bytes:
    """A text just large enough to be kept."""
    naming = {"ph": "M", "name": "thread_name", "pid": 7, "tid": 8, "args": {"name": "main"}}
    arguments = {"Seq": 4, "dtype": "Float", "stream": 7, "device": 0}
    events = [span(name, ts=n, args={"Input Dims": [[n]]}) for n in range(100)]
    filling = span("filling", cat="no such", args={"text": "x" * (SMALLEST_BYTES // 4)})
    others = [naming, launch(), kernel(args=arguments, dur=-5), span(ph="i"), filling]
    return document(*others, span("hidden"), *[filling] * 3, *events, **HEADER)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "trace.json"
    path.write_bytes(big())
    return path


def entries(path: Path) -> list[Path]:
    """The files in the cache folder of the test."""
    return sorted((path.parent / "cache" / "traces").glob("*"))


def same(left: Trace, right: Trace) -> bool:
    """Whether two traces agree in every field."""
    arrays = ("argument_row", "argument_key", "argument_value")
    pairs = [(left.columns[name], right.columns[name]) for name in left.columns]
    pairs += [(getattr(left, name), getattr(right, name)) for name in arrays]
    plain = [name for name in left.__dataclass_fields__ if name not in (*arrays, "columns")]
    return all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in pairs) and all(
        getattr(left, name) == getattr(right, name) for name in plain
    )


def test_the_second_opening_gives_the_same_trace(path: Path) -> None:
    (first,), (second,) = read(path), read(path)
    assert len(entries(path)) == 1
    assert same(first, second)
    assert first.process_groups
    assert first.findings
    assert second.columns["kind"].flags.writeable


def test_the_second_opening_comes_from_the_cache(path: Path) -> None:
    read(path)
    status = path.stat()
    # Outside the sampled bytes, and the times put back: the only change the cache can't see.
    path.write_bytes(path.read_bytes().replace(b'"hidden"', b'"veiled"'))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    (cached,), (fresh,) = read(path), read(path, cache=False)
    assert [trace.text(int(trace.name[2])) for trace in (cached, fresh)] == ["hidden", "veiled"]


def test_a_changed_file_is_read_again(path: Path) -> None:
    read(path)
    path.write_bytes(big("aten::mul"))
    (trace,) = read(path)
    assert trace.text(int(trace.name[5])) == "aten::mul"


def test_a_changed_file_of_the_same_size_and_time_is_seen_by_its_bytes(path: Path) -> None:
    read(path)
    status = path.stat()
    path.write_bytes(path.read_bytes().replace(b'"rank": 3', b'"rank": 4'))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    (trace,) = read(path)
    assert trace.rank == 4


def test_without_the_cache_nothing_is_kept(path: Path) -> None:
    read(path, cache=False)
    assert entries(path) == []


def test_small_files_are_not_kept(tmp_path: Path) -> None:
    small = tmp_path / "small.json"
    small.write_bytes(document(span()))
    read(small)
    assert entries(small) == []


def test_a_damaged_entry_is_ignored_and_replaced(path: Path) -> None:
    (wanted,) = read(path)
    (entry,) = entries(path)
    whole, chance = entry.read_bytes(), random.Random(8)
    for number in range(40):
        damaged = bytearray(whole)
        if number % 2:
            del damaged[chance.randrange(len(whole)) :]
        else:
            damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        entry.write_bytes(bytes(damaged))
        (trace,) = read(path)
        assert same(trace, wanted)
        assert entry.read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_no_obstacle(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in (path, "/proc/nowhere"):
        monkeypatch.setenv("LUMOS_CACHE_DIR", str(place))
        assert len(read(path)) == 1


def test_the_entries_used_least_recently_go_first(tmp_path: Path) -> None:
    for age, name in enumerate(("new", "older", "oldest")):
        (tmp_path / name).write_bytes(bytes(100))
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    delete_oldest(tmp_path, limit_bytes=250)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["new", "older"]
