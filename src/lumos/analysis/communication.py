"""Communication by kind and group: bytes, transfer and waiting, bandwidth, who came last.

    rank 0 |.... waits ....|= transfer =|
    rank 1      |.. waits .|= transfer =|        skew: from the first arrival to the last
    rank 2                 |= transfer =|        came last: ranks 0 and 1 waited for it

Algorithm bandwidth is size over time, bus bandwidth that times a factor by which it can be held against
the speed of a link whatever the number of ranks (NVIDIA, nccl-tests, doc/PERFORMANCE.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from lumos.analysis.breakdown import intersection, length, union, working_rows
from lumos.catalog.hardware import Hardware, find_hardware
from lumos.graph.job import NONE, Collective, CollectiveKind, Job, Program
from lumos.graph.meetings import is_synchronous, meetings, messages
from lumos.graph.timeline import RankTimeline, Timeline
from lumos.graph.trace import ProcessGroup
from lumos.units import NS_PER_S

_SHARED = (CollectiveKind.ALL_GATHER, CollectiveKind.REDUCE_SCATTER, CollectiveKind.ALL_TO_ALL)


@dataclass(frozen=True)
class Latecomer:
    """A rank that came last: how often, how long the others waited for it, by how much it was last.

    `waited_ns` adds up the waiting of all others; `behind_ns` is what the group would have gained
    if this rank had come with the last but one.
    """

    rank: int
    times: int
    waited_ns: int
    behind_ns: int


@dataclass(frozen=True)
class Skew:
    """From the first arrival to the last [ns]: the middle one and the worst."""

    p50_ns: float
    max_ns: int


@dataclass(frozen=True)
class GroupCommunication:
    """All communication of one kind in one process group; times in ns, sums over its traced ranks.

    `group` is None where the trace does not tell it. `tasks` counts rows, `count` and `bytes` are
    those of one rank in the mean: its collectives, and their sizes as nccl-tests count them (None
    where one is unknown). `time_ns` is `transfer_ns`, `wait_ns` and `unmatched_ns`: of tasks not matched
    across ranks, with their waiting inside. `timed_bytes` moved in `timed_ns`: the bandwidth.
    """

    kind: CollectiveKind
    group: ProcessGroup | None
    ranks: int
    tasks: int
    bytes: int | None
    time_ns: int
    exposed_ns: int
    transfer_ns: int | None
    wait_ns: int | None
    unmatched_ns: int
    timed_bytes: float | None
    timed_ns: int
    skew: Skew | None
    latecomers: tuple[Latecomer, ...] = ()

    @property
    def count(self) -> int:
        """Collectives of one rank, in the mean."""
        return round(self.tasks / self.ranks)

    @property
    def overlapped_pct(self) -> float | None:
        """Share of its time in which the same rank computed."""
        return 100.0 * (1 - self.exposed_ns / self.time_ns) if self.time_ns else None

    @property
    def algorithm_bytes_per_s(self) -> float | None:
        """Size over time; at least that where waiting is inside the time."""
        if self.timed_bytes is None or not self.timed_ns:
            return None
        return self.timed_bytes * NS_PER_S / self.timed_ns

    @property
    def bus_bytes_per_s(self) -> float | None:
        """What the slowest link carries; None where the size of the group is unknown."""
        rate = self.algorithm_bytes_per_s
        factor = bus_factor(self.kind, None if self.group is None else len(self.group.ranks))
        return None if rate is None or factor is None else rate * factor


@dataclass(frozen=True)
class StepCommunication:
    """The communication of a step as it was measured and as it was replayed, longest first."""

    step: str
    measured: tuple[GroupCommunication, ...]
    replayed: tuple[GroupCommunication, ...]
    hardware: Hardware | None = field(repr=False, default=None)

    def link_pct(self, one: GroupCommunication) -> float | None:
        """Bus bandwidth in % of what one GPU sends over all its links; None where unknown.

        It concerns groups inside one machine: the catalogue knows no networks.
        """
        link = None if self.hardware is None else self.hardware.link_bytes_per_s
        rate = one.bus_bytes_per_s
        return None if link is None or rate is None else 100.0 * rate / link


def step_communication(
    step: str, job: Job, measured: Timeline, replayed: Timeline
) -> StepCommunication:
    """The communication of a step of `job` in its measured and its replayed run."""
    gpu = find_hardware(job.placement.gpu)
    runs = communication(job, measured), communication(job, replayed)
    return StepCommunication(step, *runs, gpu)


def bus_factor(kind: CollectiveKind, members: int | None) -> float | None:
    """Bus bandwidth over algorithm bandwidth (nccl-tests, doc/PERFORMANCE.md)."""
    if kind in (CollectiveKind.BARRIER, CollectiveKind.UNKNOWN) or members is None:
        return None
    if kind == CollectiveKind.ALL_REDUCE:
        return 2.0 * (members - 1) / members
    if kind in (*_SHARED, CollectiveKind.GATHER, CollectiveKind.SCATTER):
        return (members - 1) / members
    return 1.0


def size_of(one: Collective, members: int | None) -> float | None:
    """The size of a collective as nccl-tests count it [bytes]; None where unknown.

    That of the whole result of an all-gather, of the whole input of a reduce-scatter.
    """
    given, taken = one.in_bytes, one.out_bytes
    if one.kind == CollectiveKind.ALL_GATHER:
        given, taken = taken, None if given is None or members is None else given * members
    elif one.kind == CollectiveKind.REDUCE_SCATTER and given is None:
        taken = None if taken is None or members is None else taken * members
    elif one.kind == CollectiveKind.RECEIVE:
        given, taken = taken, given
    elif one.kind in (CollectiveKind.GATHER, CollectiveKind.SCATTER, CollectiveKind.BARRIER):
        return None
    return given if given is not None else taken


def communication(job: Job, run: Timeline) -> tuple[GroupCommunication, ...]:
    """The communication of one run by kind and group, longest first."""
    tasks = _tasks(job, run)
    found = [
        _summed(CollectiveKind(kind), number, tasks, job)
        for kind, number in sorted(set(zip(tasks.kind.tolist(), tasks.group.tolist(), strict=True)))
    ]
    return tuple(sorted(found, key=lambda one: -one.time_ns))


@dataclass(frozen=True)
class _Tasks:
    """Every communicating row of all ranks: columns, times in ns.

    `meeting` numbers the collective or message that a row is part of, NONE where it was not matched;
    `last_ns` is when the last of its members came. `buffered` sends wait for nobody.
    """

    place: NDArray[np.int64]
    kind: NDArray[np.int64]
    group: NDArray[np.int64]
    size: NDArray[np.float64]
    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    meeting: NDArray[np.int64]
    last_ns: NDArray[np.int64]
    buffered: NDArray[np.bool_]
    exposed_ns: Mapping[tuple[int, int], int]  # by kind and group, over all ranks

    @property
    def wait_ns(self) -> NDArray[np.int64]:
        """How long each waited for the last one."""
        wait = np.minimum(self.last_ns, self.end_ns) - self.start_ns
        return np.where((self.meeting == NONE) | self.buffered, 0, wait)


def _tasks(job: Job, run: Timeline) -> _Tasks:
    columns, exposed = [], Counter[tuple[int, int]]()
    for place, (role, rank) in enumerate(zip(job.placement.role, run.ranks, strict=True)):
        program = job.programs[role]
        row = np.flatnonzero(program.rows.collective != NONE)
        number = program.rows.collective[row]
        kind, group, size = _known(program, job.placement.groups)
        own = row, kind[number], group[number], size[number], rank.start_ns[row], rank.end_ns[row]
        columns.append((np.full(len(row), place), *own))
        exposed.update(_exposed(program, rank, row, kind[number], group[number]))
    place_of, row, kind, group, size, start, end = map(np.concatenate, zip(*columns, strict=True))
    meeting, buffered = _meetings(job, place_of, row)
    last = np.full(int(meeting.max(initial=NONE)) + 2, np.iinfo(np.int64).min)
    np.maximum.at(last, meeting, start)
    return _Tasks(
        place_of, kind, group, size, start, end, meeting, last[meeting], buffered, exposed
    )


def _known(
    program: Program, groups: Sequence[ProcessGroup]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Kind, group and size (nan: unknown) of each entry of a program's collectives."""
    every = program.collectives
    members = [None if one.group == NONE else len(groups[one.group].ranks) for one in every]
    sizes = [size_of(one, count) for one, count in zip(every, members, strict=True)]
    return (
        np.array([one.kind for one in every], np.int64),
        np.array([one.group for one in every], np.int64),
        np.array([np.nan if size is None else size for size in sizes], np.float64),
    )


def _exposed(
    program: Program,
    run: RankTimeline,
    row: NDArray[np.intp],
    kind: NDArray[np.int64],
    group: NDArray[np.int64],
) -> dict[tuple[int, int], int]:
    """Time of each kind and group of one rank in which the rank did not compute [ns]."""
    if not len(row):
        return {}
    span = int(run.start_ns[row].min()), int(run.end_ns[row].max())
    compute = union(run, working_rows(program)[0], *span)
    found = {}
    for key in set(zip(kind.tolist(), group.tolist(), strict=True)):
        own = np.zeros(len(program.rows), bool)
        own[row[(kind == key[0]) & (group == key[1])]] = True
        busy = union(run, own, *span)
        found[key] = length(busy) - length(intersection(busy, compute))
    return found


def _meetings(
    job: Job, place: NDArray[np.int64], row: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The collective or message that each row is part of, and which rows are buffered sends."""
    programs = [job.programs[role] for role in job.placement.role]
    pairs = messages(programs, job.placement.ranks)
    members = [*meetings(programs), *(list(pair) for pair in pairs)]
    number = np.repeat(np.arange(len(members)), [len(own) for own in members])
    flat = np.array([one for own in members for one in own], np.int64).reshape(-1, 2)
    key = place << 32 | row
    where = np.searchsorted(key, flat[:, 0] << 32 | flat[:, 1])
    meeting = np.full(len(row), NONE, np.int64)
    meeting[where] = number
    buffered = np.zeros(len(row), bool)
    sends = where[len(where) - 2 * len(pairs) :: 2]
    buffered[sends] = [not is_synchronous(programs, pair) for pair in pairs]
    return meeting, buffered


def _summed(kind: CollectiveKind, number: int, tasks: _Tasks, job: Job) -> GroupCommunication:
    own = (tasks.kind == kind) & (tasks.group == number)
    matched = own & (tasks.meeting != NONE)
    time, wait = tasks.end_ns - tasks.start_ns, tasks.wait_ns
    ranks, size = len(np.unique(tasks.place[own])), tasks.size[own]
    met = bool(matched.any())
    timed = (matched if met else own) & ~tasks.buffered
    known = timed.any() and not np.isnan(tasks.size[timed]).any()
    waited = int(wait[matched].sum())
    return GroupCommunication(
        kind=kind,
        group=None if number == NONE else job.placement.groups[number],
        ranks=ranks,
        tasks=int(own.sum()),
        bytes=None if np.isnan(size).any() else round(float(size.sum()) / ranks),
        time_ns=int(time[own].sum()),
        exposed_ns=tasks.exposed_ns[int(kind), number],
        transfer_ns=int(time[matched].sum()) - waited if met else None,
        wait_ns=waited if met else None,
        unmatched_ns=int(time[own & ~matched].sum()),
        timed_bytes=float(tasks.size[timed].sum()) if known else None,
        timed_ns=int((time - wait)[timed].sum()),
        **_arrivals(tasks, matched, job.placement.ranks),
    )


class _Arrivals(TypedDict):
    skew: Skew | None
    latecomers: tuple[Latecomer, ...]


def _arrivals(tasks: _Tasks, matched: NDArray[np.bool_], ranks: Sequence[int]) -> _Arrivals:
    """How far apart the members of collectives came, and who came last.

    Of messages both ends count, and they stand with the receives.
    """
    waiting = matched & (tasks.kind != CollectiveKind.SEND)
    members = np.flatnonzero(
        np.isin(tasks.meeting, tasks.meeting[waiting]) & (tasks.meeting != NONE)
    )
    if not len(members):
        return {"skew": None, "latecomers": ()}
    members = members[np.lexsort((tasks.start_ns[members], tasks.meeting[members]))]
    last = np.flatnonzero(np.append(np.diff(tasks.meeting[members]) != 0, True))
    first = np.append(0, last[:-1] + 1)
    start = tasks.start_ns[members]
    apart = start[last] - start[first]
    # a buffered send that comes last was waited for; one that comes first waits for nobody
    waited = np.add.reduceat(tasks.wait_ns[members], first)
    behind = np.minimum(start[last] - start[last - 1], waited)
    late = tasks.place[members[last]]
    found = [
        Latecomer(
            ranks[place], int((late == place).sum()), int(waited[late == place].sum()),
            int(behind[late == place].sum()),
        )
        for place in np.unique(late).tolist()
    ]  # fmt: skip
    found.sort(key=lambda one: (-one.waited_ns, -one.times))
    skew = Skew(float(np.percentile(apart, 50)), int(apart.max()))
    return {"skew": skew, "latecomers": tuple(found)}
