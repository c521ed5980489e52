"""Which row of one program is which row of another: the longest common sequence of their rows.

Host rows are aligned thread by thread, by kind and operator; a device row goes with the call that
launched it.

    first  | embedding | linear | gelu | linear |          | loss |
               |           |                 |                |
    second | embedding | linear |        | linear | dropout | loss |
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lumos.compiled import compiled
from lumos.graph.job import NONE, Program
from lumos.graph.labels import By, labels

MOST_DIFFERENCES = 4096
"""Threads that differ in more rows are matched by name and occurrence: time and memory grow with the square."""


@dataclass(frozen=True)
class Alignment:
    """Pairs of rows, `first[i]` of one program being `second[i]` of the other; ascending in `first`."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]

    def column(
        self, rows: int, other: NDArray[np.int64], unmatched: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """A column of the first program (`rows` long) with the second's values where rows match."""
        assert len(unmatched) == rows
        column = unmatched.copy()
        column[self.first] = other[self.second]
        return column

    def swapped(self) -> Alignment:
        """The same pairs seen from the second program."""
        order = np.argsort(self.second)
        return Alignment(self.second[order], self.first[order])


def align(first: Program, second: Program) -> Alignment:
    """Match the rows of two programs."""
    numbers: dict[str, int] = {}
    keys = [row_keys(program, numbers) for program in (first, second)]
    pairs = [
        _align_sequences(keys[0][mine], keys[1][theirs], mine, theirs)
        for mine, theirs in zip(_threads(first), _threads(second), strict=False)
    ]
    host_first = np.concatenate([np.empty(0, np.int64), *(pair[0] for pair in pairs)])
    host_second = np.concatenate([np.empty(0, np.int64), *(pair[1] for pair in pairs)])
    device_first, device_second = _launched(first, second, host_first, host_second)
    whole_first = np.concatenate([host_first, device_first])
    order = np.argsort(whole_first)
    return Alignment(whole_first[order], np.concatenate([host_second, device_second])[order])


def row_keys(program: Program, numbers: dict[str, int]) -> NDArray[np.int64]:
    """One number for the kind and name of each row, the same in both programs.

    A launch goes by what it launches: all of them are called alike.
    """
    operators = labels(program, By.OPERATOR)
    known = [numbers.setdefault(text, len(numbers)) for text in operators.texts]
    number = np.array(known or [0], np.int64)[operators.number]
    rows = program.rows
    device = np.flatnonzero(rows.on_device)[::-1]  # of several tasks the first counts
    number[rows.launch[device]] = number[device]
    return number * 256 + rows.kind  # type: ignore[no-any-return]


def _threads(program: Program) -> list[NDArray[np.int64]]:
    """The host rows of each thread: the main thread first, then in order of appearance."""
    rows = program.rows
    host = np.flatnonzero(~rows.on_device)
    processors = rows.processor[host]
    found, begin = np.unique(processors, return_index=True)
    order = sorted(
        range(len(found)), key=lambda place: (found[place] != program.main_thread, begin[place])
    )
    return [host[processors == found[place]] for place in order]


def _align_sequences(
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    first_rows: NDArray[np.int64],
    second_rows: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if len(first) == len(second) and (first == second).all():
        return first_rows, second_rows
    place, other = _longest_common(first, second, MOST_DIFFERENCES)
    if len(place) == 0:
        place, other = _by_occurrence(first, second)
    return first_rows[place], second_rows[other]


def _by_occurrence(
    first: NDArray[np.int64], second: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The k-th row of a name goes with the k-th row of that name."""
    places: dict[tuple[int, int], int] = {}
    seen: dict[int, int] = {}
    for place, key in enumerate(first.tolist()):
        seen[key] = seen.get(key, -1) + 1
        places[key, seen[key]] = place
    seen.clear()
    pairs = []
    for place, key in enumerate(second.tolist()):
        seen[key] = seen.get(key, -1) + 1
        if (mine := places.get((key, seen[key]))) is not None:
            pairs.append((mine, place))
    found = np.array(sorted(pairs), np.int64).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def _launched(
    first: Program, second: Program, host_first: NDArray[np.int64], host_second: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Device rows of matched calls: the k-th task of a kind with the k-th task of that kind."""
    partner = np.full(len(first.rows), NONE, np.int64)
    partner[host_first] = host_second
    mine, theirs = np.flatnonzero(first.rows.on_device), np.flatnonzero(second.rows.on_device)
    call = partner[first.rows.launch[mine]]
    mine, call = mine[call != NONE], call[call != NONE]
    most = max(len(mine), len(theirs)) + 1
    left = _task_keys(call, first.rows.kind[mine], most)
    right = _task_keys(second.rows.launch[theirs].astype(np.int64), second.rows.kind[theirs], most)
    if not len(left) or not len(right):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    order = np.argsort(right)
    place = np.minimum(np.searchsorted(right, left, sorter=order), len(order) - 1)
    candidate = order[place]
    same = right[candidate] == left
    return mine[same], theirs[candidate[same]]


def _task_keys(call: NDArray[np.int64], kind: NDArray[np.uint8], most: int) -> NDArray[np.int64]:
    """One number for (call, kind, which of its fewer than `most` tasks of that kind)."""
    pair = call * 16 + kind
    order = np.argsort(pair, kind="stable")
    ordered = pair[order]
    new = np.ones(len(pair), bool)
    new[1:] = ordered[1:] != ordered[:-1]
    begin = np.maximum.accumulate(np.where(new, np.arange(len(pair)), 0))
    which = np.empty(len(pair), np.int64)
    which[order] = np.arange(len(pair)) - begin
    return pair * most + which


@compiled()
def _longest_common(first, second, most):  # type: ignore[no-untyped-def]
    """Places of a longest common subsequence (Myers, An O(ND) difference algorithm, 1986).

    Empty where the sequences differ in more than `most` places.
    """
    low = 0
    while low < len(first) and low < len(second) and first[low] == second[low]:
        low += 1
    high = 0
    while (
        high < len(first) - low
        and high < len(second) - low
        and first[len(first) - 1 - high] == second[len(second) - 1 - high]
    ):
        high += 1
    n, m = len(first) - low - high, len(second) - low - high
    most = min(most, n + m)
    # furthest[d][k]: how far along `first` d differences lead on diagonal k = place - other
    begin = np.empty(most + 2, np.int64)
    begin[0] = 0
    for d in range(most + 1):
        begin[d + 1] = begin[d] + 2 * d + 1
    reached = np.empty(begin[min(most, 63) + 1], np.int32)
    found = -1
    for d in range(most + 1):
        if begin[d + 1] > len(reached):
            larger = np.empty(min(begin[most + 1], 2 * begin[d + 1]), np.int32)
            larger[: len(reached)] = reached
            reached = larger
        for k in range(-d, d + 1, 2):
            if d == 0:
                x = np.int64(0)
            else:
                base = begin[d - 1] + d - 1
                down = k == -d or (k != d and reached[base + k - 1] < reached[base + k + 1])
                x = np.int64(reached[base + k + 1]) if down else np.int64(reached[base + k - 1]) + 1
            while 0 <= x < n and 0 <= x - k < m and first[low + x] == second[low + x - k]:
                x += 1
            reached[begin[d] + d + k] = x
            if x >= n and x - k >= m:
                found = d
                break
        if found >= 0:
            break
    if found < 0:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    return _read_back(reached, begin, found, n, m, low, high, len(first), len(second))


@compiled()
def _read_back(reached, begin, found, n, m, low, high, count, other_count):  # type: ignore[no-untyped-def]
    """The matches along the way that `found` differences took, prefix and suffix included."""
    place = np.empty(min(count, other_count), np.int64)
    other = np.empty(min(count, other_count), np.int64)
    size = len(place)
    at = size
    for back in range(high):
        at -= 1
        place[at], other[at] = count - 1 - back, other_count - 1 - back
    x, y = n, m
    for d in range(found, -1, -1):
        k = x - y
        if d == 0:
            old_x, old_y = np.int64(0), np.int64(0)
        else:
            base = begin[d - 1] + d - 1
            down = k == -d or (k != d and reached[base + k - 1] < reached[base + k + 1])
            old_k = k + 1 if down else k - 1
            old_x = np.int64(reached[base + old_k])
            old_y = old_x - old_k
            # the step itself, before the run of equal rows
            start_x = old_x if down else old_x + 1
        stop = 0 if d == 0 else start_x
        while x > stop:
            x -= 1
            y -= 1
            at -= 1
            place[at], other[at] = low + x, low + y
        x, y = old_x, old_y
    for back in range(low - 1, -1, -1):
        at -= 1
        place[at], other[at] = back, back
    return place[at:].copy(), other[at:].copy()
