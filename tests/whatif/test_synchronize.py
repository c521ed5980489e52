"""A host that waits for the device at the end of each layer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lumos.errors import UsageError
from lumos.graph.job import Job, TaskKind
from lumos.graph.work import Phase
from lumos.lower import lower
from lumos.simulate import simulate
from lumos.whatif.synchronize import CALL, synchronize_layers
from tests.drawing import Drawing, run
from tests.graph.test_segments import names
from tests.oracle import oracle_times


def layers(*, backward: bool = False, call: int = 0) -> Job:
    """Two layers of two kernels of 50 each; the host needs 10 for a layer.

    host   | 0 | 1 |
    stream   |= 0a =|= 0b =|= 1a =|= 1b =|
    """
    drawn = Drawing(synchronize=3)
    rank = drawn.rank()
    main, stream = rank.thread(), rank.stream(1)
    for layer in range(2):
        for kernel in "ab":
            at = main.launch(stream, f"{layer}{kernel}", 50, 5)
            for row in (at, at + 1):
                phase = Phase.BACKWARD if backward else Phase.FORWARD
                rank.rows[row] |= {"layer": layer, "phase": phase}
    if call:
        main.synchronize(stream, call, name=CALL)
    return drawn.job()


def test_the_next_layer_is_launched_when_the_one_before_is_done() -> None:
    job = synchronize_layers(layers())
    job.self_check()
    ran = run(job)
    assert [ran[name] for name in ("0a", "0b", "1a", "1b")] == [
        (0, 50), (50, 100), (103, 153), (153, 203)
    ]  # fmt: skip
    assert names(job.programs[0]).count(CALL) == 2
    assert ran[f"{CALL}#2"] == (113, 206)


def test_a_call_takes_what_such_calls_take_in_the_recording() -> None:
    job = synchronize_layers(layers(call=7))
    rows = job.programs[0].rows
    assert rows.duration_ns[rows.kind == TaskKind.SYNCHRONIZE].tolist() == [7, 7, 7]
    ran = simulate(lower(job)).ranks[0]
    assert ran.end_ns.tolist() == [end for _, end, _ in oracle_times(job)[0]]


def test_the_backward_pass_is_left_alone() -> None:
    job = layers(backward=True)
    assert len(synchronize_layers(job).programs[0].rows) == len(job.programs[0].rows)


def test_a_layer_of_two_micro_batches_ends_twice() -> None:
    job = layers()
    (program,) = job.programs
    rows = program.rows
    twice = rows.with_columns(
        layer=np.zeros_like(rows.layer), micro_batch=rows.layer.astype(np.int16)
    )
    changed = synchronize_layers(replace(job, programs=(replace(program, rows=twice),)))
    assert names(changed.programs[0]).count(CALL) == 2


def test_where_the_host_computes_there_is_nothing_to_wait_for() -> None:
    drawn = Drawing()
    rank = drawn.rank()
    rank.thread().work("aten::mm", 10)
    rank.rows[0]["layer"] = 0
    job = drawn.job()
    assert synchronize_layers(job) == job


def test_unknown_layers_are_told() -> None:
    drawn = Drawing()
    drawn.rank().thread().work("aten::mm", 10)
    with pytest.raises(UsageError, match="which layer is unknown"):
        synchronize_layers(drawn.job())
