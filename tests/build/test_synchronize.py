"""What a blocking call waits for: a stream, an event, the whole device, its own copy."""

from __future__ import annotations

import numpy as np

from lumos.graph.job import NONE, WHOLE_DEVICE, TaskKind
from tests.build.drawn_trace import Built, DrawnTrace


def busy() -> DrawnTrace:
    """Stream 7 works until 500, stream 9 until 900.

    main     | l7 | l9 | ...
    stream 7 |= k7 =|
    stream 9 |==== k9 ====|
    """
    drawn = DrawnTrace().op("a", 0, 60)
    drawn.kernel("k9", 20, 900, stream=9, call=(10, 15))
    return drawn.kernel("k7", 35, 500, stream=7, call=(30, 35))


def awaited(built: Built) -> list[str | int]:
    """The streams that synchronising rows wait for."""
    program = built.program()
    calls = np.flatnonzero(program.rows.kind == TaskKind.SYNCHRONIZE)
    return [
        WHOLE_DEVICE if stream == WHOLE_DEVICE else program.processors[stream].label
        for stream in program.rows.stream[calls].tolist()
    ]


def test_a_stream_synchronize_awaits_the_stream_that_ends_as_it_returns() -> None:
    assert awaited(busy().call("cudaStreamSynchronize", 70, 505).build()) == ["stream 7"]
    assert awaited(busy().call("cudaStreamSynchronize", 70, 905).build()) == ["stream 9"]


def test_a_device_synchronize_awaits_every_stream() -> None:
    assert awaited(busy().call("cudaDeviceSynchronize", 70, 905).build()) == [WHOLE_DEVICE]


def test_a_device_synchronize_that_returned_early_waits_for_nothing_and_is_found() -> None:
    """It returned at 75, the device worked until 900: were it awaited, the host would come 825 us late."""
    built = busy().call("cudaDeviceSynchronize", 70, 75).build()
    assert awaited(built) == []
    (finding,) = [one for one in built.job.findings if one.code == "returned-early"]
    assert finding.affected_ns == 825_000


def test_clocks_of_host_and_device_may_differ_a_little() -> None:
    """A return 50 us before the device's end is the same wait."""
    built = busy().call("cudaDeviceSynchronize", 70, 850).build()
    assert awaited(built) == [WHOLE_DEVICE]
    assert not [one for one in built.job.findings if one.code == "returned-early"]


def test_a_call_that_returned_before_any_stream_ended_awaited_none() -> None:
    """It contradicts every stream: it is a plain call."""
    assert awaited(busy().call("cudaStreamSynchronize", 70, 75).build()) == []


def test_a_copy_to_pageable_memory_waits_for_itself() -> None:
    """The call begins at 70 and returns as its copy has ended, behind k7."""
    drawn = busy()
    drawn.kernel(
        "Memcpy DtoH (Device -> Pageable)", 502, 510, stream=7, call=(70, 515),
        category="gpu_memcpy", by="cudaMemcpyAsync",
    )  # fmt: skip
    built = drawn.build()
    rows = built.program().rows
    copy = built.row("Memcpy DtoH (Device -> Pageable)")
    launch = int(rows.launch[copy])
    assert awaited(built) == ["stream 7"]
    assert rows.kind[launch] == TaskKind.LAUNCH
    assert built.run().end_ns[launch] < 100_000, "the launching part is short"


def test_an_asynchronous_copy_does_not_block() -> None:
    drawn = busy()
    drawn.kernel(
        "Memcpy DtoH (Device -> Pinned)", 502, 510, stream=7, call=(70, 75),
        category="gpu_memcpy", by="cudaMemcpyAsync",
    )  # fmt: skip
    assert awaited(drawn.build()) == []


def test_an_event_synchronize_awaits_what_was_given_before_its_record() -> None:
    """k7 before the record, "late" behind it."""
    drawn = busy().call("cudaEventRecord", 40, 42)
    drawn.kernel("late", 501, 800, stream=7, call=(45, 50))
    built = drawn.call("cudaEventSynchronize", 70, 505).build()
    row = built.row("cudaEventSynchronize")
    record = built.signal_of(row)
    assert record != NONE
    assert built.captured(record) == "k7"


def test_an_event_of_the_step_before_is_awaited_by_distance() -> None:
    """DDP reads the last step's events: record in step 5, synchronize in step 6."""
    drawn = busy().annotation("ProfilerStep#5", 0, 65).annotation("ProfilerStep#6", 65, 1000)
    drawn.call("cudaEventRecord", 40, 42)
    built = drawn.call("cudaEventSynchronize", 70, 505).build()
    row = built.row("cudaEventSynchronize")
    assert built.program().rows.distance[row] == 1
    assert built.captured(built.signal_of(row)) == "k7"


def test_a_free_that_ends_as_the_device_falls_idle_waited_for_it() -> None:
    assert awaited(busy().call("cudaFree", 70, 905).build()) == [WHOLE_DEVICE]
    assert awaited(busy().call("cudaFree", 70, 75).build()) == []
