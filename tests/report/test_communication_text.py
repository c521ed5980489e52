"""The communication of steps as text, at 80 and 160 columns, and as documents and frames."""

from __future__ import annotations

import json

import pytest

from lumos.analysis.communication import (
    GroupCommunication,
    Latecomer,
    Skew,
    StepCommunication,
)
from lumos.catalog.hardware import find_hardware
from lumos.graph.finding import Finding
from lumos.graph.job import CollectiveKind, Placement
from lumos.graph.trace import ProcessGroup
from lumos.report.documents.communication import communication_document
from lumos.report.documents.encoding import encode
from lumos.report.frames.communication import communication_frame, latecomers_frame
from lumos.report.text.communication import MOST_LINES, communication_report, verdict
from tests.report.test_text import compare, text_of

MS = 1_000_000
KIND = CollectiveKind


def met(
    kind: CollectiveKind, group: ProcessGroup, transfer: float, *late: Latecomer, size: int | None
) -> GroupCommunication:
    """Eight collectives of each rank, matched across ranks; a tenth lies beside computation."""
    ranks, waited = len(group.ranks), sum(one.waited_ns for one in late)
    time = round(transfer * MS) + waited
    return GroupCommunication(
        kind, group, ranks, 8 * ranks, size, time, time * 9 // 10, time - waited, waited, 0,
        None if size is None else float(size * ranks), time - waited,
        Skew(0.4 * MS, 7 * MS) if late else None, late,
    )  # fmt: skip


def alone(
    kind: CollectiveKind, group: ProcessGroup | None, time: float, size: int | None
) -> GroupCommunication:
    """Three collectives of one rank whose peers were not traced."""
    length = round(time * MS)
    moved = None if size is None else float(size)
    return GroupCommunication(
        kind, group, 1, 3, size, length, length, None, None, length, moved, length, None
    )


def late(rank: int, times: int, waited: float, behind: float) -> Latecomer:
    return Latecomer(rank, times, round(waited * MS), round(behind * MS))


TENSOR = [ProcessGroup(str(n), "mesh_tp", (4 * n, 4 * n + 1, 4 * n + 2, 4 * n + 3)) for n in (0, 1)]
ODD = ProcessGroup("9", "an [red]odd[/red]\ngroup whose name goes on and on and on", (0, 4))
MATCHED = (
    met(KIND.ALL_REDUCE, TENSOR[0], 40, late(3, 5, 90, 30), late(0, 3, 6, 1), size=400_000_000),
    met(KIND.ALL_REDUCE, TENSOR[1], 60, late(7, 8, 12, 4), size=400_000_000),
    met(KIND.REDUCE_SCATTER, ODD, 5, late(4, 8, 2.5, 2.5), size=2_000),
    met(KIND.BARRIER, ODD, 0.25, size=None),
)
A100 = find_hardware("NVIDIA A100-SXM4-80GB")
BOTH = StepCommunication("ProfilerStep#7", MATCHED, MATCHED, A100)
UNMATCHED = (
    alone(KIND.ALL_TO_ALL, None, 22.9, 644_000_000),
    alone(KIND.ALL_REDUCE, None, 6.28, 200_000_000),
)
ALONE = StepCommunication("ProfilerStep#8", UNMATCHED, UNMATCHED, A100)
SIZELESS = StepCommunication("step [b]1[/b]", *((alone(KIND.SEND, ODD, 3, None),),) * 2)
SILENT = StepCommunication("step 2", (), ())
FOUND = [BOTH, ALONE, SIZELESS, SILENT]
FINDINGS = [Finding("single-rank", "info", "one rank alone")]


@pytest.mark.parametrize("width", [80, 160])
def test_communication_reads_as_it_did(width: int) -> None:
    text = text_of(communication_report(FOUND, FINDINGS), width)
    compare(f"communication-{width}.txt", text)
    assert all(len(line) <= width for line in text.splitlines())


def test_the_verdict_names_the_rank_that_others_waited_for_most() -> None:
    assert verdict(BOTH) == (
        "ProfilerStep#7: 51 % of the communication's time is waiting for others. They waited most "
        "for rank 3, 90.00 ms in all: it came last 5 times of 24."
    )
    assert "how much of that is waiting is unknown" in verdict(ALONE)
    assert verdict(SILENT) == "step 2 does not communicate."


def test_groups_that_are_alike_are_one_line() -> None:
    text = text_of(communication_report([BOTH]), 160)
    (line,) = [line for line in text.splitlines() if line.startswith("all reduce, 2 x mesh_tp (4)")]
    cells = line.split()[-9:]
    assert cells[1:5] == ["8", "26.00", "12.50", "13.50"], "n; time, transfer, waiting of one rank"
    rate = 2 * 3 / 4 * 2 * 4 * 400e6 / 100e-3  # both groups, over the transfer of all ranks
    assert cells[6:8] == ["400.00", f"{rate / 1e9:.2f}"]


def test_what_is_left_out_is_counted() -> None:
    groups = [ProcessGroup(str(n), f"group {n}", (0, 1)) for n in range(MOST_LINES + 3)]
    many = tuple(met(KIND.BROADCAST, one, 1, late(1, 8, 1, 1), size=10) for one in groups)
    text = text_of(communication_report([StepCommunication("step", many, many)]), 80)
    assert text.count("3 more with --json") == 2


def test_a_document_has_milliseconds_and_null_for_unknown() -> None:
    document = json.loads(encode(communication_document(Placement((0,), (0,), 8), FOUND, FINDINGS)))
    first, second, third, last = document["steps"]
    one = first["measured"][0]
    assert (one["transfer_ms"], one["wait_ms"], one["unmatched_ms"]) == (40, 96, 0)
    assert one["algorithm_bytes_per_s"] == 4 * 400_000_000 / 40e-3
    assert one["bus_bytes_per_s"] == 1.5 * one["algorithm_bytes_per_s"]
    assert one["link_pct"] == pytest.approx(100 * one["bus_bytes_per_s"] / 300e9)
    assert one["skew_ms"] == {"p50": 0.4, "max": 7}
    assert one["came_last"][0] == {
        "rank": 3, "times": 5, "others_waited_ms": 90, "behind_ms": 30,
    }  # fmt: skip
    assert first["measured"][3]["bytes"] is first["measured"][3]["bus_bytes_per_s"] is None
    lonely = second["replayed"][0]
    assert lonely["group"] is lonely["wait_ms"] is lonely["skew_ms"] is None
    assert lonely["bandwidth_includes_waiting"]
    assert third["measured"][0]["algorithm_bytes_per_s"] is None
    assert last["measured"] == []
    assert document["link"]["bytes_per_s"] == 300e9
    assert document["job"]["gpu"] is None


def test_frames_have_a_row_a_group_and_a_row_a_latecomer() -> None:
    frame = communication_frame(BOTH)
    assert frame["run"].to_list() == ["measured"] * 4 + ["replayed"] * 4
    assert frame["wait_ms"].to_list()[:4] == [96, 12, 2.5, 0]
    assert frame["ranks"].to_list()[2] == [0, 4]
    assert frame["bytes"].null_count() == 2
    assert communication_frame(ALONE)["group"].null_count() == 4
    lasts = latecomers_frame(BOTH)
    assert lasts["rank"].to_list()[:4] == [3, 0, 7, 4]
    assert lasts["others_waited_ms"].to_list()[:4] == [90, 6, 12, 2.5]
    assert communication_frame(SILENT).columns == frame.columns
    assert latecomers_frame(SILENT).columns == lasts.columns
