"""What every rule needs to know of one rank's program: its stream items and its slots."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lumos.errors import UnusableInputError
from lumos.graph.job import FIRST_DEVICE_KIND, NONE, Lags, Program, TaskKind


@dataclass(frozen=True)
class RankContext:
    """One rank on its way to tasks: task of row `i` is `offset + i`.

    Items are what streams run: device rows, and the markers that stream waits put between them.
    They are sorted by stream, then by host order: `item_task`, `item_stream`, `item_row` (the row
    whose place in host order counts: the device row, or the waiting call), `item_first` the first
    item of each processor.
    """

    program: Program
    lags: Lags
    offset: int
    processor_offset: int
    marker_of_row: NDArray[np.int32]  # task of a WAIT_EVENT row's marker, NONE for other rows
    opening: NDArray[np.int32]  # task with which a row opens (its own, or a marker in front)
    markers: int
    item_task: NDArray[np.int64]
    item_row: NDArray[np.int64]
    item_first: NDArray[np.int64]

    def last_item(self, stream: NDArray[np.int32], row: NDArray[np.int64]) -> NDArray[np.int64]:
        """The last task given to each `stream` before host position `row`; NONE without one."""
        if not len(self.item_task):
            return np.full(len(row), NONE, np.int64)
        size = np.int64(len(self.program.rows) + 1)
        key = np.repeat(np.arange(len(self.item_first) - 1), np.diff(self.item_first)) * size
        place = np.searchsorted(key + self.item_row, stream.astype(np.int64) * size + row) - 1
        found = place >= self.item_first[stream]
        return np.where(found, self.item_task[place], NONE)

    def signalling_row(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The row that signals what each of `rows` awaits; NONE where it lies before the job."""
        table = self.program.rows
        signals = np.flatnonzero(table.signal != NONE)
        slots = np.int64(max(table.signal.max(initial=0), table.awaits.max(initial=0)) + 1)
        blocks = table.block[signals].astype(np.int64)
        key = blocks * slots + table.signal[signals]
        order = np.argsort(key, kind="stable")
        wanted_block = table.block[rows].astype(np.int64) - table.distance[rows]
        wanted = wanted_block * slots + table.awaits[rows]
        place = np.searchsorted(key[order], wanted, side="right") - 1
        if not len(key):
            return np.full(len(rows), NONE, np.int64)
        found = (place >= 0) & (key[order][place] == wanted)
        return np.where(found, signals[order][place], NONE)

    def state_of_slots(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """When the recorded start signalled what each of `rows` awaits [ns].

        Raises UnusableInputError for a wait whose record is in no block and in no recorded start.
        """
        table, start = self.program.rows, self.program.start
        first = int(table.block[0]) if len(table) else 0
        known = start.slot_ns if start is not None else {}
        times = np.zeros(len(rows), np.int64)
        for place, row in enumerate(rows):
            slot, block = int(table.awaits[row]), int(table.block[row]) - int(table.distance[row])
            if slot in known:
                times[place] = known[slot]
            elif block >= first or start is None:
                name = self.program.names[table.name[row]]
                raise UnusableInputError(
                    f"row {row} ({name}) awaits slot {slot} of block {block}, which no row signals; "
                    "take the block that records it too, or give a starting state"
                )
        return times


def rank_context(
    program: Program,
    lags: Lags,
    offset: int,
    processor_offset: int,
    first_marker: int,
    coupled: NDArray[np.bool_],
) -> tuple[RankContext, int]:
    """The context of one rank, and the number of the next free marker task.

    `coupled` tells which rows are collectives that wait for other ranks: each gets a marker at
    which it opens.
    """
    rows = program.rows
    own = offset + np.arange(len(rows), dtype=np.int32)
    marker = np.full(len(rows), NONE, np.int32)
    marked = np.flatnonzero((rows.kind == TaskKind.WAIT_EVENT) | coupled)
    marker[marked] = first_marker + np.arange(len(marked))
    waits = rows.kind == TaskKind.WAIT_EVENT
    opening = np.where(coupled, marker, own)
    device = np.flatnonzero((rows.kind >= FIRST_DEVICE_KIND) & (rows.launch != NONE))
    waiting = np.flatnonzero(waits)
    arriving = np.flatnonzero(coupled & (rows.launch != NONE))
    item_row = np.concatenate([device, waiting, arriving])
    item_task = np.concatenate([own[device], marker[waiting], marker[arriving]])
    stream = np.concatenate(
        [rows.processor[device], rows.stream[waiting], rows.processor[arriving]]
    )
    # a collective opens right before it runs
    place = np.concatenate([2 * device + 1, 2 * waiting + 1, 2 * arriving])
    order = np.argsort(place, kind="stable")
    order = order[np.argsort(stream[order].astype(np.int16), kind="stable")]
    context = RankContext(
        program, lags, offset, processor_offset, np.where(waits, marker, NONE), opening, len(marked),
        item_task[order], item_row[order],
        np.searchsorted(stream[order], np.arange(len(program.processors) + 1)),
    )  # fmt: skip
    return context, first_marker + len(marked)
