"""Simulation: ExecutionGraph -> Timeline."""

from lumos.simulate.simulation import run, simulate, simulate_each, to_timeline

__all__ = ["run", "simulate", "simulate_each", "to_timeline"]
