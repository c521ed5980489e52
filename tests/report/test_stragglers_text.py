"""Stragglers as text, at 80 and 160 columns, and as documents and frames."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest

from lumos.analysis.straggler_causes import Cause
from lumos.analysis.stragglers import Group, StepStragglers, Stragglers
from lumos.graph.finding import Finding
from lumos.graph.job import Grain, Placement
from lumos.report.documents.encoding import encode
from lumos.report.documents.stragglers import stragglers_document
from lumos.report.frames.stragglers import stragglers_frame
from lumos.report.text.stragglers import CAUSE_WORDS, stragglers_report, verdict
from tests.report.test_text import compare, text_of

MS = 1_000_000
REAL, EVEN = 120, 100

PLACEMENT = Placement((0, 1, 2, 3), (0, 1, 2, 3), 4)


def group(alone_ms: float, cost_ms: float) -> Group:
    """Alone it makes an even step of 100 ms so long; the real one of 120 ms it costs so much."""
    return Group(int(alone_ms * MS), int((REAL - cost_ms) * MS))


def step(
    name: str,
    ranks: Mapping[int, Group],
    causes: Mapping[int, Cause] | None = None,
    stages: Mapping[int, Group] | None = None,
) -> StepStragglers:
    return StepStragglers(
        step=name,
        measured_ns=126 * MS,
        without_delay_ns=REAL * MS,
        without_stragglers_ns=EVEN * MS,
        ranks=ranks,
        dp_ranks=None,
        stages=stages,
        operations={
            "gemm": group(104, 3.25),
            "reduce_scatter": group(101, -0.001),
            "an [red]odd[/red]\nname that does not end before the line does": group(100, 0),
        },
        causes={**dict.fromkeys(ranks, Cause.NONE), **(causes or {})},
    )


STAGES = {0: group(100.5, -0.25), 1: group(119, 18)}
STALLED = [
    step(
        f"ProfilerStep#{1000 + number}",
        {
            0: group(100 + number % 2, 0.125),
            1: group(100 + 2.5 * number, 2.4 * number),
            2: group(100, -1.5),
            3: group(160 if number == 7 else 109, 0),
        },
        {1: Cause.HOST_STALL} if number else {3: Cause.SLOW_LINK},
        STAGES,
    )
    for number in range(70)
]
MANY = Stragglers(tuple(STALLED[:8]), Grain.KERNEL, 87.65, 2.5)
ONE = Stragglers((step("one", {0: group(REAL, 20)}, {0: Cause.SLOW_COMPUTE}),), Grain.OPERATION, 100, 0)  # fmt: skip
FINDINGS = [Finding("cut-off", "warning", "the file ends in the middle")]


@pytest.mark.parametrize("width", [80, 160])
def test_stragglers_read_as_they_did(width: int) -> None:
    text = text_of(stragglers_report(MANY, FINDINGS), width)
    text += "\n" + "=" * width + "\n" + text_of(stragglers_report(ONE), width)
    compare(f"stragglers-{width}.txt", text)
    assert all(len(line) <= width for line in text.splitlines())


def test_many_ranks_and_steps_are_counted_where_they_are_not_shown() -> None:
    ranks = {rank: group(100 + rank, 0) for rank in range(100)}
    steps = [step(str(number), ranks) for number in range(200)]
    text = text_of(stragglers_report(Stragglers(tuple(steps), Grain.KERNEL, 100, 0), top=3), 80)
    assert "68 ranks that slow it less are not shown" in text
    assert "steps 0 to 199, the worst of each 4" in text
    assert "97 more with --top" in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_a_column_of_several_steps_shows_the_worst() -> None:
    calm, slow = ({0: group(100, 0), 1: group(alone, 0)} for alone in (100, 160))
    steps = [step(str(number), slow if number == 101 else calm) for number in range(120)]
    text = text_of(stragglers_report(Stragglers(tuple(steps), Grain.KERNEL, 100, 0)), 80)
    (line,) = (line for line in text.splitlines() if "█" in line and "more" not in line)
    assert line.split() == ["1", "·" * 50 + "█" + "·" * 9]


def test_the_verdict_names_the_dearest_rank_and_why() -> None:
    assert verdict(ONE).endswith("Rank 0 costs most, 20.00 ms (16.7 %): it computes slowly.")
    text = verdict(MANY)
    assert text.startswith("The mean of 8 steps is 20.0 % slower than it typically would be")
    assert "Rank 1 costs most, 8.40 ms a step (7.0 %): its host stalls." in text
    assert text.endswith("All ranks of stage 1 together cost 18.00 ms a step (15.0 %).")


def test_ranks_that_cost_next_to_nothing_are_not_blamed() -> None:
    cheap = step("2", {0: group(101, 1.1), 1: group(100, -5)}, stages=STAGES)
    found = Stragglers((cheap,), Grain.KERNEL, 100, 0)
    assert "No rank by itself costs 1 %." in verdict(found)
    nobody = Stragglers((replace(cheap, stages=None),), Grain.KERNEL, 100, 0)
    assert verdict(nobody).endswith("No rank by itself costs 1 %.")


def test_a_rank_that_gains_over_all_steps_has_no_cause() -> None:
    """Dear in one step, and the others in the next ones would be slower without it."""
    dear = step("1", {0: group(101, 3), 1: group(100, 0)}, {0: Cause.SLOW_LINK})
    gains = step("2", {0: group(101, -9), 1: group(100, 0)})
    found = Stragglers((dear, gains), Grain.KERNEL, 100, 0)
    assert found.overall().causes == {0: Cause.NONE, 1: Cause.NONE}
    text = " ".join(text_of(stragglers_report(found), 160).split())
    assert "No rank by itself costs 1 % over all 2 steps." in text
    assert "In single steps a rank costs 1 % of the step or more once: slow link." in text


def test_of_one_rank_alone_a_step_is_slow_and_no_rank() -> None:
    calm, slow = (step(name, {0: group(100, 0)}) for name in ("calm", "calm too"))
    slow = replace(slow, step="slow", ranks={0: group(REAL, 60)}, causes={0: Cause.SLOW_COMPUTE})
    found = Stragglers((calm, slow, calm), Grain.KERNEL, 0, 100)
    said = "With one rank only its steps can be compared:"
    assert verdict(found).endswith(
        f"{said} slow costs most, 60.00 ms (50.0 % of it), it computes slowly."
    )
    assert "a rank costs" not in text_of(stragglers_report(found), 160)
    assert verdict(Stragglers((calm, calm), Grain.KERNEL, 0, 100)).endswith("none of 2 costs 1 %.")


def test_without_a_like_nobody_is_judged() -> None:
    alone = Stragglers(ONE.steps, Grain.KERNEL, 0, 0)
    assert "has a like to be held against: record several steps" in verdict(alone)
    assert "typically" not in verdict(alone)
    title = "What each kind of operation costs"
    assert title in text_of(stragglers_report(Stragglers(ONE.steps, Grain.KERNEL, 100, 0)), 80)
    assert title not in text_of(stragglers_report(alone), 80), "all of it would be 0.00"


def test_every_cause_has_its_words() -> None:
    assert set(CAUSE_WORDS) == set(Cause)


def test_a_document_has_milliseconds_and_null_for_unknown() -> None:
    document = json.loads(encode(stragglers_document(PLACEMENT, MANY, FINDINGS)))
    assert list(document) == ["schema", "job", "steps", "overall", "compared_pct", "findings"]
    first, second = document["steps"][:2]
    assert (first["measured_ms"], first["without_delay_ms"]) == (126, 120)
    assert (first["without_stragglers_ms"], first["slowdown"]) == (100, 1.2)
    assert second["by_rank"] == {"0": 1.01, "1": 1.025, "2": 1, "3": 1.09}
    assert second["by_stage"] == {"0": 1.005, "1": 1.19}
    assert second["by_dp_rank"] is document["overall"]["by_dp_rank"] is None
    assert second["by_operation"]["gemm"] == 1.04
    assert second["ranks"][1] == {"rank": 1, "cost_ms": 2.4, "cause": "host_stall"}
    assert second["ranks"][2] == {"rank": 2, "cost_ms": -1.5, "cause": "none"}
    assert second["stages"] == [{"stage": 0, "cost_ms": -0.25}, {"stage": 1, "cost_ms": 18}]
    assert document["overall"]["slowdown"] == 1.2
    nothing = replace(STALLED[0], without_stragglers_ns=0)
    found = Stragglers((nothing,), Grain.KERNEL, 100, 0)
    assert stragglers_document(PLACEMENT, found, [])["overall"]["slowdown"] is None


def test_a_frame_has_a_row_a_step_and_group() -> None:
    frame = stragglers_frame(MANY)
    assert len(frame) == 8 * (4 + 2 + 3)
    second = frame.filter(step="ProfilerStep#1001", by="rank", group="1")
    assert second.rows() == [("ProfilerStep#1001", "rank", "1", 1.025, 2.4, "host_stall")]
    assert frame.filter(by="stage")["cause"].null_count() == 16
