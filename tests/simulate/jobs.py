"""Random small jobs for hypothesis: lists of calls, written onto ranks one after another.

Whatever a call waits for stands before it in the list, so every job can finish.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import strategies as st

from lumos.graph.job import NONE, WHOLE_DEVICE, CollectiveKind, Job, TaskKind
from tests.drawing import Drawing, Rank, Thread

KINDS = ("work", "gap", "launch", "launch", "launch", "copy", "graph", "record", "wait", "wait",
         "synchronize", "signal", "hand_off", "collective", "message", "block")  # fmt: skip
TALKATIVE = ("work", "launch", "launch", "collective", "collective", "message", "message", "block")
"""Calls of jobs that mostly communicate."""
COLLECTIVES = (CollectiveKind.ALL_REDUCE, CollectiveKind.ALL_GATHER, CollectiveKind.BROADCAST)
small = st.integers(0, 40)


@dataclass
class _Written:
    """One rank while it is written: what can be awaited."""

    rank: Rank
    threads: list[Thread]
    streams: list[int]
    recorded: list[int] = field(default_factory=lambda: [0])  # records in each block
    signalled: list[list[tuple[int, str]]] = field(default_factory=lambda: [[]])


@st.composite
def jobs(
    draw: st.DrawFn, *, most_ranks: int = 1, most_threads: int = 2, waves: bool = False,
    calls: int = 30, kinds: Sequence[str] = KINDS,
) -> Job:  # fmt: skip
    """A job of up to `most_ranks` ranks; `waves` lets kernels fill their GPU, `kinds` are its calls."""
    drawn = Drawing(
        launch={name: draw(st.integers(1, 9)) for name in _launch_classes()},
        stream_order={k.name: draw(st.integers(1, 5)) for k in TaskKind if k >= TaskKind.KERNEL},
        event_wait=draw(st.integers(0, 5)),
        synchronize={n: draw(st.integers(0, 5)) for n in ("cudaStreamSynchronize", "event")},
        hand_off=draw(st.integers(0, 5)),
        depth=draw(st.sampled_from([0, 0, 1, 2, 3])),
    )
    count = draw(st.integers(1, most_ranks))
    for name, members in (("all", range(count)), ("ends", {0, count - 1})):
        drawn.group(name, *members)
    ranks = [_rank(draw, drawn, most_threads) for _ in range(count)]
    for one in ranks:
        one.threads[0].work("begin", draw(small))
    for kind in draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=calls)):
        _write(draw, kind, ranks, waves=waves)
    for one in ranks:
        one.threads[0].work("end", 1)
        if draw(st.booleans()):
            free = {number: draw(small) for number in range(1, len(one.rank.processors))}
            one.rank.starts(free, {"early": draw(small)})
        else:
            one.rank.starts({}, {"early": 0})
    return drawn.job()


def _launch_classes() -> list[str]:
    calls = ("cudaLaunchKernel", "cudaGraphLaunch", "cudaMemcpyAsync")
    return [f"{call}|{kind.name}" for call in calls for kind in TaskKind if kind >= TaskKind.KERNEL]


def _rank(draw: st.DrawFn, drawn: Drawing, most_threads: int) -> _Written:
    rank = drawn.rank()
    threads = [rank.thread(f"thread {n}") for n in range(draw(st.integers(1, most_threads)))]
    return _Written(rank, threads, [rank.stream(n) for n in range(draw(st.integers(1, 3)))])


def _write(draw: st.DrawFn, kind: str, ranks: list[_Written], *, waves: bool) -> None:
    if kind == "block":
        for one in ranks:
            one.threads[0].work("last", draw(small))  # a block has a row on every rank
            one.rank.block(f"step {len(one.rank.blocks)}")
            one.recorded.append(0)
            one.signalled.append([])
        return
    if kind == "collective":
        group = draw(st.sampled_from(["all", "ends"]))
        which = draw(st.sampled_from(COLLECTIVES))
        for number in sorted(ranks[0].rank.drawing.groups[group]):
            thread, stream = _place(draw, ranks[number])
            thread.collective(
                stream, f"{which.name} {group}", draw(small), group, which, call=draw(small)
            )
        return
    if kind == "message":
        source, target = draw(st.permutations(range(len(ranks))))[:2] if len(ranks) > 1 else (0, 0)
        synchronous = draw(st.booleans())
        for mine, peer, which in (
            (source, target, CollectiveKind.SEND),
            (target, source, CollectiveKind.RECEIVE),
        ):
            thread, stream = _place(draw, ranks[mine])
            known = peer if len(ranks) > 1 else NONE
            thread.collective(
                stream, which.name, draw(small), "all", which, call=draw(small), peer=known,
                synchronous=synchronous,
            )  # fmt: skip
        return
    _write_own(draw, kind, draw(st.sampled_from(ranks)), waves=waves)


def _place(draw: st.DrawFn, one: _Written) -> tuple[Thread, int]:
    return draw(st.sampled_from(one.threads)), draw(st.sampled_from(one.streams))


def _write_own(draw: st.DrawFn, kind: str, one: _Written, *, waves: bool) -> None:
    thread, stream = _place(draw, one)
    block = len(one.rank.blocks) - 1 if one.rank.blocks else 0
    length = draw(small)
    if kind == "work":
        thread.work("work", length)
    elif kind == "gap":
        thread.gap(length)
    elif kind == "launch":
        fill = draw(st.sampled_from([0, 0.5, 1, 2, 3.5, 10])) if waves else 0
        thread.launch(stream, "kernel", draw(small), length, waves=fill)
    elif kind == "copy":
        name = draw(st.sampled_from(["Memcpy HtoD", "Memcpy DtoD"]))
        thread.launch(stream, name, draw(small), length, kind=TaskKind.COPY, by="cudaMemcpyAsync")
    elif kind == "graph":
        streams = draw(st.lists(st.sampled_from(one.streams), min_size=1, max_size=4))
        thread.graph([(s, "node", draw(small)) for s in streams], length)
    elif kind == "record":
        thread.record(stream, f"event {one.recorded[-1]}", length)
        one.recorded[-1] += 1
    elif kind == "wait":
        known = [
            (block - b, f"event {n}") for b, count in enumerate(one.recorded) for n in range(count)
        ]
        distance, slot = draw(st.sampled_from([(block + 1, "early"), *known]))
        thread.wait(stream, slot, distance, length)
    elif kind == "synchronize":
        _synchronize(draw, one, thread, stream, length)
    elif kind == "signal":
        slot = f"signal {len(one.signalled[-1])}"
        one.signalled[-1].append((thread.number, slot))
        thread.signal(slot)
    elif kind == "hand_off":
        known = [(block - b, slot) for b, slots in enumerate(one.signalled) for _, slot in slots]
        distance, slot = draw(st.sampled_from([(block + 1, "early"), *known]))
        thread.gap(length, slot, distance)


def _synchronize(draw: st.DrawFn, one: _Written, thread: Thread, stream: int, length: int) -> None:
    if draw(st.booleans()):
        block = len(one.recorded) - 1
        known = [
            (block - b, f"event {n}") for b, count in enumerate(one.recorded) for n in range(count)
        ]
        distance, event = draw(st.sampled_from([(block + 1, "early"), *known]))
        thread.synchronize(stream, length, event, name="event", distance=distance)
    else:
        thread.synchronize(draw(st.sampled_from([stream, WHOLE_DEVICE])), length)
