"""Simulation: ExecutionGraph -> Timeline."""

from lumos.simulate.sweep import simulate, task_times

__all__ = ["simulate", "task_times"]
