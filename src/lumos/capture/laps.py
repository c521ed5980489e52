"""Laps: how long consecutive steps take, on the host's clock and on the GPU's, without waiting."""

from __future__ import annotations

import time
from typing import Any

from lumos.capture.pytorch import uses_gpu
from lumos.units import NS_PER_MS


class Laps:
    """Lengths of steps, from `begin` to `end` and on from `end` to `end`.

    On a GPU each mark puts an event into the current stream; the host goes on at once, and the
    times are read when all is over. So steps are timed as they run, several in flight and all::

        host | begin | step | end | step | end |
        gpu              | event | kernels | event | kernels | event |
    """

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._on_gpu = False
        self._open: tuple[int, Any] | None = None
        self._laps: list[tuple[tuple[int, Any], tuple[int, Any]]] = []

    def begin(self) -> None:
        """A step begins here."""
        self._on_gpu = uses_gpu(self._torch)
        self._open = self._mark()

    def end(self) -> None:
        """A step ends here, and the next one begins."""
        now = self._mark()
        if self._open is not None:
            self._laps.append((self._open, now))
        self._open = now

    def _mark(self) -> tuple[int, Any]:
        event = None
        if self._on_gpu:
            event = self._torch.cuda.Event(enable_timing=True)
            event.record()
        return time.perf_counter_ns(), event

    def host_ms(self) -> list[float]:
        """Time of each step on the host."""
        return [round((end - begin) / NS_PER_MS, 4) for (begin, _), (end, _) in self._laps]

    def gpu_ms(self) -> list[float] | None:
        """Time of each step in the stream; None without a GPU, or where it has not got there.

        Never waits: behind a collective that will not end, waiting would hang the job.
        """
        events = [(begin, end) for (_, begin), (_, end) in self._laps]
        if not events or any(one is None or not one.query() for pair in events for one in pair):
            return None
        return [round(float(begin.elapsed_time(end)), 4) for begin, end in events]
