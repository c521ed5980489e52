"""The verdict: the biggest truth about a step, in sentences whose numbers name their place.

What could be saved is told by running the step again without it, so all claims are in one currency:
the time by which the step becomes shorter. Waste comes first (a rank that keeps the others waiting,
a host that keeps its device waiting, communication that nothing hides); only where there is hardly any
is the work itself the answer. Of two claims about the same time the one that names a cause counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from lumos.analysis.answers import Answers
from lumos.analysis.bounds import Bound, Rung
from lumos.analysis.cost import DATA_LOADING, Cost, Grouping
from lumos.analysis.sentence import Amount, Name, Sentence, change, share, time
from lumos.graph.job import CollectiveKind

LEAST_PCT = 3.0
"""A claim about less of the step than that is none."""
MOST_CLAIMS = 2
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
    """One thing that limits a step, what it costs [ns], and the sentence that says so."""

    truth: Truth
    gain_ns: int
    sentence: Sentence


@dataclass(frozen=True)
class Verdict:
    """The claims, the biggest first, and how much to believe them."""

    claims: tuple[Claim, ...]
    trust: Sentence


def verdict(answers: Answers) -> Verdict:
    """What limits the step that was looked at."""
    unchanged = answers.costs.unchanged
    least = max(unchanged.length_ns * LEAST_PCT / 100, unchanged.error_ns or 0)
    waste = [one for one in _waste(answers) if one.gain_ns >= least]
    waste.sort(key=lambda one: -one.gain_ns)
    claims = _distinct(waste)[:MOST_CLAIMS]
    if len(claims) < MOST_CLAIMS:
        claims += [*_work(answers)]
    return Verdict(tuple(claims) or (_nothing(answers),), _trust(answers))


def _waste(answers: Answers) -> Iterator[Claim]:
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
            )


_WORDS = {
    Rung.NO_COMMUNICATION_WAIT: (Truth.WAITING, "Ranks that wait for each other cost "),
    Rung.PERFECT_OVERLAP: (Truth.COMMUNICATION, "Communication that nothing hides costs "),
    Rung.NO_BUBBLE: (Truth.BUBBLE, "Pipeline stages that wait for each other cost "),
    Rung.FAST_HOST: (Truth.HOST, "The device waits for its host: that costs "),
}


def _without_limit(answers: Answers, place: int, one: Bound) -> Claim:
    """What the step gains with one limit gone."""
    truth, words = _WORDS[one.rung]
    gain_ns = answers.bounds.unchanged.length_ns - (one.alone_ns or 0)
    gain = time(gain_ns, f"/cost/steps/0/bounds/{place}/alone_gain_ms")
    most: Sentence = ()
    if truth is Truth.COMMUNICATION and (cost := _most_costly(answers, communication=True)):
        most = ("; most of it is ", Name(cost[1].label.replace("_", " ")))
    return Claim(truth, gain_ns, (words, gain, *_of_step(answers, gain), *most, "."))


def _distinct(claims: list[Claim]) -> list[Claim]:
    """Claims without those whose time another one explains better.

    Perfect overlap takes waiting away, too; what one late rank costs is waiting of all others.
    """
    gain = {one.truth: one.gain_ns for one in claims}

    def explained(truth: Truth, *causes: Truth) -> bool:
        return any(gain.get(cause, 0) >= SAME_TIME * gain[truth] for cause in causes)

    return [
        one
        for one in claims
        if not (
            (one.truth is Truth.WAITING and explained(one.truth, Truth.STRAGGLER))
            or (
                one.truth is Truth.COMMUNICATION
                and explained(one.truth, Truth.STRAGGLER, Truth.WAITING)
            )
        )
    ]


def _work(answers: Answers) -> Iterator[Claim]:
    """The class of work whose speed matters most."""
    found = _most_costly(answers, communication=False)
    if found is None:
        return
    place, one = found
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
