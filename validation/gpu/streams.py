"""Cases of several streams whose true dependencies are written down as they are made.

Since CUDA 12.9 the profiler no longer tells which event a stream waits for. Here the script knows:
every record, wait and synchronising call runs inside an annotation of its own, and edges.json says
which wait means which record. Kernels run inside annotations that name their stream, so the streams
of the trace can be told apart.

    main | kernel A | record 0 |                  | wait 1 | kernel C |
    side                      | wait 0 | kernel B | record 1 |
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from job import write_truth
from torch.profiler import record_function

from lumos.capture import Capture

MEGABYTES = 64
PLAN = {"skip_steps": 2, "timed_steps": 5, "warm_up_steps": 2, "profiled_steps": 3}


class _NoStream:
    """On a CPU nothing runs beside anything: a dry run of the script, not of streams."""

    def wait_event(self, _: Any) -> None: ...
    def synchronize(self) -> None: ...
    def record(self, *_: Any) -> None: ...
    def wait(self, *_: Any) -> None: ...


class Case:
    """One step of a case being made: streams by name, annotations by number, edges as a list."""

    def __init__(self, device: torch.device, size: int) -> None:
        self.device, self.on_gpu = device, device.type == "cuda"
        self.streams: dict[str, Any] = {
            "main": torch.cuda.current_stream(device) if self.on_gpu else _NoStream()
        }
        kind = torch.bfloat16 if self.on_gpu else torch.float32
        self.matrix = torch.randn(size, size, dtype=kind, device=device)
        count = (MEGABYTES << 20 if self.on_gpu else 1 << 16) // 4
        self.here = torch.zeros(count, device=device)
        self.pinned = torch.zeros(count, pin_memory=self.on_gpu)
        self.pageable = torch.zeros(count)
        self.graph: Any = None
        self.edges: list[dict[str, str]] = []
        self.calls = 0

    def begin(self) -> None:
        """A new step: the same annotations, the same edges."""
        self.edges, self.calls = [], 0

    @contextlib.contextmanager
    def on(self, stream: str) -> Iterator[None]:
        """Work in the block goes to a stream."""
        own = self.stream(stream)
        with torch.cuda.stream(own) if self.on_gpu else contextlib.nullcontext():
            yield

    def stream(self, name: str) -> Any:
        """The stream of that name, made when it is first asked for."""
        if name not in self.streams:
            self.streams[name] = torch.cuda.Stream(self.device) if self.on_gpu else _NoStream()
        return self.streams[name]

    def kernels(self, stream: str, count: int = 4) -> None:
        """Some matrix products."""
        with self.on(stream), record_function(f"kernels on {stream}"):
            for _ in range(count):
                self.matrix @ self.matrix

    def copy(self, stream: str, *, to_host: bool, pinned: bool = True) -> None:
        """A large copy, asynchronous from and to pinned memory only."""
        host = self.pinned if pinned else self.pageable
        word = "pinned" if pinned else "pageable"
        way = "device to host" if to_host else "host to device"
        target, source = (host, self.here) if to_host else (self.here, host)
        with self.on(stream), record_function(f"{word} copy {way} on {stream}"):
            target.copy_(source, non_blocking=pinned)

    def record(self, stream: str, event: Any = None) -> tuple[str, str, Any]:
        """Record an event; returns the annotation around it, its stream and the event."""
        event = event or (torch.cuda.Event() if self.on_gpu else _NoStream())
        name = self._annotation("record")
        with record_function(name):
            event.record(self.stream(stream))
        return name, stream, event

    def wait(self, stream: str, recorded: tuple[str, str, Any]) -> None:
        """Let a stream wait for a record."""
        record, of, event = recorded
        name = self._annotation("wait")
        with record_function(name):
            self.stream(stream).wait_event(event)
        self._edge("event_wait", name, stream, record, of)

    def host_waits(self, recorded: tuple[str, str, Any]) -> None:
        """The host waits for a record."""
        record, of, event = recorded
        name = self._annotation("synchronize")
        with record_function(name):
            event.synchronize()
        self._edge("synchronize_event", name, "host", record, of)

    def host_waits_for(self, stream: str) -> None:
        """The host waits for all that a stream was given."""
        name = self._annotation("synchronize")
        with record_function(name):
            self.stream(stream).synchronize()
        self._edge("synchronize_stream", name, "host", "", stream)

    def blocking(self, what: str, call: Callable[[], Any]) -> None:
        """A call that waits for its own stream because of what it does."""
        name = self._annotation(what)
        with record_function(name):
            call()
        self._edge("blocking_call", name, "host", "", "main")

    def _annotation(self, what: str) -> str:
        self.calls += 1
        return f"{what} {self.calls - 1}"

    def _edge(self, kind: str, waiting: str, waiting_on: str, record: str, recorded: str) -> None:
        self.edges.append(
            {
                "kind": kind,
                "wait": waiting,
                "waiting": waiting_on,
                "record": record,
                "awaited": recorded,
            }
        )


def producer_consumer(case: Case) -> None:
    """One stream's result feeds the other, and back."""
    case.kernels("main")
    case.wait("side", case.record("main"))
    case.kernels("side")
    case.kernels("main", 1)
    case.wait("main", case.record("side"))
    case.kernels("main")


def fan_out_fan_in(case: Case) -> None:
    """Three streams start from one and are gathered again."""
    case.kernels("main")
    begun = case.record("main")
    sides = ("first", "second", "third")
    for number, side in enumerate(sides):
        case.wait(side, begun)
        case.kernels(side, 2 + 2 * number)
    for done in [case.record(side) for side in sides]:
        case.wait("main", done)
    case.kernels("main")


def offload(case: Case) -> None:
    """Activations leave for the host beside compute; the buffer is awaited before it is used."""
    case.kernels("main")
    case.wait("copies", case.record("main"))
    case.copy("copies", to_host=True)
    gone = case.record("copies")
    case.kernels("main", 8)
    case.wait("main", gone)
    case.kernels("main")


def prefetch(case: Case) -> None:
    """The next input comes while this one is computed on."""
    case.copy("copies", to_host=False)
    arrived = case.record("copies")
    for _ in range(2):
        case.wait("main", arrived)
        case.kernels("main", 8)
        case.wait("copies", case.record("main"))
        case.copy("copies", to_host=False)
        arrived = case.record("copies")
    case.wait("main", arrived)


def graph_replay(case: Case) -> None:
    """A captured graph runs on the main stream; a side stream waits for all of it."""
    if case.graph is None and case.on_gpu:
        case.kernels("main")  # loads what a capture may not load
        torch.cuda.synchronize()
        case.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(case.graph):
            for _ in range(6):
                case.matrix @ case.matrix
    for _ in range(2):
        with record_function("replay on main"):
            case.graph.replay() if case.graph else case.kernels("main")
        case.wait("side", case.record("main"))
        case.kernels("side", 2)
    case.wait("main", case.record("side"))


def blocking_copies(case: Case) -> None:
    """Calls that wait without being asked to."""
    case.kernels("main")
    case.blocking("read a number", case.matrix[0, 0].item)
    case.kernels("main")
    case.blocking("copy to pageable memory", case.here[:1024].cpu)
    case.copy("main", to_host=False)
    case.blocking(
        "copy from pageable memory",
        lambda: case.copy("main", to_host=False, pinned=False),
    )
    case.kernels("main")
    case.blocking("find what is not zero", case.here[:1024].nonzero)


def host_waits(case: Case) -> None:
    """The host waits for an event, a stream, and an event long past."""
    case.kernels("main")
    early = case.record("main")
    case.kernels("main", 8)
    case.host_waits(early)
    case.kernels("side")
    case.host_waits_for("side")
    case.host_waits_for("main")
    case.host_waits(early)


def reused_event(case: Case) -> None:
    """One event recorded twice: each wait means the record before it, and no later one."""
    case.kernels("main", 2)
    first = case.record("main")
    case.wait("side", first)
    case.kernels("side", 6)
    case.kernels("main", 8)
    second = case.record("main", first[2])
    case.wait("other", second)
    case.kernels("other")
    for side in ("side", "other"):
        case.wait("main", case.record(side))


CASES: dict[str, Callable[[Case], None]] = {
    "producer-consumer": producer_consumer,
    "fan-out-fan-in": fan_out_fan_in,
    "offload": offload,
    "prefetch": prefetch,
    "graph-replay": graph_replay,
    "blocking-copies": blocking_copies,
    "host-waits": host_waits,
    "reused-event": reused_event,
}


def record_case(name: str, folder: Path, device: torch.device, size: int = 4096) -> None:
    """Record some steps of a case, with truth/edges.json beside the trace."""
    case = Case(device, size)
    with Capture(folder, model={"name": name}, on_error="raise", quiet=True, **PLAN) as capture:
        while not capture.done:
            case.begin()
            CASES[name](case)
            if case.on_gpu:
                torch.cuda.synchronize()  # steps apart: no edge of one reaches into the next
            capture.step()
    document = {
        "schema": "lumos.edges/1",
        "case": name,
        "of_each_step": case.edges,
        "each_step_ends_with": "synchronize_device" if case.on_gpu else None,
        "streams": {stream: f"kernels on {stream}" for stream in case.streams},
    }
    write_truth(folder, "edges", document)
