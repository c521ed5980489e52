"""Kineto documents for tests: made by hand, by hypothesis, and the real ones; and their comparison."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from lumos.graph.trace import EVENT_COLUMNS, TEXT_ARGUMENTS
from lumos.ingest.events import Document
from lumos.ingest.vocabulary import (
    ARGUMENT_OF_KEY,
    KIND_OF_CATEGORY,
    NUMBER_COLUMN_OF_KEY,
    TEXT_COLUMN_OF_KEY,
)

REAL = Path(__file__).parents[3] / "shared" / "data" / "kineto"
TEXT_COLUMNS = ("name", "process", "thread", "shapes", "dtypes")


def real_files() -> list[Path]:
    """All real traces there are; none where the folder is absent."""
    return sorted(REAL.glob("*/*.json.gz"))


def span(name: str = "aten::add", **changes: Any) -> dict[str, Any]:
    """A complete event of the host, with `changes`; a None takes a key out."""
    event = {"ph": "X", "cat": "cpu_op", "name": name, "pid": 7, "tid": 8, "ts": 1000, "dur": 10}
    return {key: value for key, value in {**event, **changes}.items() if value is not None}


def kernel(name: str = "gemm", **changes: Any) -> dict[str, Any]:
    """A device task on stream 7 of device 0, with `changes`."""
    arguments = {"device": 0, "stream": 7, "correlation": 1}
    return span(name, **{"cat": "kernel", "pid": 0, "tid": 7, "args": arguments, **changes})


def launch(correlation: int = 1, **changes: Any) -> dict[str, Any]:
    """The host call that launched a device task."""
    arguments = {"correlation": correlation}
    return span("cudaLaunchKernel", **{"cat": "cuda_runtime", "args": arguments, **changes})


def document(*events: dict[str, Any], **header: Any) -> bytes:
    """The text of a document with these events."""
    return json.dumps({**header, "traceEvents": list(events)}).encode()


def differences(left: Document, right: Document) -> list[str]:
    """Names of what two documents disagree in; texts count, not their numbers in the table."""
    found = [
        name
        for name in ("header", "thread_names", "skipped", "complete")
        if getattr(left, name) != getattr(right, name)
    ]
    for spec in EVENT_COLUMNS:
        one, other = left.columns[spec.name], right.columns[spec.name]
        assert one.dtype == other.dtype == spec.dtype, spec.name
        if spec.name in TEXT_COLUMNS:
            same = _texts(left, one) == _texts(right, other)
        else:
            same = np.array_equal(one, other)
        if not same:
            found.append(spec.name)
    return found if _arguments(left) == _arguments(right) else [*found, "arguments"]


def _texts(document: Document, numbers: Any) -> list[str]:
    return [document.strings[number] if number >= 0 else "missing" for number in numbers.tolist()]


def _arguments(document: Document) -> list[tuple[int, int, Any]]:
    columns = (document.argument_row, document.argument_key, document.argument_value)
    assert [column.dtype for column in columns] == [np.int64, np.uint8, np.int64]
    return [
        (row, key, document.strings[value] if key in TEXT_ARGUMENTS else value)
        for row, key, value in zip(*(column.tolist() for column in columns), strict=True)
    ]


# Documents as text, spelled in all the ways JSON allows and some it does not.
_space = st.sampled_from([b"", b"", b"", b" ", b"\n  ", b"\t\r\n" + b" " * 40])
_numbers = st.one_of(
    st.integers(-(2**70), 2**70).map(lambda n: b"%d" % n),
    st.sampled_from([2**31, 2**31 - 1, -(2**31), 2**32 - 1, 2**63, 2**63 - 1, -(2**63), 0]).map(
        lambda n: b"%d" % n
    ),
    st.decimals(-(10**17), 10**17, places=3).map(lambda d: f"{d:f}".encode()),
    st.decimals(0, 10**6, places=11).map(lambda d: f"{d:f}".encode()),
    st.sampled_from([b"-0", b"0.0005", b"0.4995", b"12345678901234567890.5"]),
)
_odd = st.sampled_from(
    [b"1e3", b"1.5E-7", b"NaN", b"01", b"1.", b".5", b"+1", b"-", b"tru", b"nul", b"Infinity", b""]
)
_strings = st.one_of(
    st.text(max_size=12).map(
        lambda t: json.dumps(t, ensure_ascii=False).encode("utf-8", "replace")
    ),
    st.text(st.characters(max_codepoint=0xD7FF), max_size=4).map(lambda t: json.dumps(t).encode()),
    st.text("ab", max_size=90).map(lambda t: b'"%s"' % t.encode()),
    st.sampled_from([b'"\\u0041"', b'"\\/"', b'"A"', b'"12"', b'"1.5"', b'""']),
    st.sampled_from(
        [b'"0x1f"', b'" 7"', b'"1_0"', b'"nan"', b'"inf"', b'"007"', b'"cuda:0"', b'"-3"']
    ),
)
_odd_strings = st.sampled_from(
    [b'"\\q"', b'"\\ud800"', b'"\\ud83d\\ude00"', b'"\xff"', b'"a\nb"', b'"\\u00g0"', b'"open']
)
_literals = st.sampled_from([b"true", b"false", b"null"])
_leaf = st.one_of(_numbers, _strings, _literals)


def _list(items: list[bytes]) -> bytes:
    return b"[" + b", ".join(items) + b"]"


def _object(pairs: list[tuple[bytes, bytes]]) -> bytes:
    return b"{" + b",".join(key + b": " + value for key, value in pairs) + b"}"


_any = st.recursive(
    _leaf,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(_list),
        st.lists(st.tuples(_strings, inner), max_size=3).map(_object),
    ),
    max_leaves=8,
)


def _weighted(usual: Any, *rare: Any) -> Any:
    return st.integers(0, 60).flatmap(lambda n: usual if n else st.one_of(_any, *rare))


def _keys(names: Any) -> Any:
    return st.sampled_from(sorted(names)).map(lambda name: json.dumps(name).encode())


_argument_keys = _keys(
    [*NUMBER_COLUMN_OF_KEY, *TEXT_COLUMN_OF_KEY, *ARGUMENT_OF_KEY, "Ev Idx", "name"]
)
_arguments_text = st.lists(
    st.tuples(_argument_keys, _weighted(st.one_of(_leaf, _any), _odd, _odd_strings)),
    max_size=6,
    unique_by=lambda pair: pair[0],
).map(_object)
_categories = _keys([*KIND_OF_CATEGORY, "Trace", "ac2g"])
_plain_times = st.one_of(
    st.integers(0, 2**50).map(lambda n: b"%d" % n),
    st.decimals(0, 2**50, places=3).map(lambda d: f"{d:f}".encode()),
)


@st.composite
def _event(draw: st.DrawFn) -> bytes:
    pairs = [
        (b'"ph"', draw(_weighted(st.sampled_from([b'"X"'] * 6 + [b'"M"', b'"s"', b'"\\u0058"'])))),
        (b'"cat"', draw(_weighted(_categories))),
        (b'"name"', draw(_weighted(st.one_of(_strings, st.just(b'"thread_name"')), _odd_strings))),
        (b'"pid"', draw(_weighted(_leaf))),
        (b'"tid"', draw(_weighted(_leaf, _odd_strings))),
        (b'"ts"', draw(_weighted(_plain_times, _numbers, _strings, _odd))),
        (b'"dur"', draw(_weighted(_plain_times, _numbers, _strings, _odd))),
        (b'"args"', draw(_weighted(_arguments_text))),
        (b'"id"', draw(_any)),
    ]
    if draw(st.integers(0, 20)) == 0:
        pairs.append(draw(st.sampled_from(pairs)))
    kept = draw(st.lists(st.sampled_from(pairs), min_size=6, max_size=10, unique=True))
    space = draw(_space)
    return b"{" + (b"," + space).join(k + space + b":" + space + v for k, v in kept) + b"}"


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """The text of a document: mostly valid, sometimes broken in one place."""
    space = draw(_space)
    events = (space + b"," + space).join(draw(st.lists(_event(), max_size=6)))
    events = b"[" + space + events + space + b"]"
    if draw(st.integers(0, 9)) == 0:
        return space + events + space
    entries = [
        b'"schemaVersion": 1',
        b'"distributedInfo": {"rank": 3}',
        b'"baseTimeNanoseconds": 5',
    ]
    entries = draw(st.lists(st.sampled_from(entries), max_size=3, unique=True))
    place = draw(st.integers(0, len(entries)))
    entries.insert(place, b'"traceEvents"' + space + b": " + events)
    return space + b"{" + space + (b"," + space).join(entries) + b"}" + space
