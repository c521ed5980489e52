"""The GPU suite without a GPU: its packs, what it leaves open, and a dry run of everything."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from tests.validation.agreement import disagreements

SUITE = Path(__file__).parents[2] / "validation" / "gpu"
needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None,
    reason="recording needs torch: pip install torch --index-url https://download.pytorch.org/whl/cpu",
)


@pytest.fixture
def packs(monkeypatch):
    monkeypatch.syspath_prepend(str(SUITE))
    return importlib.import_module("packs")


def recordings(folder: Path, sizes: dict[str, int]) -> Path:
    for name, size in sizes.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "capture.json").write_bytes(bytes(size))
    return folder


def test_packs_keep_to_their_limits_and_what_does_not_fit_is_told(packs, tmp_path) -> None:
    sizes = {f"item-{n}": 4_000_000 for n in range(9)} | {"large": 16_000_000, "small": 1000}
    folder = recordings(tmp_path / "nvidia-x", sizes)
    left = packs.pack(folder, list(sizes), tmp_path / "out")
    files = sorted((tmp_path / "out").iterdir())
    assert left == ["item-7", "item-8", "large"]  # seven of 4 MB and the small one are below 30 MB
    assert len(files) <= packs.MOST_FILES
    assert all(file.stat().st_size <= 16 << 20 for file in files)
    assert sum(file.stat().st_size for file in files) <= packs.MOST_BYTES + 20_000 * len(files)


def test_what_was_packed_comes_out_the_same(packs, tmp_path, monkeypatch) -> None:
    folder = recordings(tmp_path / "nvidia-x", {"one": 10, "two": 20})
    packs.pack(folder, ["one", "two"], tmp_path / "out")
    monkeypatch.setattr(packs, "write_table", lambda _: None)
    unpacked = packs.unpack(sorted((tmp_path / "out").iterdir()), tmp_path / "project")
    assert unpacked == {tmp_path / "project" / "nvidia-x"}
    assert (tmp_path / "project" / "nvidia-x" / "two" / "capture.json").stat().st_size == 20


def test_a_pack_cannot_write_outside(packs, tmp_path) -> None:
    (tmp_path / "evil").write_text("x")
    with tarfile.open(tmp_path / "pack.tar", "w") as file:
        file.add(tmp_path / "evil", arcname="../outside/evil")
    with pytest.raises(tarfile.TarError):
        packs.unpack([tmp_path / "pack.tar"], tmp_path / "project")
    assert not (tmp_path / "outside").exists()


def test_the_open_list_names_every_item_that_is_not_recorded() -> None:
    done = subprocess.run(
        [sys.executable, str(SUITE / "record.py"), "--list"], capture_output=True, text=True,
        check=False, env={**os.environ, "PYTHONPATH": ""},
    )  # fmt: skip
    if importlib.util.find_spec("torch") is None:
        assert (done.returncode, done.stderr) == (
            1,
            "this Python has no PyTorch; run the suite with one that has\n",
        )
        pytest.skip("the list needs torch: it asks the interventions")
    known = {path.parent.name for path in SUITE.glob("*/*/capture.json")}
    assert done.returncode == 0, done.stderr
    names = done.stdout.split()
    assert not known & set(names)
    assert len(names) + len(known) >= 35


@pytest.fixture
def suite(monkeypatch):
    pytest.importorskip("torch")
    for folder in (SUITE.parents[1] / "examples", SUITE.parent, SUITE):
        monkeypatch.syspath_prepend(str(folder))
    return importlib.import_module("record")


def attended(suite, monkeypatch, folder: Path, does, *, seconds: float = 60, left_s: float = 60):
    """Why an item that does this was not recorded."""
    monkeypatch.setattr(suite, "record_item", lambda *_: does())
    one = suite.Item("base", "gpt", {}, seconds=seconds)
    suite.attend(one, folder, time.monotonic() + left_s, on_gpu=False)
    return json.loads((folder / suite.FAILED).read_text("utf-8"))["reason"]


def test_an_item_that_hangs_is_ended(suite, tmp_path, monkeypatch):
    monkeypatch.setattr(suite, "LATE_S", 0.5)
    begin_s = time.monotonic()
    reason = attended(suite, monkeypatch, tmp_path / "base", lambda: time.sleep(60), seconds=0.5)
    assert reason == "it was ended after 2 s"
    assert time.monotonic() - begin_s < 30


def test_nothing_is_recorded_beyond_the_time_there_is(suite, tmp_path, monkeypatch) -> None:
    reason = attended(suite, monkeypatch, tmp_path / "base", lambda: time.sleep(60), left_s=-60)
    assert reason == "time was up"


def test_an_item_that_takes_its_process_down_is_told(suite, tmp_path, monkeypatch) -> None:
    reason = attended(suite, monkeypatch, tmp_path / "base", lambda: os._exit(3))
    assert reason == "its process ended with 3"


def test_an_error_is_told_in_one_line(suite, tmp_path, monkeypatch) -> None:
    def out_of_memory() -> None:
        raise RuntimeError("CUDA out of memory.\nGPU 0 has 139 GiB")

    reason = attended(suite, monkeypatch, tmp_path / "base", out_of_memory)
    assert reason == "RuntimeError: CUDA out of memory. GPU 0 has 139 GiB"


def test_what_failed_is_tried_once_more_and_the_rest_is_recorded_and_packed(
    suite, tmp_path, monkeypatch, capsys
) -> None:
    tried = tmp_path / "tried"

    def record(one, folder: Path, _) -> None:
        with tried.open("a") as file:
            file.write(f"{one.name}\n")
        again = tried.read_text().count(one.name) > 1
        if one.name == "gemm_hook" or (one.name == "base" and not again):
            raise RuntimeError("no")
        (folder / "operators.csv").write_text("operator\n")

    monkeypatch.setattr(suite, "record_item", record)
    names = ["base", "gemm_hook", "gemm_twice"]
    suite.record_all("nvidia-x", tmp_path / "out", time.monotonic() + 100, names)
    assert tried.read_text().split() == [*names, "base", "gemm_hook"]
    said = capsys.readouterr().out
    assert "recorded: 2, packed: 2" in said
    assert "failed: gemm_hook: RuntimeError: no\nopen: gemm_hook\n" in said
    with tarfile.open(tmp_path / "out" / "pack-0.tar") as file:
        assert {Path(name).parts[1] for name in file.getnames() if "/" in name} == {
            "base", "gemm_twice",
        }  # fmt: skip


def test_what_the_project_holds_of_a_gpu_is_not_recorded_again(
    suite, tmp_path, monkeypatch, capsys
) -> None:
    everything = [one.name for one in suite.items()]
    recordings(tmp_path / "nvidia-x", dict.fromkeys(everything, 1))
    recordings(tmp_path / "nvidia-y", {"base": 1})
    monkeypatch.setattr(suite, "HERE", tmp_path)
    suite.record_all("nvidia-x", tmp_path / "out", time.monotonic() + 100, None)
    assert f"known before: {len(everything)}\nopen: nothing" in capsys.readouterr().out
    suite.record_all("nvidia-y", tmp_path / "out", time.monotonic() - 1, None)  # no time at all
    assert f"open: {', '.join(everything[1:])}\n" in capsys.readouterr().out


def test_a_trace_of_the_host_alone_is_no_recording_of_a_gpu(suite, tmp_path) -> None:
    trace = tmp_path / "rank0.json.gz"
    trace.write_bytes(gzip.compress(b'{"traceEvents": [\n{"cat": "cpu_op"}\n]}'))
    with pytest.raises(RuntimeError, match="no kernel"):
        suite.require_kernels(trace)
    trace.write_bytes(gzip.compress(b'{"traceEvents": [\n{"ph": "X", "cat": "kernel"}\n]}'))
    suite.require_kernels(trace)


def test_loading_what_items_use_leaves_the_gpu_alone(suite) -> None:
    """A process that has asked the driver for a GPU cannot fork processes that use it."""
    script = f"""
import sys
sys.path.insert(0, {str(SUITE)!r})
asked = []
import torch
for name in ("is_available", "device_count", "_lazy_init", "init"):
    setattr(torch.cuda, name, lambda *_, name=name: asked.append(name))
import record, job
assert asked == [], asked
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def dry_run(tmp_path_factory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("dry-run")
    done = subprocess.run(
        [sys.executable, str(SUITE / "record.py"), "--dry-run", "--out", str(folder)],
        capture_output=True, text=True, timeout=600, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for pack in folder.glob("pack-*.tar"):
        with tarfile.open(pack) as file:
            file.extractall(folder, filter="data")
    return done.stdout, folder / "dry-run"


@needs_torch
def test_a_dry_run_records_all_but_what_needs_a_gpu(dry_run) -> None:
    said, folder = dry_run
    assert "needs a GPU: copy_stream\n" in said
    assert "open: copy_stream" in said
    assert "failed" not in said
    recorded = [path.parent for path in folder.glob("*/capture.json")]
    assert len(recorded) >= 35
    for recording in recorded:
        # steps of a millisecond on a machine that does other things
        assert disagreements(recording, close_ms=50) == [], recording.name


@needs_torch
def test_the_operator_table_has_a_time_for_every_operator(dry_run) -> None:
    with (dry_run[1] / "operators" / "operators.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {"mm", "attention forward", "layer_norm", "copy host to device, pinned"} <= {
        row["operator"] for row in rows
    }
    assert all(
        float(row["min_us"]) <= float(row["median_us"]) <= float(row["max_us"]) for row in rows
    )


@needs_torch
def test_every_edge_of_a_case_names_annotations_that_are_in_the_trace(dry_run) -> None:
    for truth in dry_run[1].glob("streams-*/truth/edges.json"):
        document = json.loads(truth.read_text("utf-8"))
        with gzip.open(truth.parents[1] / "rank0.json.gz", "rt", encoding="utf-8") as stream:
            events = json.load(stream)["traceEvents"]
        names = [event["name"] for event in events if event.get("cat") == "user_annotation"]
        assert document["of_each_step"], truth
        for edge in document["of_each_step"]:
            assert names.count(edge["wait"]) == 3  # once in each profiled step
            assert not edge["record"] or names.count(edge["record"]) == 3
            assert edge["awaited"] in document["streams"]


@needs_torch
def test_a_fake_world_has_its_layout_in_the_recording(dry_run) -> None:
    capture = json.loads((dry_run[1] / "gpt3-15b-tp8" / "capture.json").read_text("utf-8"))
    assert (capture["fake_world"], capture["world_size"]) == (64, 64)
    assert capture["layout"] == {"pp": 4, "dp": 2, "tp": 8}


@needs_torch
def test_a_rank_without_neighbours_trains_on_numbers(tmp_path) -> None:
    """What a fake world delivers is fresh memory, and weights would be NaN before long."""
    script = f"""
import sys
sys.path.insert(0, {str(SUITE.parent)!r})
import job, torch
from lumos.capture import fake_world
options = job.gpt.parse_arguments(
    "--layers 2 --pp 2 --micro-batches 2 --hidden 32 --heads 2 --sequence 8".split()
)
class Fresh(job.gpt.Trainer):
    def exchange(self, *arguments, **settings):
        received = super().exchange(*arguments, **settings)
        return None if received is None else received.fill_(float("nan"))
job.LonelyTrainer.__bases__ = (Fresh,)
with fake_world(2), job.connected(options) as layout:
    trainer = job.LonelyTrainer(options, layout)
    for _ in range(3):
        trainer.step()
    assert all(weight.isfinite().all() for weight in trainer.model.parameters())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
