"""Costs and bounds as text, at 80 and 160 columns, and as documents and frames."""

from __future__ import annotations

import json

import pytest

from lumos.analysis.baseline import Basis, Unchanged
from lumos.analysis.bounds import Bound, Rung, StepBounds
from lumos.analysis.cost import Cost, Grouping, StepCosts
from lumos.graph.finding import Finding
from lumos.graph.job import Placement
from lumos.report.documents.cost import cost_document
from lumos.report.documents.encoding import encode
from lumos.report.frames.cost import bounds_frame, cost_frame
from lumos.report.text.cost import RUNG_WORDS, basis_words, cost_report, verdict
from tests.report.test_text import compare, text_of

MS = 1_000_000


def part(by: Grouping, label: str, tasks: int, own: float, *gains: float) -> Cost:
    return Cost(by, label, tasks, int(own * MS), *(int(gain * MS) for gain in gains))


UNCHANGED = Unchanged("ProfilerStep#1012", Basis.BACK_TO_BACK, 200 * MS, 196 * MS, -0.837)
COSTS = StepCosts(
    UNCHANGED,
    (
        part(Grouping.CLASS, "gemm", 1216, 140, 12, 61.5, 90.25),
        part(Grouping.OPERATOR, "aten::_scaled_dot_product_flash_attention_backward", 64, 42, 4, 19, 41),
        part(Grouping.CLASS, "reduce_scatter", 32, 25, 1.5, 7, 7),
        part(Grouping.CLASS, "an [red]odd[/red]\nname", 1, 0.5, 0.05, 0.25, 0.5),
        part(Grouping.RANK, "rank 1", 9, 190, 0, 0, 0),
        part(Grouping.CLASS, "host", 20480, 380, -0.25, -3.5, -11.125),
    ),
    {Grouping.CLASS: 0, Grouping.OPERATOR: 170, Grouping.LAYER: 0, Grouping.RANK: 0},
    True,
)  # fmt: skip
BOUNDS = StepBounds(
    UNCHANGED,
    (
        Bound(Rung.NO_COMMUNICATION_WAIT, 190 * MS, 190 * MS),
        Bound(Rung.PERFECT_OVERLAP, 171 * MS, 165 * MS),
        Bound(Rung.NO_BUBBLE, None, 165 * MS, "no message between ranks was recorded: no pipeline"),
        Bound(Rung.NO_STRAGGLER, 180 * MS, 164_500_000),
        Bound(Rung.FAST_HOST, 201 * MS, 164 * MS),
        Bound(Rung.ROOFLINE, 120 * MS, 90 * MS, unknown_pct=12.5),
    ),
)
ONE_RANK = Bound(Rung.NO_STRAGGLER, None, 5 * MS, "one rank was traced")
ALONE = Unchanged("whole", Basis.BACK_TO_BACK, 5 * MS, None, None)
FOUND = [
    (COSTS, BOUNDS),
    (StepCosts(ALONE, (), {Grouping.CLASS: 0}, True), StepBounds(ALONE, (ONE_RANK,))),
]
FINDINGS = [Finding("single-rank", "info", "one rank alone")]


@pytest.mark.parametrize("width", [80, 160])
def test_costs_read_as_they_did(width: int) -> None:
    text = text_of(cost_report(FOUND, FINDINGS), width)
    compare(f"cost-{width}.txt", text)
    assert all(len(line) <= width for line in text.splitlines())


def test_a_bound_that_does_not_apply_is_told_and_not_drawn() -> None:
    some, none = (text_of(cost_report([one]), 160) for one in FOUND)
    assert not [line for line in some.splitlines() if line.startswith("no bubble  ")]
    assert "no bubble does not apply: no message between ranks" in some
    assert "no straggler does not apply: one rank was traced." in none
    assert "as it is" not in none, "nothing to hold it against"


def test_parts_beyond_the_top_are_counted() -> None:
    text = text_of(cost_report([(COSTS, BOUNDS)], top=1), 80)
    assert "3 more with --top" in text
    assert "170 of less own time were not tried" in text


def test_the_verdict_names_the_class_that_gains_most() -> None:
    assert verdict(COSTS).endswith("What gains most: gemm twice as fast, 61.50 ms (30.8 %).")
    assert verdict(FOUND[1][0]).endswith("No part by itself makes it shorter.")


def test_the_error_stands_beside_the_answer() -> None:
    assert "+2.04 % off: gains below 4.00 ms are within its error" in basis_words(UNCHANGED)
    assert "-0.84 %" in basis_words(UNCHANGED)
    exact = Unchanged("step", Basis.BACK_TO_BACK, 200 * MS - 1, 200 * MS, -1e-5)
    assert "+0.00 % off" in basis_words(exact)
    assert "by rules: +0.00 %" in basis_words(exact), "a rounded nothing has no sign"
    assert "Its measured period is unknown" in basis_words(ALONE)


def test_every_rung_has_its_words() -> None:
    assert set(RUNG_WORDS) == set(Rung)


def test_a_document_has_milliseconds_and_null_for_unknown() -> None:
    document = json.loads(encode(cost_document(Placement((0, 1), (0, 1), 2), FOUND, FINDINGS)))
    first, second = document["steps"]
    assert first["error_pct"] == pytest.approx(100 * 4 / 196)
    assert first["costs"][-1]["gain_free_ms"] == -11.125
    assert first["left_out"] == {"class": 0, "operator": 170, "layer": 0, "rank": 0}
    rungs = {one["rung"]: one for one in first["bounds"]}
    assert rungs["perfect_overlap"]["alone_gain_ms"] == 29
    assert rungs["perfect_overlap"]["together_gain_ms"] == 35
    assert rungs["no_bubble"]["alone_ms"] is rungs["no_bubble"]["alone_gain_ms"] is None
    assert (second["measured_ms"], second["error_pct"]) == (None, None)
    assert document["job"]["gpu"] is None


def test_frames_have_a_row_a_part_and_a_row_a_rung() -> None:
    frame = cost_frame(COSTS)
    assert frame["label"].to_list()[0] == "gemm"
    assert frame["gain_half_ms"].to_list() == [61.5, 19, 7, 0.25, 0, -3.5]
    rungs = bounds_frame(BOUNDS)
    assert rungs["alone_ms"].to_list() == [190, 171, None, 180, 201, 120]
    assert rungs["reason"].null_count() == 5
    empty = FOUND[1]
    assert cost_frame(empty[0]).columns == frame.columns
    assert bounds_frame(empty[1]).columns == rungs.columns
