"""Real traces made wrong in hundreds of ways: a sane result, or one line that names the file.

Each case is written to files and goes the whole way (tests/bad_input/way.py) under a time and a
memory limit. All is drawn from seeds: a failing case is run again by its name.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.bad_input.mutations import MUTATIONS, apply
from tests.bad_input.sources import SOURCES, Source, documents
from tests.bad_input.way import Nonsense, go, watched, write
from tests.cli.run import Cli

CASES_A_MUTATION = 4
BY_NAME = {source.name: source for source in SOURCES}

FOUND = (
    ("dlrm-2", "only_the_device", 2),  # device tasks without a host: index out of range
    ("mi250", "header_missing", 0),  # a step without rows: its prediction crashed, as on the real file
    ("dlrm-2", "odd_times_each", 0),  # a step without rows on one rank
    ("sampled", "steps_empty", 0),  # other steps on each rank
    ("multi-stream", "start_and_duration_swapped", 0),  # times beyond what int64 subtracts
    ("mi250", "base_time_absurd", 0),
    ("dlrm-2", "processes_many", 5),  # 16 GiB for a device numbered 2**31 - 1
    ("vllm-B200", "devices_odd", 2),  # device -2 was taken for the host
    ("gloo-pp2", "threads_many", 2),  # hand-offs: each pause against each thread
    ("sampled", "arguments_odd", 7),  # registers of a kernel: division by zero
    ("dlrm-2", "arguments_of_collectives_odd", 11),  # integers of more than 4300 digits
    ("annotated", "ranks_odd", 0),  # rank 2**62 - 1 fits no frame
    ("alexnet", "time_stands_still", 2),  # waits for records that come later: a circle
    ("alexnet", "events_twice_later", 18),
    ("one-stream", "correlations_shuffled", 4),
    ("vgg13", "synchronizations_everywhere", 118),  # the device worked on for 30 ms: host late by that
    ("dlrm", "argument_missing", 4),  # an event wait of -0.5 ms on the critical path
)  # fmt: skip
"""Cases that once ended badly, one or two of each kind."""


@pytest.fixture(autouse=True)
def _errors_as_users_see_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LUMOS_TRACEBACK", raising=False)


def present(source: Source) -> list[Any]:
    """All documents of a source; skips the test where its files are absent."""
    if source.absent:
        pytest.skip(source.absent)
    return documents(source)


def run(source: str, mutation: str, seed: int, folder: Path) -> str:
    """One case; its name and seed stand in what it fails with."""
    place = folder / f"{source}-{seed}"
    write(place, apply(mutation, present(BY_NAME[source]), seed))
    with watched():
        return go(place, folder / "timelines")


@pytest.mark.parametrize("source", BY_NAME)
def test_what_the_mutations_start_from_is_replayed(source: str, tmp_path: Path) -> None:
    write(tmp_path / "job", present(BY_NAME[source]))
    assert go(tmp_path / "job", tmp_path / "timelines") == "replayed"


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mutated_trace_ends_in_a_sane_result_or_one_line(mutation: str, tmp_path: Path) -> None:
    sources = [source for source in SOURCES if not source.absent]
    if not sources:
        pytest.skip(SOURCES[0].absent)
    first = list(MUTATIONS).index(mutation)
    bad = {}
    for case in range(CASES_A_MUTATION):
        source = sources[(first + 7 * case) % len(sources)].name
        try:
            run(source, mutation, case, tmp_path)
        except Exception as error:
            error.add_note(f"in run({source!r}, {mutation!r}, {case}, ...)")
            bad[source, case] = error
    if bad:
        raise ExceptionGroup(f"{len(bad)} of {CASES_A_MUTATION} cases", list(bad.values()))


@pytest.mark.parametrize(("source", "mutation", "seed"), FOUND)
def test_what_once_ended_badly_ends_well(
    source: str, mutation: str, seed: int, tmp_path: Path
) -> None:
    run(source, mutation, seed, tmp_path)


@pytest.mark.parametrize(
    ("source", "mutation", "seed", "code"),
    [
        ("doc-resolved", "only_the_device", 1, 3),
        ("dlrm-2", "ranks_twice", 1, 3),
        ("dlrm", "events_missing", 1, 0),
        ("alexnet", "odd_times_each", 3, 0),
        ("gloo-dp2", "world_sizes_disagree", 2, 3),
        ("triton", "arguments_nested", 1, 0),
    ],
)
def test_the_command_ends_with_one_object_or_one_line(
    source: str,
    mutation: str,
    seed: int,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(tmp_path / "job", apply(mutation, present(BY_NAME[source]), seed))
    cli = Cli(monkeypatch, capsys)
    with watched():
        ended = cli("replay", tmp_path / "job", "--json", "--whole", "-o", tmp_path / "out")
    assert ended.code == code
    if code:
        assert ended.out == ""
        assert ended.err.count("\n") == 1
        assert str(tmp_path / "job") in ended.err
    else:
        assert ended.err == ""
        assert json.loads(ended.out)["schema"] == "lumos.replay/1"


def test_nonsense_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks can fail: a replay whose times were negated does not pass."""
    from lumos import predict

    write(tmp_path / "job", present(BY_NAME["alexnet"]))
    whole = predict._replay

    def negated(*arguments: Any) -> predict.Replay:
        from dataclasses import replace

        done = whole(*arguments)
        return replace(done, figures=replace(done.figures, replayed_ns=-done.figures.replayed_ns))

    monkeypatch.setattr(predict, "_replay", negated)
    with pytest.raises(Nonsense):
        go(tmp_path / "job", tmp_path / "timelines")
