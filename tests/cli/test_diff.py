"""`lumos diff`: two jobs, two steps or two ranks in; parts that add up out."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli.conftest import RECORDINGS
from tests.cli.run import Cli
from tests.cli.test_schemas import strict, validator

BASE, DELAYED = RECORDINGS / "gpt-dp2", RECORDINGS / "gpt-dp2-delayed"


def document(cli: Cli, *arguments: Any) -> dict[str, Any]:
    code, out, err = cli("diff", "--json", *arguments)
    assert (code, err) == (0, "")
    found = strict(out)
    validator("diff").validate(found)
    assert sum(part["change_ms"] for part in found["parts"]) == pytest.approx(
        found["change_ms"], abs=1e-4
    )
    return found


def test_two_jobs_are_compared_by_their_steps_of_median_length(cli: Cli) -> None:
    found = document(cli, BASE, DELAYED)
    assert found["first"]["label"].startswith("gpt-dp2 ProfilerStep#")
    assert found["second"]["label"].startswith("gpt-dp2-delayed ProfilerStep#")
    assert found["parts"][0]["label"] == "gaps"


def test_two_steps_of_one_job_go_by_their_names(cli: Cli) -> None:
    found = document(cli, BASE, "--step", "2", "--step", "4")
    assert [found[side]["label"] for side in ("first", "second")] == [
        "ProfilerStep#2",
        "ProfilerStep#4",
    ]


def test_two_ranks_of_one_step(cli: Cli) -> None:
    found = document(cli, DELAYED, "--rank", "0", "--rank", "1")
    assert [found[side]["label"] for side in ("first", "second")] == ["rank 0", "rank 1"]
    waiting = [p for p in found["parts"] if p["kind"] == "waiting_for_peers"]
    assert waiting[0]["change_ms"] < 0


def test_the_report_is_the_same_at_every_call(cli: Cli) -> None:
    first = cli("diff", BASE, DELAYED, "--top", "3")
    assert first == cli("diff", BASE, DELAYED, "--top", "3")
    assert first.code == 0
    assert "more parts" in first.out
    assert all(len(line) <= 80 for line in first.out.splitlines())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([BASE], "both sides of the diff are the same"),
        ([BASE, DELAYED, BASE], "3 jobs were given"),
        ([BASE, "--step", "2", "--step", "3", "--step", "4"], "3 --step were given"),
        ([BASE, "--rank", "0", "--rank", "9"], "rank 9 was not traced"),
        ([BASE, "--step", "2", "--step", "77"], "no step is called '77'"),
        ([BASE, RECORDINGS / "gpt-dp2-tp2"], "compare traces of the same ranks"),
        ([BASE, DELAYED, "--fail-if", "error>2%"], "one of change, slower, not_replayed"),
    ],
)
def test_what_cannot_be_compared_is_told_in_one_line(
    cli: Cli, arguments: list[Any], words: str
) -> None:
    code, out, err = cli("diff", *arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert words in err


def test_a_slower_run_trips_the_gate_and_a_faster_one_does_not(cli: Cli) -> None:
    assert cli("diff", BASE, DELAYED, "--fail-if", "slower>5%").code == 4
    assert cli("diff", DELAYED, BASE, "--fail-if", "slower>5%").code == 0
    assert cli("diff", DELAYED, BASE, "--fail-if", "change>5%").code == 4
    assert cli("diff", BASE, DELAYED, "--fail-if", "not_replayed>5%").code == 0
