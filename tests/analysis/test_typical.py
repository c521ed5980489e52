"""What a row takes on a typical rank in a typical step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import lumos
from lumos.analysis.peers import peers_of
from lumos.analysis.typical import typical, with_typical_durations
from lumos.graph.job import CollectiveKind, Job
from lumos.graph.work import Work, WorkKind
from tests.cli.conftest import DATA
from tests.drawing import Drawing, Thread
from tests.operations import Layout, Step, drawn_times, write_steps

ROWS = 20
"""Rows of each kind: of many, one more or less makes no other program."""


def ranks(*lengths: tuple[int, int, int], extra: tuple[int, ...] = (), steps: int = 1) -> Job:
    """Ranks of kernels, an all-reduce and a gap of these lengths; some with an operator more."""
    drawn = Drawing()
    drawn.group("all", *range(len(lengths)))
    for number, (kernel, transfer, gap) in enumerate(lengths):
        rank = drawn.rank()
        main, stream = rank.thread(), rank.stream(1)
        for step in range(steps):
            rank.block(f"step {step}")
            for _ in range(ROWS):
                main.work("aten::mm", 1)
                main.work("aten::add", 1)
                main.launch(stream, "gemm", kernel)
            if number in extra:
                main.work("aten::item", 7)
            main.collective(stream, "all-reduce", transfer, "all")
            main.gap(gap)
    return drawn.job()


def usual(job: Job, place: int = 0) -> dict[str, int]:
    """What rows of each name take typically."""
    program = job.programs[job.placement.role[place]]
    names = [program.names[number] for number in program.rows.name]
    return dict(zip(names, typical(job).duration_ns[place].tolist(), strict=True))


def test_a_row_takes_the_median_over_the_ranks() -> None:
    job = ranks((10, 30, 5), (12, 90, 6), (20, 31, 50))
    for place in range(3):
        own = usual(job, place)
        assert (own["gemm"], own["all-reduce"], own["(gap)"]) == (12, 31, 6)


def test_of_two_ranks_the_faster_one_is_typical() -> None:
    own = usual(ranks((10, 90, 50), (20, 30, 5)), 0)
    assert (own["gemm"], own["all-reduce"], own["(gap)"]) == (10, 30, 5)


def test_of_several_steps_of_a_rank_the_median_counts() -> None:
    """One rank alone: its third step pauses for long."""
    drawn = Drawing()
    main = drawn.rank().thread()
    for step, pause in enumerate((5, 6, 500)):
        main.rank.block(f"step {step}")
        main.work("aten::mm", 10)
        main.gap(pause)
    found = typical(drawn.job())
    assert found.duration_ns[0].tolist() == [10, 6] * 3
    assert (found.compared_pct, found.alone_pct) == (0, 100)


def test_what_happens_now_here_now_there_is_typical() -> None:
    """Every other row is slow, not the same on both ranks: the typical rank is as slow in all."""
    drawn = Drawing()
    for slow in (0, 1):
        main = drawn.rank().thread()
        for number in range(ROWS):
            main.work("aten::mm", 20 if number % 2 == slow else 10)
    job = with_typical_durations(drawn.job())
    assert [p.rows.duration_ns.tolist() for p in job.programs] == [[15] * ROWS] * 2


def test_transfers_keep_their_long_tails_out() -> None:
    drawn = Drawing()
    drawn.group("all", 0, 1, 2)
    for slow in range(3):
        rank = drawn.rank()
        main, stream = rank.thread(), rank.stream(1)
        for number in range(3):
            main.collective(stream, "all-reduce", 900 if number == slow else 10, "all")
    job = with_typical_durations(drawn.job())
    transfers = [p.rows.duration_ns[p.rows.on_device].tolist() for p in job.programs]
    assert transfers == [[10] * 3] * 3


def test_a_row_that_few_ranks_have_typically_takes_no_time() -> None:
    job = ranks((10, 30, 5), (10, 30, 5), (10, 30, 5), extra=(1,))
    assert usual(job, 1)["aten::item"] == 0
    (row,) = np.flatnonzero(typical(job).other_work[1])
    assert job.programs[1].names[job.programs[1].rows.name[row]] == "aten::item"
    assert not typical(job).other_work[0].any()


@pytest.mark.parametrize("extra", [(0,), (0, 1), (0, 2, 3)])
def test_a_row_that_half_of_the_ranks_have_takes_its_time(extra: tuple[int, ...]) -> None:
    """Whether the first rank has it or not: rows that others lack have places of their own."""
    count = 2 if len(extra) == 1 else 4
    job = ranks(*[(10, 30, 5)] * count, extra=extra)
    assert usual(job, extra[0])["aten::item"] == 7
    assert not typical(job).other_work[extra[0]].any()


def test_a_pause_that_one_of_two_ranks_has_typically_takes_no_time() -> None:
    drawn = Drawing()
    for number in range(2):
        main = drawn.rank().thread()
        for _ in range(ROWS):
            main.work("aten::mm", 10)
        if number:
            main.gap(500)
        main.work("aten::add", 10)
    job = drawn.job()
    assert usual(job, 1)["(gap)"] == 0
    assert not typical(job).other_work[1].any()  # a pause is no work


def test_tasks_of_other_shapes_are_other_work() -> None:
    """Two ranks work on 8 x 8, one on 8 x 16."""
    job = ranks((10, 30, 5), (10, 30, 5), (20, 30, 5))
    programs = list(job.programs)
    for place, columns in enumerate((8, 8, 16)):
        rows = programs[place].rows
        work = Work(WorkKind.GEMM, "aten::mm", ((8, columns),))
        number = np.where(rows.name == programs[place].names.index("gemm"), 0, -1).astype(np.int32)
        programs[place] = replace(
            programs[place], works=(work,), rows=rows.with_columns(work=number)
        )
    found = typical(replace(job, programs=tuple(programs))).other_work
    assert [int(each.sum()) for each in found] == [0, 0, ROWS]


def unlike(pause: int = 5) -> Job:
    """A rank of other operators beside two that are alike; it pauses for 5, they for 9 and 7."""
    job = ranks((10, 30, 9), (20, 30, 7))
    drawn = Drawing()
    main: Thread = drawn.rank().thread()
    for _ in range(50):
        main.work("aten::embedding", 3)
    main.gap(pause)
    other = drawn.job().programs[0]
    placement = replace(job.placement, ranks=(0, 1, 2), role=(0, 2, 1), world_size=3)
    return replace(job, programs=(*job.programs, other), placement=placement)


def test_ranks_of_another_program_are_no_peers() -> None:
    job = unlike()
    programs = [job.programs[role] for role in job.placement.role]
    assert [group.members for group in peers_of(programs)] == [(0, 2), (1,)]
    assert typical(job).duration_ns[1].tolist() == [3] * 50 + [5]
    assert 0 < typical(job).compared_pct < 100


def test_the_pauses_of_a_rank_with_a_program_of_its_own_are_held_against_all() -> None:
    assert typical(unlike(pause=500)).duration_ns[1].tolist() == [3] * 50 + [9]


def test_ranks_of_one_role_are_peers() -> None:
    job = ranks((10, 30, 5), (20, 30, 15))
    shared = replace(job, placement=replace(job.placement, role=(0, 0)))
    assert peers_of([shared.programs[0]] * 2)[0].members == (0, 1)
    assert usual(shared, 1) == usual(job, 0)


def test_typical_ranks_are_typical() -> None:
    once = with_typical_durations(ranks((10, 30, 5), (20, 35, 15), (11, 30, 5), steps=2))
    twice = with_typical_durations(once)
    for first, second in zip(once.programs, twice.programs, strict=True):
        assert (first.rows.duration_ns == second.rows.duration_ns).all()


def test_one_step_of_one_rank_keeps_its_own_and_is_compared_with_nothing() -> None:
    job = ranks((10, 30, 5))
    found = typical(job)
    assert (found.duration_ns[0] == job.programs[0].rows.duration_ns).all()
    assert (found.compared_pct, found.alone_pct) == (0, 0)


def test_whole_operations_of_a_type_take_their_mean_and_transfers_their_median(
    tmp_path: Path,
) -> None:
    """Over all ranks and steps (Lin et al., OSDI 2025)."""
    steps = {n: Step(Layout(data=2, pipeline=2), drawn_times(n)) for n in (1, 2)}
    traces = lumos.load(write_steps(tmp_path, steps))
    found = typical(traces.job)
    for name, middle in (("forward-compute", np.mean), ("forward-recv", np.median)):
        drawn = [
            step.own(one) for step in steps.values() for one in step.operations if one.type == name
        ]
        for program, usual_ns in zip(traces.job.programs, found.duration_ns, strict=True):
            if name in program.names:
                rows = program.rows.name == program.names.index(name)
                assert usual_ns[rows] == pytest.approx(float(middle(drawn)), abs=5)


def test_collectives_are_of_one_kind_in_drawings() -> None:
    """What `ranks` draws meets in an all-reduce."""
    job = ranks((1, 2, 3), (1, 2, 3))
    assert {one.kind for p in job.programs for one in p.collectives} == {CollectiveKind.ALL_REDUCE}


@pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is absent: no real GPU traces here")
def test_ranks_of_a_recorded_job_run_one_program() -> None:
    job = lumos.load(DATA / "dlrm-8xV100").job
    assert typical(job).compared_pct == 100
