"""A faster or slower host: its operators, calls and pauses, data loading apart."""

from __future__ import annotations

from lumos.graph.job import Job
from lumos.whatif.scale import scale
from lumos.whatif.selection import host_overhead


def scale_host(job: Job, factor: float) -> Job:
    """The job with all host overhead times `factor`; 0 is an infinitely fast host.

    What a launch takes to reach its stream is a lag of the link, not of the host: see scale_lags.
    """
    return scale(job, host_overhead(job), factor)
