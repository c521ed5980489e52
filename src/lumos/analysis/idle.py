"""Why a device was idle: each idle stretch goes to what kept the task that ended it from starting.

From that task we walk back along what it waited for, over a time as long as the stretch:

    host   | op | op ....... | launch | op |        host-bound: `op ....` is what the launch waited for
    stream     |= k1 =|  idle       |= k2 =|

The time from a launch to its task counts for nothing: it is there for every task, and the one before
came as much later. So the stretch is laid against the host's time before the launch call. Where the
call itself took longer than it takes to reach the device, what it took longer is the host's.

Waiting for other ranks is no idle time here: the communication that waits is running, so it is part
of the exposed communication (`step_breakdown.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from lumos.analysis.run_times import RunTimes
from lumos.compiled import compiled
from lumos.fit.fitting import UNEXPLAINED_NS
from lumos.graph.execution import ExecutionGraph, Rule
from lumos.graph.job import Job, TaskKind
from lumos.whatif.selection import loads_data


class Cause(Enum):
    """What a device was idle for."""

    HOST_BOUND = "host_bound"  # the host was busy with operators, calls and pauses
    LAUNCH_QUEUE = "launch_queue"  # between tasks that had been launched
    DATA_LOADING = "data_loading"  # the host fetched the next batch
    SYNCHRONIZING_CALL = "synchronizing_call"  # the host waited for the device before it went on
    EARLIER_STEP = "earlier_step"  # what earlier steps had begun was not done
    UNEXPLAINED = "unexplained"  # nothing recorded kept it


_NUMBER = {cause: number for number, cause in enumerate(Cause)}
_CAUSE_OF_RULE = {
    Rule.PROGRAM_ORDER: Cause.HOST_BOUND,
    Rule.LAUNCH: Cause.LAUNCH_QUEUE,
    Rule.STREAM_ORDER: Cause.LAUNCH_QUEUE,
    Rule.EVENT_WAIT: Cause.LAUNCH_QUEUE,
    Rule.SYNCHRONIZE: Cause.SYNCHRONIZING_CALL,
    Rule.BACK_PRESSURE: Cause.LAUNCH_QUEUE,
    Rule.HAND_OFF: Cause.HOST_BOUND,
    Rule.RENDEZVOUS: Cause.LAUNCH_QUEUE,
    Rule.CONTENTION: Cause.LAUNCH_QUEUE,
}


@dataclass(frozen=True)
class Stretches:
    """Idle stretches of one rank: begin and end [ns] (count, 2) and the task that ended each.

    `runs` tells which end inside that task: nothing of the device came behind the stretch.
    """

    interval: NDArray[np.int64]
    task: NDArray[np.int64]
    runs: NDArray[np.bool_]


def causes_of_idle(
    job: Job, graph: ExecutionGraph, times: RunTimes, stretches: Stretches
) -> NDArray[np.int64]:
    """Time of each stretch by cause (stretches, causes) [ns]; a stretch's causes sum to its length."""
    causes = np.zeros((len(stretches.task), len(_NUMBER)), np.int64)
    _walk(
        stretches.interval, stretches.task, stretches.runs,
        graph.first, graph.before, graph.lag_ns, graph.from_start, graph.rule, graph.release_ns,
        graph.on_host, times.start_ns, times.end_ns, _cause_of_tasks(job, graph),
        np.array([_NUMBER[_CAUSE_OF_RULE[rule]] for rule in Rule]), int(Rule.LAUNCH), _WALK_CAUSES,
        UNEXPLAINED_NS, causes,
    )  # fmt: skip
    return causes


_WALK_CAUSES = np.array(
    [
        _NUMBER[cause]
        for cause in (Cause.HOST_BOUND, Cause.LAUNCH_QUEUE, Cause.EARLIER_STEP, Cause.UNEXPLAINED)
    ]
)


def _cause_of_tasks(job: Job, graph: ExecutionGraph) -> NDArray[np.uint8]:
    """What a device is idle for while it waits for each host row to be done."""
    found = np.full(len(graph), _NUMBER[Cause.HOST_BOUND], np.uint8)
    for place, role in enumerate(job.placement.role):
        own = found[graph.row_offset[place] : graph.row_offset[place + 1]]
        program = job.programs[role]
        own[program.rows.kind == TaskKind.SYNCHRONIZE] = _NUMBER[Cause.SYNCHRONIZING_CALL]
        own[loads_data(program)] = _NUMBER[Cause.DATA_LOADING]
    return found


@compiled()
def _walk(interval, last, runs, first, before, lag, from_start, rule, release, on_host, start, end, cause_of_task, cause_of_rule, launch, causes, unexplained, found):  # type: ignore[no-untyped-def]  # fmt: skip
    host_bound, queue, earlier, unknown = causes
    for number in range(len(last)):
        floor, time = interval[number, 0], interval[number, 1]
        task, run, moved, by_rule = last[number], runs[number], 0, launch
        while time > floor:
            if run and not on_host[task] and start[task] < end[task]:  # its device was busy
                found[number, cause_of_rule[by_rule]] += time - floor
                break
            if run and start[task] < time:
                low = max(start[task], floor)
                found[number, cause_of_task[task]] += time - low
                time = low
            best, ready = -1, release[task]
            for edge in range(first[task], first[task + 1]):
                point = (start[before[edge]] if from_start[edge] else end[before[edge]]) + lag[edge]
                if point >= ready:
                    best, ready = edge, point
            late = max(time - max(ready, floor), 0)
            if on_host[task]:  # between its rows a thread does what leaves no trace
                by_late = cause_of_task[task]
            else:
                by_late = unknown if time - ready > unexplained else queue
            if best < 0 and ready > 0:  # the recorded start held it
                found[number, by_late] += late
                found[number, earlier] += time - floor - late
                break
            if best < 0:  # nothing did
                found[number, queue if time - floor <= moved else unknown] += time - floor
                break
            by_rule = rule[best]
            point = start[before[best]] if from_start[best] else end[before[best]]
            if by_rule == launch:
                if time - ready > unexplained:
                    returned = max(min(end[before[best]], time), ready)
                    if time - returned > unexplained:
                        low = min(max(returned, floor), time)
                        found[number, unknown] += time - low
                        time = low
                    low = min(max(ready, floor), time)  # the call took longer than launches do
                    found[number, host_bound] += time - low
                    time = low
                if time > floor:
                    moved += max(time - point, 0)
                    floor -= max(time - point, 0)
            else:
                found[number, by_late] += late
                time -= late
                low = max(point, floor)
                found[number, cause_of_rule[by_rule]] += max(time - low, 0)
            time = min(time, max(point, floor))
            run = not from_start[best]
            task = before[best]
