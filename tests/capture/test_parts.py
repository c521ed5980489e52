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
from lumos.capture.description import spread
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


def test_a_rank_that_finds_itself_replaces_the_earlier_recording(tmp_path: Path) -> None:
    for number in range(4):
        write_one(str(tmp_path), number)
        (tmp_path / f"rank{number}.json.gz").touch()
    (tmp_path / "mine.json").touch()
    (tmp_path / ".rank2.json.gz.of-a-killed-process").mkdir()
    (tmp_path / ".rank2.json.gz.of-a-killed-process" / "trace.json").touch()
    sidecar.announce(tmp_path, job(8), rank(2))
    known = sidecar.read(tmp_path)
    assert known is not None
    assert [one["rank"] for one in known["ranks"]] == [2]
    assert {file.name for file in tmp_path.iterdir()} == {"capture.json", "mine.json"}


def test_a_job_of_another_size_replaces_the_earlier_recording(tmp_path: Path) -> None:
    sidecar.announce(tmp_path, job(4), rank(3))
    sidecar.announce(tmp_path, job(2), rank(0))
    known = sidecar.read(tmp_path)
    assert known is not None
    assert [one["rank"] for one in known["ranks"]] == [0]


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
