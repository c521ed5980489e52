"""`lumos report`: its gates, where it writes, operation-level traces."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import DATA, RECORDINGS
from tests.cli.run import Cli

DELAYED = RECORDINGS / "gpt-dp2-delayed"
PUBLISHED = DATA.parent / "straggler" / "trace-ST.parquet"


def test_a_rank_that_sleeps_leads_the_page_and_trips_its_gate(cli: Cli, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    done = cli(
        "report", DELAYED, "-o", page, "--fail-if", "straggler>10%", "--fail-if", "error>50%"
    )
    assert done.code == 4
    assert "straggler of ProfilerStep#2" in done.err
    assert done.out.startswith("Rank 1's host stalls cost every rank")
    assert page.read_text("utf-8").startswith("<!doctype html>"), "the gate comes behind the page"


def test_a_limit_that_costs_less_trips_nothing(cli: Cli) -> None:
    assert cli("report", DELAYED, "--json", "--fail-if", "straggler>60%").code == 0


def test_a_figure_that_is_none_is_named_with_those_there_are(cli: Cli) -> None:
    done = cli("report", DELAYED, "--json", "--fail-if", "speed>1%")
    assert (done.code, done.out) == (2, "")
    assert "straggler" in done.err


def test_a_folder_is_no_place_for_the_page(cli: Cli, tmp_path: Path) -> None:
    done = cli("report", DELAYED, "-o", tmp_path)
    assert done.code == 2
    assert str(tmp_path) in done.err.splitlines()[-1]


@pytest.mark.skipif(not PUBLISHED.exists(), reason=f"{PUBLISHED} is absent")
def test_of_whole_operations_the_slow_stage_is_named(cli: Cli, tmp_path: Path) -> None:
    """The last stage of the published job ST has the loss on top of its layers."""
    document = json.loads(cli("report", PUBLISHED, "--json").out)
    assert document["verdict"][0]["sentence"].startswith("Stage 3 is slower than the others")
    costs = {one["stage"]: one["cost_ms"] for one in document["stragglers"]["steps"][-1]["stages"]}
    assert max(costs, key=lambda stage: costs[stage]) == 3
