"""Operations and bytes of operators, against counting by hand and by slow loops."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lumos.build.work import read_gemm
from lumos.catalog.hardware import Precision
from lumos.estimate.counts import count, flops, moved_bytes
from lumos.graph.work import Work, WorkKind, kind_of_operator

Shapes = tuple[tuple[int, ...], ...]


def work(
    operator: str,
    shapes: Shapes,
    dtypes: str | tuple[str, ...] = "float",
    values: tuple[str, ...] = (),
) -> Work:
    """A piece of work; one type is that of all inputs with a shape."""
    if isinstance(dtypes, str):
        dtypes = tuple(dtypes if shape else "Scalar" for shape in shapes)
    gemm = read_gemm(operator, shapes)
    return Work(kind_of_operator(operator), operator, shapes, dtypes, gemm, None, values)


@pytest.mark.parametrize(
    ("operator", "shapes", "dtype", "operations", "moved"),
    [
        # products of matrices
        ("aten::mm", ((4, 8), (8, 3)), "float", 2 * 4 * 8 * 3, 4 * (32 + 24 + 12)),
        ("aten::mm", ((4, 8), (8, 3), (4, 3)), "float", 2 * 4 * 8 * 3, 4 * (32 + 24 + 12)),
        ("aten::addmm", ((3,), (4, 8), (8, 3)), "c10::Half", 192, 2 * (32 + 24 + 12)),
        ("aten::bmm", ((5, 4, 8), (5, 8, 3)), "c10::BFloat16", 5 * 192, 2 * 5 * 68),
        ("aten::linear", ((2, 4, 8), (3, 8), (3,)), "float", 2 * 192, 4 * (64 + 24 + 24)),
        ("aten::mv", ((4, 8), (8,)), "float", 64, 4 * 40),
        # element by element
        ("aten::add", ((4, 8), (4, 8), ()), "float", 32, 4 * 96),
        ("aten::add_", ((4, 8), (4, 8), ()), "float", 32, 4 * 96),
        ("aten::add", ((4, 8), (8,), ()), "float", 32, 4 * (32 + 8 + 32)),
        ("aten::add", ((4, 1), (1, 8), ()), "float", 32, 4 * (4 + 8 + 32)),
        ("aten::mul", ((4, 8), (), (4, 8)), "float", 32, 4 * 64),  # the third is the output
        ("aten::mul", ((4, 8), (4, 8)), "long", 0, 8 * 96),
        ("aten::eq", ((4, 8), (4, 8)), "float", 0, 4 * 64 + 32),
        ("aten::fill_", ((4, 8), ()), "float", 0, 4 * 32),
        ("aten::addcmul_", ((4, 8), (4, 8), (4, 8), ()), "float", 96, 4 * 128),
        # reductions and normalisations
        ("aten::sum", ((4, 8), ()), "float", 32, 4 * 32),
        ("aten::_softmax", ((4, 8), (), ()), "float", 160, 4 * 64),
        ("aten::native_layer_norm", ((4, 8), (), (8,), (8,), ()), "float", 160, 4 * (32 + 16 + 32)),
        # tables
        ("aten::embedding_dense_backward", ((4, 8), ()), "float", 32, 4 * 32),
    ],
)
def test_operations_and_bytes_are_those_of_the_definition(
    operator: str, shapes: Shapes, dtype: str, operations: int, moved: int
) -> None:
    one = work(operator, shapes, dtype)
    assert (flops(one), moved_bytes(one)) == (operations, moved)


def test_a_copy_between_types_reads_the_one_and_writes_the_other() -> None:
    one = work("aten::copy_", ((4, 8), (4, 8), ()), ("c10::Half", "float", "Scalar"))
    assert (flops(one), moved_bytes(one)) == (0, 32 * 2 + 32 * 4)


def test_an_embedding_reads_its_indices_and_writes_a_row_for_each() -> None:
    one = work("aten::embedding", ((1000, 8), (3,)), ("float", "long int"))
    assert moved_bytes(one) == 3 * 8 + 3 * 8 * 4


def test_copies_and_sets_of_the_device_move_what_they_say() -> None:
    assert moved_bytes(Work(WorkKind.COPY, "aten::copy_", bytes=4096)) == 4096
    assert moved_bytes(Work(WorkKind.SET, "", bytes=64)) == 64
    assert moved_bytes(Work(WorkKind.SET, "")) is None


@pytest.mark.parametrize(
    "one",
    [
        work("aten::_foreach_add_", ((), (), ()), ("TensorList", "TensorList", "Scalar")),
        work("aten::cat", ((), ()), ("TensorList", "Scalar")),
        work("aten::mm", ()),
        work("aten::add", ((4, 8), (5, 8), ())),  # shapes that do not fit
        work("aten::convolution_backward", ((2, 4, 5, 5),)),
        work("CompiledFunction", ((4, 8), (4, 8))),
        work("mine::add", ((4, 8), (4, 8))),
        Work(WorkKind.COLLECTIVE, "nccl:all_reduce", ((4,),), ("float",), None, 16),
        Work(WorkKind.OTHER, ""),
    ],
    ids=lambda one: one.operator or "no operator",
)
def test_what_the_trace_does_not_tell_is_unknown(one: Work) -> None:
    assert flops(one) is None
    assert moved_bytes(one) is None


def test_without_types_operations_are_known_and_bytes_are_not() -> None:
    one = work("aten::mm", ((4, 8), (8, 3)), ())
    assert (flops(one), moved_bytes(one), count(one).precision) == (192, None, None)


# Convolutions


def direct_convolution(
    batch: int, source: int, out: int, size: tuple[int, int], kernel: tuple[int, int],
    stride: int, padding: int, dilation: int, groups: int,
) -> tuple[int, int]:  # fmt: skip
    """Operations and output elements, counted one by one; weights outside the input count, too."""
    operations = outputs = 0
    reach = [dilation * (extent - 1) for extent in kernel]
    rows = range(-padding, size[0] + padding - reach[0], stride)
    columns = range(-padding, size[1] + padding - reach[1], stride)
    for _ in itertools.product(range(batch), range(out), rows, columns):
        outputs += 1
        for _ in itertools.product(range(source // groups), range(kernel[0]), range(kernel[1])):
            operations += 2
    return operations, outputs


convolutions = st.tuples(
    st.integers(1, 2), st.integers(1, 2), st.integers(1, 2), st.integers(1, 2),
    st.tuples(st.integers(5, 8), st.integers(5, 8)), st.tuples(st.integers(1, 3), st.integers(1, 2)),
    st.integers(1, 3), st.integers(0, 2), st.integers(1, 2),
)  # fmt: skip


@given(convolutions)
def test_a_convolution_takes_what_the_direct_method_takes(drawn) -> None:  # type: ignore[no-untyped-def]
    batch, groups, per_group, out_per_group, size, kernel, stride, padding, dilation = drawn
    source, out = groups * per_group, groups * out_per_group
    shapes = ((batch, source, *size), (out, per_group, *kernel))
    numbers = [f"[{n}, {n}]" for n in (padding, stride, dilation)]
    one = work(
        "aten::cudnn_convolution",
        (*shapes, (), (), (), ()),
        ("float", "float", "ScalarList", "ScalarList", "ScalarList", "Scalar"),
        ("", "", *numbers, str(groups)),
    )
    operations, outputs = direct_convolution(
        batch, source, out, size, kernel, stride, padding, dilation, groups
    )
    assert flops(one) == operations
    elements = (
        batch * source * size[0] * size[1] + out * per_group * kernel[0] * kernel[1] + outputs
    )
    assert moved_bytes(one) == 4 * elements


@pytest.mark.parametrize(
    ("mask", "gradients"), [("True, True", 2), ("False, True", 1), ("True, False", 1)]
)
def test_each_gradient_of_a_convolution_takes_as_much_as_the_convolution(
    mask: str, gradients: int
) -> None:
    shapes: Shapes = ((2, 6, 5, 5), (2, 3, 5, 5), (6, 3, 3, 3), *((),) * 8)
    values = (
        "",
        "",
        "",
        "[0]",
        "[1, 1]",
        "[1, 1]",
        "[1, 1]",
        "False",
        "[0, 0]",
        "1",
        f"[{mask}, True]",
    )
    dtypes = ("float",) * 3 + ("ScalarList",) * 8
    one = work("aten::convolution_backward", shapes, dtypes, values)
    forward = 2 * (2 * 6 * 5 * 5) * (3 * 3 * 3)
    assert flops(one) == gradients * forward
    assert moved_bytes(one) == 4 * (300 + gradients * (150 + 162))


def test_a_convolution_of_unknown_stride_has_unknown_operations_but_reads_its_inputs() -> None:
    one = work("aten::cudnn_convolution", ((2, 3, 5, 5), (6, 3, 3, 3), (), (), ()))
    assert flops(one) is None
    assert moved_bytes(one) == 4 * (150 + 162)


# Attention

FLASH = "aten::_scaled_dot_product_flash_attention"


def attention(
    operator: str, heads: int, queries: int, keys: int, causal: str, kv_heads: int | None = None
) -> Work:
    query, key = (2, heads, queries, 16), (2, kv_heads or heads, keys, 16)
    if operator == FLASH:
        return work(
            operator, (query, key, key, (), (), (), ()),
            (*("c10::Half",) * 3, *("Scalar",) * 4), ("", "", "", "0.", causal, "False", "0.25"),
        )  # fmt: skip
    shapes = (query, query, key, key, query, (2, heads, queries), *((),) * 8)
    dtypes = (*("c10::Half",) * 5, "float", "", "", *("Scalar",) * 4, "long", "long")
    return work(operator, shapes, dtypes, ("",) * 8 + ("64", "64", "0.", causal, "", ""))


def multiplied_pairs(queries: int, keys: int, *, causal: bool) -> int:
    return sum(1 for q in range(queries) for k in range(keys) if not causal or k <= q)


@given(st.integers(1, 3), st.integers(1, 20), st.booleans())
def test_attention_multiplies_the_pairs_that_its_mask_leaves(
    heads: int, length: int, causal: bool
) -> None:
    forward = attention(FLASH, heads, length, length, str(causal))
    backward = attention(FLASH + "_backward", heads, length, length, str(causal))
    pairs = 2 * heads * multiplied_pairs(length, length, causal=causal)
    assert flops(forward) == 2 * (2 * 16) * pairs
    assert flops(backward) == 5 * (2 * 16) * pairs


def test_shared_keys_save_bytes_and_no_operations() -> None:
    own, shared = (attention(FLASH, 4, 8, 8, "False", kv_heads=n) for n in (4, 1))
    assert flops(own) == flops(shared)
    assert moved_bytes(own) == 2 * 4 * (2 * 4 * 8 * 16)
    assert moved_bytes(shared) == 2 * 2 * (2 * 4 * 8 * 16) + 2 * 2 * (2 * 1 * 8 * 16)


def test_where_the_mask_is_not_told_the_operations_of_attention_are_unknown() -> None:
    one = attention(FLASH, 4, 8, 8, "")
    assert flops(one) is None
    assert moved_bytes(one) is not None
    assert flops(attention(FLASH, 4, 8, 16, "True")) is None  # which corner it starts from


@given(
    st.integers(1, 5),
    st.integers(1, 5),
    st.sampled_from(["aten::add", "aten::mm", "aten::_softmax"]),
)
def test_counts_grow_with_the_batch_as_the_work_does(batch: int, times: int, operator: str) -> None:
    def of(rows: int) -> Work:
        other = (8, 3) if operator == "aten::mm" else (rows, 8)
        return work(
            operator, ((rows, 8), other) if operator != "aten::_softmax" else ((rows, 8), ())
        )

    once, often = flops(of(batch)), flops(of(batch * times))
    assert once is not None
    assert often == times * once


def test_the_format_of_the_operations_is_that_of_the_operands() -> None:
    one = count(work("aten::mm", ((4, 8), (8, 3)), "c10::BFloat16"))
    assert (one.precision, one.matrix) == (Precision.BFLOAT16, True)
    other = count(work("aten::add", ((4,), (4,), ()), "double"))
    assert (other.precision, other.matrix) == (Precision.FLOAT64, False)
