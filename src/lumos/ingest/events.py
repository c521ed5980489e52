"""The output that both readers of Kineto files fill: columns, strings, counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Document:
    """One JSON document: its header, its events as columns, its named threads.

    `columns` are those of EVENT_COLUMNS with times as written (relative to `header`'s
    baseTimeNanoseconds where it has one; durations may be negative). `skipped` counts events
    that are no rows: by category for spans of unknown category, by "ph:<phase>" for other
    phases, "no time" for spans without a usable start or duration, "malformed" for events that
    are no JSON. `complete` is False where the document is cut off.
    """

    header: Mapping[str, Any]
    columns: Mapping[str, NDArray[Any]]
    strings: tuple[str, ...]
    argument_row: NDArray[np.int64]
    argument_key: NDArray[np.uint8]
    argument_value: NDArray[np.int64]
    thread_names: Mapping[tuple[str, str], str] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)
    complete: bool = True
