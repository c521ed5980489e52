"""Where the time goes as text, at 80 and 160 columns, and as documents and frames."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from lumos.analysis.breakdown import Breakdown
from lumos.analysis.efficiency import Efficiency, KernelClass
from lumos.analysis.idle import Cause
from lumos.analysis.step_breakdown import RankBreakdown, RankWhere, StepBreakdown
from lumos.catalog.hardware import Precision, find_hardware
from lumos.graph.finding import Finding
from lumos.graph.job import Placement
from lumos.report.documents.breakdown import breakdown_document
from lumos.report.documents.encoding import encode
from lumos.report.frames.breakdown import breakdown_frame, kernels_frame, utilization_frame
from lumos.report.text.breakdown import CAUSE_WORDS, MOST_RANKS, breakdown_report, curve, verdict
from tests.report.test_text import compare, text_of

MS, WINDOWS = 1_000_000, 104
FINDINGS = [Finding("single-rank", "info", "one rank alone")]


def ran(span: float, *, waiting: float | None, bubble: float | None = 0) -> RankBreakdown:
    """A rank that computes for half its span, and is idle for a fifth, most of it for its host."""
    half, fifth = round(span * MS / 2), round(span * MS / 5)
    causes = dict.fromkeys(Cause, 0) | {Cause.UNEXPLAINED: MS, Cause.DATA_LOADING: 2 * MS}
    causes[Cause.HOST_BOUND] = fifth - 3 * MS
    exposed = round(span * MS) - half - fifth - MS
    return RankBreakdown(
        span_ns=round(span * MS),
        parts=Breakdown(half, MS, exposed, fifth),
        idle_ns=causes,
        waiting_for_peers_ns=None if waiting is None else round(waiting * MS),
        bubble_ns=None if bubble is None else round(bubble * MS),
        utilization=np.linspace(0, 1, WINDOWS),
    )


def kernels(name: str, time: float, flops: float, known: float, moved: float) -> KernelClass:
    """A class of kernels of which a share is known."""
    least = round(time * MS * known * 0.3)
    part = round(time * MS * known)
    return KernelClass(
        name, 96, round(time * MS), flops, part if flops else 0, moved, part, least, part
    )


CLASSES = (
    kernels("gemm", 61.2, 7.5e12, 1, 21e9),
    kernels("an [red]odd[/red]\nclass", 12, 2e6, 0.75, 9e9),
    kernels("copy", 1, 0, 1, 2e3),
    KernelClass("optimizer", 8, 40_000, 0, 0, 0, 0, 0, 0),
)
H100 = find_hardware("NVIDIA H100 80GB HBM3")
KNOWN = Efficiency("NVIDIA H100 80GB HBM3", H100, CLASSES, 42.5, "", (Precision.BFLOAT16,))
UNKNOWN = Efficiency("A GPU", None, CLASSES[3:], None, "the peak rates of A GPU are unknown", ())
NO_KERNELS = Efficiency("", None, (), None, "no kernel was recorded", ())


def step(
    name: str, spans: Sequence[float], found: Efficiency = NO_KERNELS, waiting: float | None = None
) -> StepBreakdown:
    bubble = None if waiting is None else 2.5
    ranks = [
        RankWhere(
            rank,
            ran(span, waiting=waiting, bubble=bubble),
            ran(span, waiting=None if waiting is None else waiting + 1, bubble=bubble),
        )
        for rank, span in enumerate(spans)
    ]
    return StepBreakdown(name, tuple(ranks), found)


RANKS = step("ProfilerStep#7", [104, 96.5, 90], KNOWN, waiting=6.25)
ALONE = [step(f"ProfilerStep#{n}", [90 + n], UNKNOWN) for n in range(5)]
HOSTS = [step("step [b]1[/b]", [80, 85], waiting=0), StepBreakdown("nothing", (), NO_KERNELS)]


@pytest.mark.parametrize("width", [80, 160])
def test_breakdowns_read_as_they_did(width: int) -> None:
    reports = (
        breakdown_report([RANKS], FINDINGS),
        breakdown_report(ALONE),
        breakdown_report(HOSTS),
    )
    text = "\n\n".join(text_of(report, width) for report in reports)
    compare(f"breakdown-{width}.txt", text)
    assert all(len(line) <= width for line in text.splitlines())


def test_every_cause_has_its_words() -> None:
    assert set(CAUSE_WORDS) == set(Cause)


def test_the_verdict_names_what_takes_most_each_moment_once() -> None:
    assert verdict([RANKS]).startswith(
        "ProfilerStep#7 takes 96.83 ms a rank, mean of 3: 51 % compute, "
    )
    assert verdict([RANKS]).endswith("MFU 42 % of the bfloat16 peak of the H100 SXM.")
    assert verdict(ALONE).startswith("A step, mean of 5, takes 92.00 ms: ")
    assert "MFU" not in verdict(ALONE)
    assert verdict(HOSTS[1:]) == "nothing takes no time."
    assert text_of(breakdown_report(HOSTS[1:]), 80) == "nothing takes no time.\n"


def test_mfu_of_several_steps_is_weighted_by_their_spans() -> None:
    short = step("short", [50], replace(KNOWN, mfu_pct=60.0))
    long = step("long", [150], replace(KNOWN, mfu_pct=20.0))
    assert "MFU 30 %" in verdict([short, long])


def test_of_many_ranks_those_are_shown_that_compute_least() -> None:
    many = step("step", [50 + n for n in range(MOST_RANKS + 4)], waiting=0)
    text = text_of(breakdown_report([many]), 80)
    assert "4 more ranks compute more of their time." in " ".join(text.split())
    assert "rank 19" in text
    assert "rank 3 " not in text, "the shortest: an equal part of it is a greater share"


def test_a_curve_is_the_mean_of_its_cells() -> None:
    assert curve(np.array([0, 0.5, 1.0])).plain == " ▄█"
    assert curve(np.array([0, 1, 1, 1.0]), 2).plain == "▄█"
    assert curve(np.zeros(0)).plain == ""


def test_a_document_has_milliseconds_and_null_for_unknown() -> None:
    placement = Placement((0, 1), (0, 1), 8, gpu="NVIDIA H100 80GB HBM3")
    document = json.loads(encode(breakdown_document(placement, [RANKS, ALONE[0]], FINDINGS)))
    first, second = document["steps"]
    assert first["ranks"][0]["measured"]["span_ms"] == 104
    assert first["ranks"][0]["measured"]["waiting_for_peers_ms"] == 6.25
    assert first["ranks"][0]["measured"]["other_by_cause_ms"]["data_loading"] == 2
    assert len(first["ranks"][2]["replayed"]["utilization"]) == WINDOWS
    assert first["kernels"][0]["flops_per_s"] == round(7.5e12 / 61.2e-3)
    assert first["kernels"][2]["flops_per_s"] is first["kernels"][3]["bytes_per_s"] is None
    assert first["mfu_formats"] == ["bfloat16"]
    assert second["ranks"][0]["measured"]["waiting_for_peers_ms"] is None
    assert second["mfu_unknown_because"] == "the peak rates of A GPU are unknown"
    assert document["hardware"]["name"] == "H100 SXM"
    assert set(document["hardware"]["sources"]) >= {"memory_bytes_per_s", "link_bytes_per_s"}


def test_frames_have_a_row_a_run_a_class_a_window() -> None:
    frame = breakdown_frame(RANKS)
    assert frame.select("rank", "run").rows()[:2] == [(0, "measured"), (0, "replayed")]
    assert frame["waiting_for_peers_ms"].to_list() == [6.25, 7.25] * 3
    causes = frame.select(f"{cause.value}_ms" for cause in Cause).sum_horizontal()
    assert causes.to_list() == pytest.approx(frame["other_ms"].to_list())
    assert breakdown_frame(ALONE[0])["waiting_for_peers_ms"].null_count() == 2
    rates = kernels_frame(RANKS)
    assert rates["class"].to_list()[::3] == ["gemm", "optimizer"]
    assert rates["roofline_pct"].to_list() == [30, 30, 30, None]
    curves = utilization_frame(RANKS)
    assert curves.height == 2 * 3 * WINDOWS
    assert curves.filter(rank=1, run="measured")["begin_ms"].to_list() == list(range(WINDOWS))
    empty = HOSTS[1]
    assert breakdown_frame(empty).columns == frame.columns
    assert kernels_frame(empty).columns == rates.columns
    assert utilization_frame(empty).columns == curves.columns
