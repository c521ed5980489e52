"""Operation-level traces: mapped onto a Job, they replay as their operations depend on each other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lumos.analysis.replay import span_of
from lumos.errors import UnusableInputError
from lumos.fit import fit
from lumos.graph.job import Grain, Job, TaskKind
from lumos.graph.step import steps_of
from lumos.graph.timeline import Timeline
from lumos.ingest.op_level import find_job_trace, read_job
from lumos.lower import lower
from lumos.simulate import simulate
from tests.operations import Layout, Step, drawn_times, write_rows, write_steps

DATA = Path(__file__).parents[3] / "shared" / "data" / "straggler"
real = pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is absent")


def makespans(job: Job, measured: Timeline, *, delays: bool = False) -> dict[str, int]:
    """Each step replayed on its own [ns]."""
    found = {}
    for block, name in enumerate(job.programs[0].blocks):
        one, _ = steps_of(job, measured, block, block + 1)
        low, high = span_of(one, simulate(lower(one), delays=delays))
        found[name] = high - low
    return found


def drawn(
    folder: Path, layout: Layout, seeds: tuple[int, ...] = (1,), most_delay: int = 0
) -> tuple[Job, Timeline, dict[int, Step]]:
    """A job whose own times are drawn, recorded with launch delays of up to `most_delay`."""
    steps = {
        10 * seed: Step(
            layout,
            drawn_times(seed),
            drawn_times(-seed, most_delay) if most_delay else lambda _: 0,
        )
        for seed in seeds
    }
    job, measured = read_job(write_steps(folder, steps))
    job.self_check()
    return job, measured, steps


LAYOUTS = st.builds(
    Layout,
    data=st.integers(1, 3),
    pipeline=st.integers(2, 4),
    chunks=st.integers(1, 2),
    micro_batches=st.integers(1, 4),
    in_turns=st.booleans(),
)


@given(LAYOUTS, st.integers(1, 10**6), st.sampled_from([0, 50_000]))
@settings(max_examples=25, deadline=None)
def test_a_recorded_step_replays_as_without_its_launch_delays(
    tmp_path_factory: pytest.TempPathFactory, layout: Layout, seed: int, most_delay: int
) -> None:
    """The oracle draws own times and delays; read and fitted, the own times are found again."""
    folder = tmp_path_factory.mktemp("job")
    job, measured, steps = drawn(folder, layout, (seed,), most_delay)
    (step,) = steps.values()
    expected = Step(layout, step.own).makespan
    (found,) = makespans(fit(job, measured), measured).values()
    assert found == pytest.approx(expected, abs=20)  # times were rounded to ns on their way


@given(LAYOUTS, st.integers(1, 10**6))
@settings(max_examples=15, deadline=None)
def test_with_its_delays_a_step_takes_as_long_as_recorded(
    tmp_path_factory: pytest.TempPathFactory, layout: Layout, seed: int
) -> None:
    """What is less than 10 us late counts as on time: so can be a rank's first operation."""
    job, measured, steps = drawn(tmp_path_factory.mktemp("job"), layout, (seed,), 900_000)
    (step,) = steps.values()
    (found,) = makespans(fit(job, measured), measured, delays=True).values()
    assert found == pytest.approx(step.makespan, abs=10_000)


def test_operations_stand_where_they_were_recorded(tmp_path: Path) -> None:
    job, measured, steps = drawn(tmp_path, Layout(), (1, 2), 10_000)
    assert job.programs[0].blocks == ("10", "20")
    assert job.placement.ranks == (0, 1, 2, 3)
    begin = 0
    for number, step in steps.items():
        for one in step.operations:
            place = one.stage * 2 + one.data
            program = job.programs[place]
            named = program.rows.name == program.names.index(one.type)
            mine = np.flatnonzero(named & (program.rows.block == [*steps].index(number)))
            run = measured.ranks[place]
            at = begin - step.first
            assert run.start_ns[mine[one.number]] - at == pytest.approx(step.posted(one), abs=2)
            assert run.end_ns[mine[one.number]] - at == pytest.approx(step.end(one), abs=2)
        begin += step.makespan


def test_rows_know_their_phase_their_micro_batch_and_their_group(tmp_path: Path) -> None:
    job, _, _ = drawn(tmp_path, Layout(data=2, pipeline=3, micro_batches=3, in_turns=True))
    assert job.grain is Grain.OPERATION
    program, groups = job.programs[2], job.placement.groups  # rank 2: stage 1
    rows = program.rows

    def of(name: str) -> np.ndarray:
        return np.flatnonzero(rows.name == program.names.index(name))

    assert rows.micro_batch[of("forward-send")].tolist() == [0, 1, 2]
    assert rows.micro_batch[of("backward-recv")].tolist() == [0, 1, 2]
    assert set(rows.phase[of("backward-compute")].tolist()) == {2}
    send = program.collectives[rows.collective[of("forward-send")[0]]]
    receive = program.collectives[rows.collective[of("forward-recv")[0]]]
    assert (send.peer, receive.peer, send.synchronous) == (4, 0, True)
    scatter = program.collectives[rows.collective[of("grads-reduce-scatter")[0]]]
    assert groups[scatter.group].ranks == (2, 3)
    clip = program.collectives[rows.collective[of("optimizer-clip-main-grad")[0]]]
    assert groups[clip.group].ranks == tuple(range(6))
    assert (rows.kind[of("forward-compute")] == TaskKind.KERNEL).all()


def test_steps_follow_each_other_when_the_parameters_are_gathered_again(tmp_path: Path) -> None:
    """All steps in one run: a rank's next step begins when its own optimizer is done."""
    job, measured, _ = drawn(tmp_path, Layout(data=1, pipeline=2), (1, 2, 3))
    job = fit(job, measured)
    whole = simulate(lower(job))
    assert whole.span_ns <= sum(makespans(job, measured).values())
    program, run = job.programs[0], whole.ranks[0]
    ends = run.end_ns[program.rows.name == program.names.index("optimizer")]
    begins = run.start_ns[program.rows.name == program.names.index("params-all-gather")]
    assert (begins[1:] == ends[:-1]).all()


def test_of_ranks_that_share_a_micro_batch_one_is_expected(tmp_path: Path) -> None:
    job, _, _ = drawn(tmp_path, Layout(shards=2))
    assert job.placement.ranks == (0, 2, 4, 6)
    assert job.placement.world_size == 8
    assert [finding.code for finding in job.findings] == ["one-rank-of-each-shard"]


def test_a_step_that_is_not_whole_is_left_out_and_told(tmp_path: Path) -> None:
    layout = Layout()
    frame = polars.DataFrame(
        [row for n in (1, 2, 3) for row in Step(layout, drawn_times(n)).rows(n)]
    )
    lost = (frame["step"] == 2) & (frame["optype"] == "forward-recv") & (frame["rank"] == 3)
    job, measured = read_job(write_rows(tmp_path, frame.filter(~lost), layout))
    assert job.programs[0].blocks == ("1", "3")
    (finding,) = job.findings
    assert finding.code == "step-not-whole"
    assert "step 2: rank 3 ran not one forward-recv for each forward-compute" in finding.message
    expected = [Step(layout, drawn_times(n)).makespan for n in (1, 3)]
    found = [*makespans(fit(job, measured), measured).values()]
    assert found == pytest.approx(expected, abs=20)


def test_all_ranks_are_needed(tmp_path: Path) -> None:
    frame = table(Layout(data=3)).filter(polars.col("dp_rank") != 1)
    words = unusable(write_rows(tmp_path, frame, Layout(data=3)))
    assert "holds 4 of 6 ranks, none of dp_rank 1, stage 0" in words


# --- which files


def test_a_job_trace_is_found_by_its_name_its_folder_or_a_glob(tmp_path: Path) -> None:
    path = write_steps(tmp_path, {1: Step(Layout(), drawn_times(1))})
    for given_ in (path, str(path), [path], tmp_path, f"{tmp_path}/tr*.parquet"):
        assert find_job_trace(given_) == path
    assert find_job_trace(tmp_path / "rank0.json.gz") is None


def test_a_job_trace_is_a_whole_job(tmp_path: Path) -> None:
    path = write_steps(tmp_path, {1: Step(Layout(), drawn_times(1))})
    write_steps(tmp_path, {1: Step(Layout(), drawn_times(2))}, name="other")
    for several in (tmp_path, [path, path], [path, "rank0.json"]):
        with pytest.raises(UnusableInputError, match="each is a whole job: name one"):
            find_job_trace(several)


# --- bad input


def unusable(path: Path) -> str:
    with pytest.raises(UnusableInputError) as error:
        read_job(path)
    message = str(error.value)
    assert "\n" not in message
    assert str(path.parent) in message
    return message


def table(layout: Layout) -> polars.DataFrame:
    return polars.DataFrame([*Step(layout, drawn_times(1)).rows(1)])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dp_size": None}, "dp_size is missing"),
        ({"pp_size": 0}, "pp_size is 0; it must be a whole number from 1 on"),
        ({"pp_size": "two"}, "pp_size is 'two'"),
        ({"world_size": True}, "world_size is True"),
        ({"world_size": 5}, "world_size is 5, but dp_size x pp_size x tp_size x dsp_size is 4"),
        ({"vpp_size": 10**30}, "vpp_size is 1000000"),
    ],
)
def test_sizes_that_cannot_be(tmp_path: Path, change: dict[str, object], words: str) -> None:
    assert words in unusable(write_rows(tmp_path, table(Layout()), Layout(), **change))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no table"),
        ("- 1\n- 2\n", "holds no table"),
        ("dp_size: [", "cannot be read as YAML"),
        ("dp_size: !!python/object/apply:os.system [true]", "cannot be read as YAML"),
        ("a: \x00", "cannot be read as YAML"),
        ("dp_size: 2001-99-99", "cannot be read as YAML"),
        ("[" * 20000, "cannot be read as YAML"),
        ("x" * 70000, "larger than 65536 bytes"),
    ],
)
def test_a_meta_file_that_is_none(tmp_path: Path, text: str, words: str) -> None:
    path = write_rows(tmp_path, table(Layout()), Layout())
    (tmp_path / "meta-drawn.yaml").write_text(text)
    assert words in unusable(path)


def test_a_trace_without_its_meta_file(tmp_path: Path) -> None:
    path = write_rows(tmp_path, table(Layout()), Layout())
    (tmp_path / "meta-drawn.yaml").unlink()
    assert "meta-drawn.yaml: is missing" in unusable(path)


ONE = polars.int_range(polars.len()) == 5
WRONG = [
    (polars.when(ONE).then(float("nan")).otherwise("start_ts").alias("start_ts"), "row 5 has start_ts nan"),
    (polars.when(ONE).then(-1e-9).otherwise("duration").alias("duration"), "row 5 has duration -1e-09"),
    (polars.when(ONE).then(1e300).otherwise("duration").alias("duration"), "row 5 has duration 1e+300"),
    (polars.when(ONE).then(None).otherwise("step").alias("step"), "1 rows have no step"),
    (polars.when(ONE).then(None).otherwise("optype").alias("optype"), "1 rows have no optype"),
    (polars.when(ONE).then(9).otherwise("stage").alias("stage"), "row 5 has stage 9; by its meta file"),
    (polars.when(ONE).then(-1).otherwise("rank").alias("rank"), "row 5 has rank -1; by its meta file"),
    (polars.when(ONE).then(2**40).otherwise("mb_id").alias("mb_id"), "row 5 has mb_id 1099511627776"),
    (polars.lit(0).cast(polars.Int16).alias("rank"), "rank 0 is given twice ("),
    (polars.col("rank") - polars.col("dp_rank") + polars.lit(1), "is given twice"),
    (polars.col("start_ts").cast(polars.String), "column start_ts holds String; expected seconds"),
    (polars.col("stage").cast(polars.Float64), "column stage holds Float64; expected whole numbers"),
    (polars.lit(3).alias("optype"), "column optype holds Int32; expected text"),
    (polars.lit("forward-computer").alias("optype"), "operations called 'forward-computer'; known are"),
    (polars.lit("gc").alias("optype"), None),
]  # fmt: skip


@pytest.mark.parametrize(("change", "words"), WRONG, ids=range(len(WRONG)))
def test_values_that_cannot_be(tmp_path: Path, change: polars.Expr, words: str | None) -> None:
    path = write_rows(tmp_path, table(Layout()).with_columns(change), Layout())
    if words is None:
        read_job(path)  # a job of nothing but pauses is one
    else:
        assert words in unusable(path)


@pytest.mark.parametrize("column", table(Layout()).columns)
def test_a_column_that_is_missing(tmp_path: Path, column: str) -> None:
    path = write_rows(tmp_path, table(Layout()).drop(column), Layout())
    assert f"has no column {column}; an operation-level trace has dp_rank, " in unusable(path)


def test_no_operations_and_no_whole_step(tmp_path: Path) -> None:
    frame = table(Layout())
    assert "holds 0 operations" in unusable(write_rows(tmp_path, frame.clear(), Layout()))
    halves = frame.filter(polars.col("optype") != "forward-recv")
    words = unusable(write_rows(tmp_path, halves, Layout()))
    assert "no step is whole; step 1: rank 2 ran not one forward-recv" in words


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_file_ends_in_a_job_or_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    path = write_rows(folder, table(Layout(1, 2)), Layout(1, 2))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        read_job(path)[0].self_check()
    except UnusableInputError as error:
        words = str(error)
    else:
        words = ""
    assert "\n" not in words


# --- the published traces


@real
@pytest.mark.parametrize("name", ["ST", "SE"])
def test_step_times_are_those_published(name: str) -> None:
    """step_t_base as recorded, step_t_nodelay replayed; asked for are 0.5 %."""
    published = json.loads((DATA / f"result-{name}.json").read_text())
    job, measured = read_job(DATA / f"trace-{name}.parquet")
    job = fit(job, measured)
    assert set(job.programs[0].blocks) == set(published["step_t_base"])
    for step, length in zip(
        job.programs[0].blocks, job.programs[0].provenance.step_ns, strict=True
    ):
        assert length / 1e9 == pytest.approx(published["step_t_base"][step], rel=1e-6)
    for step, length in makespans(job, measured).items():
        assert length / 1e9 == pytest.approx(published["step_t_nodelay"][step], rel=1e-5)
