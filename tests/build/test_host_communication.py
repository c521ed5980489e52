"""Communication that the host itself runs: which operator issues a span, which pause waits for it."""

from __future__ import annotations

import numpy as np
import pytest

from lumos.graph.job import NONE, TaskKind
from tests.build.drawn_trace import Built, DrawnTrace

SPAN = "gloo:all_reduce"


def drawn(*, dispatch_mode: bool = False, late_wait: bool = False) -> Built:
    """Three steps of a forward, an all-reduce issued at 200 and a wait for it that ends at 700.

    With `late_wait` the wait ends 300 after the border of the next step instead.

    main    | forward |issue|............(pause)............| update |
    worker             |======== gloo:all_reduce ==========|
    """
    trace = DrawnTrace(world=2)
    wait_ends = 1300 if late_wait else 700
    for step in range(3):
        at = 1000 * step
        trace.annotation(f"ProfilerStep#{step}", at, at + 1000)
        trace.op(f"forward{step}", at + (400 if late_wait and step else 0), at + 500)
        size = {"Input Dims": [[64]]}
        trace.op("c10d::allreduce_", at + 505, at + 530, **size)
        if dispatch_mode:
            trace.op("c10d::allreduce_", at + 510, at + 528, **size)
        trace.event("user_annotation", SPAN, at + 520, at + wait_ends - 2, 9, **size)
        if not late_wait:
            trace.op(f"update{step}", at + wait_ends, at + 990)
    return trace.build()


def issuers_and_waits(built: Built) -> list[tuple[int, int, int]]:
    """Of each wait for a span: its own step, that of the record, the row of the record."""
    rows = built.program().rows
    waits = np.flatnonzero((rows.kind == TaskKind.SYNCHRONIZE) & (rows.awaits != NONE))
    records = [built.signal_of(int(row)) for row in waits]
    return [
        (int(rows.block[wait]), int(rows.block[record]) if record != NONE else NONE, record)
        for wait, record in zip(waits, records, strict=True)
    ]


def test_each_step_waits_for_the_span_that_it_issued() -> None:
    found = issuers_and_waits(drawn())
    assert [(mine, theirs) for mine, theirs, _ in found] == [(0, 0), (1, 1), (2, 2)]


def test_under_a_dispatch_mode_a_call_with_two_operators_issues_one_span() -> None:
    """The outer operator only passes the call on; were both counted, spans would drift to earlier steps."""
    found = issuers_and_waits(drawn(dispatch_mode=True))
    assert [(mine, theirs) for mine, theirs, _ in found] == [(0, 0), (1, 1), (2, 2)]


def test_a_span_awaited_in_the_next_step_is_known_to_be_of_the_step_before() -> None:
    found = issuers_and_waits(drawn(late_wait=True))
    assert [(mine, theirs) for mine, theirs, _ in found] == [(1, 0), (2, 1)]


@pytest.mark.parametrize(
    ("operator", "out", "into", "span"),
    [
        ("c10d::_allgather_base_", [128, 4], [64, 4], "gloo:all_gather"),
        ("c10d::_reduce_scatter_base_", [64], [128], "gloo:all_reduce"),
    ],
)
def test_what_fsdp_issues_is_known_by_the_shape_that_goes_in(operator, out, into, span) -> None:
    """Gloo runs a reduce-scatter as an all-reduce, and names of a gather what each rank gives."""
    trace = DrawnTrace(world=2)
    for step in range(2):
        at = 1000 * step
        trace.annotation(f"ProfilerStep#{step}", at, at + 1000)
        trace.op("c10d::allreduce_", at + 300, at + 320, **{"Input Dims": [out]})  # of other sizes
        trace.op(operator, at + 505, at + 530, **{"Input Dims": [out, into, [], []]})
        trace.event("user_annotation", span, at + 520, at + 698, 9, **{"Input Dims": [into]})
        trace.op(f"update{step}", at + 700, at + 990)
    program = trace.build().program()
    rows = program.rows
    spans = np.flatnonzero(rows.kind == TaskKind.COLLECTIVE)
    issuers = [program.names[rows.name[row]] for row in rows.launch[spans]]
    assert issuers == [operator, operator]
