"""Recordings packed into few files for the way back, and unpacked into the project.

python validation/gpu/packs.py PACK.tar ...     unpack below validation/gpu, write the table
"""

from __future__ import annotations

import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]

from table import write_table

MOST_FILES = 8
MOST_BYTES_A_FILE = 15 << 20
MOST_BYTES = 30_000_000


def size_of(folder: Path) -> int:
    """Bytes of a recording in a pack, headers included."""
    return sum(1024 + path.stat().st_size for path in folder.rglob("*") if path.is_file())


def pack(recordings: Path, names: Sequence[str], out: Path) -> list[str]:
    """Write pack-0.tar, pack-1.tar, ... of the recordings in this order; returns what did not fit."""
    packs: list[list[str]] = [[]]
    sizes, whole, left = [0], 0, []
    for name in names:
        size = size_of(recordings / name)
        if size > MOST_BYTES_A_FILE or whole + size > MOST_BYTES:
            left.append(name)
            continue
        if sizes[-1] + size > MOST_BYTES_A_FILE:
            if len(packs) == MOST_FILES:
                left.append(name)
                continue
            packs.append([])
            sizes.append(0)
        packs[-1].append(name)
        sizes[-1] += size
        whole += size
    out.mkdir(parents=True, exist_ok=True)
    for number, members in enumerate(packs):
        if members:
            path = out / f"pack-{number}.tar"
            begun = path.with_suffix(".part")
            with tarfile.open(begun, "w") as file:
                for name in members:
                    file.add(recordings / name, arcname=f"{recordings.name}/{name}")
            begun.replace(path)  # whoever ends us in between finds the pack of before
    return left


def unpack(files: Sequence[Path], below: Path = HERE) -> set[Path]:
    """Put packs below a folder, each recording in the folder of its GPU; returns those folders."""
    folders = set()
    for path in files:
        with tarfile.open(path) as file:
            names = file.getnames()
            file.extractall(below, filter="data")  # nothing outside, no links, no devices
        folders |= {below / Path(name).parts[0] for name in names}
    for folder in folders:
        write_table(folder)
    return folders


if __name__ == "__main__":
    for folder in sorted(unpack([Path(name) for name in sys.argv[1:]])):
        print(f"unpacked into {folder}")
