"""The command line as a whole: what it loads, what it lists, what it says on which stream."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

from lumos.cli import replay as replay_verb
from lumos.cli.commands import COMMANDS
from lumos.graph.execution import DROPPABLE
from tests.cli.conftest import event, small_trace, write
from tests.cli.run import Cli

HEAVY = ("numpy", "numba", "polars", "msgspec", "isal", "rich")


def modules_after(code: str) -> set[str]:
    """Modules that a fresh interpreter has loaded behind `code`."""
    told = f"{code}\nimport sys; print('\\n'.join(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stderr.split()}


def test_help_loads_nothing_heavy() -> None:
    call = "import sys; sys.argv = ['lumos', {}]\nfrom lumos.cli import main\ntry: main()\nexcept SystemExit: pass"
    for arguments in ("'--help'", "'--version'", "'replay', '--help'", "'inspect', '--help'"):
        assert not modules_after(call.format(arguments)).intersection(HEAVY), arguments


def test_importing_lumos_loads_nothing_heavy() -> None:
    assert not modules_after("import lumos; lumos.__all__").intersection((*HEAVY, "typer"))


def test_every_verb_is_where_the_list_says_and_is_in_the_help(cli: Cli) -> None:
    listed = cli("--help").out
    for verb in COMMANDS:
        module, _, function = verb.function.partition(":")
        assert inspect.isfunction(getattr(importlib.import_module(module), function))
        assert verb.name in listed
        help_text = cli(verb.name, "--help")
        assert help_text.code == 0
        # capture hands its output to the command it runs
        assert ("--json" in help_text.out) == (verb.name != "capture")


def test_the_help_names_all_rules_that_can_be_dropped() -> None:
    assert replay_verb.RULES_HELP.split(", ") == [rule.word for rule in DROPPABLE]


def test_an_ablation_uses_no_unexplained_delay(cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path / "rank0.json", small_trace())
    document = json.loads(cli("replay", path, "--json", "--drop", "launch").out)
    for step in document["steps"]:
        assert [rank["with_unexplained_error_pct"] for rank in step["ranks"]] == [None]
    assert "without launch" in cli("replay", path, "--drop", "launch").out


def test_steps_are_replayed_in_the_order_asked_for_and_once(cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path / "rank0.json", small_trace())
    asked = ["--step", "2", "--step", "0", "--step", "ProfilerStep#2"]
    document = json.loads(cli("replay", path, "--json", *asked).out)
    assert [step["step"] for step in document["steps"]] == ["ProfilerStep#2", "ProfilerStep#0"]


def test_whole_is_one_entry(cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path / "rank0.json", small_trace())
    document = json.loads(cli("replay", path, "--json", "--whole").out)
    assert [step["step"] for step in document["steps"]] == ["whole"]
    assert document["predictions"] == []


def test_predictions_name_their_source(cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path / "rank0.json", small_trace())
    arguments = ["--from-step", "0", "--from-step", "1"]
    predictions = json.loads(cli("replay", path, "--json", *arguments).out)["predictions"]
    pairs = [(one["from_step"][-1], one["step"][-1]) for one in predictions]
    assert pairs == [("0", "1"), ("0", "2"), ("1", "0"), ("1", "2")]
    assert predictions[0]["period_ms"]["measured"] == 1.0
    assert predictions[0]["period_ms"]["naive_error_pct"] is None, "a first step has no period"
    assert predictions[2]["period_ms"]["measured"] is None


def test_a_timeline_is_written_for_each_step(cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path / "rank0.json", small_trace())
    code, out, err = cli("replay", path, "-o", tmp_path / "out")
    assert (code, err) == (0, "")
    files = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert files == [f"ProfilerStep-{number}.json.gz" for number in range(3)]
    assert all(file in out for file in files)


def test_no_cache_gives_the_same_answer(cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path / "rank0.json", small_trace())
    first = cli("replay", path, "--json")
    assert cli("replay", path, "--json", "--no-cache") == cli("replay", path, "--json") == first


@pytest.mark.parametrize("verb", ["cost", "stragglers", "communication", "report", "breakdown"])
def test_the_begin_of_a_step_behind_the_last_one_holds_nothing_and_harms_nothing(
    cli: Cli, tmp_path: Path, verb: str
) -> None:
    document = json.loads(small_trace())
    document["traceEvents"] = [one for one in document["traceEvents"] if one["ts"] < 1000]
    document["traceEvents"].append(event("ProfilerStep#1", 1000, 1, cat="user_annotation"))
    path = write(tmp_path / "rank0.json", json.dumps(document))
    answer = json.loads(cli(verb, path, "--json").out)
    looked_at = answer["step"] if verb == "report" else answer["steps"][0]["step"]
    assert looked_at == "ProfilerStep#0"
    assert cli(verb, path, "--json", "--step", "1").code == 0


@pytest.mark.parametrize("verb", [verb.name for verb in COMMANDS if verb.name != "capture"])
def test_usage_says_once_that_paths_can_be_several(cli: Cli, verb: str) -> None:
    usage = cli(verb, "--help").out.splitlines()[0]
    assert usage.count("...") == 1


def test_the_command_line_is_a_module_too() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "lumos", "--version"], capture_output=True, text=True, check=True
    )
    assert found.stdout.startswith("lumos ")


@pytest.mark.parametrize("verb", ["capture", "replay"])
def test_a_package_that_is_missing_is_named_with_how_to_install_it(verb: str) -> None:
    code = f"""
import sys
sys.modules["typer"] = None
sys.argv = ["lumos", {verb!r}]
from lumos.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "lumos: the package typer is not installed in this Python: pip install . in the checkout of "
        "lumos (lumos.capture alone, inside of a training script, needs PyTorch only)\n"
    )
