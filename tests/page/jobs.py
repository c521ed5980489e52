"""Recordings for the page that no profiler wrote: a large job, and one with names of ill will."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lumos.fit import fit
from lumos.graph.finding import Finding
from lumos.graph.job import Job, Placement, Program
from lumos.graph.trace import ProcessGroup
from lumos.lower import lower
from lumos.predict import Recording
from lumos.simulate import simulate
from tests.synthetic import TRUE_LAGS, Shape, _Steps, with_noise

HOSTILE = (
    "<script>alert('name')</script>",
    "</script><script>alert(1)</script>",
    '"><img src=x onerror="alert(\'attribute\')">',
    "' onmouseover='alert(2)",
    "</title></style><b>bold</b>",
    "{{ 7 * 7 }}{% raw %}",
    "<!-- <script> -->",
    "]]>&lt;&amp;\u2028\u2029\x00\x1b[31m",
    "kernel \u202egnp.exe\u202c \u2066isolated",
    "\ud800 half a letter",
    "long " * 2000,
)
"""Names as a trace could hold them, none of which may be more than text."""


def training(ranks: int, layers: int, steps: int = 3, seed: int = 7) -> Recording:
    """A data-parallel job of so many ranks; every one has kernels of slightly other lengths."""
    shape = Shape(
        layers=layers, steps=steps, kernel_us=120.0, host_us=5.0, gradient_buckets=3, gathers=True,
        prefetch=True, side_stream=False, reads_loss=True, communication_us=400.0,
    )  # fmt: skip
    program = _Steps(shape, seed).program()
    together = tuple(replace(one, group=0) for one in program.collectives)
    program = replace(program, collectives=together)
    programs = tuple(_varied(program, rank) for rank in range(ranks))
    everyone = ProcessGroup("world", "", tuple(range(ranks)))
    placement = Placement(
        tuple(range(ranks)), tuple(range(ranks)), ranks, (everyone,), "Synthetic GPU"
    )
    return recorded(Job(programs, placement, TRUE_LAGS))


def hostile() -> Recording:
    """Two ranks whose names of kernels, operators, threads, steps, groups and GPU mean harm."""
    found = training(2, 3)
    names = iter(HOSTILE * 50)
    programs = tuple(
        replace(
            program,
            names=tuple(next(names) for _ in program.names),
            processors=tuple(replace(one, label=next(names)) for one in program.processors),
            blocks=HOSTILE[: len(program.blocks)],
        )
        for program in found.job.programs
    )
    groups = (ProcessGroup(HOSTILE[0], HOSTILE[1], (0, 1)),)
    placement = replace(found.job.placement, gpu=HOSTILE[2], groups=groups)
    findings = tuple(Finding("no-steps", "warning", name, 1000, name) for name in HOSTILE)
    return replace(found, job=Job(programs, placement, found.job.lags, findings))


def recorded(job: Job, seed: int = 3) -> Recording:
    """What a profiler would have seen of it, with lags that are not quite those of the rules."""
    measured = simulate(with_noise(lower(job), seed))
    return Recording((), fit(job, measured), measured, ("traces/rank0.json", "traces/rank1.json"))


def _varied(program: Program, rank: int) -> Program:
    rows, random = program.rows, np.random.default_rng(rank)
    factor = np.clip(random.normal(1.0, 0.03, len(rows)), 0.8, 1.2) * (1.25 if rank == 1 else 1.0)
    length = np.round(rows.duration_ns * np.where(rows.on_device, factor, 1.0)).astype(np.int64)
    return replace(program, rows=rows.with_columns(duration_ns=length))
