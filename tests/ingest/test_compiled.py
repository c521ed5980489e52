"""Machine code on disk is found again, and never when anything it was made from has changed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from lumos import compiled
from lumos.compiled import source_hash

PROGRAM = """
import kernels
print(kernels.twice(4), sum(kernels.twice.stats.cache_hits.values()))
"""
KERNELS = """
from lumos.compiled import compiled
from lumos.units import NS_PER_US

@compiled()
def twice(number):
    return 2 * number * {factor}
"""


def run(folder: Path, factor: int, cache: Path) -> list[int]:
    """The result of a kernel, and how often its code was found on disk, in a fresh process."""
    (folder / "kernels.py").write_text(KERNELS.format(factor=factor))
    environment = {**os.environ, "LUMOS_CACHE_DIR": str(cache), "PYTHONPATH": str(folder)}
    command = [sys.executable, "-W", "error", "-c", PROGRAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


def test_code_is_kept_until_its_source_changes(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert run(tmp_path, 1, cache) == [8, 0]
    assert run(tmp_path, 1, cache) == [8, 1]
    assert run(tmp_path, 3, cache) == [24, 0]


def test_without_a_folder_to_write_code_is_compiled_anew(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for _ in range(2):
        assert run(tmp_path, 1, tmp_path / "file") == [8, 0]


def test_the_hash_covers_what_a_module_imports_through_others(tmp_path: Path) -> None:
    root = Path(compiled.__file__).parent
    scanner = root / "ingest" / "scanner" / "document.py"
    reached = compiled._reachable(scanner)
    wanted = ("graph/trace.py", "ingest/vocabulary.py", "ingest/scanner/bits.py", "errors.py")
    assert {root / name for name in wanted} <= reached
    assert root / "ingest" / "read.py" not in reached
    other = tmp_path / "other.py"
    other.write_text("from lumos.units import (  # why (not)\n    NS_PER_US,\n)\n")
    assert compiled._reachable(other) == {other, root / "units.py"}
    before = source_hash(other)
    other.write_text(other.read_text() + "# changed\n")
    assert source_hash(other) != before
