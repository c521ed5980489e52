"""The verdict names what was drawn as the limit, with numbers that add up."""

from __future__ import annotations

import pytest

from lumos.analysis.sentence import Amount, Name, Unit, share
from lumos.analysis.verdict import Truth, Verdict, verdict
from lumos.answer import answer
from lumos.graph.job import CollectiveKind
from lumos.lower import lower
from lumos.predict import Recording
from lumos.report.page.texts import UNKNOWN, sentence_text
from lumos.simulate import simulate
from tests.drawing import Drawing, Thread


def verdict_of(drawn: Drawing) -> Verdict:
    """The verdict on a drawn job that ran exactly as drawn."""
    job = drawn.job()
    measured = simulate(lower(job))
    return verdict(answer(Recording((), job, measured, ("drawn",))))


def truths(found: Verdict) -> list[Truth]:
    return [claim.truth for claim in found.claims]


def test_a_step_of_kernels_alone_is_told_by_its_work() -> None:
    """main | l | l |         nothing waits: the kernels are the step
    s1       |== gemm 900 ==|= b 90 =|"""
    drawn = Drawing()
    rank = drawn.rank()
    main, s1 = rank.thread(), rank.stream(1)
    main.launch(s1, "gemm", 900_000)
    main.launch(s1, "b", 90_000)
    main.synchronize(duration=0)
    found = verdict_of(drawn)
    assert truths(found) == [Truth.WORK]
    assert found.claims[0].gain_ns == pytest.approx(450_000, abs=2_000)


def test_a_device_that_waits_for_its_host_is_told() -> None:
    """main | ======= op 900 ======= | l |
    s1                                 |= k 100 =|"""
    drawn = Drawing()
    rank = drawn.rank()
    main, s1 = rank.thread(), rank.stream(1)
    main.work("op", 900_000)
    main.launch(s1, "k", 100_000)
    main.synchronize(s1, duration=0)
    found = verdict_of(drawn)
    assert found.claims[0].truth is Truth.HOST
    assert found.claims[0].gain_ns == pytest.approx(900_000, abs=2_000)


def test_communication_that_nothing_hides_is_told() -> None:
    """main | l | l |  synchronize       both ranks alike
    s1       |= k 500 =|
    s2                 |= all-reduce 400 =|"""
    drawn = Drawing()
    drawn.group("all", 0, 1)
    for _ in range(2):
        rank = drawn.rank()
        main, s1, s2 = rank.thread(), rank.stream(1), rank.stream(2)
        main.launch(s1, "k", 500_000)
        main.record(s1, "done")
        main.wait(s2, "done")
        main.collective(s2, "all-reduce", 400_000, "all")
        main.synchronize(duration=0)
    found = verdict_of(drawn)
    assert found.claims[0].truth is Truth.COMMUNICATION
    assert found.claims[0].gain_ns == pytest.approx(400_000, abs=2_000)
    assert "all reduce" in sentence_text(found.claims[0].sentence)


def test_a_rank_that_stalls_is_named_and_its_cause() -> None:
    """rank 0, 1 | l |            each time: kernel, then all-reduce; rank 2's host sleeps 300 first
    rank 2       | sleep 300 | l |"""
    drawn = Drawing()
    drawn.group("all", 0, 1, 2)
    for number in range(3):
        rank = drawn.rank()
        main, s1 = rank.thread(), rank.stream(1)
        main.work("prepare", 300_000 if number == 2 else 2_000)
        main.launch(s1, "k", 500_000)
        main.collective(s1, "all-reduce", 20_000, "all")
        main.synchronize(duration=0)
    found = verdict_of(drawn)
    first = found.claims[0]
    assert first.truth is Truth.STRAGGLER
    assert first.gain_ns == pytest.approx(298_000, abs=3_000)
    assert sentence_text(first.sentence).startswith("Rank 2's host stalls cost every rank 0.298 ms")
    assert Truth.WAITING not in truths(found), "told by its cause"


def test_a_pipeline_that_waits_for_its_messages_is_told() -> None:
    """stage 0 |= F 500 =| send |
    stage 1    |... receive ....|= F 500 =|"""
    drawn = Drawing()
    drawn.group("pair", 0, 1)
    first, second = drawn.rank(), drawn.rank()
    main, s1 = first.thread(), first.stream(1)
    main.launch(s1, "F", 500_000)
    main.collective(s1, "send", 1_000, "pair", CollectiveKind.SEND, peer=1)
    main.synchronize(duration=0)
    main, s1 = second.thread(), second.stream(1)
    main.collective(s1, "receive", 1_000, "pair", CollectiveKind.RECEIVE, peer=0)
    main.launch(s1, "F", 500_000)
    main.collective(s1, "answer", 1_000, "pair", CollectiveKind.SEND, peer=0)
    main.synchronize(duration=0)
    main = Thread(first, 0)
    main.collective(1, "answered", 1_000, "pair", CollectiveKind.RECEIVE, peer=1)
    main.synchronize(duration=0)
    assert Truth.BUBBLE in truths(verdict_of(drawn))


def test_loading_data_is_told_apart_from_the_host() -> None:
    """main | enumerate(DataLoader) 800 | l |
    s1                                    |= k 200 =|"""
    drawn = Drawing()
    rank = drawn.rank()
    main, s1 = rank.thread(), rank.stream(1)
    main.work("enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", 800_000)
    main.launch(s1, "k", 200_000)
    main.synchronize(s1, duration=0)
    found = verdict_of(drawn)
    assert found.claims[0].truth is Truth.DATA_LOADING
    assert found.claims[0].gain_ns == pytest.approx(800_000, abs=2_000)
    assert Truth.HOST not in truths(found)


def test_every_amount_says_where_it_is_held() -> None:
    drawn = Drawing()
    rank = drawn.rank()
    main, s1 = rank.thread(), rank.stream(1)
    main.work("op", 900_000)
    main.launch(s1, "k", 100_000)
    main.synchronize(s1, duration=0)
    found = verdict_of(drawn)
    sentences = [*(claim.sentence for claim in found.claims), found.trust]
    amounts = [part for one in sentences for part in one if isinstance(part, Amount)]
    assert len(amounts) > 5
    assert all(part.at.split("/")[1] in {"replay", "cost", "stragglers"} for part in amounts)


def test_a_sentence_reads_as_one() -> None:
    gain, whole = Amount(38_000_000, Unit.TIME, "a"), Amount(603_000_000, Unit.TIME, "b")
    part = share(gain, whole)
    assert (part.at, part.of) == ("a", "b")
    sentence = (Name("rank\u202e 0"), " costs ", gain, " of ", whole, " (", part, ")")
    assert sentence_text(sentence) == "rank\\u202e 0 costs 38.00 ms of 603.00 ms (6.30 %)"
    assert share(gain, Amount(0, Unit.TIME, "b")).value is None
    assert sentence_text((Amount(None, Unit.TIME, "a"),)) == UNKNOWN


def test_work_that_hardly_matters_is_no_verdict() -> None:
    """main | ======= op 990 ======= | l |      a host nobody waits for but the end
    s1                                 |= k 2 =|"""
    drawn = Drawing()
    rank = drawn.rank()
    main, s1 = rank.thread(), rank.stream(1)
    main.work("op", 990_000)
    main.launch(s1, "k", 2_000)
    main.synchronize(s1, duration=0)
    assert truths(verdict_of(drawn)) == [Truth.HOST]
