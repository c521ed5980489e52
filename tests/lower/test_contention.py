"""Contention: a kernel that fills its GPU several times keeps those of other streams waiting."""

from __future__ import annotations

from lumos.graph.execution import Rule
from lumos.graph.job import TaskKind
from tests.drawing import Drawing


def big_and_small(waves: float, **options: object) -> Drawing:
    """The big kernel is launched first.

    s1 |== big 1000: `waves` waves =====|
    s2   ready ................|= small 10 =|
    """
    drawn = Drawing(launch=2)
    rank = drawn.rank()
    main, s1, s2 = rank.thread(), rank.stream(1), rank.stream(2)
    main.launch(s1, "big", 1000, waves=waves)
    main.launch(s2, "small", 10, **options)  # type: ignore[arg-type]
    return drawn


def test_a_small_kernel_starts_when_the_last_wave_has_been_handed_out() -> None:
    """Ten waves of 100 each: the last one begins at 2 + 900."""
    assert big_and_small(10).run()["small"] == (902, 912)


def test_a_kernel_of_less_than_two_waves_holds_nobody() -> None:
    assert big_and_small(1.9).run()["small"] == (3, 13)


def test_a_kernel_of_unknown_grid_holds_nobody() -> None:
    assert big_and_small(0).run()["small"] == (3, 13)


def test_copies_from_the_host_need_no_multiprocessor() -> None:
    assert big_and_small(10, kind=TaskKind.COPY).run()["small"] == (3, 13)


def test_the_first_that_is_ready_goes_first() -> None:
    """The small kernel is launched first: it runs, and the big one beside it."""
    drawn = Drawing(launch=2)
    rank = drawn.rank()
    main, s1, s2 = rank.thread(), rank.stream(1), rank.stream(2)
    main.launch(s2, "small", 10, waves=0.1)
    main.launch(s1, "big", 1000, waves=10)
    run = drawn.run()
    assert run["small"] == (2, 12)
    assert run["big"] == (3, 1003)


def test_big_kernels_of_two_streams_take_turns() -> None:
    """Each of ten waves.

    s1 |== b1 1000 ==|
    s2           |== b2 1000 ==|          from 902
    s3                     |== b3 ==|     from 902 + 900
    """
    drawn = Drawing(launch=2)
    rank = drawn.rank()
    main = rank.thread()
    for number in (1, 2, 3):
        main.launch(rank.stream(number), f"b{number}", 1000, waves=10)
    run = drawn.run()
    assert run["b2"] == (902, 1902)
    assert run["b3"] == (1802, 2802)


def test_the_same_stream_waits_for_its_own_kernel_by_stream_order_alone() -> None:
    """s1 |== big ==|= next =|: next starts at the end of big, not a wave earlier."""
    drawn = Drawing(launch=2)
    rank = drawn.rank()
    main, s1 = rank.thread(), rank.stream(1)
    main.launch(s1, "big", 1000, waves=10)
    main.launch(s1, "next", 10, waves=1)
    main.launch(rank.stream(2), "small", 10)
    assert drawn.run()["next"] == (1002, 1012)


def test_gpus_do_not_wait_for_each_other() -> None:
    """The small kernel runs on another device."""
    drawn = Drawing(launch=2)
    rank = drawn.rank()
    main = rank.thread()
    main.launch(rank.stream(1, device=0), "big", 1000, waves=10)
    main.launch(rank.stream(2, device=1), "small", 10)
    main.launch(rank.stream(3, device=0), "held", 10)
    run = drawn.run()
    assert run["small"] == (3, 13)
    assert run["held"] == (902, 912)


def test_communication_is_not_kept_waiting() -> None:
    """Collectives run at a higher priority."""
    drawn = Drawing(launch=2)
    drawn.group("all", 0)
    rank = drawn.rank()
    main, s1, s2 = rank.thread(), rank.stream(1), rank.stream(2)
    main.launch(s1, "big", 1000, waves=10)
    main.collective(s2, "c", 10, "all")
    main.launch(rank.stream(3), "small", 10)
    assert drawn.run()["c"] == (3, 13)


def test_without_contention_kernels_run_side_by_side() -> None:
    """--drop contention."""
    assert big_and_small(10).run([Rule.CONTENTION])["small"] == (3, 13)
