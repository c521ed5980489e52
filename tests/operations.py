"""Jobs of whole operations: a slow obvious model of them, and the files they would be recorded in.

Written from the definitions in Lin et al., Understanding Stragglers in Large Model Training Using
What-if Analysis (OSDI 2025), operation by operation; nothing of lumos is used.

    posted   when what the operation awaits on its own rank is done (and its launch delay is over)
    begins   when it is posted, for a communication on all its members
    ends     its own time later

A recording tells when operations were posted and ended.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import polars
import yaml

COMPUTES = ("forward-compute", "backward-compute", "gc", "optimizer")
MESSAGES = ("forward-send", "forward-recv", "backward-send", "backward-recv")


class Operation(NamedTuple):
    """The `number`-th operation of a type on a rank; `chunk` and `micro_batch` of computes."""

    data: int
    stage: int
    type: str
    number: int = 0
    chunk: int = -1
    micro_batch: int = -1


@dataclass
class Layout:
    """dp x pp ranks, each with some model chunks and micro-batches, all forwards first or in turns."""

    data: int = 2
    pipeline: int = 2
    chunks: int = 1
    micro_batches: int = 2
    in_turns: bool = False  # one forward, one backward, once the pipeline is full
    shards: int = 1  # ranks that share a micro-batch, of which one is recorded

    def computes(self, data: int, stage: int) -> list[Operation]:
        """The compute stream of a rank, in order."""
        forward, backward = (
            [
                Operation(data, stage, f"{way}-compute", k, chunk, batch)
                for k, (chunk, batch) in enumerate(
                    (c, b) for c in order for b in range(self.micro_batches)
                )
            ]
            for way, order in (
                ("forward", range(self.chunks)),
                ("backward", range(self.chunks - 1, -1, -1)),
            )
        )
        if self.in_turns and self.chunks == 1:
            ahead = min(self.pipeline - stage, self.micro_batches)
            turns = [one for pair in zip(backward, forward[ahead:], strict=False) for one in pair]
            order = forward[:ahead] + turns + backward[self.micro_batches - ahead :]
        else:
            order = forward + backward
        ends = [Operation(data, stage, "gc"), Operation(data, stage, "optimizer")]
        return order + ends

    def place(self, one: Operation) -> int:
        """The place of a compute's chunk in the model."""
        return one.chunk * self.pipeline + one.stage

    @property
    def last(self) -> int:
        """The model's last chunk."""
        return self.pipeline * self.chunks - 1


@dataclass
class Step:
    """One step of a job: own times and launch delays of its operations [ns], and its run."""

    layout: Layout
    own: Callable[[Operation], int]
    delay: Callable[[Operation], int] = lambda _: 0
    operations: dict[Operation, None] = field(default_factory=dict)
    awaited: dict[Operation, list[Operation]] = field(default_factory=dict)
    members: dict[Operation, list[Operation]] = field(default_factory=dict)
    _posted: dict[Operation, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for data in range(self.layout.data):
            for stage in range(self.layout.pipeline):
                self._rank(data, stage)
        self._meet()

    def end(self, one: Operation) -> int:
        """When an operation ends."""
        return self.begin(one) + self.own(one)

    def begin(self, one: Operation) -> int:
        """When an operation begins: for a communication, when all its members are there."""
        return max(self.posted(member) for member in self.members.get(one, [one]))

    def posted(self, one: Operation) -> int:
        """When its rank is ready for an operation."""
        if one not in self._posted:
            ready = max((self.end(before) for before in self.awaited[one]), default=0)
            self._posted[one] = ready + self.delay(one)
        return self._posted[one]

    @property
    def first(self) -> int:
        """When the first operation was posted."""
        return min(self.posted(one) for one in self.operations)

    @property
    def makespan(self) -> int:
        """From there to the last end."""
        return max(self.end(one) for one in self.operations) - self.first

    def _add(self, one: Operation, *awaited: Operation) -> Operation:
        self.operations[one] = None
        self.awaited[one] = list(awaited)
        return one

    def _rank(self, data: int, stage: int) -> None:
        layout = self.layout
        computes = layout.computes(data, stage)
        gathers = {
            chunk: Operation(data, stage, "params-all-gather", chunk, chunk)
            for chunk in range(layout.chunks)
        }
        before: list[Operation] = []
        for gather in gathers.values():
            before = [self._add(gather, *before)]
        for place, one in enumerate(computes):
            self._add(one, *computes[max(place - 1, 0) : place])
            if one.type == "forward-compute":
                self.awaited[one].append(gathers[one.chunk])
        for way, first, last in (("forward", 0, layout.last), ("backward", layout.last, 0)):
            mine = [one for one in computes if one.type == f"{way}-compute"]
            fed = [one for one in mine if layout.place(one) != first]
            for k, one in enumerate(fed):
                receive = Operation(data, stage, f"{way}-recv", k)
                posted_behind = fed[k - 1 : k] if k else []
                stream = [receive._replace(number=k - 1)] if k else []
                self._add(receive, *posted_behind, *stream)
                self.awaited[one].append(receive)
            carried = [one for one in mine if layout.place(one) != last]
            for k, one in enumerate(carried):
                send = Operation(data, stage, f"{way}-send", k)
                self._add(send, one, *([send._replace(number=k - 1)] if k else []))
        before = [gathers[layout.chunks - 1]]
        for name in ("layernorm-grads-all-reduce", "embedding-grads-all-reduce"):
            if name.startswith("layernorm") or stage in (0, layout.pipeline - 1):
                before = [self._add(Operation(data, stage, name), *before, computes[-2])]
        for chunk in range(layout.chunks - 1, -1, -1):
            backward = [c for c in computes if c.type == "backward-compute" and c.chunk == chunk]
            number = layout.chunks - 1 - chunk
            scatter = Operation(data, stage, "grads-reduce-scatter", number, chunk)
            before = [self._add(scatter, *before, backward[-1])]
        clip = self._add(Operation(data, stage, "optimizer-clip-main-grad"), *before)
        self.awaited[computes[-1]].append(clip)

    def _meet(self) -> None:
        layout = self.layout
        for one in self.operations:
            stage = one.stage
            if one.type in ("params-all-gather", "grads-reduce-scatter"):
                group = [one._replace(data=other) for other in range(layout.data)]
            elif one.type == "embedding-grads-all-reduce":
                group = [one._replace(stage=end) for end in {0, layout.pipeline - 1}]
            elif one.type == "optimizer-clip-main-grad":
                group = [
                    one._replace(data=other, stage=place)
                    for other in range(layout.data)
                    for place in range(layout.pipeline)
                ]
            elif one.type in MESSAGES:
                way, _, what = one.type.partition("-")
                onward = (way == "forward") == (what == "send")
                peer = (stage + (1 if onward else -1)) % layout.pipeline
                other = f"{way}-{'recv' if what == 'send' else 'send'}"
                group = [one, one._replace(stage=peer, type=other)]
            else:
                continue
            self.members[one] = group

    def rows(self, number: int) -> Iterator[dict[str, object]]:
        """The step as it would be recorded."""
        for one in self.operations:
            posted, end = self.posted(one), self.end(one)
            computes = one.type in ("forward-compute", "backward-compute")
            yield {
                "dp_rank": one.data,
                "stage": one.stage,
                "rank": (one.stage * self.layout.data + one.data) * self.layout.shards,
                "step": number,
                "optype": one.type,
                "start_ts": posted / 1e9,
                "duration": (end - posted) / 1e9,
                "seq_id": one.number,
                "mc": one.chunk,
                "mb_id": one.micro_batch if one.type != "gc" else 0,
                "gmc": self.layout.place(one) if computes else -1,
            }


def drawn_times(seed: int, usual: int = 100_000) -> Callable[[Operation], int]:
    """Own times drawn once for each operation [ns]; garbage collection takes none."""
    drawn = random.Random(seed)
    known: dict[Operation, int] = {}

    def time(one: Operation) -> int:
        if one not in known:
            known[one] = 0 if one.type == "gc" else drawn.randint(usual // 10, usual)
        return known[one]

    return time


def write_steps(
    folder: Path, steps: Mapping[int, Step], *, name: str = "drawn", **meta: object
) -> Path:
    """The files of a job of these steps; `meta` replaces sizes, None leaves one out."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [row for number, step in steps.items() for row in step.rows(number)]
    return write_rows(
        folder, polars.DataFrame(rows), next(iter(steps.values())).layout, name=name, **meta
    )


def write_rows(
    folder: Path, frame: polars.DataFrame, layout: Layout, *, name: str = "drawn", **meta: object
) -> Path:
    """A table of operations and the sizes beside it."""
    path = folder / f"trace-{name}.parquet"
    frame.write_parquet(path)
    sizes = {
        "trial_name": name,
        "dp_size": layout.data,
        "pp_size": layout.pipeline,
        "vpp_size": layout.chunks,
        "tp_size": 1,
        "dsp_size": layout.shards,
        "world_size": layout.data * layout.pipeline * layout.shards,
        **meta,
    }
    known = {key: value for key, value in sizes.items() if value is not None}
    (folder / f"meta-{name}.yaml").write_text(yaml.safe_dump(known))
    return path
