"""The fast reader gives what the typed reader gives, or declines; whatever the bytes are."""

from __future__ import annotations

import gzip
import io
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from lumos.errors import UnusableInputError
from lumos.graph.trace import Argument
from lumos.ingest.events import Document
from lumos.ingest.files import read_bytes
from lumos.ingest.scanner import scan_document
from lumos.ingest.scanner.document import NotPlain, scan_text
from lumos.ingest.scanner.source import FIRST_BYTES
from lumos.ingest.typed import read_document
from tests.ingest.documents import differences, document, documents, kernel, real_files, span


class Portions:
    """A source that hands out its text a few bytes at a time."""

    def __init__(self, text: bytes, size: int) -> None:
        self._text, self._size = io.BytesIO(text), size

    def readinto(self, buffer: memoryview) -> int:
        return self._text.readinto(buffer[: self._size])


def scan(text: bytes, portion: int = 2**30) -> Document | None:
    """The document in `text`, None where the scanner leaves it to the typed reader."""
    try:
        return scan_text(Portions(text, portion), 2**40)
    except (NotPlain, ValueError):
        return None


def scanned(text: bytes) -> Document:
    """The document in `text`, which the scanner has to read itself, and right."""
    found = scan(text)
    assert found is not None
    assert differences(found, read_document(text)) == []
    return found


def typed(path: Path) -> Document:
    """What the typed reader makes of a file."""
    text, complete = read_bytes(path)
    found = read_document(text)
    return replace(found, complete=complete and found.complete)


@pytest.mark.parametrize("path", real_files(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_real_trace_is_read_as_the_typed_reader_reads_it(path: Path) -> None:
    found = scan_document(path)
    assert found is not None
    assert differences(found, typed(path)) == []


def test_there_are_real_traces() -> None:
    if not real_files():
        pytest.skip("no ../shared/data/kineto beside the project")


@settings(
    max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(text=documents())
def test_any_document_is_read_alike_or_left_alone(text: bytes) -> None:
    found = scan(text)
    if found is not None:
        assert differences(found, read_document(text)) == []


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(text=documents())
def test_where_the_text_is_cut_into_portions_does_not_matter(text: bytes) -> None:
    whole, portions = scan(text), scan(text, portion=1)
    assert (whole is None) == (portions is None)
    if whole is not None and portions is not None:
        assert differences(whole, portions) == []


def test_the_documents_that_hypothesis_makes_are_mostly_read_by_the_scanner() -> None:
    read = []

    @settings(
        max_examples=200,
        database=None,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(text=documents())
    def count(text: bytes) -> None:
        read.append(scan(text) is not None)

    count()
    assert sum(read) > len(read) / 4


@pytest.mark.parametrize(
    ("spelled", "start_ns"),
    [
        ("1234567890123456", 1234567890123456000),
        ("1234567890123456.789", 1234567890123456789),
        ("0.0005", 1),
        ("0.0004", 0),
        ("-0.0005", -1),
        ("12.3456", 12346),
        ("7.", None),
    ],
)
def test_microseconds_become_exact_nanoseconds(spelled: str, start_ns: int | None) -> None:
    text = document(span(ts=-1)).replace(b'"ts": -1', b'"ts": ' + spelled.encode())
    found = scan(text)
    if start_ns is None:
        assert found is None
    else:
        assert found is not None
        assert found.columns["start_ns"].tolist() == [start_ns]


@pytest.mark.parametrize(
    "text",
    [
        document(span(name="a\\u0041")),
        document(span(pid="12", tid="Thread 7")),
        document(span(ts="12.5", dur="3")),
        document(kernel(args={"device": 0, "stream": "0x7f", "correlation": "17"})),
        document(kernel(args={"stream": 4294967295, "device": 2**31})),
        document(span(args={"stream": 94810312345678})),
        document(span(args={"External id": 18446744073709551615, "Sequence number": -1})),
        document(span(args={"Input Dims": [[1, 2], []], "Input type": ["float", "\u00e9"]})),
        document(span(args={"Seq": 5, "dtype": "Float", "In msg nelems": 3.7, "Group size": None})),
        document(span(cat="unheard of"), span(ph="i"), span(ts=None), {}),
        document(
            {"ph": "M", "name": "thread_name", "pid": 1, "tid": "2", "args": {"name": "main"}}
        ),
        document(span(), baseTimeNanoseconds=17, distributedInfo={"rank": 3, "world_size": 8}),
        document(),
        b"{}",
        b"[]",
        b" [ " + document(span())[17:-2] + b" ]\n",
        document(span(name="\u4f60\u597d")),
        document(span(unknown={"deep": [{"er": [[], {}, "x\\n"]}]})),
        b'{"traceEvents": ['
        + document(span())[17:-2]
        + b'], "deviceProperties": [{"name": "H100"}]}',
    ],
)
def test_plain_documents_need_no_second_reader(text: bytes) -> None:
    scanned(text)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"  ",
        b"not JSON",
        b'{"traceEvents": 5}',
        document(span()) + document(span()),
        document(span()) + b"x",
        document(span(ts=1)).replace(b'"ts": 1,', b'"ts": 1, "ts": 2,'),
        document(span()).replace(b'"ts"', b'"t\\u0073"'),
        document(span(ts=1)).replace(b'"ts": 1', b'"ts": 1e3'),
        document(span(ts=1)).replace(b'"ts": 1', b'"ts": NaN'),
        document(span(name="x")).replace(b'"x"', b'"\xff"'),
        document(span(name="x")).replace(b'"x"', b'"\\ud800"'),
        document(span(args=None, name=None), span()).replace(b"}, {", b"} {"),
        b'{"traceEvents": [' + b"[" * 1000 + b"]" * 1000 + b"]}",
        document(span()).replace(b'"cpu_op"', b'"cpu\x00op"'),
    ],
)
def test_what_is_not_plain_is_left_to_the_typed_reader(text: bytes) -> None:
    assert scan(text) is None


def test_equal_texts_in_different_spellings_become_one_string() -> None:
    text = (
        b"["
        + b",".join(
            b'{"ph":"X","cat":"cpu_op","name":%s,"ts":1,"dur":1,"args":{"dtype":%s}}' % pair
            for pair in [(b'"A"', b'"B"'), (b'"\\u0041"', b'"\\u0042"')]
        )
        + b"]"
    )
    found = scanned(text)
    assert len(set(found.strings)) == len(found.strings)
    assert found.columns["name"][0] == found.columns["name"][1]


def test_an_event_larger_than_the_first_buffer_is_read() -> None:
    shapes = [[number, number] for number in range(FIRST_BYTES // 10)]
    text = document(span(), span(args={"Input Dims": shapes}), span())
    assert len(text) > FIRST_BYTES
    scanned(text)


def test_tables_grow() -> None:
    many = [
        span(f"operator {number}" + "x" * 50, tid=number, args={"Seq": number, "bytes": 1})
        for number in range(30_000)
    ]
    found = scanned(document(*many * 3))
    assert len(found.strings) == 60_000
    assert len(found.argument_row[found.argument_key == Argument.BYTES]) == 90_000


def test_many_thread_names_are_all_kept() -> None:
    events = [
        {"ph": "M", "name": "thread_name", "pid": 1, "tid": n, "args": {"name": f"thread {n}"}}
        for n in range(70_000)
    ]
    assert len(scanned(document(*events)).thread_names) == 70_000


def test_a_cut_file_is_read_up_to_the_cut(tmp_path: Path) -> None:
    text = document(*(span(f"op{n}", ts=n, args={"Seq": n}) for n in range(50)), schemaVersion=1)
    chance, read = random.Random(3), 0
    for cut in chance.sample(range(1, len(text)), 200):
        path = tmp_path / "cut.json"
        path.write_bytes(text[:cut])
        found = scan_document(path)
        if found is not None:
            assert differences(found, typed(path)) == []
            read += 1
    assert read > 100


def test_a_cut_gzip_file_is_read_up_to_the_cut(tmp_path: Path) -> None:
    chance = random.Random(4)
    events = (span(f"op{chance.random()}", ts=chance.randrange(10**9)) for _ in range(500))
    packed = gzip.compress(document(*events))
    for cut in chance.sample(range(100, len(packed)), 60):
        path = tmp_path / "cut.json.gz"
        path.write_bytes(packed[:cut])
        found = scan_document(path)
        if found is not None:
            assert not found.complete
            assert differences(found, typed(path)) == []


def damaged(text: bytes, chance: random.Random) -> bytes:
    """`text` with a few bytes changed, taken out, put in or doubled."""
    changed = bytearray(text)
    for _ in range(chance.choice([1, 1, 1, 2, 5])):
        place = chance.randrange(len(changed))
        kind = chance.randrange(4)
        if kind == 0:
            changed[place] = (
                chance.choice(b'"\\{}[],:0919eE.-+ \n\x00\xff\x1ftn')
                if chance.random() < 0.8
                else chance.randrange(256)
            )
        elif kind == 1:
            del changed[place : place + chance.choice([1, 1, 2, 40])]
        elif kind == 2:
            changed[place:place] = bytes(
                chance.choices(b'"\\{}[],:09e.- \n', k=chance.choice([1, 3]))
            )
        else:
            changed[place:place] = changed[place : place + 30]
    return bytes(changed)


SMALL = document(
    span(args={"Input Dims": [[3, 4], []], "Input type": ["float", ""], "External id": 5}),
    span("cudaLaunchKernel", cat="cuda_runtime", args={"correlation": 1, "cbid": 211}),
    kernel(name="void f<int, (bool)0>(int*)", dur=12.345),
    kernel(name="nccl", args={"stream": 20, "device": 0, "Collective name": "allreduce", "Seq": 4}),
    {"ph": "M", "name": "thread_name", "pid": 7, "tid": 8, "args": {"name": "thread 8 (python)"}},
    {"ph": "s", "id": 5, "pid": 7, "tid": 8, "ts": 1, "cat": "ac2g", "name": "ac2g"},
    {"ph": "f", "id": 5, "pid": 7, "tid": 8, "ts": 1, "cat": "ac2g", "name": "ac2g", "bp": "e"},
    schemaVersion=1,
    distributedInfo={"backend": "nccl", "rank": 3, "world_size": 8},
)


def test_damaged_text_is_read_alike_or_left_alone() -> None:
    chance, read = random.Random(11), 0
    for _ in range(4000):
        text = damaged(SMALL, chance)
        found = scan(text, portion=chance.choice([2**30, 7]))
        if found is not None:
            read += 1
            assert differences(found, read_document(text)) == [], text
    assert read > 300


FUZZ = """
import random, sys
from pathlib import Path
from lumos.errors import LumosError
from lumos.ingest import read
from tests.ingest.test_scanner import damaged
chance, folder = random.Random(int(sys.argv[1])), Path(sys.argv[2])
files = [Path(name) for name in sys.argv[3:]]
for number in range(60):
    packed = chance.choice(files).read_bytes()
    broken = damaged(packed, chance) if number % 2 else packed[: chance.randrange(len(packed))]
    if number % 3 == 0:
        broken = chance.randbytes(chance.randrange(1, 5000))
    path = folder / f"fuzz{number}.json"
    path.write_bytes(broken)
    try:
        for trace in read(path, cache=False):
            trace.self_check()
    except LumosError as error:
        assert str(path) in str(error)
print("alive")
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_a_strangers_file_does_not_crash_the_process(tmp_path: Path, seed: int) -> None:
    files = [path for path in real_files() if path.stat().st_size < 60_000]
    (tmp_path / "small.json").write_bytes(SMALL)
    names = [str(path) for path in [*files, tmp_path / "small.json"]]
    command = [sys.executable, "-c", FUZZ, str(seed), str(tmp_path), *names]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "alive"


def test_a_gzip_bomb_is_refused_without_being_kept(tmp_path: Path) -> None:
    path = tmp_path / "bomb.json.gz"
    with gzip.open(path, "wb", compresslevel=6) as file:
        file.write(b'{"traceEvents": [')
        for _ in range(300):
            file.write(bytes([32]) * 2**20)
    assert scan_document(path) is None
    with pytest.raises(UnusableInputError, match="bytes of text"):
        read_bytes(path)
