"""What `lumos critical-path --json` prints, in milliseconds and percent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lumos.analysis.path_hops import Hop
from lumos.analysis.path_segments import Segment
from lumos.analysis.path_sums import Part
from lumos.analysis.step_path import NearCritical, StepPath
from lumos.graph.finding import Finding
from lumos.graph.job import Placement
from lumos.report.documents.encoding import (
    Document,
    finding_document,
    job_document,
    milliseconds,
    percentage,
)

CRITICAL_PATH_SCHEMA = "lumos.critical_path/1"


def critical_path_document(
    placement: Placement, steps: Iterable[StepPath], findings: Iterable[Finding]
) -> Document:
    """What `lumos critical-path --json` prints; schemas/critical_path-1.json describes it."""
    return {
        "schema": CRITICAL_PATH_SCHEMA,
        "job": job_document(placement),
        "steps": [_step(step) for step in steps],
        "findings": [finding_document(finding) for finding in findings],
    }


def _step(found: StepPath) -> Document:
    sums, begin = found.sums, found.path.begin_ns
    return {
        "step": found.step,
        "run": found.ran.value,
        "makespan_ms": milliseconds(found.makespan_ns),
        "length_ms": milliseconds(found.path.length_ns),
        "error_pct": percentage(found.error_pct),
        "on_tasks_ms": milliseconds(int(found.path.own_ns.sum())),
        "unexplained_ms": milliseconds(found.part_ns(Part.UNEXPLAINED)),
        "by_part": {part.value: milliseconds(found.part_ns(part)) for part in Part},
        "by_kind": _table(sums.by_kind),
        "by_rule": _table(sums.by_rule),
        "by_rank": _table(sums.by_rank),
        "by_stream": _table(sums.by_stream),
        "by_layer": _table(sums.by_layer),
        "by_phase": _table(sums.by_phase),
        "by_operator": _table(sums.by_operator),
        "tasks": len(found.path),
        "segment_count": found.segment_count,
        "segments": [_segment(one, begin) for one in found.segments],
        "hops": [_hop(one, begin) for one in found.hops],
        "near_critical": [_near(one) for one in found.near],
    }


def _table(sums: Mapping[str, int] | Mapping[int, int]) -> Document:
    return {str(key): milliseconds(time) for key, time in sums.items()}


def _segment(one: Segment, begin_ns: int) -> Document:
    return {
        "number": one.number,
        "rank": one.rank,
        "stream": one.stream,
        "phase": one.phase,
        "rule": one.rule,
        "start_ms": milliseconds(one.start_ns - begin_ns),
        "length_ms": milliseconds(one.length_ns),
        "lag_ms": milliseconds(one.lag_ns),
        "unexplained_ms": milliseconds(one.unexplained_ns),
        "starting_state_ms": milliseconds(one.earlier_ns),
        "tasks": one.tasks,
        "kinds": _table(dict(one.kinds)),
        "operators": _table(dict(one.operators)),
    }


def _hop(one: Hop, begin_ns: int) -> Document:
    return {
        "kind": one.kind,
        "rank": one.rank,
        "stream": one.stream,
        "task": one.task,
        "start_ms": milliseconds(one.start_ns - begin_ns),
        "length_ms": milliseconds(one.length_ns),
        "task_ms": milliseconds(one.task_ns),
    }


def _near(one: NearCritical) -> Document:
    return {
        "rank": one.rank,
        "stream": one.stream,
        "kind": one.kind,
        "tasks": one.tasks,
        "own_ms": milliseconds(one.own_ns),
        "least_slack_ms": milliseconds(one.least_slack_ns),
    }
