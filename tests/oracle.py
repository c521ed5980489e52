"""A slow obvious simulator of Jobs: threads run rows, streams run queues, ranks meet.

Written from `reference/lumos.md` (Algorithm 1 in words) and from what calls mean to CUDA; it knows
the nouns of a Job and nothing of lumos.lower and lumos.simulate. There is no graph here: at every
turn all threads and streams are asked when the thing at their head could start, and the one that
starts first does (ties: rank, then row).

    head of a thread   its next row           head of a stream   its next task or wait, as given

What a row waits for that has not happened yet makes it "not yet"; if all heads say so, the job can
never finish.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from lumos.graph.job import (
    ALL_MEMBERS_WAIT,
    NONE,
    WHOLE_DEVICE,
    CollectiveKind,
    Job,
    Program,
    TaskKind,
)

FILLS_GPU_WAVES = 2
Where = tuple[int, int]
"""(place of the rank, row)."""


class NeverFinishes(Exception):
    """No thread and no stream can go on."""


@dataclass
class _Rank:
    program: Program
    threads: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    streams: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    begin: dict[int, int] = field(default_factory=dict)  # reached by the thread / ready to meet
    start: dict[int, int] = field(default_factory=dict)  # own time begins
    end: dict[int, int] = field(default_factory=dict)
    passed: dict[int, int] = field(default_factory=dict)  # wait row: when its stream got past it
    signals: dict[int, int | None] = field(default_factory=dict)  # looked up once
    given: dict[tuple[int, int], int | None] = field(default_factory=dict)
    blockers: dict[int, list[int]] = field(default_factory=dict)

    def done(self, item: int) -> int | None:
        """When a stream was done with an item: a task's end, a wait's passing."""
        waits = self.program.rows.kind[item] == TaskKind.WAIT_EVENT
        return (self.passed if waits else self.end).get(item)


class Oracle:
    """One run of a job; `times()` afterwards."""

    def __init__(self, job: Job, *, contention: bool = True):
        self.job, self.contention = job, contention
        self.ranks = [_Rank(job.programs[role]) for role in job.placement.role]
        for rank in self.ranks:
            rows = rank.program.rows
            for row in range(len(rows)):
                if rows.launch[row] == NONE:
                    rank.threads[int(rows.processor[row])].append(row)
                else:
                    rank.streams[int(rows.processor[row])].append(row)
                if rows.kind[row] == TaskKind.WAIT_EVENT:
                    rank.streams[int(rows.stream[row])].append(row)
        self.members: dict[Where, list[Where]] = {}
        self.sender: dict[Where, Where] = {}
        self._meet()
        self._pair()
        self.filled: dict[tuple[int, int], tuple[int, int]] = {}  # GPU -> (stream, until)

    def run(self) -> Oracle:
        """Run to the end."""
        at_thread = {(r, t): 0 for r, rank in enumerate(self.ranks) for t in rank.threads}
        at_stream = {(r, s): 0 for r, rank in enumerate(self.ranks) for s in rank.streams}
        while True:
            heads = []
            left = False
            for (r, thread), place in at_thread.items():
                order = self.ranks[r].threads[thread]
                if place < len(order):
                    left = True
                    time = self._host_ready(r, thread, place)
                    if time is not None:
                        heads.append((time, r, order[place], 0, thread))
            for (r, stream), place in at_stream.items():
                order = self.ranks[r].streams[stream]
                if place < len(order):
                    left = True
                    time = self._item_ready(r, stream, place)
                    if time is not None:
                        heads.append((time, r, order[place], 1, stream))
            if not left:
                return self
            if not heads:
                raise NeverFinishes
            time, r, row, on_stream, processor = min(heads)
            if not on_stream:
                self._run_host(r, processor, at_thread[r, processor], time)
                at_thread[r, processor] += 1
            elif self._run_item(r, processor, row, time):
                at_stream[r, processor] += 1

    def times(self) -> list[list[tuple[int, int, int]]]:
        """(begin, end, waited inside) of each row of each rank."""
        return [
            [
                (rank.begin[row], rank.end[row], rank.start[row] - rank.begin[row])
                for row in range(len(rank.program.rows))
            ]
            for rank in self.ranks
        ]

    # --- host threads

    def _host_ready(self, r: int, thread: int, place: int) -> int | None:
        rank, rows = self.ranks[r], self.ranks[r].program.rows
        order = rank.threads[thread]
        row = order[place]
        time = rank.end[order[place - 1]] if place else self._busy_until(r, thread)
        lags = self.job.lags
        kind = TaskKind(rows.kind[row])
        if kind == TaskKind.SYNCHRONIZE:
            if rows.awaits[row] != NONE and self._signal_of(r, row) is None:
                time = max(time, self._signalled_before(r, row))
            lag = lags.synchronize.get(rank.program.names[rows.name[row]], 0)
            for stream, before in self._awaited_by_call(r, row):
                item = self._last_given(r, stream, before)
                if item is None:
                    busy = self._busy_until(r, stream)
                    time = max(time, busy + lag if busy > 0 else 0)
                    continue
                done = rank.done(item)
                if done is None:
                    return None
                time = max(time, done + lag)
        elif rows.awaits[row] != NONE and kind != TaskKind.WAIT_EVENT:
            signal = self._signal_of(r, row)
            if signal is None:
                time = max(time, self._signalled_before(r, row))
            elif signal not in rank.end:
                return None
            else:
                time = max(time, rank.end[signal] + lags.hand_off)
        if lags.back_pressure_depth > 0 and kind == TaskKind.LAUNCH:
            for blocker in self._launches_before(r, row, lags.back_pressure_depth):
                if blocker not in rank.start:
                    return None
                time = max(time, rank.start[blocker])
        return time

    def _run_host(self, r: int, thread: int, place: int, time: int) -> None:
        rank, order = self.ranks[r], self.ranks[r].threads[thread]
        row = order[place]
        rank.begin[row] = rank.end[order[place - 1]] if place else time
        rank.start[row] = time
        rank.end[row] = time + int(rank.program.rows.duration_ns[row])

    def _awaited_by_call(self, r: int, row: int) -> list[tuple[int, int]]:
        """(stream, host position) pairs: what was given to the stream before that is awaited."""
        rows = self.ranks[r].program.rows
        if rows.awaits[row] != NONE:
            record = self._signal_of(r, row)
            return [] if record is None else [(int(rows.stream[record]), record)]
        if rows.stream[row] == WHOLE_DEVICE:
            processors = enumerate(self.ranks[r].program.processors)
            return [(number, row) for number, one in processors if one.is_stream]
        return [(int(rows.stream[row]), row)]

    def _launches_before(self, r: int, call: int, depth: int) -> list[int]:
        """On each stream that `call` gives tasks to, the first task of the call `depth` before."""
        rank, rows = self.ranks[r], self.ranks[r].program.rows
        if call in rank.blockers:
            return rank.blockers[call]
        found = rank.blockers[call] = []
        for order in rank.streams.values():
            calls: dict[int, int] = {}  # launching call -> its first task on this stream
            for item in order:
                if rows.launch[item] != NONE:
                    calls.setdefault(int(rows.launch[item]), item)
            numbered = list(calls)
            if call in calls and numbered.index(call) >= depth:
                found.append(calls[numbered[numbered.index(call) - depth]])
        return found

    # --- streams

    def _item_ready(self, r: int, stream: int, place: int) -> int | None:
        rank, rows, lags = self.ranks[r], self.ranks[r].program.rows, self.job.lags
        order = rank.streams[stream]
        item = order[place]
        if rows.kind[item] == TaskKind.WAIT_EVENT:
            return self._wait_ready(r, stream, place)
        if item in rank.begin:  # arrived: waits for the others
            return self._others_ready(r, item)
        call = int(rows.launch[item])
        if call not in rank.start:
            return None
        kind = TaskKind(rows.kind[item]).name
        name = rank.program.names[rows.name[call]]
        time = rank.start[call] + lags.launch.get(f"{name}|{kind}", 0)
        if place:
            before = rank.done(order[place - 1])
            assert before is not None
            time = max(time, before + lags.stream_order.get(kind, 0))
        else:
            time = max(time, self._busy_until(r, stream))
        if self._shares_gpu(r, item):
            holder, until = self.filled.get(self._gpu(r, stream), (NONE, 0))
            if holder not in (NONE, stream):
                time = max(time, until)
        return time

    def _wait_ready(self, r: int, stream: int, place: int) -> int | None:
        rank, rows = self.ranks[r], self.ranks[r].program.rows
        order = rank.streams[stream]
        row = order[place]
        if row not in rank.start:
            return None
        time = rank.start[row]
        if place:
            before = rank.done(order[place - 1])
            assert before is not None
            time = max(time, before)
        else:
            time = max(time, self._busy_until(r, stream))
        record = self._signal_of(r, row)
        if record is None:
            start = rank.program.start
            assert start is not None
            return max(time, start.slot_ns[int(rows.awaits[row])])
        captured = self._last_given(r, int(rows.stream[record]), record)
        if captured is None:
            return max(time, self._busy_until(r, int(rows.stream[record])))
        done = rank.done(captured)
        return None if done is None else max(time, done + self.job.lags.event_wait)

    def _run_item(self, r: int, stream: int, item: int, time: int) -> bool:
        """Let the item go on; False where it only arrived."""
        rank, rows = self.ranks[r], self.ranks[r].program.rows
        if rows.kind[item] == TaskKind.WAIT_EVENT:
            rank.passed[item] = time
            return True
        if ((r, item) in self.members or (r, item) in self.sender) and item not in rank.begin:
            rank.begin[item] = time
            return False
        rank.begin.setdefault(item, time)
        rank.start[item] = time
        duration = int(rows.duration_ns[item])
        rank.end[item] = time + duration
        waves = float(rows.waves[item])
        if self._shares_gpu(r, item) and waves >= FILLS_GPU_WAVES:
            handed_out = rank.end[item] - int(duration / waves)
            if handed_out > self.filled.get(self._gpu(r, stream), (NONE, 0))[1]:
                self.filled[self._gpu(r, stream)] = (stream, handed_out)
        return True

    def _shares_gpu(self, r: int, item: int) -> bool:
        program = self.ranks[r].program
        kind, name = program.rows.kind[item], program.names[program.rows.name[item]]
        return self.contention and (
            kind == TaskKind.KERNEL or (kind == TaskKind.COPY and "DtoD" in name)
        )

    def _gpu(self, r: int, stream: int) -> tuple[int, int]:
        return r, self.ranks[r].program.processors[stream].device

    # --- what belongs together

    def _busy_until(self, r: int, processor: int) -> int:
        start = self.ranks[r].program.start
        return 0 if start is None else int(start.free_ns[processor])

    def _signalled_before(self, r: int, row: int) -> int:
        start = self.ranks[r].program.start
        slot = int(self.ranks[r].program.rows.awaits[row])
        return 0 if start is None else start.slot_ns.get(slot, 0)

    def _last_given(self, r: int, stream: int, before: int) -> int | None:
        """The last item that `stream` was given before host position `before`."""
        rank = self.ranks[r]
        if (stream, before) not in rank.given:
            earlier = [item for item in rank.streams.get(stream, []) if item < before]
            rank.given[stream, before] = earlier[-1] if earlier else None
        return rank.given[stream, before]

    def _signal_of(self, r: int, row: int) -> int | None:
        rows, known = self.ranks[r].program.rows, self.ranks[r].signals
        if row not in known:
            block = rows.block[row] - rows.distance[row]
            found = [
                other
                for other in range(len(rows))
                if rows.signal[other] == rows.awaits[row] and rows.block[other] == block
            ]
            known[row] = found[-1] if found else None
        return known[row]

    def _meet(self) -> None:
        """The k-th collective of a group in a block is one for all its members."""
        meetings: dict[tuple[int, int, int], list[Where]] = defaultdict(list)
        for r, rank in enumerate(self.ranks):
            count: dict[tuple[int, int], int] = defaultdict(int)
            for row in range(len(rank.program.rows)):
                entry = int(rank.program.rows.collective[row])
                if entry == NONE or rank.program.collectives[entry].kind not in ALL_MEMBERS_WAIT:
                    continue
                key = (int(rank.program.rows.block[row]), rank.program.collectives[entry].group)
                meetings[(*key, count[key])].append((r, row))
                count[key] += 1
        for (_, group, _), members in meetings.items():
            if group != NONE and len(members) > 1:
                self.members.update(dict.fromkeys(members, members))

    def _pair(self) -> None:
        """The k-th message from one rank to another in a block is what the other receives k-th."""
        number = {rank: place for place, rank in enumerate(self.job.placement.ranks)}
        sent: dict[tuple[int, ...], list[Where]] = defaultdict(list)
        received: dict[tuple[int, ...], list[Where]] = defaultdict(list)
        for r, rank in enumerate(self.ranks):
            for row in range(len(rank.program.rows)):
                entry = int(rank.program.rows.collective[row])
                one = None if entry == NONE else rank.program.collectives[entry]
                if one is None or one.peer not in number:
                    continue
                block, peer = int(rank.program.rows.block[row]), number[one.peer]
                if one.kind == CollectiveKind.SEND:
                    sent[block, one.group, r, peer].append((r, row))
                elif one.kind == CollectiveKind.RECEIVE:
                    received[block, one.group, peer, r].append((r, row))
        for key, rows in received.items():
            for (r, row), (other, send) in zip(rows, sent[key], strict=False):
                program = self.ranks[other].program
                if program.collectives[program.rows.collective[send]].synchronous:
                    both = [(r, row), (other, send)]
                    self.members.update(dict.fromkeys(both, both))
                else:
                    self.sender[r, row] = other, send

    def _others_ready(self, r: int, item: int) -> int | None:
        times = [self.ranks[r].begin[item]]
        for other, row in self.members.get((r, item), []):
            if row not in self.ranks[other].begin:
                return None
            times.append(self.ranks[other].begin[row])
        if (r, item) in self.sender:
            other, row = self.sender[r, item]
            if row not in self.ranks[other].start:
                return None
            times.append(self.ranks[other].start[row])
        return max(times)


def oracle_times(job: Job, *, contention: bool = True) -> list[list[tuple[int, int, int]]]:
    """(begin, end, waited inside) of each row of each rank, simulated the slow way."""
    return Oracle(job, contention=contention).run().times()
