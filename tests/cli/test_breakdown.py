"""`lumos breakdown`: parts and causes of steps, its gates, what cannot be asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lumos.cli.breakdown import CAUSES, FIGURES, PARTS
from tests.cli.conftest import RECORDINGS, small_trace, write
from tests.cli.run import Cli
from tests.cli.test_schemas import check, sources

DELAYED = RECORDINGS / "gpt-dp2-delayed"


@pytest.mark.parametrize("path", sources())
def test_documents_keep_to_their_schema_and_parts_add_up(cli: Cli, path: Path) -> None:
    document = check(cli, "breakdown", path)
    replayed = {step["step"]: step for step in check(cli, "replay", path)["steps"]}
    assert [step["step"] for step in document["steps"]] == list(replayed)
    for step in document["steps"]:
        spans = {rank["rank"]: rank for rank in replayed[step["step"]]["ranks"]}
        for rank in step["ranks"]:
            for run in ("measured", "replayed"):
                one = rank[run]
                parts = [one[f"{part}_ms"] for part in PARTS]
                assert sum(parts) == pytest.approx(one["span_ms"], abs=1e-5)
                assert one["span_ms"] == spans[rank["rank"]][f"{run}_ms"]
                assert parts == list(spans[rank["rank"]]["breakdown_ms"][run].values())
                causes = one["other_by_cause_ms"].values()
                assert sum(causes) == pytest.approx(one["other_ms"], abs=1e-5)
        assert (step["mfu_pct"] is None) == (step["mfu_unknown_because"] is not None)


def test_every_figure_of_the_gates_is_in_the_document(cli: Cli) -> None:
    run = check(cli, "breakdown", DELAYED)["steps"][0]["ranks"][0]["measured"]
    assert set(CAUSES) == set(run["other_by_cause_ms"])
    assert {f"{figure}_ms" for figure in FIGURES if figure not in CAUSES} <= set(run)


def test_all_steps_are_looked_at_or_those_that_are_named(cli: Cli) -> None:
    every = check(cli, "breakdown", DELAYED)["steps"]
    assert [step["step"] for step in every] == [f"ProfilerStep#{n}" for n in (2, 3, 4)]
    asked = check(cli, "breakdown", DELAYED, "--step", "4", "--step", "2", "--step", "4")["steps"]
    assert asked == [every[2], every[0]]


def test_the_report_is_the_same_at_every_call_and_holds_at_80_columns(cli: Cli) -> None:
    first = cli("breakdown", DELAYED)
    assert first == cli("breakdown", DELAYED, "--no-cache")
    assert first.code == 0
    assert all(len(line) <= 80 for line in first.out.splitlines())
    for words in ("waiting for peers", "Step by step", "Utilisation of ProfilerStep#2"):
        assert words in first.out
    assert "Rank by rank" in cli("breakdown", DELAYED, "--step", "3").out


@pytest.mark.parametrize(
    ("condition", "code"),
    [
        ("waiting_for_peers>15%", 4), ("waiting_for_peers>60%", 0), ("pipeline_bubble>0%", 0),
        ("other>=0%", 4), ("other>50%", 0), ("data_loading>1%", 0), ("overlapped>10%", 4),
    ],
)  # fmt: skip
def test_gates_are_in_percent_of_a_ranks_span(cli: Cli, condition: str, code: int) -> None:
    outcome = cli("breakdown", DELAYED, "--json", "--fail-if", condition)
    assert outcome.code == code
    assert outcome.out.rstrip().endswith("}")
    assert (condition in outcome.err) == (code == 4)


def test_a_gate_that_trips_names_the_rank_and_its_share(cli: Cli) -> None:
    (step,) = check(cli, "breakdown", DELAYED, "--step", "3")["steps"]
    waits = step["ranks"][0]["measured"]
    share = 100 * waits["waiting_for_peers_ms"] / waits["span_ms"]
    err = cli("breakdown", DELAYED, "--step", "3", "--fail-if", "waiting_for_peers>15%").err
    assert f"ProfilerStep#3, rank 0, is +{share:.2f} %" in err


def test_waiting_of_one_rank_alone_is_unknown_and_trips_nothing(cli: Cli) -> None:
    alone = DELAYED / "rank1.json.gz"
    for one in check(cli, "breakdown", alone)["steps"]:
        assert one["ranks"][0]["measured"]["waiting_for_peers_ms"] is None
    code, out, err = cli("breakdown", alone, "--fail-if", "waiting_for_peers>0%")
    assert code == 0
    assert "Waiting for peers is unknown" in out
    assert "3 of 3 values are unknown" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--step", "77"], "no step is called '77'"),
        (["--fail-if", "idle>2%"], "one of other, exposed_compute"),
    ],
)
def test_what_cannot_be_asked_is_told_in_one_line(
    cli: Cli, arguments: list[Any], words: str
) -> None:
    code, out, err = cli("breakdown", DELAYED, *arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert words in err


def test_names_of_a_trace_are_harmless(cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path / "rank0.json", small_trace(name="aten::\x1b[31mmm"))
    outcome = cli("breakdown", path)
    assert outcome.code == 0
    assert "\x1b" not in outcome.out
