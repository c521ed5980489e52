"""Make a big trace out of a real one: its events again and again, each time later and with new ids.

python benchmarks/big_trace.py ../shared/data/kineto/recsys-8xA100/rank3.json.gz big.json.gz --bytes 1e9
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec
from isal import igzip

from lumos.ingest.files import read_bytes

GAP_US = 1000
"""Time between the end of one copy and the start of the next."""
_IDS = (
    "id|correlation|External id|external id|Sequence number|Ev Idx|Profiler Event Index"
    "|Record function id|Python id|Python parent id|wait_on_cuda_event_record_corr_id"
)
_NUMBERS = re.compile(
    rb'("ts":\s*"?|"dur":\s*"?|"(?:%s)":\s*"?|ProfilerStep#)(\d+)' % _IDS.encode()
)


def write_big_trace(source: Path, target: Path, size_bytes: int) -> int:
    """Write copies of `source` to `target` until it holds `size_bytes` of text; the bytes written.

    The text is at least as long as one copy and ends with a whole one. A `target` ending in .gz
    is packed. Times are shifted by the span of the trace, ids by their largest value (0 stays 0),
    steps by their number, so that copy follows copy as if the job had gone on.
    """
    with _open(target) as file:
        written = 0
        for piece in big_trace(source, size_bytes):
            written += file.write(piece)
    return written


def big_trace(source: Path, size_bytes: int) -> Iterator[bytes]:
    """The text of `write_big_trace`, copy by copy."""
    text, _ = read_bytes(source)
    opening = re.search(rb'"traceEvents"\s*:\s*\[', text)
    if opening is None:
        raise SystemExit(f"{source}: no traceEvents to repeat")
    entries = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    closing = opening.end() + len(bytes(entries["traceEvents"])) - 2
    tail = text[closing:]
    copy = _copier(text[opening.end() : closing].rstrip())
    written, number = opening.end() + len(tail), 0
    yield text[: opening.end()]
    while not number or written < size_bytes:
        piece = (b",\n" if number else b"") + copy(number)
        yield piece
        written += len(piece)
        number += 1
    yield tail


def _copier(events: bytes) -> Callable[[int], bytes]:
    """A function that gives the n-th copy of the text of all events."""
    pieces = _NUMBERS.split(events)  # text, key, number, text, key, number, ..., text
    keys = [key.strip(b'": ') for key in pieces[1::3]]
    numbers = [int(number) for number in pieces[2::3]]
    shift_of = {b"dur": 0, b"ts": _span_us(keys, numbers) + GAP_US}
    steps = {n for key, n in zip(keys, numbers, strict=True) if key == b"ProfilerStep#"}
    shift_of[b"ProfilerStep#"] = max(steps, default=0) - min(steps, default=0) + 1
    ids = [n for key, n in zip(keys, numbers, strict=True) if key not in shift_of and n < 2**62]
    largest = max(ids, default=0)
    shifts = [
        shift_of.get(key, largest if 0 < n < 2**31 else 0)
        for key, n in zip(keys, numbers, strict=True)
    ]

    def copy(number: int) -> bytes:
        shifted = zip(numbers, shifts, strict=True)
        pieces[2::3] = [b"%d" % (n + number * shift) for n, shift in shifted]
        return b"".join(pieces)

    return copy


def _span_us(keys: list[bytes], numbers: list[int]) -> int:
    """First start to last end; a `dur` belongs to the `ts` next to it."""
    starts = [n for key, n in zip(keys, numbers, strict=True) if key == b"ts"]
    lengths = [n for key, n in zip(keys, numbers, strict=True) if key == b"dur"]
    return max(starts) - min(starts) + max(lengths, default=0)


def _open(target: Path) -> BinaryIO:
    if target.name.endswith(".gz"):
        packer: Any = igzip.open
        return cast("BinaryIO", packer(target, "wb", compresslevel=2))
    return target.open("wb")


def main() -> None:
    """Read the command line, write the trace, say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--bytes", type=float, default=1e9, help="unpacked size")
    options = parser.parse_args()
    written = write_big_trace(options.source, options.target, int(options.bytes))
    print(f"{options.target}: {written / 1e6:.0f} MB of text")


if __name__ == "__main__":
    main()
