"""What notebooks use: the traces of a job, and what hangs off them."""

from lumos.api.answers import (
    JobStragglers,
    StepBreakdown,
    StepCommunication,
    StepCost,
    StepCriticalPath,
    StepDiff,
    StepLadder,
)
from lumos.api.job_traces import JobTraces, load
from lumos.api.step_run import StepRun, diff, parse_rules
from lumos.api.writing import title_of, write_page, write_timeline

__all__ = [
    "JobStragglers",
    "JobTraces",
    "StepBreakdown",
    "StepCommunication",
    "StepCost",
    "StepCriticalPath",
    "StepDiff",
    "StepLadder",
    "StepRun",
    "diff",
    "load",
    "parse_rules",
    "title_of",
    "write_page",
    "write_timeline",
]
