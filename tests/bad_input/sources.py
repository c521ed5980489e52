"""Real traces, cut to a few thousand events: what the mutations start from."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
RECORDINGS = ROOT / "recordings"
KINETO = ROOT.parent / "shared" / "data" / "kineto"

Event = dict[str, Any]
Trace = dict[str, Any]
MOST_EVENTS = 1200
"""Of one rank: enough for all that a trace can hold, few enough for hundreds of cases."""
UNREAD = ("ac2g", "async", "async_cpu_to_gpu", "fwdbwd", "python_function", "cpu_instant_event")
"""Categories that lumos does not build on: one in fifty of their events is kept."""


class Source(NamedTuple):
    """One job: its files, and the steps that are kept of it (None: all)."""

    name: str
    files: tuple[Path, ...]
    steps: int | None = None

    @property
    def absent(self) -> str:
        """Why it cannot be used here; empty where it can."""
        missing = [str(file) for file in self.files if not file.is_file()]
        return f"{missing[0]} is absent: no real traces here" if missing else ""


SOURCES = (
    Source("dlrm", (KINETO / "dlrm-8xV100" / "worker0.pt.trace.json.gz",)),
    Source(
        "dlrm-2",
        tuple(KINETO / "dlrm-8xV100" / f"worker{rank}.pt.trace.json.gz" for rank in (0, 1)),
    ),
    Source("alexnet", (KINETO / "event-sync" / "alexnet.json.gz",)),
    Source("ids-missing", (KINETO / "event-sync" / "simple-add-ids-missing.json.gz",)),
    Source("multi-stream", (KINETO / "event-sync" / "multi-stream.json.gz",)),
    Source("one-stream", (KINETO / "event-sync" / "one-stream.json.gz",)),
    Source("doc-resolved", (KINETO / "event-sync" / "doc-example-ids-resolved.json.gz",)),
    Source("doc-unresolved", (KINETO / "event-sync" / "doc-example-ids-unresolved.json.gz",)),
    Source("resnet-ddp", (KINETO / "resnet-ddp-2xA100" / "rank0.json.gz",), 3),
    Source("annotated", (KINETO / "odd" / "gpu-user-annotation.json.gz",)),
    Source("rank-missing", (KINETO / "odd" / "rank-missing.json.gz",)),
    Source("sampled", tuple(KINETO / "odd" / f"sampled-rank-{r}-of-128.json.gz" for r in (0, 1))),
    Source("triton", (KINETO / "odd" / "triton.json.gz",)),
    Source("mi250", (KINETO / "amd" / "mi250-minitoy-rocm6.2.json.gz",)),
    Source("vgg13", (KINETO / "vgg13-H100" / "kineto.json.gz",)),
    Source("bert", (KINETO / "inference" / "bert-small-H100.json.gz",)),
    Source("vllm-B200", (KINETO / "inference" / "vllm-eager-B200-rank0-of-8.json.gz",)),
    Source("graph", (KINETO / "inference" / "vllm-piecewise-graph.json.gz",)),
    Source("gloo-dp2", tuple(RECORDINGS / "gpt-dp2" / f"rank{rank}.json.gz" for rank in (0, 1)), 2),
    Source("gloo-pp2", tuple(RECORDINGS / "gpt-pp2" / f"rank{rank}.json.gz" for rank in (0, 1)), 2),
)


def documents(source: Source) -> list[Trace]:
    """The job's documents, free to be changed."""
    return [json.loads(_text(file, source.steps)) for file in source.files]


@cache
def _text(file: Path, steps: int | None) -> bytes:
    document = json.loads(gzip.decompress(file.read_bytes()))
    document["traceEvents"] = _cut(document["traceEvents"], steps)
    return json.dumps(document).encode()


def _cut(events: list[Event], steps: int | None) -> list[Event]:
    """The first events by time, each step's share where `steps` are kept; steps end where cut."""
    events = [
        event for n, event in enumerate(events) if event.get("cat") not in UNREAD or n % 50 == 0
    ]
    timed = sorted((event for event in events if event.get("ph") == "X"), key=lambda e: e["ts"])
    rest = [event for event in events if event.get("ph") != "X"][:60]
    marks = [
        e for e in timed if str(e["name"]).startswith("ProfilerStep") and "gpu" not in e["cat"]
    ]
    if steps is None or not marks:
        return rest + timed[:MOST_EVENTS]
    kept = []
    for mark in marks[:steps]:
        own = [
            e for e in timed if mark["ts"] <= e["ts"] < mark["ts"] + mark["dur"] and e is not mark
        ]
        own = own[: MOST_EVENTS // steps]
        mark["dur"] = (
            max(e["ts"] + e["dur"] for e in own if e["cat"] != "user_annotation") - mark["ts"]
        )
        kept += [mark, *own]
    return rest + kept
