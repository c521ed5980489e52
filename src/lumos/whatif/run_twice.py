"""Operators that run twice: the same work once more, right behind its first run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from lumos.graph.job import Job
from lumos.graph.segments import operator_segments, run_each_twice


def run_twice(job: Job, operators: Iterable[str]) -> Job:
    """The job with every run of these operators, and of all inside them, made a second time.

    host   | mm | launch |  ->  | mm | launch | mm | launch |
    stream      |= k =|              |= k =|     |= k =|
    """
    names = frozenset(operators)
    programs = (run_each_twice(one, operator_segments(one, names)) for one in job.programs)
    return replace(job, programs=tuple(programs))
