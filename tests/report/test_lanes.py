"""Lanes show what ran; merged ones show the same time with fewer pieces."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lumos.report.lanes import Lane, Shade, fitted, lane, merged
from tests.drawing import Drawing

COLUMNS = ("start_ns", "end_ns", "shade", "name", "tasks")


def drawn_lane(*pieces: tuple[int, int, Shade, int]) -> Lane:
    """Pieces as (start, end, shade, name)."""
    start, end, shade, name = zip(*pieces, strict=True)
    return Lane(
        0, "stream 1", True, np.array(start, np.int64), np.array(end, np.int64),
        np.array(shade, np.uint8), np.array(name, np.int32), np.ones(len(pieces), np.int32),
    )  # fmt: skip


@st.composite
def lanes(draw: st.DrawFn) -> Lane:
    pieces, at = [], 0
    for _ in range(draw(st.integers(1, 60))):
        at += draw(st.sampled_from([0, 0, 1, 5, 90]))
        length = draw(st.sampled_from([1, 2, 3, 40, 300]))
        pieces.append(
            (at, at + length, draw(st.sampled_from(list(Shade))), draw(st.integers(0, 4)))
        )
        at += length
    return drawn_lane(*pieces)


def test_short_pieces_become_one_in_the_shade_of_most_of_it() -> None:
    """|a||b||a|   |======== c ========||b|   ->   |= a (3) =|   |======== c ========||b|"""
    found = merged(
        drawn_lane(
            (0, 4, Shade.HOST, 1), (4, 5, Shade.CALL, 2), (5, 8, Shade.HOST, 1),
            (30, 130, Shade.HOST, 3), (130, 132, Shade.CALL, 2),
        ),
        20,
    )  # fmt: skip
    assert found.start_ns.tolist() == [0, 30, 130]
    assert found.end_ns.tolist() == [8, 130, 132]
    assert found.shade.tolist() == [Shade.HOST, Shade.HOST, Shade.CALL]
    assert found.name.tolist() == [1, 3, 2]
    assert found.tasks.tolist() == [3, 1, 1]


@settings(deadline=None, max_examples=200, derandomize=True)
@given(lanes(), st.integers(0, 100))
def test_merging_loses_no_task_and_moves_none(one: Lane, shortest: int) -> None:
    found = merged(one, shortest)
    assert found.tasks.sum() == len(one)
    assert (np.diff(found.start_ns) >= 0).all()
    last = 0
    for start, end, shade, name, tasks in zip(*(getattr(found, c) for c in COLUMNS), strict=True):
        inside = slice(last, last + tasks)
        assert (start, end) == (one.start_ns[inside].min(), one.end_ns[inside].max())
        length = (one.end_ns - one.start_ns)[inside]
        time = {s: length[one.shade[inside] == s].sum() for s in one.shade[inside].tolist()}
        assert time[shade] == max(time.values())
        assert length[one.name[inside] == name].max() == length.max()
        if tasks > 1:
            assert length.max() < shortest
            assert end - start < 2 * shortest, "a piece lies in one stretch"
        last += tasks


@settings(deadline=None, max_examples=100, derandomize=True)
@given(st.lists(lanes(), min_size=1, max_size=4), st.integers(1, 100))
def test_there_are_never_more_pieces_than_there_is_room_for(several: list[Lane], most: int) -> None:
    found, shortest = fitted(several, most)
    assert sum(map(len, found)) <= max(most, 4 * len(several))
    assert [one.tasks.sum() for one in found] == [len(one) for one in several]
    assert shortest > 0 or [len(one) for one in found] == [len(one) for one in several]


def test_what_a_task_waits_inside_itself_is_a_piece_of_its_own() -> None:
    """rank 0 | l |...wait...|= 40 =|          rank 1 comes 100 later"""
    drawn = Drawing()
    drawn.group("all", 0, 1)
    for late in (0, 100):
        rank = drawn.rank()
        main, s1 = rank.thread(), rank.stream(1)
        main.work("op", 10 + late)
        main.collective(s1, "all-reduce", 40, "all")
        main.synchronize(s1, duration=5)
    run = drawn.run()
    early = lane(0, run.job.programs[0], run.timeline.ranks[0], 1)
    assert early.shade.tolist() == [Shade.WAIT, Shade.TRANSFER]
    assert (early.end_ns - early.start_ns).tolist() == [100, 40]
    late = lane(1, run.job.programs[1], run.timeline.ranks[1], 1)
    assert late.shade.tolist() == [Shade.TRANSFER]
    main = lane(0, run.job.programs[0], run.timeline.ranks[0], 0)
    assert main.shade.tolist() == [Shade.HOST, Shade.CALL, Shade.WAIT, Shade.CALL]
