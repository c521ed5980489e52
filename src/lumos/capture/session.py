"""Session: one process's recording under way, from step to step; its failures are its caller's."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lumos.capture import description, sidecar, surroundings
from lumos.capture.laps import Laps
from lumos.capture.plan import Part, Plan
from lumos.capture.step_profiler import PATIENCE_S, StepProfiler


@dataclass(frozen=True)
class Wishes:
    """What the user asked for."""

    folder: Path
    plan: Plan
    record_shapes: bool
    with_stack: bool
    model: Any
    batch: Any
    layout: Any
    steps_end_with: str
    overwrite: bool


class Session:
    """Times and profiles the steps of the plan, and writes what came of it.

    The job is looked at behind the first step: by then it is connected, and knows its ranks.
    `thread_ends` is called when the thread that is profiled is about to end; `say` tells the user.
    """

    def __init__(
        self,
        torch: Any,
        wishes: Wishes,
        thread_ends: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        self._torch, self._wishes, self._say = torch, wishes, say
        self._profiler = StepProfiler(
            torch,
            record_shapes=wishes.record_shapes,
            with_stack=wishes.with_stack,
            thread_ends=thread_ends,
        )
        self._laps = {part: Laps(torch) for part in (Part.TIMED, Part.PROFILED)}
        self._memory: dict[str, int | None] | None = None
        self._job: sidecar.Document | None = None
        self._announced = False
        self.rank, self.steps, self.complete = 0, 0, False
        self._timing: Laps | None = None
        self._nothing_else_until = 1
        self._begin(wishes.plan.part(0))

    @property
    def first(self) -> bool:
        """Whether this is the one rank that speaks for all."""
        job = self._described()
        return self.rank == 0 or job["fake_world"] is not None

    def advance(self) -> None:
        """A step has ended, and the next one begins."""
        if self._timing is not None:
            self._timing.end()
        self.steps += 1
        if self.steps >= self._nothing_else_until:  # else as little as can be: the code is cold
            self._turn()

    def _turn(self) -> None:
        """There is more to do between two steps than to look at the clock."""
        plan = self._wishes.plan
        ended, coming = plan.part(self.steps - 1), plan.part(self.steps)
        if ended is Part.TIMED is not coming:
            self._memory = surroundings.peak_memory(self._torch)  # before the profiler takes any
        if self.steps == 1:
            self._described()
            if ended is not Part.PROFILED:  # else writing would stand in a profiled step
                self._announce()
        self.complete = coming is Part.AFTER
        if not self.complete:
            self._begin(coming, anew=coming is not ended or self.steps == 1)

    def _begin(self, part: Part, *, anew: bool = True) -> None:
        """The coming step is of `part`; `anew`: its time counts from behind what we do here."""
        if part in (Part.WARM_UP, Part.PROFILED):
            self._profiler.begin(part, self.steps)
        self._timing = self._laps.get(part)
        if anew and self._timing is not None:
            self._timing.begin()
        # behind the first step the job is looked at
        self._nothing_else_until = self._wishes.plan.next_turn(self.steps) if self.steps else 1

    def _announce(self) -> None:
        """Once: a rank that announces itself again begins anew."""
        if self._announced:
            return
        self._announced = True
        reason = "the process ended before the recording did"
        sidecar.announce(self._wishes.folder, self._described(), self._rank("failed", reason, None))

    def finish(self, cut_short: str | None) -> sidecar.Document:
        """Write what there is, all of it or what came before it was `cut_short`; tell what it is."""
        reason = cut_short
        if self._profiler.running:
            if cut_short is None or self._profiler.gpu_comes_to_rest():
                self._profiler.stop()
                return self._enter_with_trace(reason)
            reason = f"{cut_short}; the GPU was not done in {PATIENCE_S:.0f} s: no trace"
        return self._enter(reason)

    def _enter_with_trace(self, reason: str | None) -> sidecar.Document:
        if not self._laps[Part.PROFILED].host_ms():  # not one whole step
            return self._enter(reason)
        name = sidecar.trace_name(self.rank, partial=reason is not None)
        written = self._wishes.folder / f".{name}.{os.getpid()}"
        self._announce()
        try:
            self._profiler.write(written)
            return self._enter(reason, name, written)
        finally:
            written.unlink(missing_ok=True)

    def give_up(self, reason: str) -> None:
        """Something failed: let go of the profiler, and keep the times that were taken."""
        try:
            if self._profiler.running and self._profiler.gpu_comes_to_rest():
                self._profiler.stop()
        finally:
            self._enter(reason)

    def _enter(
        self, reason: str | None, file: str | None = None, trace: Path | None = None
    ) -> sidecar.Document:
        status = "complete" if reason is None else "failed" if file is None else "partial"
        self._announce()
        folder, overwrite = self._wishes.folder, self._wishes.overwrite
        job, rank = self._described(), self._rank(status, reason, file)
        return sidecar.enter(folder, job, rank, trace, overwrite=overwrite)

    def _described(self) -> sidecar.Document:
        """What holds for the whole job, as it was behind the first step."""
        if self._job is None:
            self.rank, world_size = surroundings.rank_and_world_size(self._torch)
            wishes = self._wishes
            self._job = description.of_job(
                self._torch,
                world_size,
                wishes.plan,
                wishes.steps_end_with,
                model=wishes.model,
                batch=wishes.batch,
                layout=wishes.layout,
            )
            self._check_layout(self._job)
        return self._job

    def _check_layout(self, job: sidecar.Document) -> None:
        """A layout of another number of ranks is none of this job, and left out."""
        layout, size = job["layout"], job["world_size"]
        if layout is None or surroundings.ranks_of(layout) == size:
            return
        job["layout"] = None
        if self.rank == 0 or job["fake_world"] is not None:
            self._say(
                f"the layout {surroundings.in_words(layout)} is of {surroundings.ranks_of(layout)} "
                f"ranks, the job has {size}: it is left out of capture.json; give every degree"
            )

    def _rank(self, status: str, reason: str | None, file: str | None) -> sidecar.Document:
        memory = self._memory or surroundings.peak_memory(self._torch)
        unprofiled, profiled = self._laps[Part.TIMED], self._laps[Part.PROFILED]
        return {
            "rank": self.rank,
            "file": file,
            "status": status,
            "reason": reason,
            **description.of_times(unprofiled, profiled),
            **memory,
        }
