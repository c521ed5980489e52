"""`lumos capture`: the command keeps its output and exit code, and what came of it is told."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from lumos.capture.advice import FRAMEWORKS
from tests.capture.torch_jobs import ROOT, files_in, needs_torch, recorded
from tests.cli.run import Cli, Outcome, start

GPT = ROOT / "examples" / "gpt.py"
SMALL = [
    *("--layers", "2", "--hidden", "32", "--heads", "4"),
    *("--sequence", "16", "--warm-up-steps", "0"),
]
SHORT = ["--skip", "1", "--timed", "3", "--warm-up", "1", "--steps", "2"]


def lumos(*arguments: object) -> Outcome:
    """A process of its own, for what the command writes goes past this one."""
    process = start(
        *arguments, environment={"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    )
    out, err = process.communicate(timeout=120)
    ours = [line for line in err.splitlines(keepends=True) if line.startswith("lumos:")]
    return Outcome(process.returncode, out, "".join(ours))


def script(folder: Path, text: str) -> list[str]:
    path = folder / "train.py"
    path.write_text(text)
    return [sys.executable, str(path)]


# --- what is wrong with a command is told before anything starts


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no command to record"),
        (["--fake-rank", "1", "--", "x"], "--fake-rank needs --fake-world"),
        (["--fake-world", "0", "--", "x"], "give a number from 1 up"),
        (["--fake-world", "4", "--fake-rank", "4", "--", "x"], "give one from 0 to 3"),
        (["--fake-world", "6", "--layout", "tp=4", "--", "x"], "6 ranks cannot be divided by the layout's 4 (tp 4)"),
        (["--fake-world", "8", "--layout", "dp=2,tp=2", "--", "x"], "give --fake-world 4"),
        (["--fake-world", "8", "--", "torchrun", "x.py"], "give the script itself"),
        (["--fake-world", "8", "--", "python", "-m", "torch.distributed.run", "x.py"], "give the script itself"),
        (["--layout", "dp:2", "--", "x"], "dp=2,tp=4"),
        (["--layout", "dp=2,dp=3", "--", "x"], "each kind of parallelism once"),
        (["--layout", "dp=0", "--", "x"], "dp=2,tp=4"),
        (["--steps", "0", "--", "x"], "--steps 0: give a whole number from 1 up"),
        (["--warm-up", "-1", "--", "x"], "--warm-up -1: give a whole number from 0 up"),
        (["--fake-world", "6", "--layout", "qq=2", "--", "x"], "called 'qq'; they are called dp, fsdp, tp, pp, cp, ep"),
        (["--", "no-such-program"], "no-such-program: cannot be started (No such file or directory)"),
        (["--advice", "fortran"], "no advice for 'fortran'; there is some for pytorch, torchtitan"),
    ],
)  # fmt: skip
def test_a_wrong_command_is_one_line_and_exit_code_2(
    arguments: list[str], words: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = cli("capture", *arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert err.startswith("lumos: ")
    assert err.count("\n") == 1


def test_a_place_that_cannot_be_written_is_told_before_the_training_starts(
    cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    started = script(tmp_path, f"open({str(tmp_path / 'started')!r}, 'w')")
    for out in (tmp_path / "file", tmp_path / "file" / "deeper"):
        code, _, err = cli("capture", "--out", out, "--", *started)
        assert code == 2
        assert "cannot be written" in err
        assert "give another --out" in err
    assert not (tmp_path / "started").exists()


def test_traces_of_others_are_in_the_way_before_the_training_starts(
    cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / "traces").mkdir()
    (tmp_path / "traces" / "rank0.json.gz").write_text("mine")
    started = script(tmp_path, f"open({str(tmp_path / 'started')!r}, 'w')")
    code, out, err = cli("capture", "--out", tmp_path / "traces", "--", *started)
    assert (code, out) == (2, "")
    assert err == (
        f"lumos: {tmp_path / 'traces'}: holds rank0.json.gz, which no recording of lumos in it wrote: "
        "give another --out, or --overwrite to lose it\n"
    )
    assert not (tmp_path / "started").exists()
    assert (tmp_path / "traces" / "rank0.json.gz").read_text() == "mine"
    assert lumos("capture", "--overwrite", "--out", tmp_path / "traces", "--", *started).code == 0
    assert (tmp_path / "started").exists()


def test_what_the_layout_leaves_over_is_data_parallel(cli: Cli, tmp_path: Path) -> None:
    told = script(tmp_path, "import os; print(os.environ['LUMOS_CAPTURE'])")
    arguments = ["--out", tmp_path, "--fake-world", "16", "--layout", "tp=2,pp=4"]
    order = json.loads(lumos("capture", *arguments, "--", *told).out)
    assert order["layout"] == {"dp": 2, "tp": 2, "pp": 4}
    assert (order["fake_world"], order["fake_rank"]) == (16, 0)


# --- the command's own affairs


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("pass", 0),
        ("raise SystemExit(7)", 7),
        ("raise ValueError", 1),
        ("import os; os.kill(os.getpid(), 9)", 137),
    ],
)
def test_the_exit_code_is_the_command_s(text: str, code: int, tmp_path: Path) -> None:
    done = lumos(
        "capture", "--out", tmp_path, "--", *script(tmp_path, f"print('hi', flush=True)\n{text}")
    )
    assert (done.code, done.out) == (code, "hi\n")
    assert len(done.err.splitlines()) == 1
    why = f"ended with exit code {code}" if code else "no Python in it imported torch"
    assert why in done.err


def test_a_signal_reaches_the_command_and_its_last_word_counts(tmp_path: Path) -> None:
    text = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
print("ready", flush=True)
time.sleep(60)
"""
    process = start("capture", "--out", tmp_path / "out", "--", *script(tmp_path, text))
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    started = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 3
    assert time.monotonic() - started < 30


def test_a_torch_that_is_too_old_is_told_and_the_training_goes_on(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("__version__ = '1.13.1'\n")
    done = lumos(
        "capture",
        "--out",
        tmp_path / "out",
        "--",
        *script(tmp_path, "import torch; print('trained')"),
    )
    assert (done.code, done.out) == (0, "trained\n")
    assert done.err.splitlines()[0] == (
        "lumos: nothing is recorded: lumos.capture needs PyTorch 2.4 or newer, this is 1.13.1: update it"
    )


# --- advice


def test_advice_is_python_for_every_framework(cli: Cli) -> None:
    everything = cli("capture", "--advice").out
    for one in FRAMEWORKS:
        alone = cli("capture", "--advice", one.name).out
        assert alone in everything
        assert "capture.step()" in alone
        compile(one.text, one.name, "exec")
    assert cli("capture", "--advice", "HF").out == cli("capture", "--advice", "huggingface").out


# --- with PyTorch


@needs_torch
def test_a_job_under_torchrun_is_recorded_and_can_be_replayed(tmp_path: Path) -> None:
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = lumos(
        "capture", "--out", tmp_path / "out", *SHORT, "--model", "small", "--batch", "2 x 16",
        "--", sys.executable, *launch, GPT, "--dp", "2", "--steps", "8", *SMALL,
    )  # fmt: skip
    assert done.code == 0
    assert done.out.startswith("loss ")
    first, second, last = done.err.splitlines()
    assert first == (
        f"lumos: recorded 2 steps of 2 of 2 ranks in {tmp_path / 'out'}; a step ends with AdamW.step()"
    )
    assert second.startswith("lumos: a step takes ")
    assert last == f"lumos: next: lumos replay {tmp_path / 'out'}"
    notes = recorded(tmp_path / "out")
    assert (notes["model"], notes["batch"], notes["world_size"]) == ("small", "2 x 16", 2)
    replayed = json.loads(lumos("replay", tmp_path / "out", "--json").out)
    slowest = max(rank["unprofiled"]["median_ms"] for rank in notes["ranks"])
    assert [step["unprofiled_ms"] for step in replayed["steps"]] == 2 * [
        pytest.approx(slowest, abs=1e-3)
    ]


@needs_torch
def test_a_rank_of_a_fake_world_is_recorded(tmp_path: Path) -> None:
    done = lumos(
        "capture", "--out", tmp_path / "out", *SHORT, "--fake-world", "8", "--fake-rank", "3",
        "--", sys.executable, GPT, "--dp", "4", "--tp", "2", "--steps", "8", *SMALL,
    )  # fmt: skip
    assert done.code == 0
    assert "recorded 2 steps of rank 3 of a fake world of 8" in done.err
    assert files_in(tmp_path / "out") == {"capture.json", "rank3.json.gz"}
    assert "fake world: communication moved nothing" in lumos("inspect", tmp_path / "out").out


@needs_torch
def test_traces_of_another_run_in_the_folder_are_told(tmp_path: Path) -> None:
    for name in ("old.json.gz", "rank7.json", "notes.txt"):
        (tmp_path / name).touch()
    done = lumos(
        "capture", "--out", tmp_path, *SHORT, "--", sys.executable, GPT, *SMALL, "--steps", "8"
    )
    assert (
        f"lumos: {tmp_path} also holds old.json.gz, rank7.json, which this recording did not "
        "write: move what is of another run away"
    ) in done.err.splitlines()


@needs_torch
def test_a_layout_of_another_number_of_ranks_is_told_and_left_out(tmp_path: Path) -> None:
    done = lumos(
        "capture", "--out", tmp_path, *SHORT, "--layout", "tp=2,ep=4", "--", sys.executable, GPT,
        *SMALL, "--steps", "8",
    )  # fmt: skip
    assert done.err.splitlines()[0] == (
        "lumos: rank 0: the layout tp 2 x ep 4 is of 2 ranks, the job has 1: it is left out of "
        "capture.json; give every degree"
    )
    assert recorded(tmp_path)["layout"] is None


@needs_torch
def test_one_recorded_step_is_one_step(tmp_path: Path) -> None:
    plan = ["--skip", "0", "--timed", "0", "--warm-up", "0", "--steps", "1"]
    command = [sys.executable, GPT, *SMALL, "--steps", "4"]
    done = lumos("capture", "--out", tmp_path, *plan, "--", *command)
    assert "recorded 1 step of 1 of 1 rank in" in done.err
    assert 'findings": []' in lumos("replay", "--json", tmp_path).out.replace("\n", "")


@needs_torch
def test_a_training_that_ends_early_is_told_and_what_there_is_is_marked(tmp_path: Path) -> None:
    arguments = ["capture", "--out", tmp_path / "out", *SHORT, "--", sys.executable, GPT, *SMALL]
    done = lumos(*arguments, "--steps", "3")
    assert done.code == 0
    assert done.err == (
        "lumos: rank 0: no trace: the training ended after 3 steps; "
        "a recording takes 7 = 1 skipped + 3 timed + 1 warm-up + 2 profiled\n"
    )
    assert files_in(tmp_path / "out") == {"capture.json"}
    replayed = lumos("replay", tmp_path / "out")
    assert (replayed.code, replayed.err) == (
        3,
        f"lumos: {tmp_path / 'out'}: no trace beside its capture.json, which says why; record again\n",
    )


@needs_torch
def test_a_run_that_comes_to_nothing_leaves_an_earlier_recording_as_it_was(tmp_path: Path) -> None:
    arguments = ["capture", "--out", tmp_path / "out", *SHORT, "--", sys.executable, GPT, *SMALL]
    assert lumos(*arguments, "--steps", "8").code == 0
    before = {name: (tmp_path / "out" / name).read_bytes() for name in files_in(tmp_path / "out")}
    assert lumos(*arguments, "--steps", "3").err.splitlines() == [
        "lumos: rank 0: no trace: the training ended after 3 steps; "
        "a recording takes 7 = 1 skipped + 3 timed + 1 warm-up + 2 profiled",
        f"lumos: the earlier recording in {tmp_path / 'out'} is as it was",
    ]
    assert {name: (tmp_path / "out" / name).read_bytes() for name in before} == before
    assert lumos(*arguments, "--steps", "8").code == 0
    assert files_in(tmp_path / "out") == {"capture.json", "rank0.json.gz"}
    assert (tmp_path / "out" / "capture.json").read_bytes() != before["capture.json"]


@needs_torch
def test_the_example_says_that_there_is_no_gpu(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = start("capture", "--out", tmp_path, "--", sys.executable, GPT, "--device", "cuda")
    _, err = done.communicate(timeout=60)
    assert done.returncode == 2
    assert "--device cuda: PyTorch sees no NVIDIA GPU here" in err
