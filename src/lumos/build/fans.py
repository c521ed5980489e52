"""Forks and joins of streams, told by how records and waits follow each other on a host thread.

fork   | launch 1 | record | wait | wait | wait | launch 2 |    others wait for stream 1
join   | launch 2 | record | wait | record | wait | launch 1 |  stream 1 waits for the others
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from lumos.build.calls import CallClass
from lumos.build.threads import Segments
from lumos.graph.job import NONE


class Fan(IntEnum):
    """The place of a wait in a fork or a join of streams."""

    NO = 0
    FORK = 1
    JOIN = 2


def find_fans(
    segments: Segments,
    classes: NDArray[np.uint8],
    launches: NDArray[np.int64],
    inside: NDArray[np.int64],
) -> dict[int, Fan]:
    """The forks and joins among the stream waits; waits of neither are left out.

    `launches` are the segments that launch something, sorted; records inside communication
    operators (`inside` is not NONE) are the library's own and begin no fork.
    """
    interesting = np.isin(classes, (CallClass.RECORD, CallClass.WAIT_EVENT))
    runs: dict[tuple[int, int], list[int]] = {}
    for segment in np.flatnonzero(interesting & (inside == NONE)).tolist():
        run = (int(segments.thread[segment]), int(np.searchsorted(launches, segment)))
        runs.setdefault(run, []).append(segment)
    found: dict[int, Fan] = {}
    for members in runs.values():
        blocks = _blocks([(segment, classes[segment] == CallClass.RECORD) for segment in members])
        for number, waits in enumerate(blocks):
            alone = len(waits) == 1
            neighbours = blocks[max(number - 1, 0) : number] + blocks[number + 1 : number + 2]
            if len(waits) > 1:
                found |= dict.fromkeys(waits, Fan.FORK)
            elif alone and any(len(other) == 1 for other in neighbours):
                found[waits[0]] = Fan.JOIN
    return found


def _blocks(calls: list[tuple[int, bool]]) -> list[list[int]]:
    """The waits behind each record, of the records that are followed by any."""
    blocks: list[list[int]] = []
    recorded = False
    for segment, is_record in calls:
        if is_record:
            blocks.append([])
            recorded = True
        elif recorded:
            blocks[-1].append(segment)
    return [waits for waits in blocks if waits]
