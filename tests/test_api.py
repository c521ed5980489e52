"""`lumos.load` and what hangs off it, as used in a notebook."""

from __future__ import annotations

from pathlib import Path

import pytest

import lumos
from lumos.graph.execution import Rule

RECORDINGS = Path(__file__).parents[1] / "recordings"


@pytest.fixture(scope="module")
def traces() -> lumos.JobTraces:
    return lumos.load(RECORDINGS / "gpt-dp2")


def test_all_names_every_public_name_and_no_other() -> None:
    assert lumos.__all__ == sorted(lumos.__all__)
    for name in lumos.__all__:
        assert getattr(lumos, name).__name__ == name
    modules = {"annotations", "TYPE_CHECKING", "Any"}
    public = {name for name, value in vars(lumos).items() if not name.startswith("_")} - modules
    own = {name for name in public if type(vars(lumos)[name]).__name__ != "module"}
    assert own <= set(lumos.__all__)
    with pytest.raises(AttributeError, match="no attribute 'plot'"):
        lumos.plot  # noqa: B018


def test_the_whole_way_takes_few_lines(traces: lumos.JobTraces, tmp_path: Path) -> None:
    run = traces.replay(traces.steps[0])
    assert run.error_pct == run.figures.error_pct
    assert abs(run.error_pct or 0) < 5
    assert traces.replay("2").figures == run.figures
    assert traces.replay().figures.step == "whole"
    assert [one.figures.step for one in traces.replays()] == list(traces.steps)
    assert {one.step for one in traces.predict("2")} == set(traces.steps[1:])
    assert len(traces.graph("2")) >= run.frame().height
    files = traces.export(tmp_path / "timelines")
    assert [file.name for file in files] == [f"ProfilerStep-{n}.json.gz" for n in (2, 3, 4)]
    assert run.export(tmp_path / "one.json") == tmp_path / "one.json"


def test_a_frame_has_one_row_for_each_task_with_its_times(traces: lumos.JobTraces) -> None:
    run = traces.replay("3")
    frame = run.frame()
    assert frame.columns == [
        "rank", "step", "kind", "name", "processor", "on_device", "measured_start_ms",
        "measured_end_ms", "replayed_start_ms", "replayed_end_ms", "own_ms", "wait_ms",
        "unexplained_ms", "phase", "layer", "micro_batch", "work", "operator",
    ]  # fmt: skip
    assert frame.height == sum(len(rank) for rank in run.run.measured.ranks)
    assert set(frame["rank"]) == {0, 1}
    assert set(frame["step"]) == {"ProfilerStep#3"}
    told = frame.drop("phase", "layer", "micro_batch", "work", "operator")
    assert told.null_count().sum_horizontal()[0] == 0
    assert {"forward", "backward", "optimizer"} <= set(frame["phase"].drop_nulls())
    assert set(frame["layer"].drop_nulls()) >= {0, 1}
    assert frame.filter(~frame["on_device"])["work"].null_count() == (~frame["on_device"]).sum()
    tasks = frame.filter(frame["kind"] != "gap")
    span = (tasks["measured_end_ms"].max() or 0) - (tasks["measured_start_ms"].min() or 0)  # type: ignore[operator]
    assert span == pytest.approx(run.figures.measured_ns / 1e6, abs=0.01)
    assert (frame["replayed_end_ms"] >= frame["replayed_start_ms"]).all()


def test_rules_are_dropped_by_name_or_by_value(traces: lumos.JobTraces) -> None:
    by_name = traces.replay("3", drop=["program_order"])
    assert by_name.figures == traces.replay("3", drop=[Rule.PROGRAM_ORDER]).figures
    assert by_name.figures.ranks[0].with_unexplained_error_pct is None
    with pytest.raises(lumos.UsageError, match=r"gravity.*program_order, launch"):
        traces.replay("3", drop=["gravity"])


def test_one_name_goes_without_a_list(traces: lumos.JobTraces) -> None:
    one = traces.replay("2", drop="rendezvous")
    assert one.figures == traces.replay("2", drop=["rendezvous"]).figures
    assert one.figures == traces.replay("2", drop=Rule.RENDEZVOUS).figures
    parts = traces.cost("2", by="layer").frame()
    assert set(parts["by"]) == {"layer"}
    with pytest.raises(lumos.UsageError, match="no rule 'rendevous' can be dropped"):
        traces.replay("2", drop="rendevous")
    with pytest.raises(lumos.UsageError, match="no parts by 'layers'"):
        traces.cost("2", by="layers")


def test_a_wrong_step_or_path_says_what_there_is(traces: lumos.JobTraces) -> None:
    with pytest.raises(lumos.UsageError, match=r"ProfilerStep#2"):
        traces.replay("9")
    with pytest.raises(lumos.UnusableInputError, match="no such file"):
        lumos.load("nowhere.json")


def test_what_a_notebook_shows_is_short_and_tells_the_facts(traces: lumos.JobTraces) -> None:
    shown = repr(traces)
    assert shown.startswith("JobTraces of 2 of 2 ranks")
    for fact in ("3 (ProfilerStep#2, ProfilerStep#3, ProfilerStep#4)", "rank0.json.gz"):
        assert fact in shown
    run = repr(traces.replay("2"))
    assert run.startswith("ProfilerStep#2: measured ")
    assert "rank 1" in run
    assert max(len(shown.splitlines()), len(run.splitlines())) < 12


def test_the_critical_path_of_a_step_and_the_slack_of_its_tasks_as_frames(
    traces: lumos.JobTraces,
) -> None:
    run = traces.replay("3")
    for measured, length_ns in ((False, run.figures.replayed_ns), (True, run.figures.measured_ns)):
        path = run.critical_path(measured=measured)
        assert repr(path).startswith("ProfilerStep#3, ")
        frame = path.frame()
        assert frame.columns == [
            "rank", "stream", "kind", "operator", "name", "layer", "phase", "rule", "start_ms",
            "own_ms", "lag_ms", "unexplained_ms",
        ]  # fmt: skip
        pieces = frame.select("own_ms", "lag_ms", "unexplained_ms").sum_horizontal()
        assert pieces.sum() == pytest.approx(length_ns / 1e6, abs=1e-6)
        assert (frame["start_ms"].diff().drop_nulls() >= -1e-9).all()
        slack = run.slack(measured=measured)
        assert slack.height == run.frame().height
        assert slack["critical"].sum() == len(set(path.figures.path.row))
        assert set(slack.filter("critical")["slack_ms"]) == {0.0}
        assert slack["slack_ms"].drop_nulls().min() == 0.0


def test_where_the_time_of_a_step_goes_as_frames(traces: lumos.JobTraces) -> None:
    run = traces.replay("3")
    found = run.breakdown()
    assert repr(found).startswith("ProfilerStep#3 takes ")
    frame = found.frame()
    assert frame.height == 4
    parts = ("exposed_compute_ms", "overlapped_ms", "exposed_communication_ms", "other_ms")
    assert frame.select(parts).sum_horizontal().to_list() == pytest.approx(frame["span_ms"])
    measured = frame.filter(run="measured")["span_ms"].to_list()
    assert measured == [one.measured_ns / 1e6 for one in run.figures.ranks]
    assert found.kernels_frame().height == 0, "the hosts compute"
    assert set(found.utilization_frame()["run"]) == {"measured", "replayed"}


def test_the_communication_of_a_step_as_frames(traces: lumos.JobTraces) -> None:
    run = traces.replay("3")
    found = run.communication()
    assert repr(found).startswith("ProfilerStep#3: ")
    frame = found.frame()
    rows = run.frame().filter(kind="collective")
    both = frame.filter(run="measured")
    assert both["count"].sum() * 2 == rows.height
    lengths = rows["measured_end_ms"] - rows["measured_start_ms"]
    assert both["time_ms"].sum() == pytest.approx(lengths.sum())
    times = found.latecomers_frame().filter(run="measured")["times"].sum()
    assert times == both["count"].sum()
