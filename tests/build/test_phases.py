"""Phases of scripts without annotations: what autograd and torch's own spans tell, and no more."""

from __future__ import annotations

from lumos.graph.job import NONE
from lumos.graph.work import Phase
from tests.build.drawn_trace import DrawnTrace

FORWARD, BACKWARD, OPTIMIZER, UNKNOWN = (
    int(phase) for phase in (Phase.FORWARD, Phase.BACKWARD, Phase.OPTIMIZER, Phase.UNKNOWN)
)
ENGINE = 9
"""The thread of autograd's engine; 8 is the thread that trains."""


class Training(DrawnTrace):
    """A trace that is written operator by operator, 100 us apart."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0

    def forward(self, name: str, number: int | None = None, thread: int = 8) -> Training:
        """An operator of 50 us, with its sequence number if it has one."""
        self.now += 100
        marks = {} if number is None else {"Sequence number": number, "Fwd thread id": 0}
        self.op(name, self.now, self.now + 50, thread, **marks)
        return self

    def backward(self, name: str, number: int, thread: int = ENGINE, of: int = 1) -> Training:
        """What autograd's engine evaluates, as it is written: an operator inside another."""
        self.now += 100
        marks = {"Sequence number": number, "Fwd thread id": of}
        engine = f"autograd::engine::evaluate_function: {name}"
        self.op(engine, self.now, self.now + 50, thread, **marks)
        self.op(name, self.now + 10, self.now + 40, thread, **marks)
        return self

    def span(self, name: str, operator: str) -> Training:
        """An annotation around one operator."""
        self.forward(operator)
        self.annotation(name, self.now - 5, self.now + 55)
        return self

    def phases(self) -> dict[str, list[int]]:
        """The phase of each row by name, in order."""
        program = self.build().program()
        found: dict[str, list[int]] = {}
        for name, phase in zip(program.rows.name, program.rows.phase, strict=True):
            found.setdefault(program.names[name], []).append(int(phase))
        return found


def test_forward_are_operators_that_something_backward_belongs_to() -> None:
    """
    main   | to 5 | embedding 5 | relu 6 | item 7 |
    engine                                        | ReluBackward 6 | EmbeddingBackward 5 |

    The last one to bear a number made its node: `to` only came before.
    """
    drawn = Training().forward("to", 5).forward("embedding", 5).forward("relu", 6)
    drawn.forward("item", 7).backward("ReluBackward0", 6).backward("EmbeddingBackward0", 5)
    found = drawn.phases()
    assert found["to"] == found["item"] == [UNKNOWN]
    assert found["embedding"] == found["relu"] == [FORWARD]
    assert set(found["ReluBackward0"] + found["EmbeddingBackward0"]) == {BACKWARD}


def test_what_is_around_and_inside_an_operator_with_a_node_is_forward_too() -> None:
    """
    main | wrapper | linear 5 .......... |
                   |  t 5  | addmm 6     |
                           |  copy |  kernel
    """
    drawn = Training()
    marks = {"Fwd thread id": 0}
    drawn.op("wrapper", 50, 600)
    drawn.op("linear", 100, 500, **{"Sequence number": 5}, **marks)
    drawn.op("t", 150, 200, **{"Sequence number": 5}, **marks)
    drawn.op("addmm", 250, 400, **{"Sequence number": 6}, **marks).op("copy", 300, 350)
    drawn.kernel("gemm", 400, 450, call=(310, 320))
    drawn.now = 600
    found = drawn.backward("AddmmBackward0", 6).backward("TBackward0", 5).phases()
    for name in ("linear", "t", "addmm", "copy", "cudaLaunchKernel", "gemm"):
        assert set(found[name]) == {FORWARD}, name
    assert set(found["wrapper"]) == {UNKNOWN}


def test_operators_and_pauses_without_gradients_inside_a_pass_are_of_the_pass() -> None:
    drawn = Training().forward("randint").forward("embedding", 5).forward("eq").forward("mul", 6)
    drawn.forward("ones_like").backward("MulBackward0", 6, 8)
    drawn.forward("hook").backward("EmbeddingBackward0", 5, 8).forward("clip")
    found = drawn.phases()
    assert found["eq"] == [FORWARD]
    assert found["hook"] == [BACKWARD]
    assert found["randint"] == found["ones_like"] == found["clip"] == [UNKNOWN]
    assert found["(gap)"] == [
        UNKNOWN, FORWARD, FORWARD, UNKNOWN, UNKNOWN, BACKWARD, BACKWARD, UNKNOWN,
    ]  # fmt: skip


def test_what_lies_between_the_passes_of_micro_batches_is_unknown() -> None:
    """forward, backward, forward, backward: on two threads, the engine's pauses are no backward."""
    drawn = Training().forward("mul", 5).backward("MulBackward0", 5).forward("load")
    drawn.forward("add", 6).backward("AddBackward0", 6)
    found = drawn.phases()
    assert found["load"] == [UNKNOWN]
    assert found["mul"] == found["add"] == [FORWARD]
    assert set(found["(gap)"]) == {UNKNOWN}


def test_messages_of_pipelines_lie_between_passes() -> None:
    drawn = Training().forward("mul", 5).forward("c10d::send").forward("eq").forward("add", 6)
    found = drawn.backward("AddBackward0", 6).backward("MulBackward0", 5).phases()
    assert found["c10d::send"] == found["eq"] == [UNKNOWN]
    assert found["mul"] == found["add"] == [FORWARD]


def test_activations_that_are_computed_again_are_backward() -> None:
    """The engine runs operators of the forward again, with numbers of its own thread."""
    drawn = Training().forward("checkpoint", 5)
    drawn.op("autograd::engine::evaluate_function: CheckpointBackward", 200, 900, ENGINE,
             **{"Sequence number": 5, "Fwd thread id": 1})  # fmt: skip
    drawn.op("again", 300, 400, ENGINE, **{"Sequence number": 0, "Fwd thread id": 0})
    drawn.op("autograd::engine::evaluate_function: AgainBackward", 500, 600, ENGINE,
             **{"Sequence number": 0, "Fwd thread id": 2})  # fmt: skip
    found = drawn.phases()
    assert found["checkpoint"] == [FORWARD]
    assert found["again"] == [BACKWARD]


def test_a_number_counts_on_the_thread_that_backward_names() -> None:
    """Another thread has numbers, too: the one that bears more of those that are wanted is meant."""
    drawn = Training().forward("mul", 5).forward("add", 6).forward("pin", 5, thread=11)
    found = drawn.backward("AddBackward0", 6).backward("MulBackward0", 5).phases()
    assert found["mul"] == found["add"] == [FORWARD]
    assert found["pin"] == [UNKNOWN]


def test_traces_of_old_pytorch_name_no_engine() -> None:
    marks = {"Sequence number": 5, "Fwd thread id": 1}
    drawn = Training().forward("mul", 5)
    found = drawn.op("MulBackward0", 200, 300, ENGINE, **marks).phases()
    assert (found["mul"], found["MulBackward0"]) == ([FORWARD], [BACKWARD])


def test_without_backward_or_numbers_nothing_is_forward() -> None:
    inference = Training().forward("linear", 5).forward("softmax", 6).phases()
    assert {*inference["linear"], *inference["softmax"]} == {UNKNOWN}
    unnumbered = Training().backward("MulBackward0", NONE, 8).forward("mul")
    found = unnumbered.backward("AddBackward0", NONE, 8).phases()
    assert found["mul"] == [UNKNOWN], "it may be the forward of the next micro-batch"


def test_the_spans_of_torchs_optimizers_are_the_optimizers() -> None:
    drawn = Training().span("Optimizer.zero_grad#SGD.zero_grad", "zero_").forward("mul", 5)
    drawn.backward("MulBackward0", 5).span("Optimizer.step#SGD.step", "add_").forward("item")
    found = drawn.phases()
    assert found["zero_"] == found["add_"] == [OPTIMIZER]
    assert found["item"] == [UNKNOWN]


def test_the_passes_of_a_closure_are_no_optimizer() -> None:
    drawn = Training().forward("mul", 5).backward("MulBackward0", 5, 8).forward("add_")
    drawn.annotation("Optimizer.step#LBFGS.step", 0, drawn.now + 60)
    found = drawn.phases()
    assert (found["mul"], found["add_"]) == ([FORWARD], [OPTIMIZER])
    assert set(found["MulBackward0"]) == {BACKWARD}


def test_two_steps_of_an_optimizer_leave_what_is_between_unknown() -> None:
    drawn = Training().span("Optimizer.step#SGD.step", "add_").forward("evaluate")
    found = drawn.span("Optimizer.zero_grad#SGD.zero_grad", "zero_").phases()
    assert found["evaluate"] == [UNKNOWN]
    assert set(found["(gap)"]) == {UNKNOWN}


def test_what_users_annotate_has_the_last_word_but_for_the_engine() -> None:
    drawn = Training().forward("mul", 5).span("## optimizer ##", "add_").forward("add", 6)
    drawn.annotation("backward", drawn.now - 5, drawn.now + 155)
    found = drawn.backward("AddBackward0", 6, 8).backward("MulBackward0", 5, 8).phases()
    assert (found["mul"], found["add_"], found["add"]) == ([FORWARD], [OPTIMIZER], [BACKWARD])
    called = Training().forward("mul", 5).backward("MulBackward0", 5, 8)
    called.annotation("forward", 0, called.now + 60)
    assert set(called.phases()["MulBackward0"]) == {BACKWARD}


def test_pauses_inside_one_annotation_are_of_its_phase() -> None:
    drawn = Training().forward("a").forward("b").forward("c")
    drawn.annotation("forward", 50, 280)
    found = drawn.phases()
    assert (found["a"], found["b"], found["c"]) == ([FORWARD], [FORWARD], [UNKNOWN])
    assert found["(gap)"] == [UNKNOWN, FORWARD, UNKNOWN]


def test_the_wrappers_of_torch_tell_their_passes() -> None:
    drawn = Training().span("FSDP::root_pre_forward", "gather")
    drawn.span("FSDP::post_backward_reduce (layers.0)", "scatter")
    found = drawn.span("DistributedDataParallel.forward", "linear").phases()
    assert (found["gather"], found["scatter"], found["linear"]) == (
        [FORWARD], [BACKWARD], [FORWARD],
    )  # fmt: skip
