"""What `--json` prints keeps to the schemas in the package, on every kind of trace."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.cli.conftest import DATA, RECORDINGS, small_trace, write
from tests.cli.run import Cli

TRACES = (
    "resnet-ddp-2xA100",
    "dlrm-8xV100",
    "linear-RTX2080Ti",
    "vgg13-H100",
    "recsys-8xA100",
    "resnet50-V100-13streams",
    "amd/resnet18-ddp-MI300X.json.gz",
    "event-sync/alexnet.json.gz",
    "inference/qwen1.5-0.5b-H100.json.gz",
    "inference/vllm-eager-B200-rank0-of-8.json.gz",
    "odd/gpu-user-annotation.json.gz",
    "odd/rank-missing.json.gz",
    "odd/triton.json.gz",
)
BUNDLED = ("gpt-dp2", "gpt-tp2", "gpt-pp2", "gpt-dp2-tp2")


def validator(name: str) -> Draft202012Validator:
    schema = json.loads(files("lumos.schemas").joinpath(f"{name}-1.json").read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def strict(text: str) -> Any:
    """One JSON object; NaN and the infinities are none."""

    def refuse(word: str) -> None:
        pytest.fail(f"{word} in the document")

    return json.loads(text, parse_constant=refuse)


def check(cli: Cli, verb: str, *arguments: Any) -> dict[str, Any]:
    code, out, err = cli(verb, "--json", *arguments)
    assert (code, err) == (0, "")
    document = strict(out)
    validator(verb).validate(document)
    assert isinstance(document, dict)
    return document


def sources() -> list[Any]:
    bundled = [pytest.param(RECORDINGS / name, id=name) for name in BUNDLED]
    skip = pytest.mark.skipif(
        not DATA.is_dir(), reason=f"{DATA} is absent: no real GPU traces here"
    )
    return bundled + [pytest.param(DATA / name, id=name, marks=skip) for name in TRACES]


@pytest.mark.parametrize("path", sources())
def test_documents_keep_to_their_schemas(cli: Cli, path: Path) -> None:
    inspected = check(cli, "inspect", path)
    replayed = check(cli, "replay", path)
    assert inspected["job"]["ranks"] == replayed["job"]["ranks"]
    assert [s["step"] for s in inspected["ranks"][0]["steps"]] == [
        s["step"] for s in replayed["steps"]
    ]


@pytest.mark.parametrize("path", sources()[:1] + sources()[4:6])
def test_documents_with_all_options_keep_to_their_schemas(cli: Cli, path: Path) -> None:
    first = check(cli, "replay", path)["steps"][0]["step"]
    check(cli, "replay", path, "--from-step", first, "--drop", "launch")
    assert check(cli, "replay", path, "--whole")["steps"][0]["step"] == "whole"


def test_the_breakdown_adds_up_to_the_span(cli: Cli) -> None:
    for step in check(cli, "replay", RECORDINGS / "gpt-dp2")["steps"]:
        for rank in step["ranks"]:
            for run in ("measured", "replayed"):
                parts = rank["breakdown_ms"][run].values()
                assert sum(parts) == pytest.approx(rank[f"{run}_ms"], abs=1e-5)


def test_a_schema_refuses_what_it_does_not_know(cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path / "rank0.json", small_trace())
    for verb in ("replay", "inspect"):
        document = check(cli, verb, path)
        assert not validator(verb).is_valid({**document, "surprise": 1})
        assert not validator(verb).is_valid({k: v for k, v in document.items() if k != "job"})


def test_every_property_of_the_schemas_is_described() -> None:
    def walk(schema: Any, place: str) -> None:
        if isinstance(schema, dict):
            for name, inner in schema.get("properties", {}).items():
                told = (
                    "description" in inner or "const" in inner or "enum" in inner or "$ref" in inner
                )
                assert told, f"{place}/{name}"
            for key, inner in schema.items():
                walk(inner, f"{place}/{key}")

    for file in files("lumos.schemas").iterdir():
        if file.name.endswith("-1.json"):
            verb = file.name.removesuffix("-1.json")
            walk(validator(verb).schema, verb)
