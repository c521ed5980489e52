"""Steps: where each begins and ends on the host - annotated, else repeated marks, else the whole."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lumos.build.threads import Segments, host_events, segment_threads
from lumos.graph.finding import CUT_OFF, CUT_OFF_ADVICE, Finding
from lumos.graph.job import NONE
from lumos.graph.trace import DEVICE_KINDS, MISSING, EventKind, Trace

_PROFILER_STEP = re.compile(r"ProfilerStep#?\*?\d*")
_MINIMUM_REPEATS = 3


@dataclass(frozen=True)
class Steps:
    """Steps in time order: names, begin and end on the host [ns], and how they were found.

    `source` is "ProfilerStep", "annotation", "repetition" or "whole"; `thread` is (pid, tid) of
    the thread that runs the steps, None where nothing marks it.
    """

    names: tuple[str, ...]
    begin_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    source: str
    thread: tuple[str, str] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def only(self, step: int) -> Steps:
        """One step of them."""
        return self.between(step, step + 1)

    def between(self, first: int, end: int) -> Steps:
        """Those from number `first` on, up to and without number `end`."""
        place = slice(first, end)
        return replace(
            self, names=self.names[place], begin_ns=self.begin_ns[place], end_ns=self.end_ns[place]
        )

    def step_at(self, time_ns: NDArray[np.int64]) -> NDArray[np.int32]:
        """The step that a host time belongs to; NONE before the first and behind the last.

        Time between two steps belongs to the earlier one.
        """
        place = np.searchsorted(self.begin_ns, time_ns, side="right") - 1
        outside = (place < 0) | (time_ns >= self.end_ns[-1])
        return np.where(outside, NONE, place).astype(np.int32)


def find_steps(trace: Trace, segments: Segments | None = None) -> Steps:
    """The steps of a trace: `ProfilerStep#`, else repeated annotations, else repeated operators.

    Its host segments are looked at, and made where they are not given, only where nothing is marked.
    """
    marked = _profiler_steps(trace) or _repeated_annotation(trace)
    if marked is not None:
        return marked
    if segments is None:
        segments = segment_threads(trace, host_events(trace))
    repeated = _repeated_operator(trace, segments)
    return _whole(trace, segments) if repeated is None else repeated


def find_common_steps(
    traces: Sequence[Trace],
) -> tuple[list[Steps | None], list[Finding]]:
    """The steps of each rank, by the same names on all; else each trace as one, which is told.

    Of a file that ends in the middle only the steps count that it holds to their end. Steps that
    the profiler numbered are the same under the same number, so those that all ranks have are taken;
    others only where a file was cut, for then all begin alike. One whole rank alone is not looked at:
    None.
    """
    cut = [any(finding.code == CUT_OFF for finding in trace.findings) for trace in traces]
    if len(traces) == 1 and not cut[0]:
        return [None], []
    findings, found = [], []
    for trace, is_cut in zip(traces, cut, strict=True):
        steps = find_steps(trace)
        held = _held(trace, steps) if is_cut else steps
        if len(held) < len(steps):
            findings.append(_step_cut_off(trace, steps, held))
        found.append(held or steps.only(0))
    first = found[0].names
    other = next((place for place, steps in enumerate(found) if steps.names != first), None)
    if other is None:
        return [*found], findings
    message = (
        f"the steps of {traces[0].source} ({_some(first)}) and of {traces[other].source} "
        f"({_some(found[other].names)}) are not the same"
    )
    advice = "trace the same steps on all ranks"
    numbered = all(steps.source == "ProfilerStep" for steps in found)
    common = _common(found) if numbered or any(cut) else None
    if common is None:
        message += ": each trace counts as one step"
        common = [_whole(trace, segment_threads(trace, host_events(trace))) for trace in traces]
    else:
        message += f": those count that all ranks have ({_some(common[0].names)})"
    return [*common], [*findings, Finding("steps-differ", "warning", message, None, advice)]


def _held(trace: Trace, steps: Steps) -> Steps:
    """The steps that a file which was cut holds to their end.

    Host events are known up to the last of them, device tasks about in the order of their launch:
    where something of both begins behind a step, the step is whole.
    """
    if steps.source == "whole":
        return steps
    issued_ns = _issued_ns(trace)
    last_ns = [
        int(begin_ns[rows].max())
        for begin_ns, rows in (
            (trace.start_ns, np.isin(trace.kind, (EventKind.OPERATOR, EventKind.CALL))),
            (issued_ns, np.isin(trace.kind, DEVICE_KINDS) & (issued_ns != _UNKNOWN_NS)),
        )
        if rows.any()
    ]
    whole = np.flatnonzero(steps.end_ns <= min(last_ns, default=0))
    return steps.between(0, int(whole[-1]) + 1 if len(whole) else 0)


def _step_cut_off(trace: Trace, steps: Steps, held: Steps) -> Finding:
    if held:
        what = f"{_some(steps.names[len(held) :])} left out, for the file ends in the middle"
    else:
        what = f"the file ends in the middle of {steps.names[0]}: figures are of a part of it"
    return Finding("step-cut-off", "warning", f"{trace.source}: {what}", None, CUT_OFF_ADVICE)


def _common(found: Sequence[Steps]) -> list[Steps] | None:
    """The steps of each that all have, where they are some and follow each other."""
    shared = set.intersection(*(set(steps.names) for steps in found))
    kept = []
    for steps in found:
        places = [place for place, name in enumerate(steps.names) if name in shared]
        if not places or places[-1] - places[0] + 1 != len(places):
            return None
        kept.append(steps.between(places[0], places[-1] + 1))
    return kept if len({steps.names for steps in kept}) == 1 else None


def _some(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)}: {names[0]} to {names[-1]}"


def _whole(trace: Trace, segments: Segments) -> Steps:
    begin = np.array(
        [segments.start_ns.min()] if len(segments) else [trace.start_ns.min()], np.int64
    )
    end = np.array([segments.end_ns.max()] if len(segments) else [trace.start_ns.max()], np.int64)
    return Steps(("whole",), begin, end, "whole")


def cut_to(trace: Trace, steps: Steps) -> Trace:
    """What a profiler that ran for these steps alone would have recorded.

    Host events that begin in them, the device tasks those launch, and earlier device tasks that
    were still to end when the first step began.
    """
    begin, end = int(steps.begin_ns[0]), int(steps.end_ns[-1])
    device = np.isin(trace.kind, (*DEVICE_KINDS, EventKind.SYNC, EventKind.DEVICE_ANNOTATION))
    inside = ~device & (trace.start_ns >= begin) & (trace.start_ns < end)
    issued_ns = np.where(device, _issued_ns(trace), _UNKNOWN_NS)
    ends = trace.start_ns + trace.duration_ns
    unissued = (issued_ns < begin) & (ends > begin) & (trace.start_ns < end)
    issued = (issued_ns >= begin) & (issued_ns < end)
    return trace.take(np.flatnonzero(inside | (device & (issued | unissued))))


_UNKNOWN_NS = np.iinfo(np.int64).min


def _issued_ns(trace: Trace) -> NDArray[np.int64]:
    """When the call began that issued each event; far in the past where none is known."""
    calls = np.flatnonzero((trace.kind == EventKind.CALL) & (trace.correlation != MISSING))
    issued_ns = np.full(len(trace), _UNKNOWN_NS)
    if len(calls):
        order = calls[np.argsort(trace.correlation[calls], kind="stable")]
        number = trace.correlation[order]
        place = np.minimum(np.searchsorted(number, trace.correlation), len(number) - 1)
        known = number[place] == trace.correlation
        issued_ns[known] = trace.start_ns[order[place[known]]]
    return issued_ns


def _profiler_steps(trace: Trace) -> Steps | None:
    is_step = np.array([_PROFILER_STEP.fullmatch(text) is not None for text in trace.strings], bool)
    rows = np.flatnonzero(
        np.isin(trace.kind, (EventKind.ANNOTATION, EventKind.OPERATOR)) & is_step[trace.name]
    )
    if not len(rows):
        return None
    rows = rows[np.argsort(trace.start_ns[rows], kind="stable")]
    # a step that shows on two threads counts once: where its first annotation stands
    _, first = np.unique(trace.name[rows], return_index=True)
    rows = rows[np.sort(first)]
    names = tuple(trace.text(name) for name in trace.name[rows])
    begin = trace.start_ns[rows]
    end = begin + trace.duration_ns[rows]
    end[:-1] = np.minimum(end[:-1], begin[1:])
    return Steps(names, begin, end, "ProfilerStep", _thread_of(trace, int(rows[0])))


def _repeated_annotation(trace: Trace) -> Steps | None:
    """An optimizer's annotations repeat once a step; a step runs from one `zero_grad` to the next."""
    rows = np.flatnonzero(trace.kind == EventKind.ANNOTATION)
    for mark in ("Optimizer.zero_grad#", "Optimizer.step#"):
        chosen = [row for row in rows if trace.text(trace.name[row]).startswith(mark)]
        names = {int(trace.name[row]) for row in chosen}
        if len(chosen) < _MINIMUM_REPEATS or len(names) != 1:
            continue
        marks = np.sort(trace.start_ns[np.array(chosen)])
        if mark == "Optimizer.step#":  # a step ends with its optimizer
            end = np.sort(trace.start_ns[np.array(chosen)] + trace.duration_ns[np.array(chosen)])
            return _between(end, "annotation", _thread_of(trace, int(chosen[0])))
        return _between(marks, "annotation", _thread_of(trace, int(chosen[0])))
    return None


def _thread_of(trace: Trace, row: int) -> tuple[str, str]:
    return trace.text(trace.process[row]), trace.text(trace.thread[row])


def _between(marks: NDArray[np.int64], source: str, thread: tuple[str, str] | None = None) -> Steps:
    """Steps from each mark to the next; what comes behind the last mark is no whole step."""
    names = tuple(f"step {number}" for number in range(len(marks) - 1))
    return Steps(names, marks[:-1], marks[1:], source, thread)


def _repeated_operator(trace: Trace, segments: Segments) -> Steps | None:
    """The longest period in which the busiest thread repeats the same top-level operators.

    A data loader's `enumerate(DataLoader)` marks steps where it shows at least three times.
    """
    rows = np.flatnonzero(trace.kind == EventKind.OPERATOR)
    loader = np.array([text.startswith("enumerate(DataLoader)") for text in trace.strings], bool)
    marks = rows[loader[trace.name[rows]]]
    if len(marks) >= _MINIMUM_REPEATS and len(set(trace.thread[marks].tolist())) == 1:
        return _between(np.sort(trace.start_ns[marks]), "repetition")
    if not len(segments):
        return None
    thread = int(np.bincount(segments.thread).argmax())
    top = segments.top[(segments.thread == thread) & (segments.top != NONE)]
    top = top[np.concatenate(([True], top[1:] != top[:-1]))] if len(top) else top
    period_first = _period(trace.name[top]) if len(top) else None
    if period_first is None:
        return None
    first, period = period_first
    return _between(trace.start_ns[top[first::period]], "repetition")


def _period(names: NDArray[np.int32]) -> tuple[int, int] | None:
    """(first, length) of a sequence of names repeated at least three times to the end, or None."""
    count = len(names)
    for period in range(2, count // _MINIMUM_REPEATS + 1):
        same = names[period:] == names[:-period]
        if not same[-1]:
            continue
        broken = np.flatnonzero(~same)
        first = int(broken[-1]) + 1 if len(broken) else 0
        if count - first >= (_MINIMUM_REPEATS + 1) * period and len(set(names[first:])) > 1:
            return first, period
    return None
