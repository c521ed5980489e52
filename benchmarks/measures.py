"""Each measurement of `pipeline.py`, run in a process of its own: `measures.py NAME ARGUMENT...`.

Prints one JSON object. Before the clock starts a small trace has gone the whole way once, so that
compiled code is loaded.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
from big_job import coupled_job
from numpy.typing import NDArray

from lumos.build import build
from lumos.fit import fit
from lumos.graph.execution import ExecutionGraph
from lumos.ingest import read
from lumos.lower import lower
from lumos.simulate import run, simulate
from lumos.simulate.batch import Scenarios, ends_of_each
from lumos.simulate.contention import room_for
from lumos.simulate.simulation import successors_of

WHAT_IFS = 8
ROUNDS = 5


def graph_and_rerun(source: str, file: str) -> dict[str, float]:
    """Trace -> Job -> graph, with and without the fit, and one more run; medians, CPU seconds."""
    warm_up(source)
    traces = read(file, cache=False)
    rounds = []
    for _ in range(ROUNDS):
        clock = [time.process_time()]
        job, measured = build(traces)
        clock.append(time.process_time())
        lower(job)
        clock.append(time.process_time())
        job = fit(job, measured)
        clock.append(time.process_time())
        graph = lower(job)
        longer = 2 * graph.duration_ns
        shared = successors_of(graph), room_for(len(graph))  # by all what-ifs
        clock.append(time.process_time())
        run(graph, longer, following=shared[0], room=shared[1])
        clock.append(time.process_time())
        rounds.append(np.diff(clock))
    built, lowered, fitted, _, rerun = np.median(rounds, axis=0).tolist()
    return {
        "events": sum(map(len, traces)),
        "graph_s": built + lowered,
        "with_fit_s": built + fitted + lowered,
        "tasks": len(graph),
        "rerun_s": rerun,
    }


def whole_way(source: str, file: str) -> dict[str, float]:
    """File -> graph -> replay -> 8 what-ifs, wall seconds."""
    warm_up(source)
    clock = [time.perf_counter()]
    traces = read(file, cache=False)
    clock.append(time.perf_counter())
    job, measured = build(traces)
    clock.append(time.perf_counter())
    job = fit(job, measured)
    clock.append(time.perf_counter())
    graph = lower(job)
    clock.append(time.perf_counter())
    simulate(graph)
    clock.append(time.perf_counter())
    ends = what_ifs(graph)
    clock.append(time.perf_counter())
    assert len(np.unique(ends)) == WHAT_IFS
    names = ("read", "build", "fit", "lower", "replay", "what-ifs")
    parts = dict(zip(names, np.diff(clock).tolist(), strict=True))
    return {"all_s": clock[-1] - clock[0], "tasks": len(graph), "peak_mib": peak_mib(), **parts}


def many_ranks(source: str, ranks: str, tasks: str) -> dict[str, float]:
    """Run of a coupled job, wall seconds; the slowest of three runs."""
    warm_up(source)
    job = coupled_job(Path(source), int(ranks), int(float(tasks)))
    begin = time.perf_counter()
    graph = lower(job)
    lowered_s = time.perf_counter() - begin
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        run(graph)
        seconds.append(time.perf_counter() - begin)
    return {
        "tasks": len(graph), "lower_s": lowered_s, "run_s": max(seconds), "best_s": min(seconds),
        "shares_gpus": graph.shares_gpus, "peak_mib": peak_mib(),
    }  # fmt: skip


def warm_up(source: str) -> None:
    """The whole way once, with a small trace."""
    job, measured = build(read(source, cache=False))
    graph = lower(fit(job, measured))
    simulate(graph)
    what_ifs(graph)


def what_ifs(graph: ExecutionGraph) -> NDArray[np.int64]:
    """The end of the run with all durations at 80 % to 115 % [ns]."""
    everything = np.zeros(len(graph), np.int32)
    none = np.zeros(WHAT_IFS, np.int32)
    factor = 0.8 + 0.05 * np.arange(WHAT_IFS)
    return ends_of_each(graph, Scenarios(everything[None], none, none, factor), everything)


def peak_mib() -> float:
    """Largest memory of this process [MiB]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    measure = {each.__name__: each for each in (graph_and_rerun, whole_way, many_ranks)}[name]
    print(json.dumps(measure(*arguments)))
