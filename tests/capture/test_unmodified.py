"""Scripts that know nothing of the recorder, followed from outside as `lumos capture` does."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from lumos.capture.plan import Plan
from lumos.capture.unmodified import STARTUP, Order
from tests.capture.torch_jobs import (
    ROOT,
    Ended,
    files_in,
    needs_torch,
    recorded,
    run,
    run_ranks,
    script,
)

pytestmark = needs_torch
GPT = ROOT / "examples" / "gpt.py"
SHORT = Plan(skip_steps=1, timed_steps=3, warm_up_steps=1, profiled_steps=2)


def environment(folder: Path, **more: Any) -> dict[str, str]:
    """What `lumos capture` adds to the environment of a command."""
    (folder / "notes").mkdir(exist_ok=True)
    plan = more.pop("plan", SHORT)
    return Order(str(folder / "traces"), str(folder / "notes"), asdict(plan), **more).environment()


def follow(folder: Path, text: str, *arguments: Any, **more: Any) -> Ended:
    return run([script(folder, text), *arguments], environment(folder, **more))


def came(folder: Path) -> set[str]:
    return {note.suffix for note in (folder / "notes").iterdir()}


TRAINING = """
import sys
import torch
layer = torch.nn.Linear(32, 32)
optimizer = torch.optim.AdamW(layer.parameters())
def train():
    layer(torch.ones(4, 32)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
"""


def test_the_example_runs_as_always_and_is_recorded(tmp_path: Path) -> None:
    flags = "--dp 2 --layers 2 --hidden 32 --heads 2 --sequence 16 --steps 8 --warm-up-steps 0"
    alone = run_ranks([GPT, *flags.split()], 2)
    followed = run_ranks([GPT, *flags.split()], 2, environment(tmp_path, model="small"))
    assert followed == alone, "same output, same exit codes, nothing of ours on stderr"
    assert files_in(tmp_path / "traces") == {"capture.json", "rank0.json.gz", "rank1.json.gz"}
    notes = recorded(tmp_path / "traces")
    assert [one["status"] for one in notes["ranks"]] == ["complete", "complete"]
    assert (notes["steps"]["end_with"], notes["model"]) == ("AdamW.step()", "small")
    assert {name: notes["layout"][name] for name in ("dp", "tp", "pp")} == {
        "dp": 2,
        "tp": 1,
        "pp": 1,
    }


@pytest.mark.parametrize(
    ("end", "code", "reason"),
    [
        ("sys.exit(7)", 7, "the training ended after 6 steps"),
        ("raise ZeroDivisionError('mine')", 1, "ZeroDivisionError in the training after 6 steps"),
        ("pass", 0, "the training ended after 6 steps"),
    ],
)
def test_the_exit_code_is_the_script_s_and_what_there_is_is_kept(
    tmp_path: Path, end: str, code: int, reason: str
) -> None:
    done = follow(tmp_path, f"{TRAINING}\nfor _ in range(6): train()\n{end}\n")
    assert (done.code, done.lines) == (code, [])
    one = recorded(tmp_path / "traces")["ranks"][0]
    assert (one["status"], one["file"]) == ("partial", "rank0.partial.json.gz")
    assert one["reason"].startswith(f"{reason}; a recording takes 7 = ")


def test_the_first_optimizer_counts_and_is_left_as_it_was(tmp_path: Path) -> None:
    text = f"""{TRAINING}
other = torch.optim.SGD(layer.parameters(), lr=1e-3)
schedule = torch.optim.lr_scheduler.StepLR(optimizer, 10)
wrapped = optimizer.step
for step in range(9):
    train()
    schedule.step()
    other.step()
    other.step()
    if step == 2:
        late = torch.optim.lr_scheduler.StepLR(other, 10)
assert optimizer.step is wrapped
fresh = torch.optim.SGD(layer.parameters(), lr=1e-3)
fresh.step()
assert "step" not in vars(fresh)
"""
    done = follow(tmp_path, text)
    assert (done.code, done.err) == (0, "")
    notes = recorded(tmp_path / "traces")
    assert notes["ranks"][0]["status"] == "complete"
    assert notes["steps"]["end_with"] == "AdamW.step()"


def test_steps_that_a_scaler_leaves_out_do_not_count(tmp_path: Path) -> None:
    text = f"""{TRAINING}
class Scaler:  # as torch.amp.GradScaler does where gradients overflow
    def step(self, number):
        if number % 3:
            optimizer.step()
for number in range(8):
    Scaler().step(number)
"""
    assert follow(tmp_path, text).code == 0
    assert "after 5 steps" in recorded(tmp_path / "traces")["ranks"][0]["reason"]


def test_a_step_that_was_taken_hold_of_before_counts_all_the_same(tmp_path: Path) -> None:
    text = f"{TRAINING}\nstep = optimizer.step\nfor _ in range(8): step()\n"
    assert follow(tmp_path, text).code == 0
    assert recorded(tmp_path / "traces")["ranks"][0]["status"] == "complete"


def test_without_skipped_steps_timing_begins_behind_the_first(tmp_path: Path) -> None:
    done = follow(tmp_path, f"{TRAINING}\nfor _ in range(5): train()\n", plan=Plan(0, 2, 0, 2))
    assert done.code == 0
    one = recorded(tmp_path / "traces")["ranks"][0]
    assert (one["status"], one["unprofiled"]["count"]) == ("complete", 2)


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_processes_that_the_script_starts_are_recorded_too(tmp_path: Path, method: str) -> None:
    text = f"""{TRAINING}
import os
import torch.multiprocessing
def main(rank):
    os.environ.update(RANK=str(rank), WORLD_SIZE="2")
    for _ in range(6 + rank):
        train()
if __name__ == "__main__":
    torch.multiprocessing.start_processes(main, nprocs=2, start_method="{method}")
"""
    done = follow(tmp_path, text)
    assert done.code == 0, done.err
    assert [one["status"] for one in recorded(tmp_path / "traces")["ranks"]] == [
        "partial",
        "complete",
    ]


def test_another_sitecustomize_has_its_turn(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("import sys; sys.customized = True\n")
    variables = environment(tmp_path)
    path = f"{variables['PYTHONPATH']}:{tmp_path / 'site'}"
    text = script(
        tmp_path, "import sys, sitecustomize; print(sys.customized, sitecustomize.__file__)"
    )
    done = run([text], {**variables, "PYTHONPATH": path})
    assert done.out == f"True {tmp_path / 'site' / 'sitecustomize.py'}\n"
    assert came(tmp_path) == set()
    assert run([text], {"PYTHONPATH": f"{STARTUP}:{tmp_path / 'site'}"}).out == done.out


@pytest.mark.parametrize(
    ("text", "notes"),
    [
        ("print('no torch')", set()),
        ("import torch", {".torch"}),
        ("import importlib.util; importlib.util.find_spec('torch'); import torch", {".torch"}),
        (f"{TRAINING}\ntrain()", {".torch", ".step"}),
    ],
)
def test_how_far_a_process_came_is_noted(tmp_path: Path, text: str, notes: set[str]) -> None:
    assert follow(tmp_path, text).code == 0
    assert came(tmp_path) == notes


def test_steps_of_an_engine_that_makes_several_of_one_are_not_counted(tmp_path: Path) -> None:
    (tmp_path / "deepspeed.py").write_text("def step(optimizer): optimizer.step()\n")
    text = f"{TRAINING}\nimport deepspeed\nfor _ in range(9): deepspeed.step(optimizer)\n"
    assert follow(tmp_path, text).code == 0
    assert came(tmp_path) == {".torch", ".deepspeed"}
    assert not (tmp_path / "traces").exists()


OWN_WAYS = {
    "inside of backward()": """
def stepped(_):
    optimizer.step()
for parameter in layer.parameters():
    parameter.register_post_accumulate_grad_hook(stepped)
def train():
    layer(torch.ones(4, 32)).sum().backward()
""",
    "compiled": """
step = torch.compile(optimizer.step, backend="eager")
def train():
    layer(torch.ones(4, 32)).sum().backward()
    step()
""",
}


@pytest.mark.parametrize("way", OWN_WAYS)
def test_steps_that_cannot_be_followed_are_left_alone(tmp_path: Path, way: str) -> None:
    text = f"{TRAINING}{OWN_WAYS[way]}\nfor _ in range(9): train()\nprint('trained')\n"
    alone = run([script(tmp_path, text)])
    done = follow(tmp_path, text)
    assert (done.code, done.out) == (0, "trained\n")
    assert "posix.getpid" not in done.err, "a compiler came upon our word"
    assert len(done.err.splitlines()) == len(alone.err.splitlines())
    assert came(tmp_path) == {".torch"}
    assert not (tmp_path / "traces").exists()


def test_a_failure_of_ours_is_one_line_and_no_more(tmp_path: Path) -> None:
    variables = {**environment(tmp_path), "LUMOS_CAPTURE": "no order"}
    done = run([script(tmp_path, f"{TRAINING}\ntrain()\nprint('trained')")], variables)
    assert (done.code, done.out, len(done.lines)) == (0, "trained\n", 1)
    assert done.lines[0].startswith("lumos: nothing is recorded: ")
