"""Changes of the program itself: rows removed, operators run twice, steps back to back."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings

from lumos.graph.job import Job
from lumos.graph.labels import By
from lumos.graph.work import WorkKind
from lumos.lower import lower
from lumos.simulate import simulate
from lumos.whatif.back_to_back import back_to_back
from lumos.whatif.remove import remove
from lumos.whatif.run_twice import run_twice
from lumos.whatif.selection import Selection, everything, inside, labelled, operators_of_kind
from tests.drawing import Drawing, run
from tests.graph.test_segments import names, piece
from tests.oracle import oracle_times
from tests.simulate.jobs import jobs

thorough = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


def attention() -> Drawing:
    """main | sdpa | launch | sdpa | mm | launch | mm |; the launches start flash and gemm."""
    drawn = Drawing()
    rank = drawn.rank()
    main, stream = rank.thread(), rank.stream(1)
    for number, (operator, kernel) in enumerate((("sdpa", "flash"), ("mm", "gemm"))):
        piece(main, operator, 100 + number)
        main.launch(stream, kernel, 50)
        piece(main, operator, 100 + number)
    return drawn


def test_an_operator_is_removed_with_all_inside_it_and_its_kernels() -> None:
    job = attention().job()
    left = remove(job, inside(job, ["sdpa"]))
    left.self_check()
    assert names(left.programs[0]) == ["mm", "cudaLaunchKernel", "gemm", "mm"]
    assert run(left)["gemm"] == (5, 55)


def test_a_kernel_is_removed_with_the_call_that_launches_nothing_else() -> None:
    job = attention().job()
    left = remove(job, labelled(job, By.KERNEL, "flash"))
    left.self_check()
    assert names(left.programs[0]) == ["sdpa", "sdpa", "mm", "cudaLaunchKernel", "gemm", "mm"]


def test_a_call_with_other_tasks_stays_and_so_do_they() -> None:
    drawn = Drawing()
    rank = drawn.rank()
    main, stream = rank.thread(), rank.stream(1)
    main.graph([(stream, "a", 5), (stream, "b", 5)])
    job = drawn.job()
    assert len(remove(job, labelled(job, By.KERNEL, "a")).programs[0].rows) == 3


def test_an_operator_runs_twice_with_its_kernels() -> None:
    job = run_twice(attention().job(), ["mm"])
    job.self_check()
    ran = run(job)
    assert (ran["flash"], ran["gemm#1"], ran["gemm#2"]) == ((5, 55), (55, 105), (105, 155))
    assert len(job.programs[0].rows) == 12


def test_operators_go_by_their_family() -> None:
    drawn = Drawing()
    main = drawn.rank().thread()
    for name in ("aten::linear", "aten::addmm", "aten::gelu", "aten::_flash_attention_forward"):
        main.work(name, 5)
    job = drawn.job()
    assert operators_of_kind(job, WorkKind.GEMM) == {"aten::linear", "aten::addmm"}
    assert operators_of_kind(job, WorkKind.ATTENTION) == {"aten::_flash_attention_forward"}


def test_of_a_linear_layer_the_product_runs_twice() -> None:
    drawn = Drawing()
    main = drawn.rank().thread()
    piece(main, "aten::linear", 1)
    piece(main, "aten::addmm", 2)
    piece(main, "aten::linear", 1)
    job = drawn.job()
    gemms = operators_of_kind(job, WorkKind.GEMM)
    again = ["aten::linear", "aten::addmm", "aten::addmm", "aten::linear"]
    assert names(run_twice(job, gemms, innermost=True).programs[0]) == again
    assert len(run_twice(job, gemms).programs[0].rows) == 6


@thorough
@given(jobs(most_ranks=2))
def test_removing_nothing_changes_nothing(job: Job) -> None:
    nothing = ~everything(job)
    same = remove(job, nothing)
    for before, after in zip(job.programs, same.programs, strict=True):
        assert len(before.rows) == len(after.rows)
    assert simulate(lower(same)).end_ns == simulate(lower(job)).end_ns


@thorough
@given(jobs(most_ranks=2))
def test_operators_removed_or_run_twice_run_as_in_the_oracle(job: Job) -> None:
    """Only host work is touched: what is signalled and met stays."""
    for changed in (remove(job, inside(job, ["work"])), run_twice(job, ["work"])):
        changed.self_check()
        ran = simulate(lower(changed))
        for place, expected in enumerate(oracle_times(changed, contention=False)):
            assert ran.ranks[place].end_ns.tolist() == [end for _, end, _ in expected]


@thorough
@given(jobs(most_ranks=2))
def test_an_operator_run_twice_has_each_of_its_rows_once_more(job: Job) -> None:
    twice = run_twice(job, ["work"])
    for before, after in zip(job.programs, twice.programs, strict=True):
        again = np.array(names(before)) == "work"
        total = int(before.rows.duration_ns.sum() + before.rows.duration_ns[again].sum())
        assert int(after.rows.duration_ns.sum()) == total


def test_steps_back_to_back_let_the_host_run_ahead() -> None:
    """The second step's launch does not wait for the first step's kernel.

    main   | l |gap| l |gap|
    stream     |=== k ===||=== k ===|
    """
    drawn = Drawing(launch=2)
    rank = drawn.rank()
    main, stream = rank.thread(), rank.stream(1)
    main.launch(stream, "k", 100)
    main.gap(10)
    rank.starts({stream: 1000})
    ran = run(back_to_back(drawn.job(), 2))
    assert (ran["k#1"], ran["k#2"]) == ((2, 102), (102, 202))
    assert ran.call("k#2") == (11, 12)


def test_a_wait_for_the_step_before_finds_it_done_in_the_first_copy() -> None:
    drawn = Drawing()
    rank = drawn.rank()
    main, s1, s2 = rank.thread(), rank.stream(1), rank.stream(2)
    main.wait(s2, "last", distance=1)
    main.launch(s2, "b", 10)
    main.launch(s1, "a", 100)
    main.record(s1, "last")
    rank.starts({}, {"last": 500})
    ran = run(back_to_back(drawn.job(), 2))
    assert (ran["b#1"], ran["b#2"][0]) == ((0, 10), ran["a#1"][1])


def test_a_selection_knows_how_many_rows_it_has() -> None:
    assert len(Selection((np.array([True, False]), np.array([True])))) == 2
