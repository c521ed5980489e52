"""The words of Kineto files: categories, keys of events and of their arguments, in one place."""

from __future__ import annotations

from lumos.graph.trace import Argument, EventKind

KIND_OF_CATEGORY: dict[str, EventKind] = {
    "cpu_op": EventKind.OPERATOR,
    "Operator": EventKind.OPERATOR,
    "user_annotation": EventKind.ANNOTATION,
    "cuda_runtime": EventKind.CALL,
    "cuda_driver": EventKind.CALL,
    "privateuse1_runtime": EventKind.CALL,
    "privateuse1_driver": EventKind.CALL,
    "xpu_runtime": EventKind.CALL,
    "mtia_runtime": EventKind.CALL,
    "Runtime": EventKind.CALL,
    "kernel": EventKind.KERNEL,
    "Kernel": EventKind.KERNEL,
    "gpu_memcpy": EventKind.COPY,
    "Memcpy": EventKind.COPY,
    "gpu_memset": EventKind.SET,
    "Memset": EventKind.SET,
    "cuda_sync": EventKind.SYNC,
    "python_function": EventKind.PYTHON,
    "gpu_user_annotation": EventKind.DEVICE_ANNOTATION,
    "overhead": EventKind.OVERHEAD,
}

NUMBER_COLUMN_OF_KEY: dict[str, str] = {
    "device": "device",
    "stream": "stream",
    "correlation": "correlation",
    "External id": "external_id",
    "external id": "external_id",
    "Sequence number": "sequence",
    "Fwd thread id": "forward_thread",
}
"""Arguments that become dense number columns."""

TEXT_COLUMN_OF_KEY: dict[str, str] = {
    "Input Dims": "shapes",
    "Input dims": "shapes",
    "Input type": "dtypes",
}
"""Arguments whose raw JSON text becomes a dense column."""

ARGUMENT_OF_KEY: dict[str, Argument] = {
    "bytes": Argument.BYTES,
    "Collective name": Argument.COLLECTIVE_NAME,
    "In msg nelems": Argument.IN_ELEMENTS,
    "Out msg nelems": Argument.OUT_ELEMENTS,
    "Group size": Argument.GROUP_SIZE,
    "dtype": Argument.DTYPE,
    "Process Group Name": Argument.GROUP_NAME,
    "Process Group Ranks": Argument.GROUP_RANKS,
    "Seq": Argument.COLLECTIVE_SEQUENCE,
    "wait_on_stream": Argument.WAIT_ON_STREAM,
    "wait_on_cuda_event_record_corr_id": Argument.WAIT_ON_RECORD_CORRELATION,
    "wait_on_cuda_event_id": Argument.WAIT_ON_EVENT,
    "graph id": Argument.GRAPH_ID,
    "Src Rank": Argument.PEER_SOURCE,
    "Dst Rank": Argument.PEER_DESTINATION,
    "warps per SM": Argument.WARPS_PER_SM,
    "est. achieved occupancy %": Argument.OCCUPANCY_PCT,
    "registers per thread": Argument.REGISTERS_PER_THREAD,
    "shared memory": Argument.SHARED_MEMORY_BYTES,
    "block": Argument.BLOCK,
    "Concrete Inputs": Argument.INPUT_VALUES,
}
"""Arguments that go to the sparse table. A number that is not one is left out."""

STREAM_KINDS = frozenset({EventKind.KERNEL, EventKind.COPY, EventKind.SET, EventKind.SYNC})
"""Kinds whose `stream` argument names a device stream; elsewhere it is a pointer and is ignored."""

WHOLE_CONTEXT_STREAM = 4294967295
