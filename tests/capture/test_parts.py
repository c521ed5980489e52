"""The parts of the recorder that need no PyTorch: what is recorded when, and what is written."""

from __future__ import annotations

import errno
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from contextlib import nullcontext
from multiprocessing import get_context
from pathlib import Path

import pytest

from lumos.capture import Capture, fake_world, sidecar
from lumos.capture.description import spread, step_time
from lumos.capture.plan import Part, Plan
from lumos.errors import UsageError

SOURCES = Path(__file__).parents[2] / "src"


@pytest.mark.parametrize("counts", [(5, 20, 2, 3), (0, 0, 0, 1), (0, 3, 1, 2), (2, 0, 0, 4)])
def test_parts_of_a_plan_follow_each_other_and_are_as_long_as_asked_for(counts) -> None:
    plan = Plan(*counts)
    parts = [plan.part(step) for step in range(plan.steps + 3)]
    order = list(Part)
    assert [order.index(part) for part in parts] == sorted(order.index(part) for part in parts)
    found = Counter(parts)
    assert tuple(found[part] for part in order) == (*counts, 3)


@pytest.mark.parametrize("counts", [(5, 20, 2, 3), (0, 0, 0, 1), (0, 3, 1, 2), (2, 0, 0, 4)])
def test_no_turn_of_a_plan_is_missed(counts) -> None:
    plan, turns, step = Plan(*counts), set(), 0
    while step < plan.steps:
        step = plan.next_turn(step)
        turns.add(step)
    told = (Part.WARM_UP, Part.PROFILED)
    for ended in range(1, plan.steps + 1):
        changes = plan.part(ended - 1) is not plan.part(ended)
        assert (ended in turns) == (changes or plan.part(ended) in told), ended


@pytest.mark.parametrize("wrong", [-1, 2.5, True, "3", None])
def test_a_plan_takes_whole_numbers_only(wrong) -> None:
    for name in ("skip_steps", "timed_steps", "warm_up_steps", "profiled_steps"):
        with pytest.raises(UsageError, match=name):
            Capture("traces", **{name: wrong})
    with pytest.raises(UsageError, match="from 1 up"):
        Plan(profiled_steps=0)


def test_wrong_wishes_are_told_at_once() -> None:
    with pytest.raises(UsageError, match='"warn" or "raise"'):
        Capture("traces", on_error="ignore")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="outside of `with"):
        Capture("traces").step()


@pytest.mark.parametrize(("world_size", "rank"), [(0, 0), (4, 4), (4, -1), (2.0, 0), (8, 1.5)])
def test_a_fake_world_needs_a_size_and_a_rank_in_it(world_size, rank) -> None:
    with pytest.raises(UsageError, match="fake world"), fake_world(world_size, rank):
        pass


def test_spread_is_what_the_standard_library_says() -> None:
    times = [((7 * n) % 23) + n / 10 for n in range(21)]
    tenths = statistics.quantiles(times, n=10, method="inclusive")
    found = spread(times)
    assert found["median_ms"] == pytest.approx(statistics.median(times), abs=1e-4)
    assert (found["p10_ms"], found["p90_ms"]) == pytest.approx((tenths[0], tenths[-1]), abs=1e-4)
    assert (found["min_ms"], found["max_ms"], found["count"]) == (min(times), max(times), 21)
    assert spread([3.5])["p90_ms"] == 3.5


# --- how long a step takes


def a_rank(unprofiled: list[float] | None, profiled: list[float]) -> sidecar.Document:
    told = None if unprofiled is None else spread(unprofiled)
    return {"unprofiled": told, "profiled": spread(profiled)}


def test_a_step_takes_as_long_as_on_the_rank_that_is_slowest_with_and_without_the_profiler() -> (
    None
):
    ranks = [a_rank([10, 11, 12], [12, 12, 12]), a_rank([9, 9, 10], [14, 14, 15])]
    assert step_time(ranks) == (
        "a step takes 11.00 ms (10 to 90 %: 10.20 to 11.80) without the profiler, "
        "14.00 ms (10 to 90 %: 14.00 to 14.80) with it: +27.3 %"
    )


@pytest.mark.parametrize(
    ("profiled", "end"),
    [
        ([490.0, 518.0, 530.0], "-26.2 %, which cannot be told from noise"),
        ([690.0, 705.0, 710.0], "+0.4 %, which cannot be told from noise"),
        ([410.0, 415.0, 420.0], "-40.9 %"),
        ([810.0, 815.0, 820.0], "+16.1 %"),
    ],
)
def test_a_difference_inside_of_the_spread_is_called_noise(profiled, end: str) -> None:
    told = step_time([a_rank([480.0, 520.0, 701.88, 720.0, 750.0], profiled)])
    assert told is not None
    assert told.endswith(f" with it: {end}")


def test_without_a_time_without_the_profiler_nothing_is_compared() -> None:
    assert step_time([a_rank(None, [1.0])]) is None
    assert step_time([]) is None


# --- capture.json


def job(world_size: int = 4) -> sidecar.Document:
    return {"schema": sidecar.SCHEMA, "world_size": world_size, "told_by": None}


def rank(number: int, **more: object) -> sidecar.Document:
    return {"rank": number, **more}


def write_one(folder: str, number: int) -> None:
    sidecar.announce(Path(folder), {**job(8), "told_by": number}, rank(number, state="begun"))
    sidecar.enter(Path(folder), {**job(8), "told_by": number}, rank(number, state="done"))


def test_many_ranks_write_one_file_and_none_is_lost(tmp_path: Path) -> None:
    context = get_context("spawn")
    ranks = [context.Process(target=write_one, args=(str(tmp_path), n)) for n in range(8)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(60)
    known = sidecar.read(tmp_path)
    assert known is not None
    assert [one["rank"] for one in known["ranks"]] == list(range(8))
    assert {one["state"] for one in known["ranks"]} == {"done"}
    assert known["told_by"] == 0, "what holds for the job is told by its lowest rank"
    assert {file.name for file in tmp_path.iterdir()} == {"capture.json"}


def test_a_lock_whose_owner_is_gone_is_broken(tmp_path: Path) -> None:
    (tmp_path / ".capture.lock").touch()
    started = time.monotonic()
    sidecar.enter(tmp_path, job(), rank(0))
    assert time.monotonic() - started < 20
    assert {file.name for file in tmp_path.iterdir()} == {"capture.json"}


# --- a recording and an earlier one in the same folder


def begin(folder: Path, size: int, *numbers: int) -> None:
    for number in numbers:
        sidecar.announce(folder, job(size), rank(number, status="failed", file=None))


def end(folder: Path, size: int, number: int, text: str = "", status: str = "complete"):
    """A rank ends with its trace; `text` stands in it."""
    name = sidecar.trace_name(number, partial=status == "partial")
    written = folder / f".{name}.1"
    written.write_text(text)
    one = rank(number, status=status, file=name, reason=status)
    return sidecar.enter(folder, job(size), one, written)


def record_all(folder: Path, size: int, text: str = "") -> None:
    begin(folder, size, *range(size))
    for number in range(size):
        end(folder, size, number, text)


def told_ranks(folder: Path) -> list[int]:
    known = sidecar.read(folder)
    assert known is not None
    return [one["rank"] for one in known["ranks"]]


def shown(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir() if not file.name.startswith(".")}


def test_an_earlier_recording_is_as_it_was_until_the_new_one_has_a_trace(tmp_path: Path) -> None:
    record_all(tmp_path, 4, "old")
    (tmp_path / "mine.json").touch()
    before = (tmp_path / "capture.json").read_bytes()
    begin(tmp_path, 2, 1, 0)
    sidecar.enter(tmp_path, job(2), rank(1, status="failed", file=None))
    assert (tmp_path / "capture.json").read_bytes() == before
    assert {(tmp_path / f"rank{n}.json.gz").read_text() for n in range(4)} == {"old"}
    end(tmp_path, 2, 0, "new")
    assert {file.name for file in tmp_path.iterdir()} == {
        "capture.json", "rank0.json.gz", "mine.json",
    }  # fmt: skip
    assert told_ranks(tmp_path) == [0, 1]
    end(tmp_path, 2, 1, "new")
    assert (tmp_path / "rank1.json.gz").read_text() == "new"
    assert told_ranks(tmp_path) == [0, 1]


@pytest.mark.parametrize("size", [2, 4])
def test_a_run_that_is_started_again_and_again_ends_in_one_recording(
    size: int, tmp_path: Path
) -> None:
    record_all(tmp_path, 2, "old")
    for _ in range(3):  # as torchrun restarts a job
        begin(tmp_path, size, *range(size))
    for number in reversed(range(size)):
        end(tmp_path, size, number, "new")
    begin(tmp_path, size, *reversed(range(size)))
    record_all(tmp_path, size, "newer")
    assert shown(tmp_path) == {"capture.json", *(f"rank{n}.json.gz" for n in range(size))}
    assert {(tmp_path / f"rank{n}.json.gz").read_text() for n in range(size)} == {"newer"}
    assert told_ranks(tmp_path) == list(range(size))
    assert sidecar.strangers(tmp_path) == []


def test_half_a_trace_takes_no_place_of_a_whole_recording(tmp_path: Path) -> None:
    record_all(tmp_path, 1, "old")
    begin(tmp_path, 1, 0)
    one = end(tmp_path, 1, 0, "half", "partial")
    assert (one["status"], one["file"]) == ("failed", None)
    assert (
        one["reason"] == "partial; its trace was not kept, for the earlier recording there is whole"
    )
    assert (tmp_path / "rank0.json.gz").read_text() == "old"
    assert shown(tmp_path) == {"capture.json", "rank0.json.gz"}


def test_half_a_trace_takes_the_place_of_half_a_trace(tmp_path: Path) -> None:
    begin(tmp_path, 2, 0, 1)
    end(tmp_path, 2, 1, "old", "partial")
    begin(tmp_path, 1, 0)
    assert (tmp_path / "rank1.partial.json.gz").read_text() == "old"
    end(tmp_path, 1, 0, "new", "partial")
    assert shown(tmp_path) == {"capture.json", "rank0.partial.json.gz"}


def test_a_recording_without_traces_is_replaced_at_once(tmp_path: Path) -> None:
    begin(tmp_path, 4, 0, 3)
    begin(tmp_path, 2, 0)
    assert told_ranks(tmp_path) == [0]
    assert {file.name for file in tmp_path.iterdir()} == {"capture.json"}


def test_who_looks_knows_what_was_written_since(tmp_path: Path) -> None:
    before = sidecar.look(tmp_path)
    assert sidecar.written_since(tmp_path, before) == (None, False)
    record_all(tmp_path, 2)
    known, kept = sidecar.written_since(tmp_path, before)
    assert (known, kept) == (sidecar.read(tmp_path), False)
    before = sidecar.look(tmp_path)
    assert sidecar.written_since(tmp_path, before) == (None, False)
    begin(tmp_path, 1, 0)
    known, kept = sidecar.written_since(tmp_path, before)
    assert known is not None
    assert (known["world_size"], kept) == (1, True)


def test_files_that_no_recording_wrote_are_strangers(tmp_path: Path) -> None:
    record_all(tmp_path, 2)
    assert sidecar.strangers(tmp_path) == []
    for name in ("old.json.gz", "rank1.json", "notes.txt"):  # which no recording overwrites
        (tmp_path / name).touch()
    assert sidecar.strangers(tmp_path) == []
    (tmp_path / "rank7.json.gz").touch()
    (tmp_path / "rank0.partial.json.gz").touch()
    assert sidecar.strangers(tmp_path) == ["rank0.partial.json.gz", "rank7.json.gz"]
    (tmp_path / "capture.json").write_text("my own notes")
    assert sidecar.strangers(tmp_path) == [
        "capture.json", "rank0.json.gz", "rank0.partial.json.gz", "rank1.json.gz", "rank7.json.gz",
    ]  # fmt: skip


def test_a_capture_json_that_names_files_elsewhere_makes_none_of_them_go(tmp_path: Path) -> None:
    folder = tmp_path / "traces"
    folder.mkdir()
    (tmp_path / "rank1.json.gz").touch()
    (folder / "mine.json.gz").touch()
    record_all(folder, 3)
    known = json.loads((folder / "capture.json").read_text())
    known["ranks"][1]["file"], known["ranks"][2]["file"] = "../rank1.json.gz", "mine.json.gz"
    (folder / "capture.json").write_text(json.dumps(known))
    record_all(folder, 1)
    assert (tmp_path / "rank1.json.gz").exists()
    assert (folder / "mine.json.gz").exists()


def test_a_file_that_came_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    begin(tmp_path, 1, 0)
    (tmp_path / "rank0.json.gz").write_text("of the training's own profiler")
    with pytest.raises(UsageError, match="written by something else"):
        end(tmp_path, 1, 0, "ours")
    assert (tmp_path / "rank0.json.gz").read_text() == "of the training's own profiler"


def test_what_a_killed_process_was_writing_goes_when_its_rank_begins(tmp_path: Path) -> None:
    (tmp_path / ".rank2.json.gz.7.of-a-killed-process").mkdir()
    (tmp_path / ".rank2.json.gz.7.of-a-killed-process" / "trace.json").touch()
    (tmp_path / ".rank2.partial.json.gz.7").touch()
    (tmp_path / ".rank22.json.gz.7").touch()
    begin(tmp_path, 4, 2)
    assert {file.name for file in tmp_path.iterdir()} == {"capture.json", ".rank22.json.gz.7"}


# --- a full disk, an odd file


@pytest.mark.parametrize("room_after", [3, None])
def test_on_a_full_disk_a_rank_waits_until_others_gave_up_their_room(
    room_after: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sidecar.announce(tmp_path, job(), rank(0, state="begun"))
    write, tries = Path.write_text, []

    def write_where_there_is_room(self: Path, *text: str, **settings: str) -> int:
        tries.append(self)
        if room_after is None or len(tries) < room_after:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, *text, **settings)

    monkeypatch.setattr(Path, "write_text", write_where_there_is_room)
    full = pytest.raises(OSError, match="No space")
    with nullcontext() if room_after else full:
        sidecar.enter(tmp_path, job(), rank(0, state="done"))
    known = sidecar.read(tmp_path)
    assert known is not None
    assert known["ranks"][0]["state"] == ("done" if room_after else "begun")
    assert {file.name for file in tmp_path.iterdir()} == {"capture.json"}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"ranks": 3}', '{"ranks": [{"rank": "x"}]}', "null"]
)
def test_a_file_that_is_not_ours_is_written_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / "capture.json").write_text(text)
    sidecar.announce(tmp_path, job(), rank(1))
    assert json.loads((tmp_path / "capture.json").read_text())["ranks"] == [{"rank": 1}]


def test_lists_of_numbers_stand_in_one_line_and_stay_what_they_are(tmp_path: Path) -> None:
    times = [1.5, 2.0, -3e-07, 1e22]
    sidecar.enter(tmp_path, job(), rank(0, times=times, empty=[], names=["[1,  2]"]))
    text = (tmp_path / "capture.json").read_text()
    assert json.loads(text)["ranks"][0] == {
        "rank": 0,
        "times": times,
        "empty": [],
        "names": ["[1,  2]"],
    }
    assert math.isfinite(times[-1])


# --- PyTorch missing, or too old


def use(folder: Path, path: Path | None, before: str = "") -> subprocess.CompletedProcess[str]:
    code = f"""{before}
from lumos.capture import Capture
with Capture({str(folder)!r}) as capture:
    for _ in range(40):
        capture.step()
print("trained")
"""
    places = os.pathsep.join(map(str, filter(None, (path, SOURCES))))
    environment = {**os.environ, "PYTHONPATH": places}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )


def test_without_torch_the_training_goes_on_and_one_line_says_so(tmp_path: Path) -> None:
    done = use(tmp_path / "traces", None, "import sys; sys.modules['torch'] = None")
    assert (done.returncode, done.stdout) == (0, "trained\n")
    assert len(done.stderr.splitlines()) == 1
    assert "https://download.pytorch.org/whl/cpu" in done.stderr


@pytest.mark.parametrize("version", ["2.3.1+cu121", "1.13.0", "unknown"])
def test_a_torch_that_is_too_old_is_named(tmp_path: Path, version: str) -> None:
    (tmp_path / "torch.py").write_text(f"__version__ = {version!r}\n")
    done = use(tmp_path / "traces", tmp_path)
    assert (done.returncode, done.stdout) == (0, "trained\n")
    assert done.stderr == (
        "lumos: rank 0: nothing more is recorded, the training goes on: "
        f"lumos.capture needs PyTorch 2.4 or newer, this is {version}: update it\n"
    )


def test_the_package_is_imported_where_there_is_nothing_but_python(tmp_path: Path) -> None:
    code = """
import sys
before = set(sys.modules)
for name in ("numpy", "numba", "msgspec", "isal", "polars", "typer", "rich", "torch"):
    sys.modules[name] = None
import lumos.capture, lumos.capture.unmodified, lumos.capture.advice
ours = {name for name in sys.modules if name.startswith("lumos")}
assert all(n.startswith(("lumos.capture", "lumos.errors", "lumos.units")) or n == "lumos" for n in ours), ours
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(SOURCES)},
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
