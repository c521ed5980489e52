"""`lumos cost`: parts and bounds of a step, its gates, what cannot be asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lumos.analysis.bounds import Rung
from lumos.cli.cost import RUNGS
from tests.cli.conftest import RECORDINGS, small_trace, write
from tests.cli.run import Cli
from tests.cli.test_schemas import check, sources

DELAYED = RECORDINGS / "gpt-dp2-delayed"


@pytest.mark.parametrize("path", sources())
def test_documents_keep_to_their_schema_and_parts_to_their_order(cli: Cli, path: Path) -> None:
    (step,) = check(cli, "cost", path)["steps"]
    gains = [one["gain_half_ms"] for one in step["costs"]]
    assert gains == sorted(gains, reverse=True)
    assert step["basis"] == "back_to_back"
    assert [one["rung"] for one in step["bounds"]] == [rung.value for rung in Rung]
    together = step["length_ms"]
    for one in step["bounds"]:
        assert (one["alone_ms"] is None) == (one["reason"] is not None)
        if one["alone_ms"] is None:
            assert one["together_ms"] == together
        together = one["together_ms"]


def test_the_step_of_median_span_is_looked_at_or_those_that_are_named(cli: Cli) -> None:
    assert [s["step"] for s in check(cli, "cost", DELAYED)["steps"]] == ["ProfilerStep#2"]
    both = check(cli, "cost", DELAYED, "--step", "4", "--step", "3", "--step", "4")["steps"]
    assert [s["step"] for s in both] == ["ProfilerStep#4", "ProfilerStep#3"]


def test_once_is_the_span_from_the_recorded_start(cli: Cli) -> None:
    (once,) = check(cli, "cost", DELAYED, "--once", "--by", "class")["steps"]
    replayed = check(cli, "replay", DELAYED, "--step", "2")["steps"][0]
    assert once["basis"] == "once"
    assert once["measured_ms"] == replayed["measured_ms"]
    assert once["replay_error_pct"] == replayed["error_pct"]
    assert abs(once["error_pct"]) < 0.1, "with the recorded delays the step is as it was"


def test_parts_are_those_that_are_asked_for(cli: Cli) -> None:
    (step,) = check(cli, "cost", DELAYED, "--by", "rank", "--by", "phase")["steps"]
    assert {one["by"] for one in step["costs"]} == {"rank", "phase"}
    assert {one["label"] for one in step["costs"]} >= {"rank 0", "rank 1", "forward", "backward"}


def test_more_parts_are_tried_where_more_are_to_be_shown(cli: Cli) -> None:
    few, many = (
        check(cli, "cost", DELAYED, "--by", "operator", "--top", top)["steps"][0]
        for top in ("5", "50")
    )
    assert (len(few["costs"]), len(many["costs"])) == (20, 50)
    assert few["left_out"]["operator"] == many["left_out"]["operator"] + 30


def test_the_report_is_the_same_at_every_call_and_holds_at_80_columns(cli: Cli) -> None:
    first = cli("cost", DELAYED, "--top", "3")
    assert first == cli("cost", DELAYED, "--top", "3")
    assert first.code == 0
    assert all(len(line) <= 80 for line in first.out.splitlines())
    for words in ("back to back", "faster class", "rank 1", "perfect overlap"):
        assert words in first.out


@pytest.mark.parametrize(
    ("condition", "code"),
    [("gain>5%", 4), ("gain>95%", 0), ("error>50%", 0), ("overlap>=0%", 4), ("overlap>90%", 0)],
)
def test_gates_are_in_percent_of_the_step(cli: Cli, condition: str, code: int) -> None:
    assert cli("cost", DELAYED, "--fail-if", condition).code == code


def test_a_rung_that_does_not_apply_trips_nothing_and_is_mentioned(cli: Cli) -> None:
    code, _, err = cli("cost", DELAYED, "--fail-if", "bubble>1%")
    assert code == 0
    assert "1 of 1 values are unknown" in err


def test_every_rung_has_a_figure() -> None:
    assert set(RUNGS.values()) == {rung.value for rung in Rung}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--by", "module"], "no parts by 'module'"),
        (["--step", "77"], "no step is called '77'"),
        (["--fail-if", "cost>2%"], "one of gain, error"),
    ],
)
def test_what_cannot_be_asked_is_told_in_one_line(
    cli: Cli, arguments: list[Any], words: str
) -> None:
    code, out, err = cli("cost", DELAYED, *arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert words in err


def test_a_step_of_one_kernel_has_costs_too(cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path / "rank0.json", small_trace(name="aten::\x1b[31mmm"))
    outcome = cli("cost", path)
    assert outcome.code == 0
    assert "\x1b" not in outcome.out
