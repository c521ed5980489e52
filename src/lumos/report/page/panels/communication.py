"""What communication moves, how fast, and who keeps the others waiting."""

from __future__ import annotations

from dataclasses import dataclass

from lumos.analysis.answers import Answers
from lumos.analysis.communication import GroupCommunication, Latecomer, StepCommunication
from lumos.analysis.sentence import Amount, Name, Sentence, Unit, count, percent, time
from lumos.report.page.panel import Panel, verb

MOST_ROWS = 16
"""Kinds and groups that are shown, the longest first; of latecomers, those others waited for most."""


@dataclass(frozen=True)
class Row:
    """One kind of communication in one group, as measured."""

    kind: str
    group: str
    ranks: str
    count: Amount
    bytes: Amount
    time: Amount
    transfer: Amount
    wait: Amount
    overlapped: Amount
    bus: Amount
    skew: Amount


@dataclass(frozen=True)
class Late:
    """A rank that came last in a group's communication of one kind."""

    rank: int
    what: str
    group: str
    times: Amount
    waited: Amount
    behind: Amount


@dataclass(frozen=True)
class View:
    """What the template draws."""

    rows: tuple[Row, ...]
    left_out: int
    late: tuple[Late, ...]
    late_left_out: int
    waiting_unknown: bool
    link: str


def communication_panel(answers: Answers) -> Panel:
    """The measured communication of the step that was looked at."""
    name, found = answers.step.step, answers.communication
    calls = (verb("communication", f"traces.replay({name!r}).communication()", name),)
    title = "Communication"
    if not found.measured:
        return Panel("communication", title, calls, absent="Nothing was communicated in this step.")
    groups = list(enumerate(found.measured))
    late = [
        (one.skew is not None and rank.waited_ns, _late(one, rank, f"{_at(place)}/came_last/{n}"))
        for place, one in groups
        for n, rank in enumerate(one.latecomers)
    ]
    late.sort(key=lambda pair: -pair[0])
    shown = [one for _, one in late[:MOST_ROWS]]
    view = View(
        rows=tuple(_row(one, _at(place)) for place, one in groups[:MOST_ROWS]),
        left_out=len(groups[MOST_ROWS:]),
        late=tuple(shown),
        late_left_out=len(late) - len(shown),
        waiting_unknown=any(one.wait_ns is None for one in found.measured),
        link=_link(found),
    )
    lead = _lead(found, late[0][1] if late and late[0][0] else None)
    return Panel("communication", title, calls, lead, "communication.html", view)


def _at(place: int) -> str:
    return f"/communication/steps/0/measured/{place}"


def _row(one: GroupCommunication, at: str) -> Row:
    return Row(
        kind=_kind(one),
        group=_group(one),
        ranks="" if one.group is None else _ranks(one.group.ranks),
        count=count(one.count, f"{at}/count"),
        bytes=Amount(one.bytes, Unit.BYTES, f"{at}/bytes"),
        time=time(one.time_ns, f"{at}/time_ms"),
        transfer=time(one.transfer_ns, f"{at}/transfer_ms"),
        wait=time(one.wait_ns, f"{at}/wait_ms"),
        overlapped=percent(one.overlapped_pct, f"{at}/overlapped_pct"),
        bus=Amount(one.bus_bytes_per_s, Unit.BYTES_PER_S, f"{at}/bus_bytes_per_s"),
        skew=time(one.skew.p50_ns, f"{at}/skew_ms/p50")
        if one.skew
        else time(None, f"{at}/skew_ms"),
    )


def _late(one: GroupCommunication, rank: Latecomer, at: str) -> Late:
    return Late(
        rank=rank.rank,
        what=_kind(one),
        group=_group(one),
        times=count(rank.times, f"{at}/times"),
        waited=time(rank.waited_ns, f"{at}/others_waited_ms"),
        behind=time(rank.behind_ns, f"{at}/behind_ms"),
    )


def _kind(one: GroupCommunication) -> str:
    return one.kind.name.lower().replace("_", " ")


def _group(one: GroupCommunication) -> str:
    return "" if one.group is None else one.group.description or one.group.name


def _ranks(ranks: tuple[int, ...]) -> str:
    """The members as a text: a run of numbers in short."""
    if len(ranks) > 2 and ranks == tuple(range(ranks[0], ranks[-1] + 1)):
        return f"{ranks[0]}\u2013{ranks[-1]}"
    shown = ", ".join(str(rank) for rank in ranks[:8])
    return f"{shown}, … ({len(ranks)})" if len(ranks) > 8 else shown


def _link(found: StepCommunication) -> str:
    gpu = found.hardware
    if gpu is None or gpu.link_bytes_per_s is None:
        return ""
    return f"{gpu.link_bytes_per_s / 1e9:.0f} GB/s is what one {gpu.name} sends over {gpu.link}"


def _lead(found: StepCommunication, late: Late | None) -> Sentence:
    """The longest kind, and the rank that others waited for most."""
    first, at = found.measured[0], _at(0)
    longest: Sentence = (
        "Most time goes to ", Name(_kind(first)), ": ", time(first.time_ns, f"{at}/time_ms"),
        " over all ranks",
    )  # fmt: skip
    if first.wait_ns is not None:
        longest += (", of it ", time(first.wait_ns, f"{at}/wait_ms"), " waiting for other ranks")
    if late is None:
        return (*longest, ".")
    return (
        *longest, f". Rank {late.rank} kept the others waiting the longest: for its ",
        Name(late.what), " they waited ", late.waited, " together.",
    )  # fmt: skip
