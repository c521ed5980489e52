"""Rendezvous: a collective's data starts to move when its last member is there."""

from __future__ import annotations

import pytest

from lumos.graph.execution import Rule
from lumos.graph.job import CollectiveKind
from tests.drawing import Drawing


def late_last_rank(kind: CollectiveKind, late: tuple[int, ...] = (0, 30, 70)) -> Drawing:
    """Each rank is there a different time after the begin.

    rank 0 |.............|== 50 ==|
    rank 1 | a 30 |......|== 50 ==|
    rank 2 | a 70       ||== 50 ==|
    """
    drawn = Drawing(launch=2, stream_order=1)
    drawn.group("all", *range(len(late)))
    for delay in late:
        rank = drawn.rank()
        main, stream = rank.thread(), rank.stream(1)
        main.work("a", delay)
        main.collective(stream, "c", 50, "all", kind)
        main.launch(stream, "k", 10)
    return drawn


@pytest.mark.parametrize(
    "kind",
    [
        CollectiveKind.ALL_REDUCE, CollectiveKind.ALL_GATHER, CollectiveKind.REDUCE_SCATTER,
        CollectiveKind.ALL_TO_ALL, CollectiveKind.BARRIER,
    ],
)  # fmt: skip
def test_transfer_begins_when_the_last_member_is_there(kind: CollectiveKind) -> None:
    run = late_last_rank(kind).run()
    for rank, ready in enumerate((2, 32, 72)):
        assert run["c", rank] == (ready, 122)
        assert run.wait("c", rank) == 72 - ready
        assert run["k", rank] == (123, 133)


@pytest.mark.parametrize(
    "kind", [CollectiveKind.BROADCAST, CollectiveKind.REDUCE, CollectiveKind.UNKNOWN]
)
def test_kinds_that_need_not_wait_do_not(kind: CollectiveKind) -> None:
    run = late_last_rank(kind).run()
    assert [run["c", rank] for rank in range(3)] == [(2, 52), (32, 82), (72, 122)]


def test_a_member_moves_its_data_as_long_as_recorded_on_its_own_rank() -> None:
    """Equal start, own ends: what a rank's transfer took stays its own."""
    drawn = Drawing()
    drawn.group("all", 0, 1)
    for duration in (50, 60):
        rank = drawn.rank()
        rank.thread().collective(rank.stream(1), "c", duration, "all")
    run = drawn.run()
    assert run["c", 0] == (0, 50)
    assert run["c", 1] == (0, 60)


def test_a_late_rank_makes_the_others_late_behind_the_collective() -> None:
    """rank 1 is 40 later than before: rank 0's next kernel starts 40 later, its own work does not."""
    early, late = (
        late_last_rank(CollectiveKind.ALL_REDUCE, (0, 30)).run(),
        late_last_rank(CollectiveKind.ALL_REDUCE, (0, 70)).run(),
    )
    assert late["k", 0][0] - early["k", 0][0] == 40
    assert late["a", 0] == early["a", 0]


def test_the_kth_of_a_group_meets_the_kth() -> None:
    """Two all-reduces one behind the other; rank 1 comes late to both."""
    drawn = Drawing()
    drawn.group("all", 0, 1)
    for pause in (0, 100):
        rank = drawn.rank()
        main, stream = rank.thread(), rank.stream(1)
        for name in ("c1", "c2"):
            main.gap(pause)
            main.collective(stream, name, 10, "all", call=0)
    run = drawn.run()
    assert run["c1", 0] == (0, 110)
    assert run["c2", 0] == (110, 210)
    assert run["c2", 1] == (200, 210)


def test_groups_do_not_wait_for_each_other() -> None:
    """Ranks 0 1 2 3 in two pairs; rank 3 is late: ranks 0 and 1 do not notice."""
    drawn = Drawing()
    drawn.group("front", 0, 1)
    drawn.group("back", 2, 3)
    for number, group in enumerate(("front", "front", "back", "back")):
        rank = drawn.rank()
        main = rank.thread()
        main.work("a", 1000 if number == 3 else 0)
        main.collective(rank.stream(1), "c", 10, group)
    run = drawn.run()
    assert run["c", 0] == (0, 10)
    assert run["c", 2] == (0, 1010)


def test_collectives_meet_block_by_block() -> None:
    """Rank 0's first block has none, so the k-th are counted in each block anew."""
    drawn = Drawing()
    drawn.group("all", 0, 1)
    for number in range(2):
        rank = drawn.rank()
        main, stream = rank.thread(), rank.stream(1)
        rank.block("0")
        main.work("a", 5)
        if number == 1:
            main.collective(stream, "alone", 10, "all", call=0)
        rank.block("1")
        main.work("b", 100 * number)
        main.collective(stream, "c", 10, "all", call=0)
    run = drawn.run()
    assert run["alone", 1] == (5, 15)
    assert run["c", 0] == (5, 115)
    assert run["c", 1] == (105, 115)


def test_a_collective_of_ranks_that_were_not_traced_keeps_its_duration() -> None:
    """One member alone: waiting cannot be told from transfer."""
    drawn = Drawing()
    drawn.group("all", 0, 1, 2)
    rank = drawn.rank()
    rank.thread().collective(rank.stream(1), "c", 50, "all")
    run = drawn.run()
    assert run["c"] == (0, 50)
    assert run.wait("c") == 0


def test_a_stream_wait_for_a_collective_waits_for_its_end() -> None:
    """rank 0's compute stream waits for the all-reduce that rank 1 delays."""
    drawn = Drawing(launch=2)
    drawn.group("all", 0, 1)
    for delay in (0, 100):
        rank = drawn.rank()
        main, compute, communication = rank.thread(), rank.stream(1), rank.stream(2)
        main.work("a", delay)
        main.collective(communication, "c", 50, "all")
        main.record(communication, "done")
        main.wait(compute, "done")
        main.launch(compute, "k", 10)
    run = drawn.run()
    assert run["k", 0][0] == run["c", 1][1] == 152


@pytest.mark.parametrize(("delay", "begin"), [(30, 70), (100, 100)])
def test_a_member_that_is_late_for_no_reason_is_there_late(delay: int, begin: int) -> None:
    """rank 0 | delay |......|== 50 ==|
    rank 1    |  a 70       ||== 50 ==|
    """
    drawn = Drawing()
    drawn.group("all", 0, 1)
    for before, late in ((0, delay), (70, 0)):
        rank = drawn.rank()
        main = rank.thread()
        main.work("a", before)
        main.collective(rank.stream(1), "c", 50, "all", delay=late)
    run = drawn.run(delays=True)
    assert run["c", 0] == (delay, begin + 50)
    assert run["c", 1] == (70, begin + 50)


def message(send_at: int, receive_at: int, *, synchronous: bool = False) -> Drawing:
    """Rank 0 sends to rank 1.

    rank 0 |  a  | send 10 |
    rank 1 |  a  |.........|= receive 20 =|
    """
    drawn = Drawing()
    drawn.group("pair", 0, 1)
    for number, (delay, kind, length) in enumerate(
        ((send_at, CollectiveKind.SEND, 10), (receive_at, CollectiveKind.RECEIVE, 20))
    ):
        rank = drawn.rank()
        main = rank.thread()
        main.work("a", delay)
        main.collective(
            rank.stream(1), "m", length, "pair", kind, peer=1 - number, synchronous=synchronous
        )
    return drawn


def test_a_receive_waits_until_the_message_was_sent() -> None:
    run = message(100, 0).run()
    assert run["m", 0] == (100, 110)
    assert run["m", 1] == (0, 120)
    assert run.wait("m", 1) == 100


def test_a_send_is_buffered_and_waits_for_nobody() -> None:
    run = message(0, 100).run()
    assert run["m", 0] == (0, 10)
    assert run["m", 1] == (100, 120)


def test_a_synchronous_send_waits_until_its_receiver_is_there() -> None:
    """rank 0 |.........|= send 10 =|
    rank 1 |  a 100  |= receive 20 ==|
    """
    run = message(0, 100, synchronous=True).run()
    assert run["m", 0] == (0, 110)
    assert run.wait("m", 0) == 100
    assert run["m", 1] == (100, 120)


def test_a_synchronous_message_needs_its_sender_as_any_other() -> None:
    run = message(100, 0, synchronous=True).run()
    assert run["m", 0] == (100, 110)
    assert run["m", 1] == (0, 120)


def test_messages_meet_in_the_order_of_their_pair() -> None:
    """The second receive waits for the second send."""
    drawn = Drawing()
    drawn.group("pair", 0, 1)
    for number, kind in enumerate((CollectiveKind.SEND, CollectiveKind.RECEIVE)):
        rank = drawn.rank()
        main, stream = rank.thread(), rank.stream(1)
        for name in ("m1", "m2"):
            main.collective(stream, name, 1, "pair", kind, peer=1 - number, call=0)
            main.gap(500 if number == 0 else 0)
    run = drawn.run()
    assert run["m1", 1] == (0, 1)
    assert run["m2", 1] == (1, 501)


def test_without_rendezvous_nobody_waits() -> None:
    """--drop rendezvous, for collectives and for messages."""
    run = late_last_rank(CollectiveKind.ALL_REDUCE).run([Rule.RENDEZVOUS])
    assert [run["c", rank] for rank in range(3)] == [(2, 52), (32, 82), (72, 122)]
    assert message(100, 0).run([Rule.RENDEZVOUS])["m", 1] == (0, 20)
