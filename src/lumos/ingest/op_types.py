"""The operations of large training jobs: what each is by its name, and who takes part in it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lumos.graph.job import CollectiveKind
from lumos.graph.trace import ProcessGroup
from lumos.graph.work import Phase
from lumos.ingest.operations import Operations, Sizes


class OperationType(NamedTuple):
    """What an operation of this name is: its stream, its phase, its communication and group."""

    stream: str
    phase: Phase
    communication: CollectiveKind | None = None
    group: str = ""


COMPUTE, COLLECTIVES = "compute", "collectives"
DATA, EMBEDDING, EVERYBODY = "data parallel", "embedding", "all ranks"
FORWARD, BACKWARD = "pipeline parallel, forward", "pipeline parallel, backward"
OPERATION_TYPES = {
    "forward-compute": OperationType(COMPUTE, Phase.FORWARD),
    "backward-compute": OperationType(COMPUTE, Phase.BACKWARD),
    "gc": OperationType(COMPUTE, Phase.UNKNOWN),
    "optimizer": OperationType(COMPUTE, Phase.OPTIMIZER),
    "forward-send": OperationType("forward send", Phase.FORWARD, CollectiveKind.SEND, FORWARD),
    "forward-recv": OperationType(
        "forward receive", Phase.FORWARD, CollectiveKind.RECEIVE, FORWARD
    ),
    "backward-send": OperationType("backward send", Phase.BACKWARD, CollectiveKind.SEND, BACKWARD),
    "backward-recv": OperationType(
        "backward receive", Phase.BACKWARD, CollectiveKind.RECEIVE, BACKWARD
    ),
    "params-all-gather": OperationType(COLLECTIVES, Phase.UNKNOWN, CollectiveKind.ALL_GATHER, DATA),
    "grads-reduce-scatter": OperationType(
        COLLECTIVES, Phase.UNKNOWN, CollectiveKind.REDUCE_SCATTER, DATA
    ),
    # among tensor-parallel ranks, of which a trace holds one
    "layernorm-grads-all-reduce": OperationType(
        COLLECTIVES, Phase.UNKNOWN, CollectiveKind.ALL_REDUCE
    ),
    "embedding-grads-all-reduce": OperationType(
        COLLECTIVES, Phase.UNKNOWN, CollectiveKind.ALL_REDUCE, EMBEDDING
    ),
    "optimizer-clip-main-grad": OperationType(
        COLLECTIVES, Phase.OPTIMIZER, CollectiveKind.ALL_REDUCE, EVERYBODY
    ),
}
STREAMS = tuple(dict.fromkeys(one.stream for one in OPERATION_TYPES.values()))


def process_groups(operations: Operations, sizes: Sizes) -> list[ProcessGroup]:
    """Who communicates with whom, by the places of the ranks in the layout.

    The members of a pipeline stand in the order of their stages.
    """
    places = np.unique(
        np.stack([operations.stage, operations.dp_rank, operations.rank], axis=1), axis=0
    )
    stage, data, rank = places.T
    found = [_group(EVERYBODY, EVERYBODY, np.sort(rank))]
    found += [_group(f"{DATA}, stage {one}", DATA, rank[stage == one]) for one in np.unique(stage)]
    ends = (stage == 0) | (stage == sizes.pipeline - 1)
    for one in np.unique(data):
        pipeline, words = data == one, f"data-parallel rank {one}"
        found += [_group(f"{way}, {words}", way, rank[pipeline]) for way in (FORWARD, BACKWARD)]
        found.append(_group(f"{EMBEDDING}, {words}", EMBEDDING, rank[pipeline & ends]))
    return found


def _group(name: str, description: str, ranks: NDArray[np.int64]) -> ProcessGroup:
    return ProcessGroup(name, description, tuple(ranks.tolist()))
