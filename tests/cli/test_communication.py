"""`lumos communication`: kinds and groups, who came last, its gates, what cannot be asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import RECORDINGS, small_trace, write
from tests.cli.run import Cli
from tests.cli.test_schemas import check, sources

DELAYED = RECORDINGS / "gpt-dp2-delayed"


@pytest.mark.parametrize("path", sources())
def test_documents_keep_to_their_schema_and_times_add_up(cli: Cli, path: Path) -> None:
    (step,) = check(cli, "communication", path)["steps"]
    for run in ("measured", "replayed"):
        times = [one["time_ms"] for one in step[run]]
        assert times == sorted(times, reverse=True)
        for one in step[run]:
            known = (one["transfer_ms"] or 0) + (one["wait_ms"] or 0)
            assert known + one["unmatched_ms"] == pytest.approx(one["time_ms"], abs=1e-5)
            assert one["bandwidth_includes_waiting"] == (one["wait_ms"] is None)
            assert (one["skew_ms"] is None) == (not one["came_last"])
            waited = [late["others_waited_ms"] for late in one["came_last"]]
            assert waited == sorted(waited, reverse=True)
    assert {(one["kind"], str(one["group"])) for one in step["measured"]} == {
        (one["kind"], str(one["group"])) for one in step["replayed"]
    }


def test_the_rank_that_sleeps_came_last_in_every_all_reduce(cli: Cli) -> None:
    (step,) = check(cli, "communication", DELAYED, "--step", "3")["steps"]
    (one,) = step["measured"]
    assert (one["kind"], one["group"]["ranks"]) == ("all_reduce", [0, 1])
    late = one["came_last"][0]
    assert late["rank"] == 1
    assert late["others_waited_ms"] > 0.9 * one["wait_ms"]
    words = " ".join(cli("communication", DELAYED, "--step", "3").out.split())
    assert "They waited most for rank 1" in words


def test_the_step_of_median_span_is_looked_at_or_those_that_are_named(cli: Cli) -> None:
    assert [s["step"] for s in check(cli, "communication", DELAYED)["steps"]] == ["ProfilerStep#2"]
    both = check(cli, "communication", DELAYED, "--step", "4", "--step", "3", "--step", "4")
    assert [s["step"] for s in both["steps"]] == ["ProfilerStep#4", "ProfilerStep#3"]


def test_the_report_is_the_same_at_every_call_and_holds_at_80_columns(cli: Cli) -> None:
    for name in ("gpt-dp2-tp2", "gpt-pp2"):
        first = cli("communication", RECORDINGS / name)
        assert first == cli("communication", RECORDINGS / name, "--no-cache")
        assert first.code == 0
        assert all(len(line) <= 80 for line in first.out.splitlines())
        assert "Who came last" in first.out


@pytest.mark.parametrize(
    ("condition", "code"),
    [
        ("waiting>50%", 4), ("waiting>90%", 0), ("exposed>10%", 4), ("exposed>=100%", 0),
        ("late>90%", 4), ("late>100%", 0),
    ],
)  # fmt: skip
def test_gates_are_shares_of_a_kind_and_group(cli: Cli, condition: str, code: int) -> None:
    outcome = cli("communication", DELAYED, "--json", "--fail-if", condition)
    assert outcome.code == code
    assert outcome.out.rstrip().endswith("}")
    assert (condition in outcome.err) == (code == 4)


def test_a_gate_that_trips_names_kind_and_group(cli: Cli) -> None:
    err = cli("communication", DELAYED, "--fail-if", "late>90%").err
    assert "ProfilerStep#2, all reduce, mesh_dp (2), is +100 %" in err


def test_waiting_of_one_rank_alone_is_unknown_and_trips_nothing(cli: Cli) -> None:
    alone = DELAYED / "rank1.json.gz"
    (step,) = check(cli, "communication", alone)["steps"]
    assert [one["wait_ms"] for one in step["measured"]] == [None]
    code, out, err = cli("communication", alone, "--fail-if", "waiting>0%", "--fail-if", "late>0%")
    assert code == 0
    assert "nothing was matched across ranks" in " ".join(out.split())
    assert err.count("1 of 1 values are unknown") == 2


def test_a_step_without_communication_says_so(cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path / "rank0.json", small_trace(name="aten::\x1b[31mmm"))
    code, out, _ = cli("communication", path, "--step", "1")
    assert code == 0
    assert out.startswith("ProfilerStep#1 does not communicate.")
    assert check(cli, "communication", path)["steps"][0]["measured"] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--step", "77"], "no step is called '77'"),
        (["--fail-if", "skew>2%"], "one of waiting, exposed, late"),
    ],
)
def test_what_cannot_be_asked_is_told_in_one_line(
    cli: Cli, arguments: list[Any], words: str
) -> None:
    code, out, err = cli("communication", DELAYED, *arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert words in err
