"""PyTorch, loaded when it is used: the one place that says what is wrong with it."""

from __future__ import annotations

import re
from typing import Any

from lumos.errors import UsageError

OLDEST = (2, 4)
"""The first version that writes ranks and process groups into the trace (`distributedInfo`)."""


def load_torch() -> Any:
    """The module torch; UsageError where there is none, or one that is too old."""
    try:
        import torch
    except ImportError as error:
        raise UsageError(
            "lumos.capture needs PyTorch in this Python: pip install torch "
            "--index-url https://download.pytorch.org/whl/cpu (the small CPU build)"
        ) from error
    numbers = re.match(r"(\d+)\.(\d+)", torch.__version__)
    if numbers is None or (int(numbers[1]), int(numbers[2])) < OLDEST:
        raise UsageError(
            f"lumos.capture needs PyTorch {OLDEST[0]}.{OLDEST[1]} or newer, "
            f"this is {torch.__version__}: update it"
        )
    return torch


def uses_gpu(torch: Any) -> bool:
    """Whether this process has begun to use a GPU; asking costs and starts nothing."""
    return bool(torch.cuda.is_initialized())
