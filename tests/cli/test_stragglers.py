"""`lumos stragglers`: of recorded ranks and of whole operations, its gates, what it cannot read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars
import pytest

import lumos
from lumos.analysis.straggler_causes import Cause
from tests.cli.conftest import DATA, RECORDINGS, small_trace, write
from tests.cli.run import Cli
from tests.cli.test_schemas import check, sources
from tests.operations import Layout, Step, drawn_times, write_steps

DELAYED = RECORDINGS / "gpt-dp2-delayed"
PUBLISHED = DATA.parent / "straggler"


def operations(folder: Path) -> Path:
    """Two steps of a job of 2 x 2 ranks, operation by operation."""
    return write_steps(folder, {n: Step(Layout(), drawn_times(n)) for n in (7, 8)})


@pytest.mark.parametrize("path", sources())
def test_documents_keep_to_their_schema_and_groups_to_their_meaning(cli: Cli, path: Path) -> None:
    document = check(cli, "stragglers", path)
    assert document["steps"]
    compared = sum(document["compared_pct"].values()) > 0
    for step in document["steps"]:
        ranks = [one["rank"] for one in step["ranks"]]
        assert (step["by_stage"] is None) == (step["stages"] is None or not compared)
        assert (step["slowdown"] is None) == (not compared)
        if not compared:
            continue
        assert list(step["by_rank"]) == list(map(str, ranks)) == list(map(str, sorted(ranks)))
        assert all(one["cost_ms"] <= step["without_delay_ms"] for one in step["ranks"])
        if len(ranks) == 1:  # then all else is nothing
            assert step["by_rank"][str(ranks[0])] == step["slowdown"]
            saved = step["without_delay_ms"] - step["without_stragglers_ms"]
            assert step["ranks"][0]["cost_ms"] == pytest.approx(saved, abs=1e-5)


def test_an_operation_level_trace_has_ranks_stages_and_its_types(cli: Cli, tmp_path: Path) -> None:
    path = operations(tmp_path)
    document = check(cli, "stragglers", path)
    assert [step["step"] for step in document["steps"]] == ["7", "8"]
    overall = document["overall"]
    assert list(overall["by_dp_rank"]) == list(overall["by_stage"]) == ["0", "1"]
    types = set(polars.read_parquet(path)["optype"].unique())
    assert types <= set(overall["by_operation"])
    assert "forward-pp-comm" in overall["by_operation"]
    assert document == check(cli, "stragglers", tmp_path)


def test_steps_are_held_against_all_others_whichever_are_shown(cli: Cli, tmp_path: Path) -> None:
    path = operations(tmp_path)
    both = check(cli, "stragglers", path)
    assert check(cli, "stragglers", path, "--step", "8")["steps"] == both["steps"][1:]
    turned = check(cli, "stragglers", path, "--step", "8", "--step", "7", "--step", "8")
    assert turned["steps"] == both["steps"][::-1]
    assert turned["overall"] == both["overall"]


def test_the_rank_that_sleeps_is_named_in_words_and_in_the_python_interface(cli: Cli) -> None:
    code, out, err = cli("stragglers", DELAYED)
    assert (code, err) == (0, "")
    words = " ".join(out.split())
    assert "Rank 1 costs most" in words
    assert "its host stalls." in words
    found = lumos.load(DELAYED).stragglers()
    assert repr(found) in words
    mine = found.frame().filter(by="rank", group="1")
    assert set(mine["cause"]) == {Cause.HOST_STALL.value}
    (document,) = check(cli, "stragglers", DELAYED, "--step", "3")["steps"]
    (row,) = mine.filter(step="ProfilerStep#3").iter_rows(named=True)
    assert document["by_rank"]["1"] == pytest.approx(row["slowdown"])
    assert document["ranks"][1]["cost_ms"] == pytest.approx(row["cost_ms"])


def test_the_report_is_the_same_at_every_call_and_holds_at_80_columns(
    cli: Cli, tmp_path: Path
) -> None:
    for path in (DELAYED, operations(tmp_path)):
        first = cli("stragglers", path, "--top", "1")
        assert first == cli("stragglers", path, "--top", "1", "--no-cache")
        assert first.code == 0
        assert all(len(line) <= 80 for line in first.out.splitlines())
        assert "more with --top" in first.out


@pytest.mark.parametrize(
    ("condition", "code"),
    [
        ("slowdown>20%", 4), ("slowdown>90%", 0), ("cost>10%", 4), ("cost>60%", 0),
        ("delay>25%", 0), ("delay>=0%", 4),
    ],
)  # fmt: skip
def test_gates_are_in_percent(cli: Cli, condition: str, code: int) -> None:
    outcome = cli("stragglers", DELAYED, "--json", "--fail-if", condition)
    assert outcome.code == code
    assert outcome.out.rstrip().endswith("}")
    assert (condition in outcome.err) == (code == 4)


def test_a_cost_that_trips_names_step_and_rank(cli: Cli) -> None:
    err = cli("stragglers", DELAYED, "--step", "3", "--fail-if", "cost>5%").err
    assert err.count("\n") == 1
    assert "ProfilerStep#3, rank 1" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--step", "77"], "no step is called '77'"),
        (["--fail-if", "error>2%"], "one of slowdown, cost, delay"),
    ],
)
def test_what_cannot_be_asked_is_told_in_one_line(
    cli: Cli, arguments: list[Any], words: str
) -> None:
    code, out, err = cli("stragglers", DELAYED, *arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert words in err


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def no_parquet(path: Path) -> None:
    path.write_text("optype,duration\n")


def without_meta(path: Path) -> None:
    (path.parent / "meta-drawn.yaml").unlink()


def a_meta_of_code(path: Path) -> None:
    (path.parent / "meta-drawn.yaml").write_text("!!python/object/apply:os.getcwd []\n")


def another_job_beside_it(path: Path) -> None:
    (path.parent / "trace-more.parquet").write_bytes(path.read_bytes())


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (damaged, "trace-drawn.parquet"),
        (no_parquet, "trace-drawn.parquet"),
        (without_meta, "meta-drawn.yaml"),
        (a_meta_of_code, "meta-drawn.yaml"),
        (another_job_beside_it, "name one"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(
    cli: Cli, tmp_path: Path, harm: Callable[[Path], None], words: str
) -> None:
    harm(operations(tmp_path))
    code, out, err = cli("stragglers", tmp_path)
    assert (code, out) == (3, "")
    assert err.count("\n") == 1
    assert words in err


def test_where_nothing_has_a_like_to_be_held_against_all_is_null(cli: Cli, tmp_path: Path) -> None:
    trace = json.loads(small_trace())
    one_step = {**trace, "traceEvents": trace["traceEvents"][:4]}
    path = write(tmp_path / "rank0.json", json.dumps(one_step))
    document = check(cli, "stragglers", path)
    (step,) = document["steps"]
    assert step["measured_ms"] > 0
    assert step["without_stragglers_ms"] is step["slowdown"] is step["by_rank"] is None
    assert step["by_operation"] is None
    assert {one["cost_ms"] for one in (*step["ranks"], *step["operations"])} == {None}
    assert set(document["overall"].values()) == {None}
    for figure in ("slowdown", "cost"):
        outcome = cli("stragglers", path, "--fail-if", f"{figure}>0%")
        assert (outcome.code, "1 of 1 values are unknown" in outcome.err) == (0, True)
    costs = lumos.load(path).stragglers().frame()
    assert costs["slowdown"].null_count() == costs["cost_ms"].null_count() == len(costs) > 0


def test_names_of_a_trace_are_harmless(cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path / "rank0.json", small_trace(name="aten::\x1b[31mmm"))
    outcome = cli("stragglers", path)
    assert outcome.code == 0
    assert "\x1b" not in outcome.out


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"{PUBLISHED} is absent")
def test_the_published_job_keeps_to_the_schema(cli: Cli) -> None:
    document = check(cli, "stragglers", PUBLISHED / "trace-ST.parquet")
    assert len(document["steps"]) == 32
    assert max(document["overall"]["by_stage"].items(), key=lambda one: one[1])[0] == "3"
