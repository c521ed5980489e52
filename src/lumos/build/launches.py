"""What the host gave the device when: look-ups for telling which stream waits for what."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lumos.build.device import DeviceTasks
from lumos.build.threads import Segments
from lumos.graph.job import NONE
from lumos.graph.trace import EventKind
from lumos.units import NS_PER_US

BINDING_NS = 8 * NS_PER_US
"""A task that starts at most this long after the awaited one ended was held by it."""
EARLY_NS = 2 * NS_PER_US
"""Time stamps of device tasks on two streams disagree by up to this."""
LAUNCHED_BEFORE_NS = 3 * NS_PER_US


class Launches:
    """The launches of a trace, thread by thread in host order, and the tasks they gave the streams.

    Those of thread `t` are `first[t]:first[t+1]` of `segment`, `stream`, `task` and `communicates`;
    `plain_*` are the same without communication. `launch_ns` is when each task was launched,
    `computes` says which streams do more than copy and communicate.
    """

    def __init__(
        self,
        segments: Segments,
        tasks: DeviceTasks,
        communicates: NDArray[np.bool_],
        kind: NDArray[np.uint8],
    ) -> None:
        self.segments, self.tasks, self.task_communicates = segments, tasks, communicates
        self.launch_ns = np.where(
            tasks.segment == NONE, np.iinfo(np.int64).min, segments.start_ns[tasks.segment]
        )
        is_kernel = ~communicates & (kind == EventKind.KERNEL)
        self.computes = np.bincount(tasks.stream, is_kernel, len(tasks.streams)) > 0
        # segments stand thread by thread, so their order is that of threads and of time
        own = np.flatnonzero((tasks.segment != NONE) & ~tasks.adopted)
        self.task = own[np.argsort(tasks.segment[own], kind="stable")]
        self.segment, self.stream = tasks.segment[self.task], tasks.stream[self.task]
        self.communicates = communicates[self.task]
        threads = np.arange(int(segments.thread.max(initial=-1)) + 2)
        self.first = np.searchsorted(segments.thread[self.segment], threads)
        plain = ~self.communicates
        self.plain_segment, self.plain_stream = self.segment[plain], self.stream[plain]
        self.plain_first = np.searchsorted(segments.thread[self.plain_segment], threads)

    def last_before(self, stream: int, time_ns: int) -> int:
        """The last task given to `stream` before host time `time_ns`, NONE without one."""
        first, last = self.tasks.first[stream], self.tasks.first[stream + 1]
        place = first + int(np.searchsorted(self.launch_ns[first:last], time_ns))
        return int(place - 1) if place > first else NONE

    def neighbours(self, segment: int) -> tuple[int, int]:
        """Streams of the plain launches of its thread before and after `segment` (NONE without one)."""
        thread = self.segments.thread[segment]
        low, high = self.plain_first[thread], self.plain_first[thread + 1]
        place = low + int(np.searchsorted(self.plain_segment[low:high], segment))
        before = int(self.plain_stream[place - 1]) if place > low else NONE
        after = int(self.plain_stream[place]) if place < high else NONE
        return before, after

    def fits(self, awaited: int, waiting: int) -> tuple[bool, bool]:
        """Whether `waiting` may have awaited `awaited`, and whether the wait held it back."""
        tasks = self.tasks
        gap = int(tasks.start_ns[waiting] - tasks.end_ns[awaited])
        if gap < -EARLY_NS:
            return False, False
        ready = max(
            int(self.launch_ns[waiting]) + LAUNCHED_BEFORE_NS,
            int(tasks.end_ns[waiting - 1]) if waiting > tasks.first[tasks.stream[waiting]] else 0,
        )
        return True, gap <= BINDING_NS and ready < int(tasks.end_ns[awaited])
