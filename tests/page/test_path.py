"""The critical path as a line through lanes."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lumos.report.page.path import ELSEWHERE, Stretches, coarse, line


def drawn(*parts: tuple[int, int]) -> Stretches:
    """Stretches as (lane, length), one behind the other."""
    lane, length = (np.array(column, np.int64) for column in zip(*parts, strict=True))
    end = np.cumsum(length)
    return Stretches(lane, end - length, end, np.zeros(len(lane), np.uint8))


def test_it_runs_along_lanes_and_jumps_between_them() -> None:
    found = drawn((0, 10), (2, 30), (0, 5))
    assert line(found, 1.0, 0, [0.5, 1.5, 2.5]) == "M0 0.5H10V2.5H40V0.5H45"


def test_it_is_broken_where_nothing_is_drawn() -> None:
    found = drawn((0, 10), (ELSEWHERE, 20), (1, 5))
    assert line(found, 2.0, 0, [0.5, 1.5]) == "M0 0.5H20M60 1.5H70"


def test_detours_shorter_than_a_pixel_are_passed_over() -> None:
    found = coarse(drawn((0, 2), (1, 2), (0, 2), (1, 100)), 10)
    assert found.lane.tolist() == [0, 1]
    assert (found.start_ns[0], found.end_ns[-1]) == (0, 106)


@settings(deadline=None, max_examples=200, derandomize=True)
@given(
    st.lists(
        st.tuples(st.integers(-1, 3), st.sampled_from([1, 2, 5, 60])), min_size=1, max_size=50
    ),
    st.integers(0, 40),
)
def test_a_coarse_path_covers_the_same_time_without_a_hole(
    parts: list[tuple[int, int]], shortest: int
) -> None:
    path = drawn(*parts)
    found = coarse(path, shortest)
    assert (found.start_ns[0], found.end_ns[-1]) == (path.start_ns[0], path.end_ns[-1])
    assert (found.start_ns[1:] == found.end_ns[:-1]).all()
    long = path.end_ns - path.start_ns >= max(shortest, 1)
    kept = set(zip(found.lane.tolist(), found.end_ns.tolist(), strict=True))
    assert set(zip(path.lane[long].tolist(), path.end_ns[long].tolist(), strict=True)) <= kept
