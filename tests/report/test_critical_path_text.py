"""The critical path as text, at 80 and 160 columns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lumos.analysis.critical_path import CriticalPath
from lumos.analysis.path_hops import Hop
from lumos.analysis.path_segments import Segment
from lumos.analysis.path_sums import Part, PathSums
from lumos.analysis.step_path import NearCritical, Ran, StepPath
from lumos.graph.finding import Finding
from lumos.graph.labels import OTHER_WORK
from lumos.report.text.critical_path import critical_path_report, verdict
from tests.report.test_text import compare, text_of

MS = 1_000_000
LONG = "a thread with [red]a long[/red]\nname of its own"
STORY = [
    (0, 0, "thread 1 (python)", "forward", "starting_state", 0.0, 30.0, 0.1, 0.0, 4.0,
     [("host", 25.9)], [("(gap)", 20.0), ("aten::mm", 5.9)]),
    (1, 0, "stream 7", "forward", "launch", 30.0, 40.0, 1.0, 9.0, 0.0,
     [("gemm", 25.0), ("normalization", 5.0)], [("aten::mm", 25.0)]),
    (7, 1, LONG, None, "rendezvous", 71.5, 25.5, 0.0, 0.0, 0.0,
     [("all_reduce", 25.5)], [("c10d::allreduce_", 25.5)]),
]  # fmt: skip


def scaled(**sums: float) -> dict[str, int]:
    return {name: int(time * MS) for name, time in sums.items()}


def path(length: int) -> CriticalPath:
    nothing = np.zeros(1, np.int64)
    return CriticalPath(
        nothing, np.zeros(1, np.uint8), nothing, nothing, np.array([length]), 5 * MS
    )


FOUND = StepPath(
    step="ProfilerStep#3",
    ran=Ran.MEASURED,
    makespan_ns=100 * MS,
    error_pct=-0.43,
    sums=PathSums(
        by_part={
            part: int(time * MS)
            for part, time in zip(Part, (30.5, 27.0, 28.4, 1.1, 9.0, 4.0), strict=True)
        },
        by_kind=scaled(host=28.4, all_reduce=27.0, gemm=25.5, unexplained=9.0, normalization=5.0,
                       starting_state=4.0, lag=1.08, other=0.02),
        by_rule=scaled(launch=31.6, program_order=28.4, rendezvous=27.0, unexplained=9.0,
                       starting_state=4.0),
        by_rank={0: 73 * MS, 1: 27 * MS},
        by_stream={"stream 7": 41 * MS, "thread 1 (python)": 32 * MS, LONG: 27 * MS},
        by_layer={"unknown": 100 * MS},
        by_phase=scaled(forward=73.0, unknown=27.0),
        by_operator={f"aten::operator_{number}": 5 * MS for number in range(20)},
    ),
    segment_count=10,
    segments=tuple(
        Segment(
            number, rank, stream, phase, rule,
            int((5 + start) * MS), *(int(time * MS) for time in times), 12,
            tuple((name, int(time * MS)) for name, time in kinds),
            tuple((name, int(time * MS)) for name, time in operators),
        )
        for number, rank, stream, phase, rule, start, *times, kinds, operators in STORY
    ),
    hops=(Hop("launch", 0, "stream 7", "kernel", 35 * MS, MS, 25 * MS),),
    near=(
        NearCritical(1, "stream 7", "gemm", 40, 12 * MS, 250_000),
        NearCritical(0, LONG, "reduce_scatter", 3, 7 * MS, 0),
    ),
    path=path(100 * MS),
    slack_ns=np.zeros(1, np.int64),
)  # fmt: skip
STEPS = [
    replace(FOUND, step="ProfilerStep#2", makespan_ns=90 * MS),
    FOUND,
    replace(FOUND, step="ProfilerStep#4 [bold]bad[/bold]\n", makespan_ns=120 * MS),
]
FINDINGS = [Finding("one-rank", "info", "one rank alone", 12 * MS, "trace all")]


@pytest.mark.parametrize("width", [80, 160])
def test_the_critical_path_reads_as_committed(width: int) -> None:
    text = text_of(critical_path_report(STEPS, FINDINGS), width)
    compare(f"critical_path-{width}.txt", text)
    assert all(len(line) <= width for line in text.splitlines())


def test_stretches_that_are_not_shown_are_counted_with_their_time() -> None:
    lines = text_of(critical_path_report([FOUND], top=2), 120).splitlines()
    assert sum("shorter stretch" in line for line in lines) == 1
    (rest,) = (line for line in lines if "8 shorter stretches" in line)
    assert rest.split()[0] == "30.00"


def test_the_name_of_a_template_takes_one_line_of_a_stretch() -> None:
    template = "void multi_tensor_apply_kernel<" + ", ".join(["TensorListMetadata<4>"] * 20) + ">"
    one = replace(FOUND.segments[0], kinds=((OTHER_WORK, MS),), operators=((template, MS),))
    text = text_of(critical_path_report([replace(FOUND, segments=(one,))]), 160)
    assert "void multi_tensor_apply_kernel<TensorLi… 1.00" in text
    assert template[:60] not in " ".join(text.split())


def test_the_verdict_names_what_makes_the_path() -> None:
    assert verdict(FOUND) == (
        "ProfilerStep#3, measured, takes 100.00 ms; its critical path: compute 30.5 %, "
        "communication 27.0 %, host 28.4 %, lag 1.1 %, unexplained 9.0 %, earlier work 4.0 %. "
        "73 % of it is on rank 0."
    )


def test_a_step_without_tasks_has_a_verdict() -> None:
    nothing = PathSums({}, {}, {}, {}, {}, {}, {}, {})
    empty = replace(
        FOUND, sums=nothing, makespan_ns=0, error_pct=None, segment_count=0, segments=(),
        hops=(), near=(), path=path(0),
    )  # fmt: skip
    assert verdict(empty) == "ProfilerStep#3, measured, takes 0.00 ms: no task, no path."
    assert "no task, no path" in text_of(critical_path_report([empty, empty]), 80)
