"""Fit: a Job and its measured run -> the Job with own durations, one lag a class, delays."""

from lumos.fit.fitting import fit

__all__ = ["fit"]
