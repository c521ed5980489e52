"""The diff as text, at 80 and 160 columns."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lumos.analysis.diff import Diff, Part
from lumos.analysis.parts import Kind
from lumos.report.text.diff import diff_report, verdict
from tests.report.test_text import compare, text_of

MS = 1_000_000
ROWS = [
    (Kind.COMPUTE, "gemm", 3, 9.5, 9.1, 11.2, (40, 40), (50, 61), (0, 0)),
    (Kind.HOST, "gaps", None, -4.25, -7.75, 0.0, (10, 12), (30, 20), (3, 2)),
    (Kind.TRANSFER, "all_reduce", None, 3.0, 3.0, 3.0, (8, 8), (20, 23), (5, 9)),
    (Kind.STRUCTURE, "program structure", None, 1.5, 0.5, 2.5, (0, 4), (0, 2), (0, 0)),
    (Kind.COMPUTE, "a class with [red]a long[/red]\nname", 11, 0.4, 0.3, 0.5, (1, 1), (1, 2), (0, 0)),
    (Kind.NOT_REPLAYED, "not reproduced by the replay", None, -0.15, -0.15, -0.15, (0, 0), (0, 0), (0, 0)),
]  # fmt: skip


def scaled(pair: tuple[float, float]) -> tuple[int, int]:
    return int(pair[0] * MS), int(pair[1] * MS)


DIFF = Diff(
    "before", "after", 100 * MS, 110 * MS, 100 * MS, 110 * MS + MS * 15 // 100,
    tuple(
        Part(kind, label, layer, tasks, scaled(own), scaled(waiting), *(int(MS * t) for t in times))
        for kind, label, layer, *times, tasks, own, waiting in ROWS
    ),
    98.76, 64,
)  # fmt: skip


@pytest.mark.parametrize("width", [80, 160])
def test_the_diff_reads_as_it_did(width: int) -> None:
    text = text_of(diff_report(DIFF), width)
    compare(f"diff-{width}.txt", text)
    assert all(len(line) <= width for line in text.splitlines())


def test_parts_beyond_the_top_are_one_line_with_their_sum() -> None:
    text = text_of(diff_report(DIFF, top=2), 80)
    assert "4 more parts" in text
    assert "+4.75" in text


def test_equal_runs_have_a_verdict_too() -> None:
    same = Diff("before", "after", 5 * MS, 5 * MS, 5 * MS, 5 * MS, (), 100.0, 1)
    assert verdict(same) == "after is 0.00 ms longer (+0.0 %) than before."
    text_of(diff_report(same), 80)


def test_what_is_rounded_to_nothing_has_no_sign() -> None:
    tiny = [replace(part, change_ns=-3, lowest_ns=-6000, highest_ns=-4) for part in DIFF.parts]
    text = text_of(diff_report(replace(DIFF, parts=tuple(tiny))), 80)
    assert "-0.00" not in text
    assert "-0.01..+0.00" in text
