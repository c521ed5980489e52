"""What `lumos report --json` prints: what the other verbs print about the step, in one object."""

from __future__ import annotations

from lumos.analysis.answers import Answers
from lumos.analysis.verdict import verdict
from lumos.report.documents.breakdown import breakdown_document
from lumos.report.documents.communication import communication_document
from lumos.report.documents.cost import cost_document
from lumos.report.documents.critical_path import critical_path_document
from lumos.report.documents.encoding import Document, milliseconds
from lumos.report.documents.replay import replay_document
from lumos.report.documents.stragglers import stragglers_document
from lumos.report.page.texts import sentence_text

REPORT_SCHEMA = "lumos.report/1"


def report_document(answers: Answers, title: str) -> Document:
    """What `lumos report --json` prints; schemas/report-1.json describes it."""
    found = verdict(answers)
    placement, findings = answers.job.placement, answers.findings
    return {
        "schema": REPORT_SCHEMA,
        "title": title,
        "step": answers.step.step,
        "verdict": [
            {
                "truth": claim.truth.value,
                "gain_ms": milliseconds(claim.gain_ns),
                "sentence": sentence_text(claim.sentence),
            }
            for claim in found.claims
        ],
        "trust": sentence_text(found.trust),
        "replay": replay_document(placement, answers.steps, (), findings),
        "critical_path": critical_path_document(placement, [answers.path], findings),
        "critical_path_measured": critical_path_document(
            placement, [answers.measured_path], findings
        ),
        "cost": cost_document(placement, [(answers.costs, answers.bounds)], findings),
        "breakdown": breakdown_document(placement, [answers.breakdown], findings),
        "communication": communication_document(placement, [answers.communication], findings),
        "stragglers": stragglers_document(placement, answers.stragglers, findings),
    }
