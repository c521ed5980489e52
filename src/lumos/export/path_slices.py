"""The critical path of a run as slices on a track of its own.

    stretch    | rank 0: stream 7, forward ........ | rank 1: thread 1 |
    the path   | lag |== gemm ==|unexplained|= add =| op |  call       |

Stretches (neighbouring tasks of one thread or stream) hold the pieces of the path, which follow each
other without a gap.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from lumos.analysis.critical_path import CriticalPath, rule_word
from lumos.analysis.path_segments import segments
from lumos.analysis.path_sums import Part, labels_of
from lumos.graph.execution import ExecutionGraph
from lumos.graph.job import Job
from lumos.graph.labels import By


class PathSlice(NamedTuple):
    """A piece of the path, or a stretch of several; times in ns.

    `kind` is the class of a task, a word of Part for time between tasks, or STRETCH; `rule` is the
    one by which the path comes there.
    """

    name: str
    kind: str
    start_ns: int
    length_ns: int
    rank: int
    stream: str
    rule: str


STRETCH = "stretch"


def path_slices(job: Job, graph: ExecutionGraph, path: CriticalPath) -> Iterator[PathSlice]:
    """Slices in order of time, a stretch in front of what it holds; none of no length."""
    _, story = segments(job, graph, path, len(path))
    pieces = _pieces(job, graph, path)
    for stretch in story:
        words = f"rank {stretch.rank}: {stretch.stream}"
        words += f", {stretch.phase}" if stretch.phase else ""
        where = stretch.rank, stretch.stream, stretch.rule
        if stretch.length_ns:
            yield PathSlice(words, STRETCH, stretch.start_ns, stretch.length_ns, *where)
        for of_task in islice(pieces, stretch.tasks):
            yield from (piece for piece in of_task if piece.length_ns)


def _pieces(
    job: Job, graph: ExecutionGraph, path: CriticalPath
) -> Iterator[tuple[PathSlice, PathSlice, PathSlice]]:
    """Of each entry of the path the lag, the unexplained time, the time on the task."""
    name, kind, stream = (
        labels_of(job, graph, path.row, by) for by in (By.KERNEL, By.CLASS, By.STREAM)
    )
    at = path.begin_ns
    for entry, row in enumerate(path.row.tolist()):
        rule = rule_word(int(path.rule[entry]))
        starts = rule == Part.STARTING_STATE.value
        lag, late, own = (
            int(column[entry]) for column in (path.lag_ns, path.unexplained_ns, path.own_ns)
        )
        where = job.placement.ranks[graph.rank[row]], stream.texts[stream.number[entry]], rule
        words = rule if starts else f"{rule} lag"
        between = Part.STARTING_STATE if starts else Part.LAG
        late_word = Part.UNEXPLAINED.value
        task, of_class = name.texts[name.number[entry]], kind.texts[kind.number[entry]]
        yield (
            PathSlice(words, between.value, at, lag, *where),
            PathSlice(late_word, late_word, at + lag, late, *where),
            PathSlice(task, of_class, at + lag + late, own, *where),
        )
        at += lag + late + own
