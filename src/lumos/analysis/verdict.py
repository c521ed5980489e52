"""The verdict: the biggest truth about a step, in sentences whose numbers name their place.

What could be saved is told by running the step again without it, so all claims are in one currency:
the time by which the step becomes shorter. Waste comes first (a rank that keeps the others waiting,
a host that keeps its device waiting, communication that nothing hides); only where there is hardly any
is the work itself the answer. Of two claims about the same time the one that names a cause counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from lumos.analysis.answers import Answers
from lumos.analysis.bounds import Bound, Rung
from lumos.analysis.cost import DATA_LOADING, Cost, Grouping
from lumos.analysis.sentence import Amount, Name, Sentence, change, share, time
from lumos.analysis.straggler_causes import Cause
from lumos.analysis.stragglers import Group, StepStragglers
from lumos.graph.job import CollectiveKind

LEAST_PCT = 3.0
"""A claim about less of the step than that is none."""
LEAST_WORK_PCT = 0.5
"""Work whose double speed saves less of the step than that limits nothing."""
MOST_CLAIMS = 2
MUCH_MORE = 2.0
"""A stage is blamed in place of one of its ranks where it costs so many times as much."""
SAME_TIME = 0.5
"""Where a cause accounts for this share of a wait, the wait is told by its cause alone."""


class Truth(Enum):
    """What limits a step, from what names a culprit to what is just work."""

    STRAGGLER = "straggler"
    DATA_LOADING = "data_loading"
    HOST = "host"
    BUBBLE = "bubble"
    WAITING = "waiting"
    COMMUNICATION = "communication"
    WORK = "work"
    NOTHING = "nothing"


@dataclass(frozen=True)
class Claim:
    """One thing that limits a step, what it costs [ns], and the sentence that says so.

    `explains` are the truths that are about the same time and name no cause.
    """

    truth: Truth
    gain_ns: int
    sentence: Sentence
    explains: frozenset[Truth] = frozenset()


@dataclass(frozen=True)
class Verdict:
    """The claims, the biggest first, and how much to believe them."""

    claims: tuple[Claim, ...]
    trust: Sentence


def verdict(answers: Answers) -> Verdict:
    """What limits the step that was looked at."""
    unchanged = answers.costs.unchanged
    least = max(unchanged.length_ns * LEAST_PCT / 100, unchanged.error_ns or 0)
    waste = sorted(waste_of(answers), key=lambda one: -one.gain_ns)
    claims = _distinct([one for one in waste if one.gain_ns >= least])[:MOST_CLAIMS]
    if len(claims) < MOST_CLAIMS:
        claims += [*_work(answers)]
    return Verdict(tuple(claims) or (_nothing(answers),), _trust(answers))


def waste_of(answers: Answers) -> Iterator[Claim]:
    """All that keeps the step from its work, however little, in no order."""
    yield from _straggler(answers)
    for place, bound in enumerate(answers.bounds.bounds):
        if bound.rung in _WORDS and bound.alone_ns is not None:
            yield _without_limit(answers, place, bound)
    for place, one in enumerate(answers.costs.costs):
        if one.by is Grouping.CLASS and one.label == DATA_LOADING:
            gain = time(one.gain_free_ns, f"/cost/steps/0/costs/{place}/gain_free_ms")
            yield Claim(
                Truth.DATA_LOADING,
                one.gain_free_ns,
                ("Loading data costs ", gain, *_of_step(answers, gain), "."),
                frozenset({Truth.HOST}),
            )


_WORDS = {
    Rung.NO_COMMUNICATION_WAIT: (Truth.WAITING, "Ranks that wait for each other cost "),
    Rung.PERFECT_OVERLAP: (Truth.COMMUNICATION, "Communication that nothing hides costs "),
    Rung.NO_BUBBLE: (Truth.BUBBLE, "Pipeline stages that wait for each other cost "),
    Rung.FAST_HOST: (Truth.HOST, "The device waits for its host: that costs "),
}


def _straggler(answers: Answers) -> Iterator[Claim]:
    """The rank that costs the step most, and why; or the stage, where a whole one is slow."""
    step, at = answers.stragglers.steps[answers.chosen], f"/stragglers/steps/{answers.chosen}"
    if len(step.ranks) < 2:
        return
    length = time(step.without_delay_ns, f"{at}/without_delay_ms")
    # what one late rank costs is waiting of all others
    explains = {Truth.WAITING, Truth.COMMUNICATION}
    rank, cost = _dearest(step, step.ranks, f"{at}/ranks")
    cause = step.causes[rank]
    words = None if cause is Cause.NONE else f"{_REASONS[cause].format(rank=rank)} every rank "
    if cause is Cause.HOST_STALL:
        explains.add(Truth.HOST)
    if step.stages is not None and len(step.stages) > 1:
        stage, together = _dearest(step, step.stages, f"{at}/stages")
        if (together.value or 0) > MUCH_MORE * (cost.value or 0):
            words, cost = f"Stage {stage} is slower than the others: that costs ", together
            explains = {Truth.WAITING, Truth.COMMUNICATION, Truth.BUBBLE}
    if words is not None:
        sentence = (words, cost, " of ", length, " (", share(cost, length), ").")
        yield Claim(Truth.STRAGGLER, int(cost.value or 0), sentence, frozenset(explains))


def _dearest(step: StepStragglers, groups: Mapping[int, Group], at: str) -> tuple[int, Amount]:
    """The group that costs most, and what it costs."""
    keys = list(groups)
    key = max(keys, key=lambda one: step.cost_ns(groups[one]))
    return key, time(step.cost_ns(groups[key]), f"{at}/{keys.index(key)}/cost_ms")


_REASONS = {
    Cause.HOST_STALL: "Rank {rank}'s host stalls cost",
    Cause.SLOW_COMPUTE: "Rank {rank} computes slowly: that costs",
    Cause.SLOW_LINK: "Rank {rank}'s transfers are slow: that costs",
    Cause.IMBALANCE: "Rank {rank} has more to do than others: that costs",
}


def _without_limit(answers: Answers, place: int, one: Bound) -> Claim:
    """What the step gains with one limit gone."""
    truth, words = _WORDS[one.rung]
    gain_ns = answers.bounds.unchanged.length_ns - (one.alone_ns or 0)
    gain = time(gain_ns, f"/cost/steps/0/bounds/{place}/alone_gain_ms")
    most: Sentence = ()
    if truth is Truth.COMMUNICATION and (cost := _most_costly(answers, communication=True)):
        most = ("; most of it is ", Name(cost[1].label.replace("_", " ")))
    # perfect overlap takes waiting away, too
    explains = frozenset({Truth.COMMUNICATION} if truth is Truth.WAITING else ())
    return Claim(truth, gain_ns, (words, gain, *_of_step(answers, gain), *most, "."), explains)


def _distinct(claims: list[Claim]) -> list[Claim]:
    """Claims without those whose time another one explains better."""
    return [
        one
        for one in claims
        if not any(
            one.truth in other.explains and other.gain_ns >= SAME_TIME * one.gain_ns
            for other in claims
        )
    ]


def _work(answers: Answers) -> Iterator[Claim]:
    """The class of work whose speed matters most."""
    found = _most_costly(answers, communication=False)
    if found is None:
        return
    place, one = found
    if answers.costs.unchanged.share_pct(one.gain_half_ns) < LEAST_WORK_PCT:
        return
    half = time(one.gain_half_ns, f"/cost/steps/0/costs/{place}/gain_half_ms")
    sentence = (
        "Of its work ", Name(one.label.replace("_", " ")), " matters most: twice as fast it would save ",
        half, *_of_step(answers, half), ".",
    )  # fmt: skip
    yield Claim(Truth.WORK, one.gain_half_ns, sentence)


def _most_costly(answers: Answers, *, communication: bool) -> tuple[int, Cost] | None:
    """The class of largest gain, twice as fast, and its place among the costs."""
    for place, one in enumerate(answers.costs.costs):
        matches = one.by is Grouping.CLASS and one.label not in (DATA_LOADING, "host")
        if matches and (one.label in _KINDS) is communication and one.gain_half_ns > 0:
            return place, one
    return None


_KINDS = frozenset(kind.name.lower() for kind in CollectiveKind) | {"collective"}


def _nothing(answers: Answers) -> Claim:
    length = time(answers.costs.unchanged.length_ns, "/cost/steps/0/length_ms")
    return Claim(
        Truth.NOTHING, 0, ("No part of the step by itself would make its ", length, " shorter.")
    )


def _of_step(answers: Answers, gain: Amount) -> Sentence:
    length = time(answers.costs.unchanged.length_ns, "/cost/steps/0/length_ms")
    return (" of ", length, " (", share(gain, length), ")")


def _trust(answers: Answers) -> Sentence:
    """How far the model is off, for the step and at worst."""
    step, at = answers.step, f"/replay/steps/{answers.chosen}"
    error = change(step.error_pct, f"{at}/error_pct")
    sentence: Sentence = (
        "Replayed from rules alone the step is ", error, " off: ", time(step.replayed_ns, f"{at}/replayed_ms"),
        " against ", time(step.measured_ns, f"{at}/measured_ms"), " measured.",
    )  # fmt: skip
    known = [one for one in answers.steps if one.error_pct is not None]
    if len(known) > 1:
        worst = max(known, key=lambda one: abs(one.error_pct or 0.0))
        place = answers.steps.index(worst)
        sentence += (
            " The worst of ", f"{len(known)} steps is off by ",
            change(worst.error_pct, f"/replay/steps/{place}/error_pct"), ".",
        )  # fmt: skip
    return sentence
