"""capture.json has one form: the schema in the package, the recorder and the reader agree on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec
import pytest

from lumos.capture import sidecar
from lumos.ingest.capture_file import SCHEMA, CaptureFile, read_capture
from tests.capture.torch_jobs import capture_schema

COMMITTED = sorted((Path(__file__).parents[2] / "validation").glob("**/capture.json"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.parent.name)
def test_every_recording_of_the_project_keeps_to_the_schema_and_is_read(path: Path) -> None:
    document = json.loads(path.read_text("utf-8"))
    capture_schema().validate(document)
    assert sidecar.read(path.parent) == document
    read = read_capture(path)
    assert (read.world_size, len(read.ranks)) == (document["world_size"], len(document["ranks"]))
    for entry, told in zip(read.ranks, document["ranks"], strict=True):
        assert msgspec.to_builtins(entry)["unprofiled"].items() <= told["unprofiled"].items()
        assert list(entry.contradictions()) == []


def test_there_are_recordings_to_check() -> None:
    assert len(COMMITTED) > 20


def test_the_schema_refuses_what_it_does_not_know_and_what_lacks_a_part() -> None:
    document = json.loads(COMMITTED[0].read_text("utf-8"))
    rank = document["ranks"][0]
    for wrong in (
        {**document, "surprise": 1},
        {**document, "schema": "lumos.capture/2"},
        {**document, "ranks": [{**rank, "status": "perhaps"}]},
        {**document, "ranks": [{**rank, "unprofiled": {**rank["unprofiled"], "clock": "wall"}}]},
        *({k: v for k, v in document.items() if k != left_out} for left_out in document),
        *(
            {**document, "ranks": [{k: v for k, v in rank.items() if k != left_out}]}
            for left_out in rank
        ),
    ):
        assert not capture_schema().is_valid(wrong)


def test_the_reader_takes_the_form_that_the_recorder_writes() -> None:
    assert sidecar.SCHEMA == SCHEMA == capture_schema().schema["properties"]["schema"]["const"]


def required_in(schema: dict[str, Any]) -> set[str]:
    return set(schema["required"])


def fields_of(struct: type) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(struct)}


def test_every_field_that_the_reader_takes_is_one_that_the_schema_requires() -> None:
    schema = capture_schema().schema
    rank = next(iter(get_args(get_type_hints(CaptureFile)["ranks"])))
    times = next(one for one in get_args(get_type_hints(rank)["unprofiled"]) if one is not None)
    assert fields_of(CaptureFile) <= required_in(schema)
    assert fields_of(rank) == required_in(schema["$defs"]["rank"])
    assert fields_of(times) <= required_in(schema["$defs"]["times"])
