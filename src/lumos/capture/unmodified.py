"""Recording a script that knows nothing of it: the end of a step is where its optimizer has stepped.

`lumos capture` starts the script with its wishes in the environment; `follow` takes them up when
the script has imported torch. Of several optimizers the first that steps counts the steps.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import weakref
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from multiprocessing import util as processes
from pathlib import Path
from types import MethodType
from typing import Any

from lumos.capture.fake_world import redirect
from lumos.capture.plan import Plan
from lumos.capture.pytorch import load_torch
from lumos.capture.recorder import Capture

VARIABLE = "LUMOS_CAPTURE"
STARTUP = Path(__file__).parent / "startup"


@dataclass(frozen=True)
class Order:
    """What `lumos capture` asks of the processes it starts.

    In `notes`, a folder, each of them leaves an empty file `<pid>.torch` when it has imported
    torch, `<pid>.step` when an optimizer has stepped, and `<pid>.deepspeed` when DeepSpeed made it
    step, so that a recording that did not come about can be explained.
    """

    folder: str
    notes: str
    plan: Mapping[str, int] = field(default_factory=lambda: asdict(Plan()))
    model: str | None = None
    batch: str | None = None
    layout: Mapping[str, int] | None = None
    fake_world: int | None = None
    fake_rank: int = 0
    overwrite: bool = False

    def environment(self) -> dict[str, str]:
        """The variables that carry the order to a command and to what it starts in turn."""
        before = os.environ.get("PYTHONPATH")
        path = os.pathsep.join([str(STARTUP), *([before] if before else [])])
        return {VARIABLE: json.dumps(asdict(self)), "PYTHONPATH": path}

    def note(self, what: str) -> None:
        """Leave a note of how far this process has come."""
        Path(self.notes, f"{os.getpid()}.{what}").touch()


def follow() -> None:
    """Take up the order in the environment, in a process that has just imported torch."""
    order = Order(**json.loads(os.environ[VARIABLE]))
    order.note("torch")
    load_torch()  # its hook for all optimizers came with 2.0
    if order.fake_world is not None:
        redirect(order.fake_world, order.fake_rank)
    Follower(order)


class Follower:
    """Counts the steps of the first optimizer that steps, and records them.

    Left alone are steps inside of `backward()`, of which there are many in one, and those that
    torch.compile compiles: our word would be compiled with them.

    Torch's hook for all optimizers finds it. The hook is called inside `optimizer.step`, which torch
    annotates, and a step of the recording cannot end inside an annotation: so the optimizer's
    `step` gets a word behind it, until the recording is done. Where a script has taken hold of
    `optimizer.step` before, the hook has to do.
    """

    def __init__(self, order: Order) -> None:
        from torch.optim.optimizer import register_optimizer_step_post_hook

        self._order = order
        self._process = os.getpid()
        self._hook = register_optimizer_step_post_hook(self._stepped)
        self._marker: weakref.ref[Any] | None = None
        self._capture: Capture | None = None
        self._inside, self._stepped_inside = False, False
        self._word: Any = None

    def _stepped(self, optimizer: Any, *_: Any) -> None:
        """Hook of torch: an optimizer has made a step."""
        import torch

        if torch.compiler.is_compiling():  # asked first: a compiler takes along no more than this
            return
        if self._capture is None:  # else a fork of a training is not the training
            self._process = os.getpid()
        if os.getpid() != self._process or torch._C._current_graph_task_id() != -1:  # noqa: SLF001
            return
        if self._marker is None or self._marker() is None:
            self._mark(optimizer)
        elif self._marker() is not optimizer:
            return
        elif self._inside:
            self._stepped_inside = True
        else:
            self._end_step()

    def _mark(self, optimizer: Any) -> None:
        """From now on `optimizer` counts the steps."""
        if _stepped_by_deepspeed():
            self._order.note("deepspeed")
            self._hook.remove()
            return
        self._marker = weakref.ref(optimizer)
        if self._capture is None:
            self._capture = self._begin(optimizer)
        self._put_word_behind_steps(optimizer)
        if self._order.plan["skip_steps"]:  # else: what ends here was not seen from its begin
            self._end_step()

    def _put_word_behind_steps(self, optimizer: Any) -> None:
        own, step = vars(optimizer).get("step"), optimizer.step

        @functools.wraps(step)
        def followed(_: Any, *arguments: Any, **settings: Any) -> Any:
            self._inside, self._stepped_inside = True, False
            try:
                return step(*arguments, **settings)
            finally:
                self._inside = False
                if self._stepped_inside:  # scalers of gradients leave steps out
                    self._end_step()
                if self._capture is not None and self._capture.done:
                    self._let_go(optimizer, own)

        # a method, for schedulers of learning rates expect one
        self._word = optimizer.step = MethodType(followed, optimizer)

    def _let_go(self, optimizer: Any, own: Any) -> None:
        """All is as it was: `own` is what the optimizer had in the place of its class's `step`."""
        self._hook.remove()
        if vars(optimizer).get("step") is self._word:
            if own is None:
                del optimizer.step
            else:
                optimizer.step = own
        self._word = None

    def _end_step(self) -> None:
        if self._capture is not None:
            self._capture.step()

    def _begin(self, optimizer: Any) -> Capture:
        order = self._order
        order.note("step")
        capture = Capture(
            order.folder,
            skip_steps=order.plan["skip_steps"],
            timed_steps=order.plan["timed_steps"],
            warm_up_steps=order.plan["warm_up_steps"],
            profiled_steps=order.plan["profiled_steps"],
            model=order.model,
            batch=order.batch,
            layout=order.layout,
            steps_end_with=f"{type(optimizer).__name__}.step()",
            overwrite=order.overwrite,
            quiet=True,
        )
        processes.Finalize(None, capture.stop_at_exit, exitpriority=10)  # in place of atexit there
        return capture.start()


def _stepped_by_deepspeed() -> bool:
    """Whether DeepSpeed's engine is behind this step: it makes several of them in one step."""
    frame = sys._getframe()  # noqa: SLF001 - who called is what is asked
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] == "deepspeed":
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False
