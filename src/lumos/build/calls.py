"""What a runtime call does to the device, by its exact name (CUDA, HIP and driver spellings)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class CallClass(IntEnum):
    """What a runtime call means for what must wait for what."""

    OTHER = 0
    LAUNCH = 1
    GRAPH_LAUNCH = 2
    COPY = 3
    SET = 4
    RECORD = 5
    WAIT_EVENT = 6
    SYNCHRONIZE_STREAM = 7
    SYNCHRONIZE_EVENT = 8
    SYNCHRONIZE_DEVICE = 9
    ALLOCATE = 10  # may wait for the whole device
    QUERY = 11
    NOT_A_CALL = 12


_CLASS_OF_NAME = {
    "LaunchKernel": CallClass.LAUNCH,
    "LaunchKernelExC": CallClass.LAUNCH,
    "LaunchKernelEx": CallClass.LAUNCH,
    "LaunchCooperativeKernel": CallClass.LAUNCH,
    "ModuleLaunchKernel": CallClass.LAUNCH,
    "ExtModuleLaunchKernel": CallClass.LAUNCH,
    "ExtLaunchKernel": CallClass.LAUNCH,
    "GraphLaunch": CallClass.GRAPH_LAUNCH,
    "Memcpy": CallClass.COPY,
    "MemcpyAsync": CallClass.COPY,
    "MemcpyWithStream": CallClass.COPY,
    "MemcpyPeerAsync": CallClass.COPY,
    "Memcpy2DAsync": CallClass.COPY,
    "MemcpyHtoDAsync": CallClass.COPY,
    "MemcpyDtoHAsync": CallClass.COPY,
    "MemcpyDtoDAsync": CallClass.COPY,
    "Memset": CallClass.SET,
    "MemsetAsync": CallClass.SET,
    "MemsetD8Async": CallClass.SET,
    "MemsetD32Async": CallClass.SET,
    "EventRecord": CallClass.RECORD,
    "EventRecordWithFlags": CallClass.RECORD,
    "StreamWaitEvent": CallClass.WAIT_EVENT,
    "StreamSynchronize": CallClass.SYNCHRONIZE_STREAM,
    "EventSynchronize": CallClass.SYNCHRONIZE_EVENT,
    "DeviceSynchronize": CallClass.SYNCHRONIZE_DEVICE,
    "CtxSynchronize": CallClass.SYNCHRONIZE_DEVICE,
    "Malloc": CallClass.ALLOCATE,
    "MallocHost": CallClass.ALLOCATE,
    "HostAlloc": CallClass.ALLOCATE,
    "HostMalloc": CallClass.ALLOCATE,
    "Free": CallClass.ALLOCATE,
    "FreeHost": CallClass.ALLOCATE,
    "HostFree": CallClass.ALLOCATE,
    "HostUnregister": CallClass.ALLOCATE,
    "MemUnmap": CallClass.ALLOCATE,
    "EventQuery": CallClass.QUERY,
    "StreamQuery": CallClass.QUERY,
}


def call_class(name: str) -> CallClass:
    """The class of the call `name`; OTHER for calls that order nothing."""
    bare = name.partition("_")[0]
    for prefix in ("cuda", "hip", "cu"):
        if bare.startswith(prefix):
            return _CLASS_OF_NAME.get(bare[len(prefix) :], CallClass.OTHER)
    return CallClass.OTHER


def call_classes(strings: Sequence[str]) -> NDArray[np.uint8]:
    """The class of each string, taken as the name of a call."""
    return np.array([call_class(text) for text in strings], np.uint8)
