"""Hand-made questions and results."""

from __future__ import annotations

from typing import Any

from assistant.evaluation.measures import Judged, TenantRun
from assistant.evaluation.questions import EvaluationQuestion

HELD_OUT, TUNING = "doc-2", "doc-0"
"""Documents of either half: see ``split_of``."""


def question(qid: str = "q1", **fields: Any) -> EvaluationQuestion:
    fields = {"kind": "plain", "question": "How long?", "documents": (HELD_OUT,), **fields}
    return EvaluationQuestion(qid=qid, **fields)


def unanswerable(qid: str = "u1", **fields: Any) -> EvaluationQuestion:
    return question(qid, kind="unanswerable", documents=(), near=HELD_OUT, **fields)


def result(asked: EvaluationQuestion | None = None, **values: float) -> Judged:
    """Return a result: by default of an answerable question, found and right. ``values``: by measure."""
    asked = asked or question()
    usual = {"refused": 0.0, "right": 1.0, "first": 1.0} if asked.answerable else {"true_refused": 1.0}
    return Judged(asked.qid, asked.document, usual | values)


def run(*results: Judged, tenant: str = "pharmacy") -> TenantRun:
    return TenantRun(tenant=tenant, questions_sha256="0" * 64, results=results)
