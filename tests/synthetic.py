"""Jobs with known truth: programs written row by row, and a seeded generator of training steps.

The truth of a generated job is the job itself: its records and waits carry slots, its lags are
numbers of ours. What a profiler would have recorded of it is its simulated run, with noise, written
as a trace; what is read back must mean the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from lumos.graph.execution import ExecutionGraph, Rule
from lumos.graph.job import (
    NONE,
    Collective,
    CollectiveKind,
    Job,
    Lags,
    Placement,
    Processor,
    Program,
    Rows,
    StartingState,
    TaskKind,
)
from lumos.graph.timeline import Timeline
from lumos.lower import lower
from lumos.simulate import simulate
from lumos.units import NS_PER_US

ALL_REDUCE_KERNEL = (
    "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevComm*, unsigned long, ncclWork*)"
)
ALL_GATHER_KERNEL = "ncclDevKernel_AllGather_RING_LL(ncclDevComm*, unsigned long, ncclWork*)"


class ProgramBuilder:
    """A program written call by call, in host order; durations in ns."""

    def __init__(self) -> None:
        self._names: dict[str, int] = {}
        self._processors: list[Processor] = []
        self._blocks: list[str] = []
        self._collectives: list[Collective] = []
        self._columns: list[dict[str, int]] = []
        self._open: dict[int, list[tuple[str, int]]] = {}
        self._events = 0

    def thread(self, label: str) -> int:
        """A new host thread."""
        self._processors.append(Processor(is_stream=False, label=label))
        return len(self._processors) - 1

    def stream(self, number: int) -> int:
        """A new stream of device 0."""
        self._processors.append(Processor(True, f"stream {number}", 0, number))
        return len(self._processors) - 1

    def block(self, name: str) -> None:
        """Rows from here on belong to a new block."""
        self._blocks.append(name)

    @contextmanager
    def operator(self, thread: int, name: str) -> Iterator[None]:
        """What is added inside lies inside this operator."""
        self._open.setdefault(thread, []).append((name, self._event()))
        yield
        self._open[thread].pop()

    def work(self, thread: int, duration: int) -> None:
        """Own time of the operator that is open on `thread`."""
        name, event = self._open[thread][-1]
        self._add(TaskKind.OPERATOR, name, thread, duration, event=event)

    def pause(self, thread: int, duration: int, awaits: int = NONE, distance: int = 0) -> None:
        """Time between operators; it begins when `awaits` was signalled."""
        self._add(
            TaskKind.GAP, "(gap)", thread, duration, awaits=awaits, distance=distance, frozen=1
        )

    def signal(self, thread: int, slot: int) -> None:
        """The point for which another thread's pause waits."""
        self._add(TaskKind.SIGNAL, "(signal)", thread, 0, signal=slot)

    def call(self, thread: int, name: str, duration: int) -> None:
        """A runtime call that orders nothing."""
        self._add(TaskKind.CALL, name, thread, duration, event=self._event())

    def launch(
        self,
        thread: int,
        stream: int,
        name: str,
        duration: int,
        task_duration: int,
        kind: TaskKind = TaskKind.KERNEL,
        call: str = "cudaLaunchKernel",
        collective: CollectiveKind | None = None,
    ) -> int:
        """A launching call and its task; returns the row of the call."""
        at = self._add(TaskKind.LAUNCH, call, thread, duration, event=self._event())
        number = NONE
        if collective is not None:
            number = len(self._collectives)
            self._collectives.append(Collective(collective, NONE))
        self._add(
            kind, name, stream, task_duration, launch=at, collective=number, event=self._event()
        )
        return at

    def blocking_copy(self, thread: int, stream: int, duration: int, task_duration: int) -> None:
        """A copy to pageable memory: the call returns when the copy is done."""
        at = self.launch(
            thread, stream, "Memcpy DtoH (Device -> Pageable)", duration, task_duration,
            TaskKind.COPY, "cudaMemcpyAsync",
        )  # fmt: skip
        event = self._columns[at]["event"]
        self._add(
            TaskKind.SYNCHRONIZE, "cudaMemcpyAsync", thread, duration, stream=stream, event=event
        )

    def record(self, thread: int, stream: int, slot: int, duration: int) -> None:
        """cudaEventRecord on `stream`."""
        self._add(
            TaskKind.RECORD, "cudaEventRecord", thread, duration, stream=stream, signal=slot,
            event=self._event(),
        )  # fmt: skip

    def wait(self, thread: int, stream: int, slot: int, duration: int, distance: int = 0) -> None:
        """cudaStreamWaitEvent: `stream` waits for what `slot` recorded."""
        self._add(
            TaskKind.WAIT_EVENT, "cudaStreamWaitEvent", thread, duration, stream=stream,
            awaits=slot, distance=distance, event=self._event(),
        )  # fmt: skip

    def synchronize(self, thread: int, stream: int, duration: int) -> None:
        """cudaStreamSynchronize."""
        self._add(
            TaskKind.SYNCHRONIZE, "cudaStreamSynchronize", thread, duration, stream=stream,
            event=self._event(),
        )  # fmt: skip

    def program(self) -> Program:
        """What was written so far."""
        columns = {name: [row[name] for row in self._columns] for name in Rows.__dataclass_fields__}
        types = {
            "kind": np.uint8,
            "duration_ns": np.int64,
            "delay_ns": np.int64,
            "event": np.int64,
            "work_share": np.float32,
            "frozen": np.bool_,
        }
        rows = Rows(
            **{
                name: np.array(values, types.get(name, np.int32))
                for name, values in columns.items()
            }
        )
        return Program(
            rows, tuple(self._names), tuple(self._processors), tuple(self._blocks),
            tuple(self._collectives), self._start(rows),
        )  # fmt: skip

    def _start(self, rows: Rows) -> StartingState:
        """Idle processors; what is awaited from before the first block was done long ago."""
        early = (rows.awaits != NONE) & (rows.block - rows.distance < 0)
        slots = dict.fromkeys(rows.awaits[early].tolist(), 0)
        return StartingState(np.zeros(len(self._processors), np.int64), slots)

    def _event(self) -> int:
        self._events += 1
        return self._events - 1

    def _add(self, kind: TaskKind, name: str, processor: int, duration: int, **columns: int) -> int:
        row = dict.fromkeys(Rows.__dataclass_fields__, NONE)
        row.update(
            kind=kind, name=self._names.setdefault(name, len(self._names)), processor=processor,
            duration_ns=duration, delay_ns=0, distance=0, block=len(self._blocks) - 1, frozen=0, work_share=1,
        )  # fmt: skip
        row.update(columns)
        self._columns.append(row)
        return len(self._columns) - 1


def job_of(program: Program, lags: Lags | None = None, gpu: str = "Synthetic GPU") -> Job:
    """A job of one rank."""
    placement = Placement((0,), (0,), 1, (), gpu)
    return Job((program,), placement, lags if lags is not None else TRUE_LAGS)


TRUE_LAGS = Lags(
    launch={
        "cudaLaunchKernel|KERNEL": 6500,
        "cudaLaunchKernelExC|COLLECTIVE": 8000,
        "cudaMemcpyAsync|COPY": 7000,
        "cudaMemsetAsync|SET": 6000,
    },
    stream_order={"KERNEL": 1200, "COPY": 1500, "SET": 1000, "COLLECTIVE": 1500},
    event_wait=1500,
    synchronize={"cudaStreamSynchronize": 4000, "cudaMemcpyAsync": 9000},
    hand_off=20000,
)
_NOISE = {
    Rule.LAUNCH: 0.15,
    Rule.STREAM_ORDER: 0.2,
    Rule.EVENT_WAIT: 0.3,
    Rule.SYNCHRONIZE: 0.2,
    Rule.HAND_OFF: 0.3,
}
"""Spread of each lag around its value, as a share of it."""


def with_noise(graph: ExecutionGraph, seed: int) -> ExecutionGraph:
    """The graph with every single lag a little different from its rule's value."""
    random = np.random.default_rng(seed)
    spread = np.array([_NOISE.get(rule, 0.0) for rule in Rule])[graph.rule]
    factor = np.clip(random.normal(1.0, spread), 0.2, 2.5)
    return replace(graph, lag_ns=np.round(graph.lag_ns * factor).astype(np.int64))


@dataclass(frozen=True)
class Shape:
    """What a generated job does in a step; drawn from a seed."""

    layers: int
    steps: int
    kernel_us: float  # mean length of a compute kernel
    host_us: float  # mean own time of an operator
    gradient_buckets: int  # all-reduces in backward, awaited at its end
    gathers: bool  # parameters are gathered for each layer on a stream of their own
    prefetch: bool  # the batch of the next step is copied on a stream of its own
    side_stream: bool  # forward forks one branch to a second compute stream and joins it
    reads_loss: bool  # the step ends with loss.item(): a blocking copy and a synchronise
    communication_us: float

    @staticmethod
    def random(seed: int) -> Shape:
        """The shape of seed `seed`."""
        random = np.random.default_rng([seed, 1])
        return Shape(
            layers=int(random.integers(3, 9)),
            steps=int(random.integers(3, 6)),
            kernel_us=float(10 ** random.uniform(0.7, 2.2)),
            host_us=float(random.uniform(4, 15)),
            gradient_buckets=int(random.integers(0, 4)),
            gathers=bool(random.random() < 0.4),
            prefetch=bool(random.random() < 0.6),
            side_stream=bool(random.random() < 0.3),
            reads_loss=bool(random.random() < 0.5),
            communication_us=float(random.uniform(100, 1500)),
        )


def random_job(seed: int) -> tuple[Job, Timeline]:
    """A random training job of one rank and what a profiler saw of it."""
    job = job_of(_Steps(Shape.random(seed), seed).program())
    return job, simulate(with_noise(lower(job), seed))


class _Steps:
    """Writes the steps of a Shape: the same calls in each, with lengths that differ a little."""

    def __init__(self, shape: Shape, seed: int):
        self.shape = shape
        self.random = np.random.default_rng([seed, 2])
        self.build = ProgramBuilder()
        self.main = self.build.thread("thread 100 (python)")
        self.autograd = self.build.thread("thread 101 (pt_autograd_0)")
        self.compute = self.build.stream(7)
        self.side = self.build.stream(13)
        self.copies = self.build.stream(16)
        self.reduces = self.build.stream(20)
        self.gathers = self.build.stream(24)
        self.slots = 0
        self.waiting: list[int] = []
        layers = shape.layers
        # one length for each layer and kernel, so that steps resemble each other
        self.kernel_ns = self.random.lognormal(0, 0.6, (layers, 6)) * shape.kernel_us * NS_PER_US
        self.message_ns = (
            self.random.lognormal(0, 0.5, 2 * layers + 8) * shape.communication_us * NS_PER_US
        )

    def program(self) -> Program:
        for step in range(self.shape.steps):
            self.build.block(f"ProfilerStep#{step + 5}")
            self.slots = 0
            self._step()
        return self.build.program()

    def _host(self, factor: float = 1.0) -> int:
        value = self.shape.host_us * factor * NS_PER_US * self.random.lognormal(0, 0.25)
        return max(200, int(value))

    def _task(self, length_ns: float) -> int:
        return max(1000, int(length_ns * self.random.normal(1.0, 0.04)))

    def _slot(self) -> int:
        self.slots += 1
        return self.slots - 1

    def _step(self) -> None:
        build, main, shape = self.build, self.main, self.shape
        build.pause(main, self._host(20))
        prefetched = self._slot()
        if shape.prefetch:
            self._use_prefetched(prefetched)
        self._forward()
        self._backward()
        with (
            build.operator(main, "Optimizer.step#SGD.step"),
            build.operator(main, "aten::_foreach_add_"),
        ):
            build.work(main, self._host())
            for layer in range(shape.layers):
                build.launch(
                    main,
                    self.compute,
                    "multi_tensor_apply_kernel",
                    self._host(0.5),
                    self._task(self.kernel_ns[layer, 5] / 3),
                )
            build.work(main, self._host(0.3))
        if shape.reads_loss:
            build.pause(main, self._host(2))
            with (
                build.operator(main, "aten::item"),
                build.operator(main, "aten::_local_scalar_dense"),
            ):
                build.work(main, self._host())
                build.blocking_copy(main, self.compute, self._host(0.5), self._task(1500))
                build.synchronize(main, self.compute, self._host(0.3))
                build.work(main, self._host(0.3))
        build.pause(main, self._host(3))

    def _use_prefetched(self, slot: int) -> None:
        """Wait for the batch copied in the step before, then copy the next one."""
        build, main = self.build, self.main
        build.wait(main, self.compute, slot, self._host(0.2), distance=1)
        build.pause(main, self._host(2))
        with build.operator(main, "aten::copy_"):
            build.work(main, self._host())
            build.launch(
                main,
                self.copies,
                "Memcpy HtoD (Pinned -> Device)",
                self._host(0.7),
                self._task(self.message_ns[-1] * 1.5),
                TaskKind.COPY,
                "cudaMemcpyAsync",
            )
            build.work(main, self._host(0.2))
        build.record(main, self.copies, slot, self._host(0.2))
        build.pause(main, self._host(2))

    def _kernel(
        self, thread: int, operator: str, kernel: str, length_ns: float, stream: int | None = None
    ) -> None:
        build = self.build
        with build.operator(thread, f"aten::{operator}"):
            build.work(thread, self._host(0.4))
            with build.operator(thread, f"aten::{operator}_out"):
                build.work(thread, self._host(0.6))
                build.launch(
                    thread,
                    self.compute if stream is None else stream,
                    kernel,
                    self._host(0.5),
                    self._task(length_ns),
                )
                build.work(thread, self._host(0.2))
            build.work(thread, self._host(0.1))

    def _communicate(
        self,
        thread: int,
        operator: str,
        kernel: str,
        kind: CollectiveKind,
        stream: int,
        length_ns: float,
    ) -> int:
        """A collective as c10d issues it; returns the slot of its end."""
        build, before, done = self.build, self._slot(), self._slot()
        with build.operator(thread, f"c10d::{operator}_"):
            build.work(thread, self._host())
            with build.operator(thread, "record_param_comms"):
                build.work(thread, self._host(0.5))
                build.record(thread, self.compute, before, self._host(0.2))
                build.wait(thread, stream, before, self._host(0.2))
                build.work(thread, self._host(0.5))
                build.launch(
                    thread,
                    stream,
                    kernel,
                    self._host(0.7),
                    self._task(length_ns),
                    TaskKind.COLLECTIVE,
                    "cudaLaunchKernelExC",
                    kind,
                )
                build.record(thread, stream, done, self._host(0.2))
                build.work(thread, self._host(0.3))
            build.work(thread, self._host(0.2))
        return done

    def _gather(self, layer: int) -> int:
        return self._communicate(
            self.main, "_allgather_base", ALL_GATHER_KERNEL, CollectiveKind.ALL_GATHER,
            self.gathers, self.message_ns[self.shape.layers + layer] / 2,
        )  # fmt: skip

    def _forward(self) -> None:
        build, main, shape = self.build, self.main, self.shape
        gathered = self._gather(0) if shape.gathers else NONE
        for layer in range(shape.layers):
            if shape.gathers:
                ready = gathered
                if layer + 1 < shape.layers:
                    gathered = self._gather(layer + 1)  # in advance
                build.pause(main, self._host(0.5))
                build.wait(main, self.compute, ready, self._host(0.2))
            if shape.side_stream and layer == shape.layers // 2:
                self._branch(layer)
            self._kernel(main, "addmm", "ampere_sgemm_128x64_tn", self.kernel_ns[layer, 0])
            build.pause(main, self._host(0.5))
            self._kernel(
                main,
                "gelu",
                "void at::native::vectorized_elementwise_kernel<4>",
                self.kernel_ns[layer, 1] / 4,
            )
            build.pause(main, self._host(0.3))

    def _branch(self, layer: int) -> None:
        """One kernel on a second compute stream, between a fork and a join."""
        build, main, fork, join = self.build, self.main, self._slot(), self._slot()
        build.record(main, self.compute, fork, self._host(0.2))
        build.wait(main, self.side, fork, self._host(0.2))
        self._kernel(
            main, "conv2d", "implicit_convolve_sgemm", self.kernel_ns[layer, 4] * 2, self.side
        )
        self._kernel(
            main, "mul", "void at::native::elementwise_kernel<128>", self.kernel_ns[layer, 3] / 4
        )
        build.record(main, self.side, join, self._host(0.2))
        build.wait(main, self.compute, join, self._host(0.2))

    def _backward(self) -> None:
        build, shape, thread = self.build, self.shape, self.autograd
        begin, done = self._slot(), self._slot()
        build.signal(self.main, begin)
        build.pause(thread, self._host(), awaits=begin)
        bucket_at = {
            shape.layers - 1 - (number + 1) * shape.layers // max(shape.gradient_buckets, 1)
            for number in range(shape.gradient_buckets)
        }
        pending = []
        for layer in reversed(range(shape.layers)):
            with build.operator(thread, "autograd::engine::evaluate_function: AddmmBackward0"):
                build.work(thread, self._host(0.3))
                self._kernel(thread, "mm", "ampere_sgemm_128x64_nt", self.kernel_ns[layer, 2])
                self._kernel(thread, "mm", "ampere_sgemm_128x64_nn", self.kernel_ns[layer, 3])
                build.work(thread, self._host(0.2))
            if layer - 1 in bucket_at:
                pending.append(
                    self._communicate(
                        thread,
                        "allreduce",
                        ALL_REDUCE_KERNEL,
                        CollectiveKind.ALL_REDUCE,
                        self.reduces,
                        self.message_ns[layer],
                    )
                )
        for slot in pending:
            build.wait(thread, self.compute, slot, self._host(0.2))
            self._kernel(
                thread,
                "copy_",
                "void at::native::unrolled_elementwise_kernel<direct_copy>",
                self.kernel_ns[0, 5] / 4,
            )
        build.signal(thread, done)
        build.pause(self.main, self._host(), awaits=done)
