"""Steps: annotated, else repeated marks, else the whole; a task belongs to the step that launched it."""

from __future__ import annotations

from lumos.build import build
from tests.build.drawn_trace import DrawnTrace


def three_steps(name: str) -> DrawnTrace:
    """Steps of 100 us; each launches a kernel that runs into the next one."""
    drawn = DrawnTrace()
    for step in range(3):
        at = 100 * step
        if name:
            drawn.annotation(name.format(step + 5), at, at + 95)
        drawn.op(f"aten::mm{step}", at + 10, at + 40)
        drawn.kernel(f"k{step}", at + 90, at + 150, call=(at + 20, at + 25))
    return drawn


def test_profiler_steps_are_the_steps() -> None:
    built = three_steps("ProfilerStep#{}").build()
    assert built.program().blocks == ("ProfilerStep#5", "ProfilerStep#6", "ProfilerStep#7")


def test_a_task_belongs_to_the_step_that_launched_it() -> None:
    """k0 runs until 150, in the second step."""
    built = three_steps("ProfilerStep#{}").build()
    assert [built.block_of(f"k{n}") for n in range(3)] == list(built.program().blocks)


def test_time_between_two_steps_belongs_to_the_earlier_one() -> None:
    """An operator at 96, between the end of step 5 (95) and the begin of step 6 (100)."""
    built = three_steps("ProfilerStep#{}").op("between", 96, 98).build()
    assert built.block_of("between") == "ProfilerStep#5"


def test_what_comes_before_the_first_step_is_in_none_but_its_kernels_keep_streams_busy() -> None:
    """A kernel launched at -50 runs until 30: stream 7 is free 30 us after the begin."""
    drawn = three_steps("ProfilerStep#{}").op("early", -60, -40)
    drawn.kernel("before", 0, 30, call=(-50, -45))
    built = drawn.build()
    names = [built.program().names[name] for name in built.program().rows.name]
    assert "before" not in names
    assert "early" not in names
    start = built.program().start
    assert start is not None
    stream = next(n for n, p in enumerate(built.program().processors) if p.is_stream)
    assert start.free_ns[stream] == 30_000


def test_without_profiler_steps_the_optimizers_annotations_mark_them() -> None:
    """Three zero_grads: two whole steps between them."""
    drawn = three_steps("")
    for step in range(3):
        drawn.annotation("Optimizer.zero_grad#SGD.zero_grad", 100 * step, 100 * step + 5)
    built = drawn.build()
    assert built.program().blocks == ("step 0", "step 1")
    assert built.block_of("k1") == "step 1"


def test_without_any_annotation_repetition_marks_them() -> None:
    """forward, backward five times over: a step is a period of the operators."""
    drawn = DrawnTrace()
    for step in range(5):
        drawn.op("forward", 100 * step, 100 * step + 40).op(
            "backward", 100 * step + 50, 100 * step + 90
        )
    blocks = drawn.build().program().blocks
    assert len(blocks) >= 3
    assert blocks[0] == "step 0"


def test_a_trace_that_repeats_nothing_is_one_step() -> None:
    assert DrawnTrace().op("a", 0, 10).op("b", 20, 30).build().program().blocks == ("whole",)


def test_one_step_built_alone_is_what_a_profiler_of_that_step_would_have_given() -> None:
    """Only its own rows, and what ran into it in the starting state."""
    trace = three_steps("ProfilerStep#{}").trace()
    job, measured = build([trace], 1)
    (program,) = job.programs
    names = {program.names[name] for name in program.rows.name}
    assert program.blocks == ("ProfilerStep#6",)
    assert "k1" in names
    assert not names & {"k0", "k2", "aten::mm0", "aten::mm2"}
    assert program.start is not None
    assert program.start.free_ns.max() == 50_000  # k0 until 150, the step began at 100
    assert measured.ranks[0].start_ns.min() == 0
