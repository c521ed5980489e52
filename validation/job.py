"""One recorded run: gpt.py on this process, changed as asked, under lumos.capture.

    python validation/job.py --folder DIR --name NAME [--intervention NAME] [gpt.py's flags]

Needs torch and this source tree, nothing installed. Several ranks run it as torchrun would run them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "examples"), str(ROOT / "validation")]

import gpt
import torch
import torch.distributed as dist
from interventions import INTERVENTIONS, unchanged

from lumos.capture import Capture


class LonelyTrainer(gpt.Trainer):
    """A rank whose neighbours do not exist; what they would send is drawn once.

    A fake world delivers fresh memory, and weights trained on that are NaN before long. How fast a
    GPU multiplies depends on the numbers: an H200 reached 894 TFLOP/s on zeros, 788 on random ones.
    """

    drawn: torch.Tensor | None = None

    def exchange(
        self, peer: int | None, *, send: torch.Tensor | None = None, receive: bool = False
    ) -> torch.Tensor | None:
        """As in the real job, with other numbers in what is received."""
        received = super().exchange(peer, send=send, receive=receive)
        if received is None:
            return None
        if self.drawn is None:
            self.drawn = torch.randn_like(received) * 1e-3
        return self.drawn.detach()


PLAN = {"skip_steps": 5, "timed_steps": 20, "warm_up_steps": 2, "profiled_steps": 3}


def record(
    folder: Path,
    name: str,
    options: Any,
    layout: Any,
    intervention: str | None,
    *,
    against: str = "",
    **plan: int,
) -> dict[str, Any]:
    """Train under capture until it is done; returns what the intervention tells of itself.

    `against` names the recording that this one is held against.
    """
    change = (INTERVENTIONS[intervention].change if intervention else None) or unchanged
    lonely = dist.get_backend() == "fake"
    trainer = (LonelyTrainer if lonely else gpt.Trainer)(options, layout)
    model = {"name": name, "intervention": intervention, "against": against, **model_of(options)}
    batch = {key: getattr(options, key) for key in ("micro_batch", "micro_batches", "sequence")}
    sizes = {kind: getattr(layout, kind).size() for kind in ("pp", "dp", "tp")}
    details: dict[str, Any] = {}
    with change(trainer) as told:
        recording = Capture(
            folder, model=model, batch=batch, layout=sizes, on_error="raise", quiet=True, **plan
        )
        with recording as capture:
            while not capture.done:
                trainer.step()
                capture.step()
        details.update(told)
    return {**details, **told}


def write_truth(folder: Path, name: str, document: dict[str, Any]) -> None:
    """Write what is known of a recording and a reader of its traces has to find out."""
    path = folder / "truth" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def model_of(options: Any) -> dict[str, Any]:
    """What defines the model and how it is trained."""
    names = ("layers", "hidden", "heads", "ffn", "vocabulary", "dtype", "recompute", "fsdp")
    return {name: getattr(options, name) for name in names}


@contextlib.contextmanager
def connected(options: Any) -> Iterator[Any]:
    """This process's place in the job, left again afterwards."""
    layout = gpt.connect(options)
    try:
        yield layout
    finally:
        dist.destroy_process_group()


def main() -> None:
    """Record one run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--intervention", choices=INTERVENTIONS)
    for name, value in PLAN.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    own, rest = parser.parse_known_args()
    options = gpt.parse_arguments(rest)
    gpt.reserve_memory(options.reserve_mb)
    plan = {name: getattr(own, name) for name in PLAN}
    with connected(options) as layout:
        told = record(own.folder, own.name, options, layout, own.intervention, **plan)
        rank = dist.get_rank()
    if rank == 0 and told:
        write_truth(own.folder, "intervention", {"name": own.intervention, **told})


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
