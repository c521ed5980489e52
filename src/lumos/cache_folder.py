"""Where lumos keeps what it can always make again: compiled code and columns of traces read before."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """`LUMOS_CACHE_DIR`, else `lumos` in the platform's folder for caches; it need not exist."""
    if chosen := os.environ.get("LUMOS_CACHE_DIR"):
        return Path(chosen)
    return _platform_folder() / "lumos"


def _platform_folder() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
