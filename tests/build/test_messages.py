"""Messages over gloo: who sends to whom, when a message leaves, and that its sender waits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lumos.build.clocks import Message, align_clocks
from lumos.errors import UnusableInputError
from lumos.fit import fit
from lumos.graph.job import NONE, CollectiveKind, TaskKind
from lumos.lower import lower
from lumos.simulate import simulate
from lumos.whatif.delay import stall
from tests.build.drawn_trace import Built, DrawnTrace, build_all

SEND, RECEIVE = "send", "recv"
SHAPE = {"Input Dims": [[64]], "Input type": ["float"]}
US = 1000
MS = 1_000_000


class Stage(DrawnTrace):
    """One rank of a pipeline over gloo, three alike steps of 1000 us."""

    def __init__(self, rank: int, groups: Sequence[Sequence[int]], *, told: bool = True):
        config = [
            {"pg_name": str(number), "pg_desc": "mesh_pp", "ranks": list(group)}
            for number, group in enumerate(groups, 1)
            if rank in group
        ]
        world = sum(map(len, groups))
        everyone = {"pg_name": "0", "pg_desc": "default_pg", "ranks": list(range(world))}
        super().__init__(rank, world)
        self.header["distributedInfo"]["pg_config"] = [everyone, *config]
        self.told = told
        for step in range(3):
            self.annotation(f"ProfilerStep#{step}", 1000 * step, 1000 * step + 1000)

    def work(self, begin: float, end: float) -> Stage:
        """An operator of its own in each step."""
        for step in range(3):
            self.op(f"work at {begin}", 1000 * step + begin, 1000 * step + end)
        return self

    def message(self, way: str, member: int, begin: float, returns: float, end: float) -> Stage:
        """A call in each step, and the span that lasts from its return until the wait for it returned."""
        called = {"Concrete Inputs": ["", "", str(member), "0"]} if self.told else {}
        shape = {
            "Input Dims": [[[64]], [], [], []],
            "Input type": ["TensorList", "", "Scalar", "Scalar"],
        }
        for step in range(3):
            at = 1000 * step
            name = f"c10d::{way}{'_' if way == RECEIVE else ''}"
            self.op(name, at + begin, at + returns, **shape, **called)
            self.event("user_annotation", f"gloo:{way}", at + returns - 1, at + end, 8, **SHAPE)
        return self


def pair(
    first: int, second: int, groups: Sequence[Sequence[int]], *, told: bool = True
) -> list[Stage]:
    """Two stages: the first sends at 310 and waits for the answer, sent at 610, until 720.

    first   | work |send|recv|........(pause)........| work |
    second  |recv|..(pause)..|== work ==|==== send ====| work |

    The second one's call of send is held up for 80 us after the data left.
    """
    front = Stage(first, groups, told=told).work(0, 300)
    front.message(SEND, 1, 310, 320, 980).message(RECEIVE, 1, 330, 340, 640).work(642, 960)
    back = Stage(second, groups, told=told)
    back.message(RECEIVE, 0, 10, 20, 350).work(352, 600).message(SEND, 0, 610, 690, 975).work(
        692, 950
    )
    return [front, back]


def exchanged(built: Built, rank: int) -> set[tuple[str, tuple[int, ...], int]]:
    """Kind, group and peer of what a rank sends and receives."""
    groups = built.job.placement.groups
    return {
        (one.kind.name, groups[one.group].ranks if one.group != NONE else (), one.peer)
        for one in built.program(rank).collectives
    }


def test_pipelines_that_read_alike_are_told_apart_by_whom_they_call() -> None:
    """Ranks 0 and 2, 1 and 3: of the sizes alone, 0 could as well send to 1."""
    groups = [[0, 2], [1, 3], [0, 1], [2, 3]]
    (first, third), (second, fourth) = pair(0, 2, groups), pair(1, 3, groups)
    built = build_all([first, second, third, fourth])
    for rank, group, peer in ((0, (0, 2), 2), (1, (1, 3), 3), (2, (0, 2), 0), (3, (1, 3), 1)):
        assert exchanged(built, rank) == {("SEND", group, peer), ("RECEIVE", group, peer)}


def line(told: bool = True) -> list[Stage]:
    """Four stages of one group, each hands on to the next."""
    stages = [Stage(rank, [[0, 1, 2, 3]], told=told) for rank in range(4)]
    for rank, stage in enumerate(stages):
        at = 200 * rank
        if rank:
            stage.message(RECEIVE, rank - 1, 2, 6, at + 8)
        stage.work(at + 10, at + 150)
        if rank < 3:
            stage.message(SEND, rank + 1, at + 160, at + 164, 990)
        stage.work(at + 170, at + 190)
    return stages


def test_a_stage_in_the_middle_receives_from_one_side_and_sends_to_the_other() -> None:
    built = build_all(line())
    everyone = (0, 1, 2, 3)
    assert exchanged(built, 1) == {("RECEIVE", everyone, 0), ("SEND", everyone, 2)}
    assert exchanged(built, 2) == {("RECEIVE", everyone, 1), ("SEND", everyone, 3)}


def test_without_recorded_inputs_only_a_pair_can_be_told() -> None:
    assert exchanged(build_all(pair(0, 1, [[0, 1]], told=False)), 0) == {
        ("SEND", (0, 1), 1),
        ("RECEIVE", (0, 1), 1),
    }
    assert exchanged(build_all(line(told=False)), 1) == {
        ("SEND", (), NONE),
        ("RECEIVE", (), NONE),
    }


def test_a_call_that_names_no_other_member_tells_nothing() -> None:
    """Member 7 of two, and itself."""
    front, back = pair(0, 1, [[0, 1]])
    for event in front.events:
        if "Concrete Inputs" in event["args"]:
            event["args"]["Concrete Inputs"][2] = "7" if "send" in event["name"] else "0"
    assert exchanged(build_all([front, back]), 0) == {("SEND", (), NONE), ("RECEIVE", (), NONE)}


def of_kind(built: Built, rank: int, kind: CollectiveKind) -> np.ndarray:
    program = built.program(rank)
    return np.array(
        [
            row
            for row in np.flatnonzero(program.rows.collective != NONE)
            if program.collectives[program.rows.collective[row]].kind == kind
        ]
    )


def test_a_message_leaves_within_its_call_not_when_the_call_returns() -> None:
    """The answer arrives at 640, before the call that sent it returned at 690."""
    built = build_all(pair(0, 1, [[0, 1]]))
    sent = built.run(1).start_ns[of_kind(built, 1, CollectiveKind.SEND)]
    assert [built._us(time) for time in sent] == [610, 1610, 2610]
    assert "clock-aligned" not in {finding.code for finding in built.job.findings}


def test_a_send_lasts_until_its_receiver_has_all_or_until_somebody_asks() -> None:
    """Sent at 310 and received at 350; the answer is sent at 610 and received at 640."""
    built = build_all(pair(0, 1, [[0, 1]]))
    for rank, ends in ((0, [350, 1350, 2350]), (1, [640, 1640, 2640])):
        rows = of_kind(built, rank, CollectiveKind.SEND)
        assert [built._us(time) for time in built.run(rank).end_ns[rows]] == ends
        assert all(
            one.synchronous
            for one in built.program(rank).collectives
            if one.kind == CollectiveKind.SEND
        )


def blocking(receives_at: float, wait_returns: float) -> Built:
    """Rank 0 sends at 100 and waits at once until `wait_returns`; rank 1 computes first."""
    front = Stage(0, [[0, 1]]).work(0, 90).message(SEND, 1, 100, 110, wait_returns)
    front.work(wait_returns + 2, 900)
    back = Stage(1, [[0, 1]]).work(0, receives_at - 5)
    back.message(RECEIVE, 0, receives_at, receives_at + 10, receives_at + 60).work(
        receives_at + 62, 900
    )
    return build_all([front, back])


def test_who_waits_for_a_send_waits_for_its_receiver() -> None:
    """The receiver comes at 500; were it 100 us later, so would the sender go on."""
    built = blocking(receives_at=500, wait_returns=558)
    fitted = fit(built.job, built.measured)
    row = built.program().names.index("work at 560")

    def goes_on(job) -> np.ndarray:  # type: ignore[no-untyped-def]
        rank = simulate(lower(job)).ranks[0]
        return rank.start_ns[job.programs[job.placement.role[0]].rows.name == row]

    undisturbed = goes_on(fitted)
    measured = built.run().start_ns[built.program().rows.name == row]
    assert np.abs(undisturbed - measured - (undisturbed[0] - measured[0])).max() <= 5 * US
    late = goes_on(stall(fitted, 1, 100 * US)) - undisturbed
    assert late.tolist() == [100 * US, 200 * US, 300 * US]


def test_a_send_that_was_done_before_its_receiver_came_is_buffered() -> None:
    """Its wait returned at 200, the receiver comes at 500: these two cannot have met."""
    built = blocking(receives_at=500, wait_returns=200)
    rows = of_kind(built, 0, CollectiveKind.SEND)
    assert not any(one.synchronous for one in built.program().collectives)
    run = built.run()
    assert run.start_ns[rows].tolist() == run.end_ns[rows].tolist()


# --- clocks


def exchange(offset_ns: int, there: Sequence[int], back: Sequence[int]) -> list[Message]:
    """Messages of two ranks, each on its way for so long [ns]; the second's clock is ahead."""
    sent = [Message(0, 1, n * MS, n * MS + way + offset_ns) for n, way in enumerate(there)]
    return sent + [Message(1, 0, n * MS + offset_ns, n * MS + way) for n, way in enumerate(back)]


ON_THE_WAY = st.lists(st.integers(0, 3 * MS), max_size=6)


@settings(deadline=None, max_examples=300, derandomize=True)
@given(st.integers(-50 * MS, 50 * MS), ON_THE_WAY, ON_THE_WAY)
def test_with_clocks_by_messages_none_arrives_before_it_was_sent(
    offset_ns: int, there: list[int], back: list[int]
) -> None:
    messages = exchange(offset_ns, there, back)
    clock = align_clocks([{}, {}], messages)[1]
    if not messages:
        assert clock is None
        return
    assert clock is not None
    for sender, _, sent_ns, received_ns in messages:
        own = np.array([received_ns if sender == 0 else sent_ns])
        corrected = int(clock.correct(own)[0])
        assert (corrected >= sent_ns - 1) if sender == 0 else (corrected <= received_ns + 1)
    if there and back:
        assert abs(clock.offset_ns - offset_ns) <= min(there) + min(back)


def test_clocks_that_contradict_no_message_are_left_as_they_are() -> None:
    assert align_clocks([{}, {}], exchange(90_000, [100_000], [100_000]))[1].offset_ns == 0  # type: ignore[union-attr]


def test_messages_that_fit_no_offset_link_nothing() -> None:
    """Each arrives 5 ms before it was sent, both ways: these are no pairs."""
    assert align_clocks([{}, {}], exchange(0, [-5 * MS], [-5 * MS]))[1] is None


def test_ranks_are_linked_by_collectives_first_and_on_through_messages() -> None:
    """0 and 1 share collectives, 1 and 2 only messages, 2 and 3 collectives."""
    times = [n * MS for n in range(1, 7)]
    ends = [
        {("a", n): time for n, time in enumerate(times)},
        {("a", n): time + 7 * MS for n, time in enumerate(times)},
        {("b", n): time - 30 * MS for n, time in enumerate(times)},
        {("b", n): time - 10 * MS for n, time in enumerate(times)},
    ]
    messages = [
        Message(1, 2, 10 * MS + 7 * MS, 10 * MS - 30 * MS + 20_000),
        Message(2, 1, 20 * MS - 30 * MS, 20 * MS + 7 * MS + 20_000),
    ]
    clocks = align_clocks(ends, messages)
    offsets = [round(clock.offset_ns / MS, 3) for clock in clocks if clock is not None]
    assert offsets == [0, 7, -30, -10]


@pytest.mark.parametrize(("apart", "offset"), [([900, -700, 3000], 0), ([900, 910, 905], 905)])
def test_an_offset_that_the_scatter_of_the_ends_explains_is_none(
    apart: list[int], offset: int
) -> None:
    ends = [
        {("a", n): n * MS for n in range(3)},
        {("a", n): n * MS + own for n, own in enumerate(apart)},
    ]
    clock = align_clocks(ends)[1]
    assert clock is not None
    assert clock.offset_ns == offset


def test_ranks_of_one_host_have_one_clock_however_far_their_ends_lie_apart() -> None:
    """2 follows 1, which is of another host than 0."""
    ends = [
        {("a", n): n * MS for n in range(3)},
        {("a", n): n * MS + 5 * MS for n in range(3)},
        {("a", n): n * MS + 9 * MS for n in range(3)},
    ]
    clocks = align_clocks(ends, hosts=["one", "two", "two"])
    assert [clock and clock.offset_ns for clock in clocks] == [0, 5 * MS, 5 * MS]
    clocks = align_clocks(ends, hosts=["", "", ""])
    assert [clock and clock.offset_ns for clock in clocks] == [0, 5 * MS, 9 * MS]


def test_a_receive_posted_ahead_ends_when_its_data_came_not_when_somebody_asked() -> None:
    """The first message is waited for and takes 40 us; the second, of its size, is asked for late."""
    front = Stage(0, [[0, 1]]).work(0, 90).message(SEND, 1, 100, 105, 980)
    front.work(110, 190).message(SEND, 1, 200, 205, 982).work(210, 950)
    back = Stage(1, [[0, 1]]).message(RECEIVE, 0, 10, 20, 140).work(142, 148)
    back.message(RECEIVE, 0, 150, 155, 600).work(160, 590).work(602, 900)
    built = build_all([front, back])
    for rank, kind in ((1, CollectiveKind.RECEIVE), (0, CollectiveKind.SEND)):
        ends = built.run(rank).end_ns[of_kind(built, rank, kind)]
        assert [built._us(time) for time in ends[:2]] == [140, 240]


# --- which worker of a group ran what, and where a slow call hands over


def reducing(rank: int, workers: dict[int, int], *, slow: int | None = None) -> DrawnTrace:
    """Two all-reduces in each of four steps, run by `workers[size]`; one call may be slow."""
    trace = DrawnTrace(rank, 2)
    config = [{"pg_name": "0", "pg_desc": "default_pg", "ranks": [0, 1]}]
    trace.header["distributedInfo"]["pg_config"] = config
    for step in range(4):
        at = 2000 * step
        trace.annotation(f"ProfilerStep#{step}", at, at + 2000)
        trace.op("forward", at, at + 200)
        for number, size in enumerate(workers):
            begin, shape = at + 210 + 400 * number, {"Input Dims": [[size]]}
            end = begin + (300 if slow == step and not number else 10)
            trace.op("c10d::allreduce_", begin, end, **shape, **{"Input type": ["float"]})
            worker = workers[size] + (step % 2 if rank else 0) * (1 if number else -1)
            trace.event("user_annotation", "gloo:all_reduce", end - 2, end + 80, worker, **shape)
        trace.op("backward", at + 1010, at + 1500)
        trace.op("update", at + 1510, at + 1900)
    return trace


def test_workers_of_one_group_may_swap_what_they_run_on_one_rank_only() -> None:
    """gloo's two threads take from one queue: on rank 1 each runs both sizes in turn."""
    built = build_all([reducing(0, {64: 9, 32: 10}), reducing(1, {64: 10, 32: 9})])
    for rank in (0, 1):
        assert exchanged(built, rank) == {("ALL_REDUCE", (0, 1), NONE)}
    assert {"group-inferred"} == {finding.code for finding in built.job.findings} - {
        "clock-aligned"
    }


def test_what_waits_for_the_task_of_a_slow_call_waits_for_that_task() -> None:
    """The slow call hands its task over at its end, and so what is recorded of it comes behind."""
    built = reducing(0, {64: 9}, slow=2).build()
    rows = built.program().rows
    waits = np.flatnonzero((rows.kind == TaskKind.SYNCHRONIZE) & (rows.awaits != NONE))
    captured = []
    for wait in waits:
        record = built.signal_of(int(wait))
        queue = np.flatnonzero(rows.processor == rows.stream[record])
        captured.append(int(rows.block[queue[queue < record][-1]]))
    assert captured == rows.block[waits].tolist() == [0, 1, 2, 3]


def test_traces_of_two_runs_on_one_host_are_refused_however_soon_they_followed() -> None:
    first, second = DrawnTrace(0, 2, host_name="node1"), DrawnTrace(1, 2, host_name="node1")
    build_all([first.op("a", 0, 100), second.op("b", 50, 150)])
    late = DrawnTrace(1, 2, host_name="node1").op("b", 5e6, 5e6 + 100)
    with pytest.raises(
        UnusableInputError, match=r"recorded 5\.0 seconds apart: give traces of one"
    ):
        build_all([first, late])
