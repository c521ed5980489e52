"""The profiler of a few steps: torch.profiler with what a performance model needs switched on."""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from lumos.capture.plan import Part
from lumos.capture.pytorch import uses_gpu
from lumos.capture.thread_end import EndOfThread
from lumos.errors import UsageError

PATIENCE_S = 10.0
"""How long a GPU gets to finish before what it was doing is given up."""
_STEP = "ProfilerStep"
_GZIP_LEVEL = 4
"""A third of the time of gzip's default 9, files 10 % larger: the job waits while this runs."""


class StepProfiler:
    """Profiles the steps it is told of; each is a `ProfilerStep#N` in the trace.

    The thread that starts torch's profiler has to stop it: where that is not done the process
    crashes when it ends. So `thread_ends` is called in time, to save what there is.
    """

    def __init__(
        self,
        torch: Any,
        *,
        record_shapes: bool,
        with_stack: bool,
        thread_ends: Callable[[], None],
    ) -> None:
        self._torch = torch
        self._settings = {"record_shapes": record_shapes, "with_stack": with_stack}
        self._thread_ends = thread_ends
        self._thread = 0
        self._end_of_thread: EndOfThread | None = None
        self._profile: Any = None
        self._action: Any = None
        self._stopped: Any = None
        self.recorded = False

    @property
    def running(self) -> bool:
        """Whether there is something that this thread can stop."""
        return self._profile is not None and self._thread == threading.get_ident()

    def begin(self, part: Part, step: int) -> None:
        """Step number `step` begins, a warm-up step or a profiled one."""
        actions = self._torch.profiler.ProfilerAction
        self._action = actions.WARMUP if part is Part.WARM_UP else actions.RECORD
        if self._profile is None:
            self._profile = self._started(step)
            self._thread = threading.get_ident()
            self._end_of_thread = EndOfThread(self._end_with_thread)
        elif self.running:
            self._profile.step()
        else:
            raise UsageError("steps end in several threads, and PyTorch profiles one of them")
        self.recorded = part is Part.PROFILED

    def _started(self, step: int) -> Any:
        from torch.autograd.profiler import KinetoStepTracker

        if self._torch._C._current_graph_task_id() != -1:  # noqa: SLF001 - as its checkpoints ask
            # with backward() goes all that a profiler has set up in it, and torch crashes
            raise UsageError("a step ended inside of backward(); tell of it behind that")
        waiting = getattr(KinetoStepTracker, "_step_dict", {})  # of each that was made and not left
        if self._torch.autograd._profiler_enabled() or _STEP in waiting:  # noqa: SLF001
            # two at once end in a crash of torch, and the training's own came first
            raise UsageError(
                "the training has a profiler of its own, and PyTorch bears one at a time; "
                "switch that one off to record"
            )
        activities = [self._torch.profiler.ProfilerActivity.CPU]
        if uses_gpu(self._torch):
            activities.append(self._torch.profiler.ProfilerActivity.CUDA)
        profile = self._torch.profiler.profile(
            activities=activities,
            schedule=lambda _: self._action,
            experimental_config=_experimental_config(),
            **self._settings,
        )
        profile.step_num = step
        try:
            with warnings.catch_warnings():  # of what is forgotten between cycles: we make one
                warnings.filterwarnings("ignore", message="Warning: Profiler clears events")
                profile.__enter__()
        except Exception:
            KinetoStepTracker.erase_step_count(_STEP)
            raise
        return profile

    def stop(self) -> None:
        """End the recording. Called twice, or before anything began, it does nothing."""
        if not self.running:
            return
        profile, self._profile = self._profile, None
        if self._end_of_thread is not None:
            self._end_of_thread.cancel()
        if self.recorded and not self._torch.autograd._profiler_enabled():  # noqa: SLF001
            raise UsageError("another profiler of the training ended ours: no trace")
        profile.__exit__(None, None, None)
        self._stopped = profile

    def _end_with_thread(self) -> None:
        self._thread_ends()
        if self.running:  # given up by another thread, which could not stop it
            with suppress(Exception):
                self.stop()

    def gpu_comes_to_rest(self) -> bool:
        """Whether the GPU gets done with what it was given.

        Stopping the profiler waits for the GPU, and behind a collective that other ranks have
        left that would be for ever: so a thread tries first.
        """
        if not uses_gpu(self._torch):
            return True
        waiting = threading.Thread(target=self._torch.cuda.synchronize, daemon=True)
        waiting.start()
        waiting.join(PATIENCE_S)
        return not waiting.is_alive()

    def write(self, path: Path) -> None:
        """Write what was recorded to `path`, a hidden file, whole or not at all."""
        with tempfile.TemporaryDirectory(prefix=f"{path.name}.", dir=path.parent) as folder:
            plain, packed = Path(folder, "trace.json"), Path(folder, "trace.json.gz")
            try:
                self._stopped.export_chrome_trace(str(plain))
                self._stopped = None  # with all its events
                _check_whole(plain)
                with plain.open("rb") as text, gzip.open(packed, "wb", _GZIP_LEVEL) as file:
                    shutil.copyfileobj(text, file, 2**20)
                packed.replace(path)
            finally:
                for rest in Path(folder).iterdir():  # torch holds open what it could not write
                    os.truncate(rest, 0)


def _experimental_config() -> Any:
    """Events of synchronisation, and no second copy of everything in Python, where known."""
    from torch._C._profiler import _ExperimentalConfig

    settings: dict[str, bool] = {"enable_cuda_sync_events": True, "trace_only": True}
    while settings:
        try:
            return _ExperimentalConfig(**settings)
        except TypeError:  # this version lacks the newest of them
            settings.popitem()
    return None


def _check_whole(path: Path) -> None:
    """Torch says nothing when the disk is full: a whole trace ends with a brace."""
    whole = path.exists()
    if whole:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - 64, 0))
            whole = file.read().rstrip().endswith(b"}")
    if not whole:
        folder = path.parent.parent
        raise UsageError(f"{folder}: torch could not write the whole trace; is the disk full?")
