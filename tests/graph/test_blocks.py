"""The block API on drawn jobs, and by identity on random and on real ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lumos.errors import UnusableInputError, UsageError
from lumos.graph.blocks import (
    append,
    insert,
    remove,
    repeat,
    replace_rows,
    run_twice,
    starting_state,
    take,
    take_blocks,
)
from lumos.graph.job import NONE, Job, Lags, Program, StartingState, TaskKind
from lumos.graph.step import steps_of
from lumos.ingest.read import read
from lumos.lower import lower
from lumos.predict import record
from lumos.simulate import simulate
from tests.drawing import Drawing, Run, job_of, run
from tests.simulate.jobs import jobs

DATA = Path(__file__).parents[3] / "shared" / "data" / "kineto"
moderate = settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


def checked(change: Callable[..., Program], program: Program, *arguments: object) -> Program:
    """Check, transform, check."""
    program.self_check()
    before = program.rows
    columns = {name: getattr(before, name).copy() for name in before.__dataclass_fields__}
    result = change(program, *arguments)
    result.self_check()
    for name, column in columns.items():
        assert (getattr(program.rows, name) == column).all(), "the old program stays as it was"
    return result


def replayed(program: Program) -> Run:
    return run(job_of(program))


def rows_called(program: Program, *names: str) -> np.ndarray:
    """The host rows of these names, and the calls that launch the tasks of these names."""
    rows = program.rows
    chosen = np.isin(rows.name, [program.names.index(name) for name in names])
    found = np.where(rows.launch == NONE, np.arange(len(rows)), rows.launch)[chosen]
    return np.unique(found)


def handed_over() -> Program:
    """Stream 2 works on what stream 1 made, stream 1 goes on behind it.

    main | a 10 | l1 | record e | wait s2 e | l2 | record f | wait s1 f | l3 | b 10 |
    s1   ........|== k1 100 ==|                  |== k3 100 ==|
    s2                         |== k2 50 ==|
    """
    drawn = Drawing()
    rank = drawn.rank()
    main, s1, s2 = rank.thread(), rank.stream(1), rank.stream(2)
    main.work("a", 10)
    main.launch(s1, "k1", 100)
    main.record(s1, "e")
    main.wait(s2, "e")
    main.launch(s2, "k2", 50)
    main.record(s2, "f")
    main.wait(s1, "f")
    main.launch(s1, "k3", 100)
    main.work("b", 10)
    return drawn.program()


def test_taken_rows_bring_the_tasks_they_launch() -> None:
    """main | a | l1 |, s1 |= k1 =|: nothing else is left."""
    program = handed_over()
    part = checked(take, program, rows_called(program, "a", "k1"))
    result = replayed(part)
    assert len(part.rows) == 3
    assert result["k1"] == (10, 110)


def test_device_rows_cannot_be_taken_alone() -> None:
    program = handed_over()
    task = np.flatnonzero(program.rows.launch != NONE)[:1]
    for change in (take, remove, run_twice):
        with pytest.raises(UsageError, match="host rows"):
            change(program, task)


def test_a_taken_wait_without_its_record_is_an_error_when_lowered() -> None:
    program = handed_over()
    part = checked(take, program, rows_called(program, "wait e", "k2"))
    with pytest.raises(UnusableInputError, match="wait e"):
        replayed(part)


def test_what_is_removed_takes_its_tasks_along() -> None:
    """Without k2: k3 follows k1, since f now captures the wait for k1 alone.

    main | a 10 | l1 | record e | wait | record f | wait | l3 | b |
    s1          |== k1 100 ==||== k3 100 ==|
    """
    program = handed_over()
    left = checked(remove, program, rows_called(program, "k2"))
    result = replayed(left)
    assert result["k3"] == (110, 210)
    assert result["b"] == (12, 22)


def test_a_record_that_is_awaited_outside_survives_and_captures_what_came_before() -> None:
    """k1 and its record are removed: k2 waits for nothing, but its wait is bound."""
    program = handed_over()
    left = checked(remove, program, rows_called(program, "k1", "record e"))
    result = replayed(left)
    assert result["k2"] == (10, 60)
    assert result["k3"] == (60, 160)


def test_a_record_that_nobody_awaits_any_more_goes() -> None:
    program = handed_over()
    left = checked(remove, program, rows_called(program, "record e", "wait e"))
    assert not (left.rows.signal == program.rows.signal[rows_called(program, "record e")]).any()
    assert replayed(left)["k2"] == (11, 61)


def test_a_signal_that_is_awaited_outside_survives() -> None:
    """The other thread's work is removed: main goes on when it would have begun.

    main  | a 10 |...| gap 3 |
    other | w 20 | removed 100 | signal |
    """
    drawn = Drawing()
    rank = drawn.rank()
    main, other = rank.thread("main"), rank.thread("other")
    main.work("a", 10)
    other.work("w", 20)
    removed = [other.work("removed", 100), other.signal("x")]
    main.gap(3, awaits="x", name="pause")
    program = drawn.program()
    assert replayed(program)["pause"] == (10, 123)
    assert replayed(checked(remove, program, np.array(removed)))["pause"] == (10, 23)


def test_inserted_rows_stand_before_the_row_they_are_inserted_at() -> None:
    """A copy of k2 between k1 and its record: k2 waits for it too, since it is on stream 2 before."""
    program = handed_over()
    segment = take(program, rows_called(program, "k3"))
    place = int(rows_called(program, "record e")[0])
    result = replayed(checked(insert, program, place, segment))
    assert result["k3#1"] == (110, 210)  # on s1, behind k1 and before the record
    assert result["k2"] == (210, 260)
    assert result["k3#2"] == (260, 360)


def test_rows_can_be_inserted_at_the_end() -> None:
    program = handed_over()
    result = replayed(
        checked(insert, program, len(program.rows), take(program, rows_called(program, "a")))
    )
    assert result["a#2"] == (23, 33)


@pytest.mark.parametrize("place", [-1, 2, 99])
def test_rows_cannot_be_inserted_between_a_launch_and_its_task_or_outside(place: int) -> None:
    program = handed_over()
    assert program.rows.launch[2] != NONE
    with pytest.raises(UsageError, match="inserted"):
        insert(program, place, take(program, rows_called(program, "a")))


def test_segments_of_other_tables_are_refused() -> None:
    drawn = Drawing()
    drawn.rank().thread().work("other", 1)
    for change in (lambda p, q: insert(p, 0, q), append):
        with pytest.raises(UsageError, match="tables"):
            change(handed_over(), drawn.program())


def test_rows_run_twice_wait_for_their_own_copy() -> None:
    """Everything between a and b a second time: the copy's k2 waits for the copy's k1.

    s1   |= k1 100 =|         |= k3 100 =||= k1 100 =|         |= k3 100 =|
    s2              |= k2 50 =|                       |= k2 50 =|
    """
    program = handed_over()
    names = ("k1", "record e", "wait e", "k2", "record f", "wait f", "k3")
    result = replayed(checked(run_twice, program, rows_called(program, *names)))
    assert [result[f"k{n}#1"] for n in (1, 2, 3)] == [(10, 110), (110, 160), (160, 260)]
    assert [result[f"k{n}#2"] for n in (1, 2, 3)] == [(260, 360), (360, 410), (410, 510)]
    assert result["b"] == (16, 26)


def test_what_stands_outside_keeps_waiting_for_the_first_run() -> None:
    """k1 and its record twice: stream 2 waits for the record it waited for before."""
    program = handed_over()
    result = replayed(checked(run_twice, program, rows_called(program, "k1", "record e")))
    assert result["k1#2"] == (110, 210)
    assert result["k2"] == (110, 160)


def test_waits_for_what_lies_outside_are_shared_by_both_runs() -> None:
    """Wait and k2 twice: both copies wait for the one record."""
    program = handed_over()
    result = replayed(checked(run_twice, program, rows_called(program, "wait e", "k2")))
    assert result["k2#1"] == (110, 160)
    assert result["k2#2"] == (160, 210)
    assert result["k3"] == (210, 310)


def test_the_last_rows_of_a_step_run_twice_stay_in_their_step() -> None:
    """step 0 | a | a |, step 1 | b |."""
    drawn = Drawing()
    rank = drawn.rank()
    main = rank.thread()
    rank.block("0")
    main.work("a", 10)
    rank.block("1")
    main.work("b", 5)
    twice = checked(run_twice, drawn.program(), np.array([0]))
    assert twice.rows.block.tolist() == [0, 0, 1]
    assert checked(
        replace_rows, twice, np.array([1]), take(twice, np.array([2]))
    ).rows.block.tolist() == [0, 0, 1]


def test_a_collective_run_twice_meets_its_second_run() -> None:
    """Both ranks repeat the all-reduce: two rendezvous, the second one behind the first."""
    drawn = Drawing()
    drawn.group("all", 0, 1)
    for delay in (0, 100):
        rank = drawn.rank()
        main, stream = rank.thread(), rank.stream(1)
        main.work("a", delay)
        main.collective(stream, "c", 10, "all")
    job = drawn.job()
    programs = tuple(checked(run_twice, p, np.array([1])) for p in job.programs)
    result = run(replace(job, programs=programs))
    for rank_ in (0, 1):
        assert result["c#1", rank_][1] == 110
        assert result["c#2", rank_][1] == 120


def test_a_replacement_stands_where_the_rows_stood() -> None:
    """k1 instead of k2: it runs on stream 1, so k2's record f captures the wait alone."""
    program = handed_over()
    segment = take(program, rows_called(program, "b"))
    result = replayed(checked(replace_rows, program, rows_called(program, "a"), segment))
    assert result["b#1"] == (0, 10)
    assert result["k1"] == (10, 110)


def test_rows_replaced_by_themselves_change_nothing() -> None:
    """Also where a record inside is awaited outside and more is launched behind it.

    main | l1 | record e | l3 | wait s2 e | l2 |     replaced: l1, record e, l3
    s1   |= k1 =||=== k3 1000 ===|
    s2          |= k2 =|
    """
    drawn = Drawing()
    rank = drawn.rank()
    main, s1, s2 = rank.thread(), rank.stream(1), rank.stream(2)
    main.launch(s1, "k1", 10)
    main.record(s1, "e")
    main.launch(s1, "k3", 1000)
    main.wait(s2, "e")
    main.launch(s2, "k2", 5)
    program = drawn.program()
    rows = rows_called(program, "k1", "record e", "k3")
    assert replayed(program)["k2"] == (10, 15)
    assert replayed(checked(replace_rows, program, rows, take(program, rows)))["k2"] == (10, 15)


def test_appended_blocks_follow_and_keep_their_own_waits() -> None:
    """The step twice: everything of the second copy is 250 later on the device."""
    program = handed_over()
    both = checked(append, program, program)
    result = replayed(both)
    assert both.blocks == ("step 0", "step 0")
    assert [result[f"k{n}#2"] for n in (1, 2, 3)] == [(260, 360), (360, 410), (410, 510)]


def test_repeat_appends_the_program_to_itself() -> None:
    program = handed_over()
    tripled = checked(repeat, program, 3)
    by_hand = append(append(program, program), program)
    for name in tripled.rows.__dataclass_fields__:
        assert (getattr(tripled.rows, name) == getattr(by_hand.rows, name)).all(), name
    assert tripled.blocks == ("step 0", "step 0 (2)", "step 0 (3)")


def test_repeat_once_changes_nothing() -> None:
    program = handed_over()
    once = checked(repeat, program, 1)
    assert once.blocks == program.blocks
    for name in once.rows.__dataclass_fields__:
        assert (getattr(once.rows, name) == getattr(program.rows, name)).all(), name


@pytest.mark.parametrize("count", [0, -3])
def test_a_program_cannot_be_repeated_less_than_once(count: int) -> None:
    with pytest.raises(UsageError, match="1 time or more"):
        repeat(handed_over(), count)


def prefetching(steps: int = 3) -> Drawing:
    """Each step uses what the step before copied, and copies for the next one.

    step    |       0        |       1        |
    compute |.wait.|= k 50 =|.wait.|= k 50 =|
    copies         |= c 80 =|       |= c 80 =|
    """
    drawn = Drawing()
    rank = drawn.rank()
    main, compute, copies = rank.thread(), rank.stream(1), rank.stream(2)
    for step in range(steps):
        rank.block(f"step {step}")
        main.work("a", 20)
        main.wait(compute, "batch", distance=1)
        main.launch(compute, "k", 50)
        main.launch(copies, "c", 80, kind=TaskKind.COPY)
        main.record(copies, "batch")
    rank.starts(slots={"batch": 0})
    return drawn


def test_repeated_steps_wait_for_the_step_before() -> None:
    """One step repeated gives what three drawn steps give."""
    one = prefetching(1).program()
    tripled = checked(repeat, one, 3)
    drawn = prefetching(3).program()
    assert (
        simulate(lower(job_of(tripled))).ranks[0].end_ns
        == simulate(lower(job_of(drawn))).ranks[0].end_ns
    ).all()


def test_a_step_run_twice_still_waits_for_the_step_before() -> None:
    """Step 1 twice, in one block: both copies wait for the batch of step 0, done at 101.

    compute |= k 20..70 =|..|= k 101..151 =|= k 151..201 =|
    """
    program = prefetching(2).program()
    second = np.flatnonzero((program.rows.block == 1) & (program.rows.launch == NONE))
    result = replayed(checked(run_twice, program, second))
    assert [result[f"k#{n}"] for n in (1, 2, 3)] == [(20, 70), (101, 151), (151, 201)]


def test_blocks_taken_out_have_no_start_of_their_own() -> None:
    """The last two steps, numbered from 0; lowering them needs a starting state."""
    part = checked(take_blocks, prefetching().program(), 1, 3)
    assert part.blocks == ("step 1", "step 2")
    assert set(part.rows.block.tolist()) == {0, 1}
    with pytest.raises(UnusableInputError, match="awaits slot"):
        replayed(part)
    assert replayed(replace(part, start=prefetching(1).program().start))["k#1"] == (20, 70)


def test_blocks_taken_out_and_appended_make_the_whole() -> None:
    program = prefetching().program()
    parts = [checked(take_blocks, program, n, n + 1) for n in range(3)]
    whole = append(append(parts[0], parts[1]), parts[2])
    assert whole.blocks == program.blocks
    for name in whole.rows.__dataclass_fields__:
        assert (getattr(whole.rows, name) == getattr(program.rows, name)).all(), name


def test_the_starting_state_is_what_was_under_way() -> None:
    """Step 1 begins at 22 on the host; k runs until 70, c until 102, and the batch is c's end.

    host    | a 20 |l|l| step 1 ...
    compute         |== k 20..70 ==|
    copies           |== c 21..101 ==|
    """
    program = prefetching().program()
    measured = replayed(program)
    state = starting_state(program, measured.timeline.ranks[0], 1)
    begin = 22
    assert measured["a#2"][0] == begin
    assert state.free_ns.tolist() == [0, 70 - begin, 101 - begin]
    assert list(state.slot_ns.values()) == [101 - begin]


def test_a_wait_that_is_pending_at_a_border_holds_the_next_step() -> None:
    """Stream 2 waits for k1 with nothing behind the wait until step 1; stream 3 waits for stream 2.

    step    | 0                    | 1           |
    main    | l1 | wait s2 | rec f | l2 | wait s3 f | l3 |
    s1           |========= k1 1000 =========|
    s2                                       |= k2 =|
    s3                                       |= k3 =|
    """
    drawn = Drawing()
    rank = drawn.rank()
    main, s1, s2, s3 = rank.thread(), *(rank.stream(n) for n in (1, 2, 3))
    rank.block("0")
    main.launch(s1, "k1", 1000, call=5)
    main.record(s1, "e")
    main.wait(s2, "e")
    main.record(s2, "f")
    rank.block("1")
    main.work("a", 1)
    main.launch(s2, "k2", 10)
    main.wait(s3, "f", distance=1)
    main.launch(s3, "k3", 10)
    whole = drawn.run()
    part, measured = steps_of(drawn.job(), whole.timeline, 1, 2)
    alone = run(part)
    assert whole["k2"] == whole["k3"] == (1000, 1010)
    assert alone["k2"] == alone["k3"] == (995, 1005)
    assert (measured.ranks[0].end_ns == alone.timeline.ranks[0].end_ns).all()


def test_host_waits_for_an_earlier_step_hold_the_next_one() -> None:
    """A hand-off and an event synchronize whose signals were made in step 0.

    main  | l1 | record e | a 10 | step 1: b 1 | pause until x 5 | synchronize e 2 |
    other | w 500 | signal x |
    s1         |=========== k1 1000 ==============|
    """
    drawn = Drawing()
    rank = drawn.rank()
    main, other, s1 = rank.thread("main"), rank.thread("other"), rank.stream(1)
    rank.block("0")
    main.launch(s1, "k1", 1000, call=0)
    main.record(s1, "e")
    main.work("a", 10)
    other.work("w", 500)
    other.signal("x")
    rank.block("1")
    main.work("b", 1)
    main.gap(5, "x", 1, name="pause")
    main.synchronize(event="e", duration=2, distance=1)
    whole = drawn.run()
    assert whole["pause"] == (11, 505)
    assert whole["cudaStreamSynchronize"] == (505, 1002)
    part, _ = steps_of(drawn.job(), whole.timeline, 1, 2)
    alone = run(part)
    assert alone["pause"] == (1, 495)
    assert alone["cudaStreamSynchronize"] == (495, 992)


@moderate
@given(jobs(calls=40, most_threads=1))
def test_a_step_on_its_own_runs_as_it_did_among_the_others(job: Job) -> None:
    """From its starting state, lags and back-pressure aside: these reach across the border."""
    job = replace(job, lags=Lags())
    whole = simulate(lower(job))
    for block in range(len(job.programs[0].blocks)):
        part, measured = steps_of(job, whole, block, block + 1)
        alone = simulate(lower(part)).ranks[0]
        assert (alone.end_ns == measured.ranks[0].end_ns).all()
        device = part.programs[0].rows.launch != NONE
        assert (alone.start_ns[device] == measured.ranks[0].start_ns[device]).all()


# --- identity: taken apart and assembled again


def segments_of(program: Program, cuts: list[int]) -> list[np.ndarray]:
    """The host rows in contiguous parts, cut before these rows."""
    host = np.flatnonzero(program.rows.launch == NONE)
    return [part for part in np.split(host, np.searchsorted(host, sorted(cuts))) if len(part)]


def assembled(program: Program, cuts: list[int]) -> Program:
    """Each block taken apart at `cuts`, and put together part by part."""
    parts = [take(program, rows) for rows in segments_of(program, cuts)]
    whole = parts[0]
    for part in parts[1:]:
        whole = insert(whole, len(whole.rows), part)
    whole.self_check()
    return whole


def ends(program: Program, lags: Lags) -> np.ndarray:
    return simulate(lower(job_of(program, lags))).ranks[0].end_ns


@moderate
@given(jobs(calls=40), st.data())
def test_random_steps_taken_apart_and_assembled_run_the_same(job: Job, data: st.DataObject) -> None:
    (program,) = job.programs
    program = replace(take_blocks(program, 0, 1), start=program.start)
    cuts = data.draw(st.lists(st.integers(0, len(program.rows)), max_size=6))
    assert (ends(assembled(program, cuts), job.lags) == ends(program, job.lags)).all()


@moderate
@given(jobs(calls=40), st.data())
def test_random_rows_replaced_by_themselves_run_the_same(job: Job, data: st.DataObject) -> None:
    (program,) = job.programs
    cuts = data.draw(st.lists(st.integers(0, len(program.rows)), min_size=2, max_size=2))
    for rows in segments_of(program, cuts):
        if len(set(program.rows.block[rows].tolist())) > 1:
            continue  # a segment goes into one block
        same = checked(replace_rows, program, rows, take(program, rows))
        assert (ends(same, job.lags) == ends(program, job.lags)).all()


@cache
def traced(name: str) -> Job:
    if not (DATA / name).exists():
        pytest.skip(f"the traces of ../shared/data are not here: {DATA / name}")
    recording = record(read([DATA / name]))
    step = min(2, len(recording.steps) - 1)
    return steps_of(recording.job, recording.measured, step, step + 1)[0]


REAL = ["recsys-8xA100", "dlrm-8xV100", "resnet-ddp-2xA100"]


@pytest.mark.parametrize("name", REAL)
def test_a_traced_step_taken_apart_and_assembled_replays_to_the_nanosecond(name: str) -> None:
    job = traced(name)
    random = np.random.default_rng(7)
    programs = tuple(
        assembled(program, random.integers(0, len(program.rows), 60).tolist())
        for program in job.programs
    )
    before, after = simulate(lower(job)), simulate(lower(replace(job, programs=programs)))
    for mine, theirs in zip(after.ranks, before.ranks, strict=True):
        assert (mine.start_ns == theirs.start_ns).all()
        assert (mine.end_ns == theirs.end_ns).all()


@pytest.mark.parametrize("name", REAL)
def test_operators_replaced_by_themselves_replay_to_the_nanosecond(name: str) -> None:
    job = traced(name)
    random = np.random.default_rng(8)
    programs = []
    for program in job.programs:
        for _ in range(10):
            first, last = sorted(random.integers(0, len(program.rows), 2).tolist())
            rows = segments_of(program, [first, min(last, first + 500)])[1]
            program = replace_rows(program, rows, take(program, rows))
        program.self_check()
        programs.append(program)
    before, after = simulate(lower(job)), simulate(lower(replace(job, programs=tuple(programs))))
    for mine, theirs in zip(after.ranks, before.ranks, strict=True):
        assert (mine.end_ns == theirs.end_ns).all()


def test_steps_of_a_trace_appended_replay_as_the_whole() -> None:
    if not (DATA / "recsys-8xA100").exists():
        pytest.skip(f"the traces of ../shared/data are not here: {DATA}")
    recording = record(read([DATA / "recsys-8xA100"]))
    (program,) = recording.job.programs
    whole = take_blocks(program, 0, 1)
    for block in range(1, len(program.blocks)):
        whole = checked(append, whole, take_blocks(program, block, block + 1))
    whole = replace(whole, start=program.start)
    assert (ends(whole, recording.job.lags) == ends(program, recording.job.lags)).all()


def test_a_traced_step_repeated_once_replays_the_same() -> None:
    job = traced("recsys-8xA100")
    (program,) = job.programs
    same = checked(repeat, program, 1)
    assert (ends(same, job.lags) == ends(program, job.lags)).all()


def test_the_kept_start_is_still_the_first_one() -> None:
    """repeat keeps what was under way before the first copy."""
    program = replace(handed_over(), start=StartingState(np.array([5, 0, 0])))
    assert replayed(repeat(program, 2))["a#1"] == (5, 15)
