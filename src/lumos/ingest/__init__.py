"""Files -> Traces: find them, read them, mend their times, give each its rank."""

from __future__ import annotations

from lumos.ingest.read import read, read_file

__all__ = ["read", "read_file"]
