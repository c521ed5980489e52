"""Simulation: ExecutionGraph -> Timeline."""

from lumos.simulate.simulation import run, simulate, to_timeline

__all__ = ["run", "simulate", "to_timeline"]
