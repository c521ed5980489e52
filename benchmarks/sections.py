"""Sections of docs/speed.md: each benchmark writes its own, and leaves those of the others."""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Sequence
from pathlib import Path


def today() -> str:
    """The date that stands in a generated section."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def machine_class() -> str:
    """Cores, memory and interpreter, in words."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    version = ".".join(map(str, sys.version_info[:2]))
    return f"a virtual machine with {os.cpu_count()} cores and {memory:.0f} GiB, Python {version}"


def write_section(page: Path, heading: str, lines: Sequence[str]) -> None:
    """Put `## heading` and its lines in the place of an earlier one, else at the end of the page."""
    before, found, after = page.read_text("utf-8").partition(f"## {heading}\n")
    _, following, rest = after.partition("\n## ") if found else ("", "", "")
    text = "\n".join([f"## {heading}", "", *lines])
    tail = f"\n\n## {rest.strip()}" if following else ""
    page.write_text(f"{before.rstrip()}\n\n{text.rstrip()}{tail}\n", "utf-8")
