"""Work of device tasks, read from operators' names and shapes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from lumos.build import build
from lumos.build.inputs import read_shapes
from lumos.build.work import read_gemm
from lumos.graph.job import NONE
from lumos.graph.work import Gemm, Phase, WorkKind
from lumos.ingest import read

DATA = Path(__file__).parents[3] / "shared" / "data" / "kineto"
RECORDINGS = Path(__file__).parents[2] / "recordings"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="the real traces are not here")


@pytest.mark.parametrize(
    ("operator", "shapes", "expected"),
    [
        ("aten::mm", ((4, 8), (8, 3)), Gemm(1, 4, 3, 8)),
        ("aten::addmm", ((3,), (4, 8), (8, 3), (), ()), Gemm(1, 4, 3, 8)),
        ("aten::bmm", ((2, 4, 8), (2, 8, 3)), Gemm(2, 4, 3, 8)),
        ("aten::baddbmm", ((2, 4, 3), (2, 4, 8), (2, 8, 3)), Gemm(2, 4, 3, 8)),
        ("aten::linear", ((2, 4, 8), (3, 8), (3,)), Gemm(1, 8, 3, 8)),
        ("aten::matmul", ((2, 5, 4, 8), (2, 5, 8, 3)), Gemm(10, 4, 3, 8)),
        ("aten::mm", ((4, 8), (7, 3)), None),
        ("aten::mm", ((4, 8),), None),
        ("aten::relu", ((4, 8), (8, 3)), None),
    ],
)
def test_a_matrix_product_is_read_from_its_operator_and_shapes(
    operator: str, shapes: tuple[tuple[int, ...], ...], expected: Gemm | None
) -> None:
    assert read_gemm(operator, shapes) == expected


def test_flops_of_a_product_count_multiplications_and_additions() -> None:
    assert Gemm(2, 3, 5, 7).flops == 2 * 2 * 3 * 5 * 7


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[[2, 3], [], 4]", ((2, 3), (), ())),
        ("", ()),
        ("[[2, 3", ()),
        ('{"a": 1}', ()),
        ("[[[1, 2], [3]], [5]]", ((), (5,))),
    ],
)
def test_odd_shapes_are_no_shapes(text: str, expected: tuple[tuple[int, ...], ...]) -> None:
    assert read_shapes(text) == expected


@needs_data
def test_every_device_task_of_a_real_step_has_work() -> None:
    job, _ = build(read(DATA / "recsys-8xA100", cache=False))
    program = job.programs[0]
    rows = program.rows
    device = rows.launch != NONE
    assert (rows.work[device] != NONE).all()
    assert (rows.work[~device] == NONE).all()
    kinds = Counter(program.works[number].kind for number in rows.work[device])
    assert kinds[WorkKind.GEMM] > 1000
    assert kinds[WorkKind.COLLECTIVE] == 60
    copies = [w for w in program.works if w.kind == WorkKind.COPY]
    assert all(work.bytes is not None for work in copies)
    gemm_names = {
        program.names[name]
        for name, number in zip(rows.name[device], rows.work[device], strict=True)
        if program.works[number].kind == WorkKind.GEMM
    }
    assert any("gemm" in name or "cutlass" in name for name in gemm_names)


def test_phases_layers_and_micro_batches_of_annotated_recordings() -> None:
    """The bundled GPT marks layers and micro-batches; its backward carries sequence numbers."""
    job, _ = build(read(RECORDINGS / "gpt-pp2", cache=False))
    for stage, program in enumerate(job.programs):
        rows = program.rows
        layers = set(rows.layer[rows.layer != NONE].tolist())
        assert layers == ({0, 1} if stage == 0 else {2, 3})
        assert set(rows.micro_batch[rows.micro_batch != NONE].tolist()) == {0, 1, 2, 3}
        for phase in (Phase.FORWARD, Phase.BACKWARD):
            mine = rows.phase == phase
            counts = Counter(rows.layer[mine & (rows.layer != NONE)].tolist())
            assert set(counts) == layers, "both phases of every layer"
            assert max(counts.values()) == min(counts.values()), "all layers do the same"
        assert (rows.phase == Phase.OPTIMIZER).any()


@needs_data
def test_a_span_goes_on_behind_the_spans_inside_it() -> None:
    """`## forward ##` holds `DistributedDataParallel.forward` and goes on when that has ended."""
    job, _ = build(read(DATA / "dlrm-8xV100" / "worker0.pt.trace.json.gz", cache=False))
    program = job.programs[0]
    rows = program.rows
    launches = rows.launch != NONE
    forward = launches & (rows.phase == Phase.FORWARD)
    assert forward.sum() == 67, "31 of them inside the inner annotations alone"
