"""Segments of operators, and programs that run them twice."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lumos.graph import blocks
from lumos.graph.job import NONE, Job, Program, TaskKind
from lumos.graph.segments import operator_segments, run_each_twice
from lumos.graph.timeline import Timeline
from lumos.lower import lower
from lumos.simulate import simulate
from tests.drawing import Drawing, Thread, job_of
from tests.simulate.jobs import jobs


def piece(thread: Thread, name: str, event: int, duration: int = 5) -> int:
    """Own time of an operator that has several pieces: those of one event."""
    return thread.rank.add(TaskKind.OPERATOR, name, thread.number, duration, event=event)


def names(program: Program) -> list[str]:
    """What the rows are called, in order."""
    return [program.names[number] for number in program.rows.name]


def linear() -> Drawing:
    """main | linear | addmm | launch | addmm | linear | gap | addmm |; the launch starts gemm."""
    drawn = Drawing(launch=2)
    rank = drawn.rank()
    main, stream = rank.thread(), rank.stream(1)
    piece(main, "linear", 100)
    piece(main, "addmm", 101)
    main.launch(stream, "gemm", 50)
    piece(main, "addmm", 101)
    piece(main, "linear", 100)
    main.gap(5)
    piece(main, "addmm", 102)
    return drawn


def test_a_segment_goes_from_an_operators_first_piece_to_its_last() -> None:
    program = linear().program()
    assert operator_segments(program, ["linear"]).tolist() == [0, 0, 0, NONE, 0, 0, NONE, NONE]
    assert operator_segments(program, ["addmm"]).tolist() == [NONE, 0, 0, NONE, 0, NONE, NONE, 1]


def test_of_operators_inside_each_other_the_outermost_counts() -> None:
    both = operator_segments(linear().program(), ["linear", "addmm"])
    assert both.tolist() == [0, 0, 0, NONE, 0, 0, NONE, 1]


def test_the_innermost_can_count() -> None:
    inner = operator_segments(linear().program(), ["linear", "addmm"], innermost=True)
    assert inner.tolist() == [NONE, 0, 0, NONE, 0, NONE, NONE, 1]


def test_an_operator_inside_one_of_its_name_is_told_from_it() -> None:
    """main | mm | mm inside | mm |, as a hook makes it; then another one alone."""
    drawn = Drawing()
    main = drawn.rank().thread()
    for event in (1, 2, 1, 3):
        piece(main, "mm", event)
    assert operator_segments(drawn.program(), ["mm"]).tolist() == [0, 0, 0, 1]
    assert operator_segments(drawn.program(), ["mm"], innermost=True).tolist() == [NONE, 0, NONE, 1]


def test_an_operator_that_is_not_there_has_no_segment() -> None:
    assert (operator_segments(linear().program(), ["conv"]) == NONE).all()


def test_two_runs_without_a_gap_between_them_are_two_segments() -> None:
    drawn = Drawing()
    main = drawn.rank().thread()
    piece(main, "mm", 1)
    piece(main, "mm", 2)
    assert operator_segments(drawn.program(), ["mm"]).tolist() == [0, 1]


def test_other_threads_are_outside_though_their_rows_stand_between() -> None:
    drawn = Drawing()
    rank = drawn.rank()
    main, other = rank.thread(), rank.thread("other")
    piece(main, "mm", 1)
    piece(other, "aside", 2)
    piece(main, "mm", 1)
    assert operator_segments(drawn.program(), ["mm"]).tolist() == [0, NONE, 0]


def test_copies_of_a_step_have_segments_of_their_own() -> None:
    program = blocks.repeat(linear().program(), 2)
    assert operator_segments(program, ["linear"]).max() == 1


def test_each_segment_runs_again_right_behind_itself() -> None:
    """main | addmm | launch | addmm | addmm | launch | addmm |, the second launch starts gemm again."""
    program = linear().program()
    twice = run_each_twice(program, operator_segments(program, ["addmm"]))
    twice.self_check()
    call = "cudaLaunchKernel"
    assert names(twice) == [
        "linear", "addmm", call, "gemm", "addmm", "addmm", call, "gemm", "addmm", "linear", "(gap)",
        "addmm", "addmm",
    ]  # fmt: skip
    gemms = np.flatnonzero(twice.rows.on_device)
    assert twice.rows.launch[gemms].tolist() == (gemms - 1).tolist()


def test_a_copy_awaits_what_the_copy_records() -> None:
    """In each run stream 2 waits for stream 1's task of the same run.

    main     | mm | launch a | record | wait | launch b | mm |
    stream 1          |=== a ===|            |=== a ===|
    stream 2                    |= b =|                |= b =|
    """
    drawn = Drawing()
    rank = drawn.rank()
    main, s1, s2 = rank.thread(), rank.stream(1), rank.stream(2)
    piece(main, "mm", 1, 0)
    main.launch(s1, "a", 100)
    main.record(s1, "done")
    main.wait(s2, "done")
    main.launch(s2, "b", 10)
    piece(main, "mm", 1, 0)
    program = drawn.program()
    twice = run_each_twice(program, operator_segments(program, ["mm"]))
    run = simulate(lower(job_of(twice))).ranks[0]
    kernels = np.flatnonzero(twice.rows.on_device)
    spans = [(int(run.start_ns[row]), int(run.end_ns[row])) for row in kernels]
    assert spans == [(0, 100), (100, 110), (100, 200), (200, 210)]


def test_a_copy_waits_for_what_was_recorded_outside_it() -> None:
    drawn = Drawing()
    rank = drawn.rank()
    main, s1, s2 = rank.thread(), rank.stream(1), rank.stream(2)
    main.launch(s1, "a", 100)
    main.record(s1, "done")
    piece(main, "mm", 1, 0)
    main.wait(s2, "done")
    main.launch(s2, "b", 10)
    piece(main, "mm", 1, 0)
    program = drawn.program()
    twice = run_each_twice(program, operator_segments(program, ["mm"]))
    run = simulate(lower(job_of(twice))).ranks[0]
    kernels = np.flatnonzero(twice.rows.on_device)
    assert [int(run.start_ns[row]) for row in kernels] == [0, 100, 110]


@settings(deadline=None, max_examples=60, derandomize=True)
@given(jobs(), st.data())
def test_one_segment_run_twice_is_the_block_run_twice(job: Job, data: st.DataObject) -> None:
    (program,) = job.programs
    rows = program.rows
    main = np.flatnonzero((rows.processor == 0) & ~rows.on_device)
    low = data.draw(st.integers(0, len(main) - 1))
    high = data.draw(st.integers(low, len(main) - 1))
    chosen = main[low : high + 1]
    chosen = chosen[rows.block[chosen] == rows.block[chosen[0]]]
    segment = np.full(len(rows), NONE, np.int32)
    segment[chosen] = 0
    assert end(run_each_twice(program, segment), job) == end(blocks.run_twice(program, chosen), job)


def end(program: Program, job: Job) -> Timeline:
    """The run of one program, as lists."""
    run = simulate(lower(job_of(program, job.lags))).ranks[0]
    return run.start_ns.tolist(), run.end_ns.tolist()  # type: ignore[return-value]


@settings(deadline=None, max_examples=30, derandomize=True)
@given(jobs())
def test_no_segment_run_twice_changes_nothing(job: Job) -> None:
    (program,) = job.programs
    same = run_each_twice(program, np.full(len(program.rows), NONE, np.int32))
    for name in type(program.rows).__dataclass_fields__:
        assert (getattr(same.rows, name) == getattr(program.rows, name)).all()
