"""The catalogue of hardware: found by the names that traces write, every figure with its source."""

from __future__ import annotations

from pathlib import Path

import pytest

from lumos.catalog.hardware import CATALOG, Precision, find_hardware
from lumos.ingest import read

DATA = Path(__file__).parents[3] / "shared" / "data" / "kineto"
UNKNOWN = {"", "AMD Radeon Graphics", "NVIDIA H100", "Quadro GP100"}
"""Names in the real traces that stand for no one model of the catalogue."""


def test_a_gpu_is_found_by_its_name_whatever_the_case_and_no_other_is() -> None:
    hopper = find_hardware("NVIDIA H100 80GB HBM3")
    assert hopper is not None
    assert hopper.name == "H100 SXM"
    assert find_hardware("  nvidia h100  80gb hbm3 ") is hopper
    assert find_hardware("NVIDIA H100 80GB") is None
    assert find_hardware("") is None


def test_names_are_of_one_model_each() -> None:
    names = [name.lower() for one in CATALOG for name in one.names]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("one", CATALOG, ids=lambda one: one.name)
def test_every_figure_has_a_source_and_is_no_peak_with_sparsity(one) -> None:  # type: ignore[no-untyped-def]
    fields = {"matrix_flops_per_s", "vector_flops_per_s", "memory_bytes_per_s", "memory_bytes"}
    assert fields <= set(one.sources)
    assert all(source.url.startswith("https://") for source in one.sources.values())
    assert all(source.document and source.date for source in one.sources.values())
    half = one.matrix_flops_per_s[Precision.FLOAT16]
    assert one.matrix_flops_per_s.get(Precision.BFLOAT16, half) == half
    assert one.matrix_flops_per_s.get(Precision.FLOAT8, 2 * half) == pytest.approx(
        2 * half, rel=1e-2
    )
    assert one.vector_flops_per_s[Precision.FLOAT32] < half


def test_float32_products_count_as_tf32_only_where_the_gpu_has_it() -> None:
    ampere, volta = find_hardware("A100-SXM4-80GB"), find_hardware("Tesla V100-SXM2-16GB")
    assert ampere is not None
    assert volta is not None
    assert ampere.matrix_peak(Precision.FLOAT32) == 156e12
    assert volta.matrix_peak(Precision.FLOAT32) == volta.vector_peak(Precision.FLOAT32) == 15.7e12
    assert volta.matrix_peak(Precision.BFLOAT16) is None


@pytest.mark.skipif(not DATA.exists(), reason="the real traces are not here")
def test_every_gpu_of_the_real_traces_is_listed_or_known_to_be_unknown() -> None:
    files = [
        f for f in sorted(DATA.rglob("*.json.gz")) if "worker" not in f.name or "worker0" in f.name
    ]
    gpus = {trace.gpu for file in files for trace in read(file)}
    assert {gpu for gpu in gpus if find_hardware(gpu) is None} == UNKNOWN
    assert len(gpus - UNKNOWN) >= 8
