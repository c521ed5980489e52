"""Advice: the lines to add to a training loop, for the frameworks that people train with.

The hooks are those of torchtitan 0.1 and newer (`Trainer.train`, which has moved from `train.py` to
`trainer.py`), Megatron-LM core 0.7 and newer (`train` in `megatron/training/training.py`), Lightning
2 (`Callback`), transformers 4 and 5 (`TrainerCallback`), and DeepSpeed 0.3 and newer
(`is_gradient_accumulation_boundary`, PR 402).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lumos.errors import UsageError


class Advice(NamedTuple):
    """What a framework is called, and what to do there."""

    name: str
    title: str
    text: str


PYTORCH = Advice(
    "pytorch",
    "Plain PyTorch",
    """
from lumos.capture import Capture

with Capture("traces") as capture:
    for batch in loader:
        train(batch)
        capture.step()  # behind each step; where gradients accumulate, behind optimizer.step()
""",
)
TORCHTITAN = Advice(
    "torchtitan",
    "torchtitan: nothing to add, lumos capture -- torchrun ... -m torchtitan.train ... follows its\n"
    "optimizer. Or in Trainer.train() of torchtitan/trainer.py (once torchtitan/train.py), with its own\n"
    "profiling switched off:",
    """
from lumos.capture import Capture

with Capture("traces") as capture:  # around the loop
    while ...:
        self.train_step(data_iterator)
        capture.step()  # where the profiler's step() is called
""",
)
MEGATRON = Advice(
    "megatron",
    "Megatron-LM, in train() of megatron/training/training.py, started without --profile:",
    """
from lumos.capture import Capture

capture = Capture("traces").start()  # in front of the loop
while iteration < args.train_iters:
    ...
    iteration += 1
    capture.step()
    ...
capture.stop()  # behind the loop
""",
)
LIGHTNING = Advice(
    "lightning",
    "Lightning: nothing to add where lumos capture -- python train.py follows its optimizer.\n"
    "Or a callback, and Trainer(callbacks=[Record()]) without profiler=:",
    """
from lightning.pytorch.callbacks import Callback
from lumos.capture import Capture

class Record(Callback):
    def on_train_start(self, trainer, pl_module):
        self.capture, self.steps = Capture("traces").start(), trainer.global_step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step != self.steps:  # several batches may make one step
            self.steps = trainer.global_step
            self.capture.step()

    def on_exception(self, trainer, pl_module, exception):
        self.capture.stop(f"{type(exception).__name__} in the training")

    def on_train_end(self, trainer, pl_module):
        self.capture.stop()
""",
)
HUGGING_FACE = Advice(
    "huggingface",
    "Hugging Face Trainer: nothing to add where lumos capture -- torchrun ... train.py follows its\n"
    "optimizer. Or a callback, and Trainer(..., callbacks=[Record()]):",
    """
from lumos.capture import Capture
from transformers import TrainerCallback

class Record(TrainerCallback):
    def on_train_begin(self, args, state, control, **kwargs):
        self.capture = Capture("traces").start()

    def on_step_end(self, args, state, control, **kwargs):
        self.capture.step()

    def on_train_end(self, args, state, control, **kwargs):
        self.capture.stop()
""",
)
DEEPSPEED = Advice(
    "deepspeed",
    "DeepSpeed (its engine may step an optimizer several times in one step, so it cannot be\n"
    "followed from outside):",
    """
from lumos.capture import Capture

with Capture("traces") as capture:
    for batch in loader:
        loss = engine(batch)
        engine.backward(loss)
        ends = engine.is_gradient_accumulation_boundary()  # to be asked in front of step()
        engine.step()
        if ends:
            capture.step()

with Capture("traces") as capture:  # a PipelineEngine
    for _ in range(steps):
        engine.train_batch(data_iter)
        capture.step()
""",
)
FRAMEWORKS = (PYTORCH, TORCHTITAN, MEGATRON, LIGHTNING, HUGGING_FACE, DEEPSPEED)
_ALSO_CALLED = {
    "torch": "pytorch",
    "plain": "pytorch",
    "megatron-lm": "megatron",
    "pytorch-lightning": "lightning",
    "hf": "huggingface",
    "transformers": "huggingface",
    "hugging-face": "huggingface",
}


def advise(names: Sequence[str]) -> str:
    """The lines for the frameworks called `names`, for all of them without a name."""
    by_name = {one.name: one for one in FRAMEWORKS}
    wanted = []
    for name in names or by_name:
        key = name.lower().replace("_", "-")
        key = _ALSO_CALLED.get(key, key)
        if key not in by_name:
            raise UsageError(f"no advice for {name!r}; there is some for {', '.join(by_name)}")
        wanted.append(by_name[key])
    return "\n".join(f"{one.title}\n{_indented(one.text)}" for one in wanted)


def _indented(text: str) -> str:
    return "".join(f"    {line}" if line.strip() else line for line in text.splitlines(True))
