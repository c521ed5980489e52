"""Device tasks: which call launched each, and in which order each stream got them."""

from __future__ import annotations

from lumos.graph.job import NONE, TaskKind
from tests.build.drawn_trace import DrawnTrace


def test_a_task_stands_behind_the_call_with_its_correlation() -> None:
    """Two launches on two streams."""
    drawn = DrawnTrace().op("a", 0, 50)
    drawn.kernel("k1", 30, 90, stream=7, call=(10, 15))
    drawn.kernel("k2", 25, 40, stream=9, call=(20, 24))
    built = drawn.build()
    rows = built.program().rows
    for name, begin in (("k1", 10), ("k2", 20)):
        row = built.row(name)
        call = int(rows.launch[row])
        assert call == row - 1
        assert built.run().start_ns[call] == begin * 1000
    assert built.rows("stream 9") == [("KERNEL", "k2", 25, 40)]


def test_all_kernels_of_a_graph_are_launched_by_its_one_call() -> None:
    drawn = DrawnTrace().op("a", 0, 50)
    drawn.event("cuda_runtime", "cudaGraphLaunch", 10, 20, 8, correlation=99)
    for number in range(3):
        at = 20 + 10 * number
        drawn.event("kernel", f"n{number}", at, at + 8, 7, device=0, stream=7, correlation=99)
    built = drawn.build()
    launches = {int(built.program().rows.launch[built.row(f"n{n}")]) for n in range(3)}
    assert len(launches) == 1


def test_a_stream_runs_in_launch_order_even_where_its_clock_steps_back() -> None:
    """k2 was launched second, its recorded start lies before k1's."""
    drawn = DrawnTrace().op("a", 0, 50)
    drawn.kernel("k1", 30.0, 40, call=(10, 15))
    drawn.kernel("k2", 29.5, 50, call=(20, 22))
    assert [row[1] for row in drawn.build().rows("stream 7")] == ["k1", "k2"]


def test_a_task_without_a_launch_goes_with_the_one_in_front_of_it() -> None:
    """A memset that no call names: between k1 and k2 on the stream, behind k1's launch."""
    drawn = DrawnTrace().op("a", 0, 50)
    drawn.kernel("k1", 20, 30, call=(10, 15))
    drawn.kernel("orphan", 31, 33, call=None, category="gpu_memset")
    drawn.kernel("k2", 40, 50, call=(35, 37))
    built = drawn.build()
    rows = built.program().rows
    assert rows.launch[built.row("orphan")] == rows.launch[built.row("k1")]
    assert rows.kind[built.row("orphan")] == TaskKind.SET


def test_kinds_of_tasks_come_from_their_category() -> None:
    drawn = DrawnTrace().op("a", 0, 90)
    drawn.kernel("k", 20, 30, call=(10, 15))
    drawn.kernel(
        "Memcpy HtoD (Pinned -> Device)",
        40,
        50,
        call=(35, 37),
        category="gpu_memcpy",
        by="cudaMemcpyAsync",
    )
    drawn.kernel("ncclDevKernel_AllReduce_Sum_f32_RING_LL(x)", 60, 80, stream=20, call=(55, 57))
    kinds = [kind for kind, *_ in drawn.build().rows("stream 7")]
    assert kinds == ["KERNEL", "COPY"]
    assert drawn.build().rows("stream 20")[0][0] == "COLLECTIVE"


def test_a_slow_launch_hands_its_task_over_at_its_end() -> None:
    """Among calls of 5 us, one of 500 us whose kernel starts as it ends: the rest is host time."""
    drawn = DrawnTrace().op("a", 0, 2000)
    for number in range(8):
        drawn.kernel(
            f"k{number}",
            50 * number + 20,
            50 * number + 30,
            call=(50 * number + 10, 50 * number + 15),
        )
    drawn.kernel("slow", 1499, 1510, call=(1000, 1500))
    built = drawn.build()
    rows, run = built.program().rows, built.run()
    launch = int(rows.launch[built.row("slow")])
    assert run.start_ns[launch] == 1_495_000
    assert rows.kind[launch - 1] == TaskKind.CALL
    assert (run.start_ns[launch - 1], run.end_ns[launch - 1]) == (1_000_000, 1_495_000)


def test_a_task_before_the_first_launch_has_none() -> None:
    """It ran when the trace began: no row, but its stream is busy."""
    drawn = DrawnTrace().op("a", 0, 100)
    drawn.kernel("before", 5, 40, call=None)
    drawn.kernel("k", 50, 60, call=(10, 15))
    built = drawn.build()
    assert (built.program().rows.launch != NONE).sum() == 1
    start = built.program().start
    assert start is not None
    assert start.free_ns.max() == 40_000
