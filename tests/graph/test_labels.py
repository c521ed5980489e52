"""Rows are counted under the same names everywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import lumos
from lumos.graph.job import NONE, CollectiveKind, TaskKind
from lumos.graph.labels import HOST, OTHER_WORK, By, labels
from tests.drawing import Drawing

RECORDINGS = Path(__file__).parents[2] / "recordings"


def of(program, by):
    """The label of each row as text."""
    found = labels(program, by)
    return [None if number == NONE else found.texts[number] for number in found.number]


def test_beside_a_gpu_host_rows_are_one_class_and_device_rows_go_by_their_kind():
    drawing = Drawing()
    group = drawing.group("all", 0)
    rank = drawing.rank()
    main, s1, s2 = rank.thread("main"), rank.stream(1), rank.stream(2)
    main.work("aten::mm", 5)
    main.launch(s1, "sgemm", 10)
    main.launch(s1, "Memcpy", 3, kind=TaskKind.COPY)
    main.collective(s2, "nccl", 7, group, CollectiveKind.ALL_GATHER)
    program = drawing.program()
    assert of(program, By.CLASS) == [HOST, HOST, OTHER_WORK, HOST, "copy", HOST, "all_gather"]
    assert of(program, By.STREAM) == [
        "main", "main", "stream 1", "main", "stream 1", "main", "stream 2",
    ]  # fmt: skip
    assert of(program, By.KERNEL)[2] == "sgemm"
    assert of(program, By.LAYER) == of(program, By.PHASE) == [None] * 7


def test_where_the_host_computes_its_operators_are_in_the_classes_of_their_families():
    drawing = Drawing()
    rank = drawing.rank()
    main = rank.thread()
    main.work("aten::mm", 5)
    main.work("aten::layer_norm", 5)
    main.gap(3)
    assert of(drawing.program(), By.CLASS) == ["gemm", "normalization", HOST]


def test_equal_names_share_one_label():
    drawing = Drawing()
    first, second = drawing.group("first", 0), drawing.group("second", 0)
    rank = drawing.rank()
    main, s1 = rank.thread(), rank.stream(1)
    main.launch(s1, "kernel", 1)
    main.collective(s1, "a", 7, first)
    main.collective(s1, "b", 7, second)
    found = labels(drawing.program(), By.CLASS)
    assert found.texts == (HOST, OTHER_WORK, "all_reduce")
    assert found.rows_of("all_reduce").sum() == 2
    assert not found.rows_of("broadcast").any()


@pytest.mark.parametrize("by", By)
def test_every_row_of_a_recorded_job_has_a_label_or_none(by):
    for program in lumos.load(RECORDINGS / "gpt-dp2-tp2").job.programs:
        found = labels(program, by)
        assert len(found.number) == len(program.rows)
        assert len(set(found.texts)) == len(found.texts)
        counts = np.bincount(found.number[found.number != NONE], minlength=len(found.texts))
        assert (counts > 0).all()
        if by not in (By.LAYER, By.PHASE):
            assert (found.number != NONE).all()
