"""Figures for notebooks show the numbers of the records, and read no markup in names."""

from __future__ import annotations

import sys

import pytest

import lumos
from lumos.analysis.cost import Grouping
from lumos.errors import UsageError
from lumos.report.figures import MOST_PIECES, costs_figure, timeline_figure
from lumos.units import ms
from tests.cli.conftest import RECORDINGS
from tests.page.jobs import hostile

pytest.importorskip("plotly", reason="plotly is not installed: no figures for notebooks")


@pytest.fixture(scope="module")
def traces() -> lumos.JobTraces:
    return lumos.load(RECORDINGS / "gpt-dp2")


def test_the_breakdown_shows_every_part_of_every_rank(traces: lumos.JobTraces) -> None:
    run = traces.replay("3")
    figure = run.breakdown_figure()
    assert [bar.name for bar in figure.data] == [
        "exposed compute", "overlapped", "exposed communication", "other",
    ]  # fmt: skip
    spans = [sum(bar.x[place] for bar in figure.data) for place in range(4)]
    ranks = run.figures.ranks
    expected = [ms(span) for one in ranks for span in (one.measured_ns, one.replayed_ns)]
    assert spans == pytest.approx(expected)


def test_causes_fill_the_span_and_curves_are_those_of_the_record(traces: lumos.JobTraces) -> None:
    run = traces.replay("3")
    found = run.breakdown()
    figure = found.figure()
    spans = [sum(bar.x[place] for bar in figure.data) for place in range(4)]
    ranks = run.figures.ranks
    expected = [ms(span) for one in ranks for span in (one.measured_ns, one.replayed_ns)]
    assert spans == pytest.approx(expected)
    waits = next(bar for bar in figure.data if bar.name == "waiting for peers")
    assert list(waits.x) == pytest.approx(found.frame()["waiting_for_peers_ms"].to_list())
    curves = found.utilization_figure().data
    rows = found.utilization_frame().group_by("run", "begin_ms", maintain_order=True).mean()
    for curve in curves:
        mine = rows.filter(run=curve.name)
        assert list(curve.x) == mine["begin_ms"].to_list()
        assert list(curve.y) == pytest.approx((100 * mine["utilization"]).to_list())


def test_communication_shows_transfer_and_waiting_of_both_runs() -> None:
    found = lumos.load(RECORDINGS / "gpt-dp2-delayed").replay("3").communication()
    bars = {bar.name: list(bar.x) for bar in found.figure().data}
    frame = found.frame()
    assert bars["transfer"] == pytest.approx(frame["transfer_ms"].to_list())
    assert bars["waiting for others"] == pytest.approx(frame["wait_ms"].to_list())


def test_the_heat_map_shows_every_error(traces: lumos.JobTraces) -> None:
    figure = traces.errors_figure()
    steps = [run.figures for run in traces.replays()]
    assert [list(row) for row in figure.data[0].z] == [
        [step.ranks[place].error_pct for step in steps] for place in range(2)
    ]


def test_costs_show_the_gains(traces: lumos.JobTraces) -> None:
    found = traces.cost()
    figure = costs_figure(found.figures, Grouping.CLASS)
    parts = found.figures.of(Grouping.CLASS)
    assert list(figure.data[1].x) == [ms(one.gain_half_ns) for one in parts[:20]]
    assert len(found.figure("operator").data[0].y) == 20
    with pytest.raises(UsageError, match="no parts by 'colour'"):
        found.figure("colour")


def test_stragglers_show_how_much_each_rank_alone_slows_an_even_job() -> None:
    found = lumos.load(RECORDINGS / "gpt-dp2-delayed").stragglers("4", "3")
    (heat,) = found.figure().data
    steps = found.figures.steps
    assert list(heat.x) == [step.step for step in steps] == ["ProfilerStep#4", "ProfilerStep#3"]
    assert list(heat.y) == ["rank 0", "rank 1"]
    for place, shown in enumerate(heat.z):
        factors = [step.slowdown_of(step.ranks[place]) for step in steps]
        assert list(shown) == pytest.approx([100 * (factor - 1) for factor in factors])


def test_the_timeline_shows_the_tasks_of_the_ranks_asked_for(traces: lumos.JobTraces) -> None:
    run = traces.replay("3")
    figure = run.timeline_figure([1])
    labels = {label for bar in figure.data for label in bar.y}
    assert labels
    assert all(label.startswith("rank 1 ") for label in labels)
    total = sum(sum(bar.x) for bar in figure.data if bar.name == "transfer")
    program, rank = run.run.job.programs[1], run.run.replayed.ranks[1]
    moves = program.rows.collective >= 0
    length = rank.end_ns - rank.start_ns - rank.wait_ns
    assert total == pytest.approx(ms(length[moves].sum()))
    pieces = sum(len(bar.x) for bar in run.timeline_figure().data)
    assert pieces <= MOST_PIECES
    with pytest.raises(UsageError, match="rank 7 was not traced"):
        run.timeline_figure([7])


def test_names_are_no_markup() -> None:
    found = hostile()
    texts = timeline_figure("<b>step</b>", found.job, found.measured).to_json()
    assert "<b>" not in texts.replace("<br>", "")
    assert "&lt;script&gt;alert" in texts
    assert "<script" not in texts


def test_without_plotly_the_error_says_what_to_install(
    traces: lumos.JobTraces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(UsageError, match=r"pip install '\.\[notebook\]'"):
        traces.errors_figure()
