"""Capture: the context manager that records a training loop, and never gets in its way."""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from lumos.capture import description, sidecar
from lumos.capture.plan import Plan
from lumos.capture.pytorch import load_torch
from lumos.capture.session import Session, Wishes
from lumos.errors import LumosError, UsageError

if TYPE_CHECKING:
    from typing import Self


class Capture:
    """Records one training job, from inside each of its processes.

        with Capture("traces") as capture:
            for batch in loader:
                train(batch)
                capture.step()  # behind every step

    `skip_steps` steps run untouched; `timed_steps` are timed without the profiler and without
    waiting for the GPU; the profiler warms up in `warm_up_steps` and records `profiled_steps`.
    Then `done` is true and `step()` does nothing more. `folder` receives `rank{R}.json.gz` from
    every rank (`rank{R}.partial.json.gz` where the loop ended early) and one `capture.json`. They
    replace an earlier recording there when the first of them is written; files that no recording
    wrote are in the way, unless it may `overwrite` them.

    `model` and `batch` are kept as given: a text, or what JSON can hold. `layout` is a mapping
    like {"dp": 2, "tp": 4} or a DeviceMesh; without it the process groups tell, if they can. One
    that is of another number of ranks is left out, which is told.
    `steps_end_with` says in capture.json what is taken for the end of a step.

    What goes wrong here is told in one line on stderr, noted in capture.json, and the training goes
    on; `on_error="raise"` raises it instead. Exceptions of the training pass through, and what was
    recorded so far is kept. `quiet` leaves unsaid what capture.json says. Wrong arguments raise
    UsageError.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] = "traces",
        *,
        skip_steps: int = 5,
        timed_steps: int = 20,
        warm_up_steps: int = 2,
        profiled_steps: int = 3,
        record_shapes: bool = True,
        with_stack: bool = False,
        model: Any = None,
        batch: Any = None,
        layout: Mapping[str, int] | Any = None,
        steps_end_with: str = "capture.step()",
        overwrite: bool = False,
        on_error: Literal["warn", "raise"] = "warn",
        quiet: bool = False,
    ) -> None:
        if on_error not in ("warn", "raise"):
            raise UsageError(f'on_error is {on_error!r}; give "warn" or "raise"')
        plan = Plan(skip_steps, timed_steps, warm_up_steps, profiled_steps)
        self._wishes = Wishes(
            Path(folder).absolute(), plan, record_shapes, with_stack,
            model, batch, layout, steps_end_with, overwrite,
        )  # fmt: skip
        self._on_error, self._quiet = on_error, quiet
        self._session: Session | None = None
        self._process = os.getpid()
        self.done = False

    @property
    def folder(self) -> Path:
        """Where the recording goes."""
        return self._wishes.folder

    def start(self) -> Self:
        """Begin, where a `with` block does not fit; `stop` ends it, or the end of the process."""
        try:
            torch = load_torch()
            _prepare(self.folder, overwrite=self._wishes.overwrite)
            self._session = Session(torch, self._wishes, self._stop_with_thread, self._say)
            atexit.register(self.stop_at_exit)  # torch crashes in a process that ends profiling
        except Exception as error:
            self._give_up(error)
        return self

    def __enter__(self) -> Self:
        return self.start()

    def step(self) -> None:
        """One training step has ended, and the next one begins."""
        if self.done:
            return
        if self._session is None:
            raise UsageError("capture.step() outside of `with Capture(...) as capture:`")
        if os.getpid() != self._process:  # a fork, perhaps of the data loader: not ours to record
            self.done = True
            return
        try:
            self._session.advance()
            if self._session.complete:
                self._finish(None)
        except Exception as error:
            self._give_up(error)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop(None if kind is None else f"{kind.__name__} in the training")

    def stop(self, reason: str | None = None) -> None:
        """End the recording early, because of `reason`; nothing to do where it is complete."""
        if self.done or self._session is None or os.getpid() != self._process:
            return
        why = reason or "the training ended"
        why += f" after {self._session.steps} steps; a recording takes {self._wishes.plan}"
        try:
            self._finish(why)
        except Exception as error:
            self._give_up(error, instead=reason is None)

    def stop_at_exit(self) -> None:
        """End the recording with the process; Python keeps the exception that ended it, if any."""
        kind = getattr(sys, "last_type", None)
        self.stop(None if kind is None else f"{kind.__name__} in the training")

    def _stop_with_thread(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self.stop_at_exit()
        else:
            self.stop("the thread of the training ended")

    def _finish(self, cut_short: str | None) -> None:
        self._end()
        assert self._session is not None
        rank = self._session.finish(cut_short)
        if self._quiet:
            return
        if rank["reason"] is not None:
            self._say(description.shortcoming(rank))
        elif self._session.first:
            self._say(f"{description.success(rank)}; {self.folder / rank['file']}")

    def _give_up(self, error: Exception, *, instead: bool = True) -> None:
        """Something of ours or of the profiler failed: say so once, note it, and stay away.

        `instead`: the error may be raised; not so where one of the training is on its way.
        """
        self._end()
        reason = self._reason(error)
        noted = False
        if self._session is not None:
            with contextlib.suppress(Exception):  # the first failure is the one to tell
                self._session.give_up(reason)
                noted = True
        if self._on_error == "raise" and instead:
            raise error
        if not (noted and self._quiet):
            self._say(f"nothing more is recorded, the training goes on: {reason}")

    def _reason(self, error: Exception) -> str:
        """An error in one line."""
        text = " ".join(str(error).split())
        if isinstance(error, LumosError):
            return text
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            return f"{self.folder}: no space left on the disk"
        return f"{type(error).__name__}: {text}"

    def _end(self) -> None:
        self.done = True
        atexit.unregister(self.stop_at_exit)

    def _say(self, line: str) -> None:
        rank = 0 if self._session is None else self._session.rank
        with contextlib.suppress(OSError, ValueError):
            print(f"lumos: rank {rank}: {line}", file=sys.stderr, flush=True)


def _prepare(folder: Path, *, overwrite: bool) -> None:
    """Make the folder, and find out now whether it can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe.{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        why = error.strerror or error
        raise UsageError(f"{folder}: cannot be written ({why}); give another folder") from error
    if not overwrite and (names := sidecar.strangers(folder)):
        raise UsageError(
            f"{sidecar.in_the_way(folder, names)}; give another folder, or overwrite=True"
        )
