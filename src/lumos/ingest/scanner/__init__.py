"""The fast reader of Kineto files, compiled: `scan_document`."""

from __future__ import annotations

from lumos.ingest.scanner.document import scan_document

__all__ = ["scan_document"]
