"""Plan: which steps of a run are left alone, timed, warmed up and profiled."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from lumos.errors import UsageError


class Part(Enum):
    """What happens to a step."""

    SKIPPED = "skipped"
    TIMED = "timed"
    WARM_UP = "warm-up"
    PROFILED = "profiled"
    AFTER = "after"


@dataclass(frozen=True)
class Plan:
    """Numbers of steps, one part behind the other.

    | skipped | timed, no profiler | warm-up of the profiler | profiled | left alone ...
    """

    skip_steps: int = 5
    timed_steps: int = 20
    warm_up_steps: int = 2
    profiled_steps: int = 3

    def __post_init__(self) -> None:
        for name in ("skip_steps", "timed_steps", "warm_up_steps", "profiled_steps"):
            value, least = getattr(self, name), int(name == "profiled_steps")
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise UsageError(f"{name} is {value!r}; give a whole number from {least} up")

    @property
    def steps(self) -> int:
        """How many steps the run must have."""
        return self.skip_steps + self.timed_steps + self.warm_up_steps + self.profiled_steps

    def part(self, step: int) -> Part:
        """The part that step number `step`, counted from 0, belongs to."""
        for part, count in (
            (Part.SKIPPED, self.skip_steps),
            (Part.TIMED, self.timed_steps),
            (Part.WARM_UP, self.warm_up_steps),
            (Part.PROFILED, self.profiled_steps),
        ):
            if step < count:
                return part
            step -= count
        return Part.AFTER

    def next_turn(self, step: int) -> int:
        """Behind how many steps there is more to do than to time them, when `step` have ended."""
        for border in (self.skip_steps, self.skip_steps + self.timed_steps):
            if step < border:
                return border
        return step + 1  # the profiler is told of every step

    def __str__(self) -> str:
        return (
            f"{self.steps} = {self.skip_steps} skipped + {self.timed_steps} timed "
            f"+ {self.warm_up_steps} warm-up + {self.profiled_steps} profiled"
        )
