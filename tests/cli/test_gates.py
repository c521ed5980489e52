"""`--fail-if`: the worst absolute value over steps and ranks decides."""

from __future__ import annotations

from pathlib import Path

import pytest

from lumos.analysis.prediction import Quantity, StepPrediction
from lumos.cli.gates import check_gates, parse_gates
from lumos.cli.replay import FIGURES, gate_values
from lumos.errors import GateTripped
from tests.cli.conftest import small_trace, write
from tests.cli.run import Cli
from tests.report.records import rank_replay, step_replay

STEPS = [
    step_replay("one", 100, 101, [rank_replay(0, 100, 101), rank_replay(1, 80, 78)]),
    step_replay("two", 100, 97, [rank_replay(0, 100, 97, unexplained_ns=4)]),
]


def check(*texts: str, predictions: list[StepPrediction] | None = None) -> list[str]:
    gates = parse_gates(texts, FIGURES)
    return check_gates(gates, lambda figure: gate_values(figure, STEPS, predictions or []))


def test_the_worst_absolute_error_decides() -> None:
    assert check("error>3%") == []
    with pytest.raises(GateTripped, match=r"error of two.* is -3 %"):
        check("error>=3%")
    with pytest.raises(GateTripped, match=r"error of two"):
        check("error > 2.9")


def test_unexplained_is_in_percent_of_the_span() -> None:
    assert check("unexplained>4%") == []
    with pytest.raises(GateTripped, match=r"two, rank 0.* is \+4 %"):
        check("unexplained>3.9%")


def test_unknown_values_do_not_trip_and_are_mentioned() -> None:
    unknown = StepPrediction("one", "two", Quantity(None, 5, 5), Quantity(5, 5, 5))
    wrong = StepPrediction("one", "three", Quantity(100, 90, 100), Quantity(5, 5, 5))
    (note,) = check("period_error>5%", predictions=[unknown])
    assert "1 of 1 values are unknown" in note
    with pytest.raises(GateTripped, match=r"three predicted from one is -10 %; .*1 of 2 values"):
        check("period_error>5%", predictions=[unknown, wrong])


def test_one_line_tells_all_gates_that_tripped() -> None:
    with pytest.raises(GateTripped, match=r"error>1%.*unexplained>1%"):
        check("error>1%", "unexplained>1%")


def test_a_tripped_gate_exits_with_4_behind_the_whole_output(cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path / "rank0.json", small_trace())
    code, out, err = cli("replay", path, "--json", "--fail-if", "error>=0%")
    assert code == 4
    assert out.rstrip().endswith("}")
    assert err.count("\n") == 1
    assert "error>=0%" in err
    assert cli("replay", path, "--json", "--fail-if", "error>100%").code == 0
