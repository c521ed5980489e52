"""How many times over a kernel's grid fills its GPU, from what the trace tells of the launch."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from lumos.build.device import DeviceTasks
from lumos.graph.trace import MISSING, Argument, Trace

# Limits of one multiprocessor: CUDA C++ Programming Guide, "Technical Specifications per Compute
# Capability", for 7.0 (V100); 8.0 and 9.0 have the same but more shared memory, smaller GPUs hold
# fewer warps, which makes waves come out lower than they are.
RESIDENT_WARPS = 64
RESIDENT_BLOCKS = 32
REGISTERS = 65536
SHARED_MEMORY_BYTES = 96 * 1024
MOST_REGISTERS = 255  # of one thread
WARP = 32


def waves_of_tasks(trace: Trace, tasks: DeviceTasks) -> NDArray[np.float32]:
    """Waves of each device task: its grid's warps over the warps that fit at once; 0 unknown.

    The fitting warps come from the recorded occupancy, else from registers and shared memory.
    """
    warps = trace.argument_column(Argument.WARPS_PER_SM)[tasks.event].astype(np.float64)
    occupancy = trace.argument_column(Argument.OCCUPANCY_PCT)[tasks.event]
    resident = np.where(occupancy > 0, RESIDENT_WARPS * occupancy / 100.0, RESIDENT_WARPS)
    untold = np.flatnonzero((warps > 0) & (occupancy == MISSING))
    if len(untold):
        resident[untold] = _resident_warps(trace, tasks.event[untold])
    return np.where(warps > 0, warps / resident, 0).astype(np.float32)


def _resident_warps(trace: Trace, events: NDArray[np.int64]) -> NDArray[np.float64]:
    """Warps of each kernel that one multiprocessor holds at once, by its registers and memory."""
    registers = trace.argument_column(Argument.REGISTERS_PER_THREAD)[events]
    registers = np.clip(registers, 1, MOST_REGISTERS)
    shared = trace.argument_column(Argument.SHARED_MEMORY_BYTES)[events]
    block = trace.argument_column(Argument.BLOCK)[events]
    threads = {text: _threads(trace.text(text)) for text in np.unique(block).tolist()}
    warps = np.array([-(-threads[text] // WARP) for text in block.tolist()], np.int64)
    by_registers = REGISTERS // (-(-registers // 8) * 8 * WARP * warps)
    by_memory = np.where(shared > 0, SHARED_MEMORY_BYTES // np.maximum(shared, 1), RESIDENT_BLOCKS)
    blocks = np.minimum(np.minimum(by_registers, by_memory), RESIDENT_WARPS // warps)
    return np.clip(blocks, 1, RESIDENT_BLOCKS) * warps.astype(np.float64)


def _threads(block: str) -> int:
    """Threads of a block written as `[x, y, z]`; one warp where it is unreadable."""
    count = 1
    for extent in re.findall(r"\d{1,4}", block)[:3]:
        count *= int(extent)
    return min(max(count, WARP), 1024)
