"""Across ranks: which collectives are one, on which clock, and which rows wait for each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lumos.build.arrivals import find_arrivals
from lumos.build.clocks import Clock, Message, align_clocks
from lumos.build.collectives import Communication
from lumos.build.device import HOST
from lumos.build.groups import infer_groups
from lumos.errors import UnusableInputError
from lumos.graph.finding import Finding
from lumos.graph.job import ALL_MEMBERS_WAIT, NONE, Collective, CollectiveKind, Program
from lumos.graph.meetings import Where, meetings, messages
from lumos.graph.timeline import RankTimeline
from lumos.graph.trace import ProcessGroup, Trace
from lumos.units import NS_PER_S

LONGEST_APART_NS = 600 * NS_PER_S
"""Clocks that nobody keeps drift by minutes at most: what is further apart is of another run."""


@dataclass(frozen=True)
class Matched:
    """Programs whose collectives name their groups, runs on one clock, and what was found."""

    programs: tuple[Program, ...]
    runs: tuple[RankTimeline, ...]
    groups: tuple[ProcessGroup, ...]
    findings: tuple[Finding, ...]


def match_ranks(
    traces: Sequence[Trace],
    programs: Sequence[Program],
    runs: Sequence[RankTimeline],
    described: Sequence[Sequence[Communication]],
) -> Matched:
    """Give every collective its group, drop groups that do not match, align the clocks.

    Raises UnusableInputError for a rank that nothing links and that ran at another time.
    """
    ranks = [trace.rank if trace.rank is not None else n for n, trace in enumerate(traces)]
    groups = _groups(traces, described)
    programs = [
        replace(program, collectives=tuple(_collective(one, groups, rank) for one in mine))
        for program, mine, rank in zip(programs, described, ranks, strict=True)
    ]
    findings: list[Finding] = []
    if len(traces) > 1 and len(groups) > 0:
        members = [[one.member for one in mine] for mine in described]
        programs, count = infer_groups(programs, runs, ranks, groups, members)
        if count:
            message = f"{count} collectives do not name their process group; it was told from what its members have in common"
            findings.append(Finding("group-inferred", "info", message))
    if len(traces) > 1 and not any(c.group != NONE for p in programs for c in p.collectives):
        programs, groups, finding = _assume_one_group(programs, ranks, groups)
        findings += finding
    programs, finding = _uncouple_unequal(programs, groups)
    findings += finding
    sent = messages(programs, ranks) if len(traces) > 1 else []
    clocks = _clocks(programs, runs, sent, [trace.host for trace in traces])
    findings += _clock_findings(ranks, clocks, programs)
    runs = [
        run
        if clock is None
        else replace(run, start_ns=clock.correct(run.start_ns), end_ns=clock.correct(run.end_ns))
        for run, clock in zip(runs, clocks, strict=True)
    ]
    _refuse_other_runs(traces, programs, runs, sent)
    programs, runs = find_arrivals(programs, runs, sent, described)
    return Matched(tuple(programs), tuple(runs), tuple(groups), tuple(findings))


def _refuse_other_runs(
    traces: Sequence[Trace],
    programs: Sequence[Program],
    runs: Sequence[RankTimeline],
    sent: Sequence[tuple[Where, Where]],
) -> None:
    """One run from here to there would be mostly nothing: traces of two jobs in one folder.

    Ranks of a fake world share nothing either, and are recorded one after another.
    """
    reference, begin, end = None, 0, 0
    for place, (trace, run) in enumerate(zip(traces, runs, strict=True)):
        if not len(run):
            continue
        low, high = int(run.start_ns.min()), int(run.end_ns.max())
        if reference is None:
            reference, begin, end = trace, low, high
            continue
        one_clock = trace.host == reference.host != "" and trace.backend != "fake"
        apart = max(low - end, begin - high)
        far = apart > (0 if one_clock else LONGEST_APART_NS)
        if far and place not in _linked(programs, sent):
            raise UnusableInputError(
                f"{reference.source} and {trace.source}: no collective and no message links them, "
                f"and they were recorded {_spelled(apart)} apart: give traces of one run only "
                "(lumos diff compares two)"
            )


def _linked(programs: Sequence[Program], sent: Sequence[tuple[Where, Where]]) -> set[int]:
    """Places of the ranks that share a collective or a message with another."""
    return {place for members in (*meetings(programs), *sent) for place, _ in members}


def _spelled(time_ns: int) -> str:
    seconds = time_ns / NS_PER_S
    return f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds:.1f} seconds"


def _groups(
    traces: Sequence[Trace], described: Sequence[Sequence[Communication]]
) -> list[ProcessGroup]:
    """The groups that the metadata lists, then those that only collectives mention.

    Names are reused by different ranks for different groups: a group is its name and its ranks.
    """
    known: dict[tuple[str, tuple[int, ...]], ProcessGroup] = {}
    for trace in traces:
        for group in trace.process_groups:
            known.setdefault((group.name, group.ranks), group)
    for mine in described:
        for one in mine:
            if one.group is not None and one.members:
                known.setdefault((one.group, one.members), ProcessGroup(one.group, "", one.members))
    return list(known.values())


def _collective(one: Communication, groups: Sequence[ProcessGroup], rank: int) -> Collective:
    number = NONE
    for place, group in enumerate(groups):
        named = group.name == one.group and rank in group.ranks
        if named and (not one.members or one.members == group.ranks):
            number = place
    peer = one.peer
    if peer == NONE and number != NONE and 0 <= one.member < len(groups[number].ranks):
        peer = groups[number].ranks[one.member]
    return Collective(one.kind, number, one.in_bytes, one.out_bytes, one.dtype, peer)


def _assume_one_group(
    programs: list[Program], ranks: list[int], groups: list[ProcessGroup]
) -> tuple[list[Program], list[ProcessGroup], list[Finding]]:
    """Without any metadata all traced ranks form one group, if their collectives read the same."""
    kinds = [[c.kind for c in program.collectives] for program in programs]
    if not kinds[0] or any(other != kinds[0] for other in kinds):
        return programs, groups, []
    group = ProcessGroup("assumed", "all traced ranks", tuple(ranks))
    number = len(groups)
    programs = [
        replace(p, collectives=tuple(replace(c, group=number) for c in p.collectives))
        for p in programs
    ]
    message = (
        f"the {len(kinds[0])} collectives of each rank name no process group, and read the same; "
        f"so all {len(ranks)} ranks are taken as one group"
    )
    advice = "" if groups else "record with a PyTorch of 2.4 or newer, which writes process groups"
    return programs, [*groups, group], [Finding("group-assumed", "info", message, None, advice)]


def _uncouple_unequal(
    programs: list[Program], groups: Sequence[ProcessGroup]
) -> tuple[list[Program], list[Finding]]:
    """A group whose members' collectives do not read the same is left uncoupled, and said so."""
    reads: dict[int, list[list[tuple[int, CollectiveKind]]]] = defaultdict(list)
    for program in programs:
        mine: dict[int, list[tuple[int, CollectiveKind]]] = defaultdict(list)
        for row in np.flatnonzero(program.rows.collective != NONE):
            one = program.collectives[program.rows.collective[row]]
            if one.group != NONE and one.kind in ALL_MEMBERS_WAIT:
                mine[one.group].append((int(program.rows.block[row]), one.kind))
        for group, order in mine.items():
            reads[group].append(order)
    unequal = {group for group, orders in reads.items() if any(o != orders[0] for o in orders)}
    findings = [
        Finding(
            "collectives-unmatched",
            "warning",
            f"the members of group {groups[group].name!r} ran different collectives; "
            "their recorded durations are kept, waiting included",
            None,
            "trace the same steps on all ranks",
        )
        for group in sorted(unequal)
    ]
    if not unequal:
        return programs, []
    return [
        replace(
            p,
            collectives=tuple(
                replace(c, group=NONE) if c.group in unequal else c for c in p.collectives
            ),
        )
        for p in programs
    ], findings


def _clocks(
    programs: Sequence[Program],
    runs: Sequence[RankTimeline],
    sent: Sequence[tuple[Where, Where]],
    hosts: Sequence[str],
) -> list[Clock | None]:
    """The clock of each rank, by its host, the ends of its collectives, else by its messages.

    A GPU has a clock of its own, which the profiler follows within microseconds only.
    """
    if len(programs) == 1:
        return [Clock(0.0, 0.0, 0)]
    ends: list[dict[tuple[object, ...], int]] = [{} for _ in programs]
    for number, members in enumerate(meetings(programs)):
        for place, row in members:
            ends[place][number,] = int(runs[place].end_ns[row])
    exchanged = [
        Message(sender, receiver, int(runs[sender].start_ns[send]), int(runs[receiver].end_ns[row]))
        for (sender, send), (receiver, row) in sent
    ]
    of_host = [
        host if all(one.device in (HOST, NONE) for one in program.processors) else ""
        for host, program in zip(hosts, programs, strict=True)
    ]
    return align_clocks(ends, exchanged, of_host)


def _clock_findings(
    ranks: Sequence[int], clocks: Sequence[Clock | None], programs: Sequence[Program]
) -> list[Finding]:
    if len(ranks) < 2:
        if any(program.collectives for program in programs):
            message = (
                "one rank alone: waiting for other ranks cannot be told from transfer, "
                "both stay inside the collectives' durations"
            )
            return [Finding("one-rank", "info", message, None, "trace all ranks of the job")]
        return []
    findings = []
    unlinked = [rank for rank, clock in zip(ranks, clocks, strict=True) if clock is None]
    if unlinked:
        message = f"no collective and no message links rank {', '.join(map(str, unlinked[:16]))} to rank {ranks[0]}; its clock is taken as it is"
        findings.append(Finding("clock-unlinked", "warning", message))
    offsets = [abs(clock.offset_ns) for clock in clocks if clock is not None]
    if offsets and max(offsets) > 100_000:
        message = f"clocks of the ranks were up to {max(offsets) / 1e6:.3f} ms apart and were aligned by the ends of collectives and messages"
        findings.append(Finding("clock-aligned", "info", message))
    return findings
