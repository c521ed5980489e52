"""What a row takes on a typical rank."""

from __future__ import annotations

from dataclasses import replace

import pytest

import lumos
from lumos.analysis.typical import peers, typical
from lumos.graph.job import Job
from tests.cli.conftest import DATA
from tests.drawing import Drawing


def ranks(*lengths: tuple[int, ...], extra: int | None = None) -> Job:
    """Ranks of a launch, a kernel, an all-reduce and a gap of these lengths; one with a row more."""
    drawn = Drawing()
    drawn.group("all", *range(len(lengths)))
    for number, (kernel, transfer, gap) in enumerate(lengths):
        rank = drawn.rank()
        main, stream = rank.thread(), rank.stream(1)
        for _ in range(20):  # of many rows one more or less matters little
            main.work("aten::mm", 1)
            main.work("aten::add", 1)
            main.launch(stream, "gemm", kernel)
        main.collective(stream, "all-reduce", transfer, "all")
        if number == extra:
            main.work("aten::item", 7)
        main.gap(gap)
    return drawn.job()


def durations(job: Job, place: int) -> dict[str, int]:
    program = job.programs[job.placement.role[place]]
    names = [program.names[number] for number in program.rows.name]
    return dict(zip(names, program.rows.duration_ns.tolist(), strict=True))


def test_each_row_takes_the_mean_of_its_peers_and_a_transfer_their_median() -> None:
    job = typical(ranks((10, 30, 5), (12, 90, 5), (20, 31, 50)))
    for place in range(3):
        own = durations(job, place)
        assert (own["gemm"], own["all-reduce"], own["(gap)"]) == (14, 31, 20)


def test_a_row_that_one_rank_has_alone_stays() -> None:
    job = typical(ranks((10, 30, 5), (20, 30, 15), extra=1))
    assert durations(job, 1)["aten::item"] == 7
    assert durations(job, 0)["(gap)"] == durations(job, 1)["(gap)"] == 10


def test_ranks_of_another_program_are_no_peers() -> None:
    job = ranks((10, 30, 5), (20, 30, 15))
    drawn = Drawing()
    main = drawn.rank().thread()
    for _ in range(50):
        main.work("aten::embedding", 3)
    other = drawn.job().programs[0]
    placement = replace(job.placement, ranks=(0, 1, 2), role=(0, 2, 1), world_size=3)
    mixed = replace(job, programs=(*job.programs, other), placement=placement)
    assert peers(mixed) == [[0, 2], [1]]
    assert typical(mixed).programs[1].rows.duration_ns.tolist() == [3] * 50


def test_ranks_of_one_role_are_peers() -> None:
    job = ranks((10, 30, 5), (20, 30, 15))
    shared = replace(job, placement=replace(job.placement, role=(0, 0)))
    assert peers(shared) == [[0, 1]]
    assert durations(typical(shared), 1) == durations(job, 0)


def test_typical_ranks_are_typical() -> None:
    once = typical(ranks((10, 30, 5), (20, 35, 15), (11, 30, 5)))
    twice = typical(once)
    for first, second in zip(once.programs, twice.programs, strict=True):
        assert (first.rows.duration_ns == second.rows.duration_ns).all()


@pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is absent: no real GPU traces here")
def test_ranks_of_a_recorded_job_run_one_program() -> None:
    job = lumos.load(DATA / "dlrm-8xV100").replay().run.job
    assert max(map(len, peers(job))) > 1
