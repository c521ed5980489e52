"""Rows of two programs are matched along a longest common sequence."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lumos.analysis.alignment import _by_occurrence, _longest_common, align
from tests.drawing import Drawing

letters = st.lists(st.integers(0, 3), max_size=14)


def longest_common_length(first, second):
    """By the textbook table: longest common sequence of all prefixes."""
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            table[i + 1][j + 1] = (
                table[i][j] + 1 if a == b else max(table[i][j + 1], table[i + 1][j])
            )
    return table[-1][-1]


@settings(deadline=None)
@given(letters, letters)
def test_the_matched_rows_are_a_longest_common_sequence(first, second):
    place, other = _longest_common(np.array(first, np.int64), np.array(second, np.int64), 100)
    assert [first[p] for p in place] == [second[p] for p in other]
    assert (np.diff(place) > 0).all()
    assert (np.diff(other) > 0).all()
    assert len(place) == longest_common_length(first, second)


@settings(deadline=None)
@given(letters, letters, st.integers(0, 6))
def test_sequences_that_differ_in_more_places_than_allowed_are_told(first, second, most):
    place, _ = _longest_common(np.array(first, np.int64), np.array(second, np.int64), most)
    shared = longest_common_length(first, second)
    differences = len(first) + len(second) - 2 * shared
    assert len(place) == (shared if differences <= most else 0)


def test_rows_too_different_to_align_are_matched_by_name_and_occurrence():
    place, other = _by_occurrence(np.array([1, 2, 1, 3]), np.array([3, 1, 1, 1]))
    assert list(zip(place.tolist(), other.tolist(), strict=True)) == [(0, 1), (2, 2), (3, 0)]


def drawn(*works, kernels=1):
    """A program with one launch behind each work; each launch starts `kernels` kernels."""
    drawing = Drawing()
    rank = drawing.rank()
    main, stream = rank.thread("main"), rank.stream(1)
    for work in works:
        main.work(work, 5)
        for _ in range(kernels):
            main.launch(stream, f"{work} kernel", 10)
    return drawing.job().programs[0]


def test_device_tasks_go_with_the_call_that_launched_them():
    first, second = drawn("a", "b", "c"), drawn("a", "x", "b", "c")
    pairs = align(first, second)
    for mine, theirs in zip(pairs.first, pairs.second, strict=True):
        assert first.names[first.rows.name[mine]] == second.names[second.rows.name[theirs]]
    assert len(pairs.first) == len(first.rows)


@pytest.mark.parametrize("kernels", [1, 2])
def test_a_program_matches_itself_row_by_row(kernels):
    program = drawn("a", "b", "a", kernels=kernels)
    pairs = align(program, program)
    np.testing.assert_array_equal(pairs.first, np.arange(len(program.rows)))
    np.testing.assert_array_equal(pairs.second, pairs.first)


def test_pairs_seen_from_the_other_side_are_the_same_pairs():
    pairs = align(drawn("a", "b", "c"), drawn("c", "a", "b"))
    back = pairs.swapped().swapped()
    np.testing.assert_array_equal(back.first, pairs.first)
    np.testing.assert_array_equal(back.second, pairs.second)
