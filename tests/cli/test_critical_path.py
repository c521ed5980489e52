"""`lumos critical-path`: traces in; a path as long as the run out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.cli.conftest import RECORDINGS, small_trace, write
from tests.cli.run import Cli
from tests.cli.test_schemas import sources, strict, validator

DELAYED = RECORDINGS / "gpt-dp2-delayed"
SUMS = (
    "by_part", "by_kind", "by_rule", "by_rank", "by_stream", "by_layer", "by_phase", "by_operator",
)  # fmt: skip


def document(cli: Cli, *arguments: Any) -> list[dict[str, Any]]:
    """The steps that the command prints."""
    code, out, err = cli("critical-path", "--json", *arguments)
    assert (code, err) == (0, "")
    found = strict(out)
    schema: Draft202012Validator = validator("critical_path")
    schema.validate(found)
    assert not schema.is_valid({**found, "surprise": 1})
    for step in found["steps"]:
        assert step["length_ms"] == step["makespan_ms"]
        for name in SUMS:
            assert sum(step[name].values()) == pytest.approx(step["makespan_ms"], abs=1e-4), name
    steps = found["steps"]
    assert isinstance(steps, list)
    return steps


@pytest.mark.parametrize("path", sources()[:1] + sources()[2:6])
def test_all_steps_of_every_kind_of_trace(cli: Cli, path: Path) -> None:
    replayed, measured = document(cli, path), document(cli, path, "--measured")
    assert [step["step"] for step in replayed] == [step["step"] for step in measured]
    assert {step["run"] for step in replayed} == {"replayed"}
    assert {step["run"] for step in measured} == {"measured"}
    assert not any(step["unexplained_ms"] for step in replayed)
    spans = strict(cli("replay", "--json", path).out)["steps"]
    for which, steps in (("replayed_ms", replayed), ("measured_ms", measured)):
        assert [step["makespan_ms"] for step in steps] == [step[which] for step in spans]


def test_hops_say_what_they_follow_and_unexplained_ones_how_long(cli: Cli) -> None:
    (step,) = document(cli, DELAYED, "--step", "3", "--measured")
    assert step["step"] == "ProfilerStep#3"
    kinds = {hop["kind"] for hop in step["hops"]}
    assert {"program_order", "launch", "rendezvous", "unexplained"} <= kinds
    told = sum(hop["length_ms"] for hop in step["hops"] if hop["kind"] == "unexplained")
    assert 0 < told <= step["unexplained_ms"] + 1e-6
    starts = [hop["start_ms"] for hop in step["hops"]]
    assert starts == sorted(starts)
    assert step["hops"][0]["start_ms"] == 0
    assert max(step["by_rank"], key=step["by_rank"].get) == "1"


def test_the_report_holds_at_80_columns_and_is_the_same_at_every_call(cli: Cli) -> None:
    first = cli("critical-path", DELAYED, "--top", "4")
    assert first == cli("critical-path", DELAYED, "--top", "4")
    assert first.code == 0
    assert "shorter stretches" in first.out
    assert all(len(line) <= 80 for line in first.out.splitlines())


def test_gates_are_shares_of_the_path(cli: Cli) -> None:
    measured = "critical-path", DELAYED, "--measured"
    assert cli(*measured, "--fail-if", "communication>1%").code == 4
    assert cli(*measured, "--fail-if", "communication>90%", "--fail-if", "error>90%").code == 0
    code, _, err = cli(*measured, "--fail-if", "unexplained>1%", "--fail-if", "host>1%")
    assert code == 4
    assert "unexplained of ProfilerStep#" in err
    assert "host of ProfilerStep#" in err
    assert cli("critical-path", DELAYED, "--fail-if", "unexplained>0%").code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--step", "77"], "no step is called '77'"),
        (["--fail-if", "gain>2%"], "one of unexplained, communication, host"),
    ],
)
def test_user_mistakes_are_told_in_one_line(cli: Cli, arguments: list[str], words: str) -> None:
    code, out, err = cli("critical-path", DELAYED, *arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert words in err


def test_names_from_traces_cannot_steer_the_terminal(cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path / "rank0.json", small_trace(name="aten::\x1b[31m[red]mm"))
    code, out, _ = cli("critical-path", path)
    assert code == 0
    assert "\x1b" not in out
    assert "\\x1b[31m[red]mm" in out
