"""Records a training job so that it can be modelled; needs torch and nothing else of ours.

with Capture("traces") as capture:
    for batch in loader:
        train(batch)
        capture.step()
"""

from __future__ import annotations

from lumos.capture.fake_world import fake_world
from lumos.capture.recorder import Capture

__all__ = ["Capture", "fake_world"]
