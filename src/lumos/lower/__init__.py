"""Lowering: Job -> ExecutionGraph, one rule of waiting a file."""

from lumos.lower.lowering import RULES, lower

__all__ = ["RULES", "lower"]
