"""Operators that run twice: the same work once more, right behind its first run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from lumos.graph.job import Job
from lumos.graph.segments import operator_segments, run_each_twice


def run_twice(job: Job, operators: Iterable[str], *, innermost: bool = False) -> Job:
    """The job with every run of these operators, and of all inside them, made a second time.

    Of operators inside each other the outermost runs twice, or the `innermost`: a linear layer and
    the matrix product in it are one GEMM, made by the product.

    host   | mm | launch |  ->  | mm | launch | mm | launch |
    stream      |= k =|              |= k =|     |= k =|
    """
    names = frozenset(operators)
    return replace(
        job,
        programs=tuple(
            run_each_twice(program, operator_segments(program, names, innermost=innermost))
            for program in job.programs
        ),
    )
