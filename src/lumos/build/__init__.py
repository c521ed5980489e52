"""Build: Traces -> Job, one question a file."""

from lumos.build.pipeline import build

__all__ = ["build"]
