"""Host time inside the data loader's spans is told apart, pauses without an event included."""

from __future__ import annotations

from lumos.graph.job import Program
from lumos.graph.work import Phase
from tests.build.drawn_trace import DrawnTrace

FETCH = "enumerate(DataLoader)#_MultiProcessingDataLoaderIter.__next__"


def phases(program: Program) -> dict[str, list[int]]:
    """The phase of each row by name, in order."""
    found: dict[str, list[int]] = {}
    for name, phase in zip(program.rows.name, program.rows.phase, strict=True):
        found.setdefault(program.names[name], []).append(int(phase))
    return found


def test_a_pause_in_the_loader_and_what_it_launches_are_data_loading() -> None:
    r"""
    loader |.......................................|
           | pause ........................| copy_ |     | linear |
    """
    drawn = DrawnTrace()
    drawn.annotation("ProfilerStep#1", 0, 1000).op("begin", 0, 10)
    drawn.annotation(FETCH, 20, 500).op("aten::copy_", 400, 500)
    drawn.kernel(
        "Memcpy HtoD", 480, 520, call=(450, 460), category="gpu_memcpy", by="cudaMemcpyAsync"
    )
    drawn.op("linear", 600, 700).op("end", 990, 1000)
    found = phases(drawn.build().program())
    loading, unknown = int(Phase.DATA_LOADING), int(Phase.UNKNOWN)
    assert set(found["aten::copy_"]) == {loading}
    assert found["cudaMemcpyAsync"] == found["Memcpy HtoD"] == [loading]
    assert found["linear"] == found["begin"] == [unknown]
    assert found["(gap)"] == [loading, unknown, unknown]


def test_a_pause_that_only_reaches_into_the_loader_is_none_of_its() -> None:
    drawn = DrawnTrace()
    drawn.annotation("ProfilerStep#1", 0, 1000).op("begin", 0, 10)
    drawn.annotation("## data_load ##", 300, 500).op("linear", 450, 700).op("end", 990, 1000)
    assert phases(drawn.build().program())["(gap)"] == [Phase.UNKNOWN, Phase.UNKNOWN]


def test_a_span_concerns_its_own_thread() -> None:
    drawn = DrawnTrace()
    drawn.annotation("ProfilerStep#1", 0, 1000).op("begin", 0, 1000)
    drawn.annotation(FETCH, 100, 900, thread=9).op("other", 200, 800, thread=9)
    found = phases(drawn.build().program())
    assert found["begin"] == [Phase.UNKNOWN]
    assert found["other"] == [Phase.DATA_LOADING]
