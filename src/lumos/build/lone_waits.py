"""Waits outside any communication launch: what each may mean, and a vote of the steps on it.

Candidates come from the program: the stream that waits is launched on next, the one awaited was
given something before. A wait stands at the same place in every step, so the meaning that held
tasks back in most of the other steps, and is impossible in none, is taken.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lumos.build.bisection import first_at_least
from lumos.build.fans import Fan
from lumos.build.launches import BINDING_NS, EARLY_NS, LAUNCHED_BEFORE_NS, Launches
from lumos.build.wait import Evidence, Wait
from lumos.compiled import compiled
from lumos.graph.job import NONE

TIMES, OWN_TIMES, ORDER = int(Evidence.TIMES), int(Evidence.OWN_TIMES), int(Evidence.ORDER)
MAXIMUM_BACK = 12
"""How many tasks of a communication stream a wait may reach back."""


class Candidates(NamedTuple):
    """Possible meanings of waits in order of preference: those of wait `w` are `first[w]:first[w+1]`.

    Stream `waiting` waits for the task `back` places before the last one that `source` was given;
    `binds` where that held the next task of `waiting` back.
    """

    first: NDArray[np.int64]
    waiting: NDArray[np.int64]
    source: NDArray[np.int64]
    back: NDArray[np.int64]
    binds: NDArray[np.bool_]


def lone_waits(
    launches: Launches,
    calls: NDArray[np.intp],
    fans: dict[int, Fan],
    step_of_segment: NDArray[np.int32],
) -> list[Wait]:
    """The compute stream waits for another one, or streams fork and join."""
    if not len(calls):
        return []
    found = candidates_of(launches, calls, fans)
    chosen, evidence = _vote(found, *_places(launches, calls, step_of_segment))
    waits = []
    for call, choice, why in zip(calls.tolist(), chosen.tolist(), evidence.tolist(), strict=True):
        if choice == NONE:
            continue
        waiting, source = int(found.waiting[choice]), int(found.source[choice])
        last = launches.last_before(source, int(launches.segments.start_ns[call]))
        awaited = last - int(found.back[choice])
        record = int(launches.tasks.segment[awaited])
        waits.append(Wait(call, waiting, source, awaited, record, Evidence(why)))
    return waits


def candidates_of(launches: Launches, calls: NDArray[np.intp], fans: dict[int, Fan]) -> Candidates:
    """The possible meanings of each wait."""
    segments, tasks = launches.segments, launches.tasks
    following = np.append(calls[1:], NONE)
    other_thread = segments.thread[following] != segments.thread[calls]
    between = np.searchsorted(launches.segment, calls) < np.searchsorted(
        launches.segment, following
    )
    fan = np.array([call in fans for call in calls.tolist()], bool)
    first, table = _candidates(
        calls, segments.start_ns[calls], segments.thread[calls],
        (following == NONE) | other_thread | between, fan,
        launches.first, launches.segment, launches.stream,
        launches.plain_first, launches.plain_segment, launches.plain_stream,
        tasks.first, tasks.stream, tasks.start_ns, tasks.end_ns, launches.launch_ns,
        launches.task_communicates, launches.computes,
    )  # fmt: skip
    return Candidates(first, table[:, 0], table[:, 1], table[:, 2], table[:, 3] != 0)


@compiled()
def _candidates(  # type: ignore[no-untyped-def]
    calls, time_ns, thread, launches_next, fan, first, segment, stream, plain_first, plain_segment,
    plain_stream, task_first, task_stream, start, end, launch_ns, communicates, computes,
):  # fmt: skip
    begins = np.zeros(len(calls) + 1, np.int64)
    table = np.empty((4 * len(calls) + 16, 4), np.int64)
    fits = task_first, task_stream, start, end, launch_ns
    n = 0
    for wait in range(len(calls)):
        begins[wait] = n
        call, now = calls[wait], time_ns[wait]
        # room for every task of every pair of streams that could be meant
        most = n + 2 * MAXIMUM_BACK * len(computes) + 1
        if most > len(table):
            table = _larger(table, n, 2 * most)
        low, high = first[thread[wait]], first[thread[wait] + 1]
        if fan[wait]:
            n = _fan_candidate(call, now, low, high, segment, stream, fits, table, n)
            if n > begins[wait]:
                continue
        low, high = plain_first[thread[wait]], plain_first[thread[wait] + 1]
        place = first_at_least(plain_segment, low, high, call)
        before = plain_stream[place - 1] if place > low else NONE
        after = plain_stream[place] if place < high else NONE
        # the stream launched on next waits; where another wait comes first, that one is for the
        # next launch and this one for the stream launched on before; streams that only copy come last
        one, other = (after, before) if launches_next[wait] else (before, after)
        if NONE not in (one, other) and computes[other] and not computes[one]:
            one, other = other, one
        n = _sources(one, now, fits, communicates, len(computes), table, n)
        if other != one:
            n = _sources(other, now, fits, communicates, len(computes), table, n)
    begins[len(calls)] = n
    return begins, table[:n]


@compiled()
def _larger(table, used, size):  # type: ignore[no-untyped-def]
    larger = np.empty((size, 4), np.int64)
    for row in range(used):
        for column in range(4):
            larger[row, column] = table[row, column]
    return larger


@compiled()
def _fan_candidate(call, now, low, high, segment, stream, fits, table, n):  # type: ignore[no-untyped-def]
    """In a fork or a join the stream gone on with waits for the one left."""
    place = first_at_least(segment, low, high, call)
    if place == low:
        return n
    source = stream[place - 1]
    while place < high and stream[place] == source:
        place += 1
    if place == high:
        return n
    waiting = stream[place]
    task, awaited = _first_after(waiting, now, fits), _last_before(source, now, fits)
    if NONE in (task, awaited):
        return n
    return _add(waiting, source, 0, task, awaited, fits, table, n)


@compiled()
def _sources(waiting, now, fits, communicates, streams, table, n):  # type: ignore[no-untyped-def]
    """What `waiting` may wait for at host time `now`, stream by stream, latest first."""
    if waiting == NONE:
        return n
    task = _first_after(waiting, now, fits)
    if task == NONE:
        return n
    for source in range(streams):
        if source == waiting:
            continue
        last = _last_before(source, now, fits)
        if last == NONE:
            continue
        for back in range(MAXIMUM_BACK if communicates[last] else 1):
            if last - back < fits[0][source]:
                break
            n = _add(waiting, source, back, task, last - back, fits, table, n)
    return n


@compiled()
def _add(waiting, source, back, task, awaited, fits, table, n):  # type: ignore[no-untyped-def]
    """Write a candidate down unless times exclude it (see Launches.fits)."""
    task_first, task_stream, start, end, launch_ns = fits
    gap = start[task] - end[awaited]
    if gap < -EARLY_NS:
        return n
    ready = launch_ns[task] + LAUNCHED_BEFORE_NS
    if task > task_first[task_stream[task]]:
        ready = max(ready, end[task - 1])
    table[n, 0], table[n, 1], table[n, 2] = waiting, source, back
    table[n, 3] = gap <= BINDING_NS and max(ready, 0) < end[awaited]
    return n + 1


@compiled()
def _last_before(stream, now, fits):  # type: ignore[no-untyped-def]
    low, high = fits[0][stream], fits[0][stream + 1]
    place = first_at_least(fits[4], low, high, now)
    return place - 1 if place > low else NONE


@compiled()
def _first_after(stream, now, fits):  # type: ignore[no-untyped-def]
    low, high = fits[0][stream], fits[0][stream + 1]
    place = first_at_least(fits[4], low, high, now)
    return place if place < high else NONE


def _places(
    launches: Launches, calls: NDArray[np.intp], step_of_segment: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The place of each wait in the program, and how many steps have that place.

    A place is a thread and a number among the waits of a step; steps are compared only where they
    have equally many such waits. `calls` are in order.
    """
    thread = launches.segments.thread[calls].astype(np.int64)
    step = step_of_segment[calls].astype(np.int64)
    order = np.lexsort((np.arange(len(calls)), step, thread))
    changed = (np.diff(thread[order]) != 0) | (np.diff(step[order]) != 0)
    begins = np.flatnonzero(np.append(True, changed))
    size = np.diff(np.append(begins, len(calls)))
    number, members = np.empty_like(thread), np.empty_like(thread)
    number[order] = np.arange(len(calls)) - np.repeat(begins, size)
    members[order] = np.repeat(size, size)
    keys = np.stack([thread, members, number])
    _, place, steps = np.unique(keys, axis=1, return_inverse=True, return_counts=True)
    return place.reshape(-1), steps[place.reshape(-1)]


def _vote(
    found: Candidates, place: NDArray[np.int64], steps: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each wait the candidate that is taken (NONE without any) and the evidence for it."""
    wait = np.repeat(np.arange(len(place)), np.diff(found.first))
    streams = int(max(found.waiting.max(initial=0), found.source.max(initial=0))) + 1
    meaning = (found.waiting * streams + found.source) * MAXIMUM_BACK + found.back
    _, same = np.unique(
        place[wait] * (streams * streams * MAXIMUM_BACK) + meaning, return_inverse=True
    )
    possible = np.bincount(same)[same] == steps[wait]
    binding = np.bincount(same, found.binds)[same].astype(np.int64)
    return _choose(found.first, possible, binding - found.binds, found.binds)  # type: ignore[no-any-return]


@compiled()
def _choose(first, possible, votes, binds):  # type: ignore[no-untyped-def]
    """The meaning with most votes of other steps; else one that binds in its own; else the first."""
    chosen = np.full(len(first) - 1, NONE, np.int64)
    evidence = np.full(len(first) - 1, ORDER, np.int64)
    for wait in range(len(chosen)):
        low, high = first[wait], first[wait + 1]
        everywhere = False
        for row in range(low, high):
            everywhere = everywhere or possible[row]
        best, own = 0, NONE
        for row in range(low, high):
            if everywhere and not possible[row]:
                continue
            if chosen[wait] == NONE:
                chosen[wait] = row
            if votes[row] > best:
                best, chosen[wait], evidence[wait] = votes[row], row, TIMES
            if own == NONE and binds[row]:
                own = row
        if best == 0 and own != NONE:
            chosen[wait], evidence[wait] = own, OWN_TIMES
    return chosen, evidence
