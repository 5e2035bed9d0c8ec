"""Hand-made questions and results."""

from __future__ import annotations

from typing import Any

from assistant.evaluation.questions import EvaluationQuestion, QuestionResult
from assistant.evaluation.runs import TenantRun

HELD_OUT, TUNING = "doc-2", "doc-0"
"""Documents of either half: see ``split_of``."""


def question(qid: str = "q1", **fields: Any) -> EvaluationQuestion:
    fields = {"kind": "plain", "question": "How long?", "documents": (HELD_OUT,), **fields}
    return EvaluationQuestion(qid=qid, **fields)


def unanswerable(qid: str = "u1", **fields: Any) -> EvaluationQuestion:
    return question(qid, kind="unanswerable", documents=(), near=HELD_OUT, **fields)


def result(asked: EvaluationQuestion | None = None, **fields: Any) -> QuestionResult:
    """Return a result: by default of an answerable question, found and right.

    ``fields``: those of the result, and values by measure.
    """
    asked = asked or question()
    known = asked.answerable
    base: dict[str, Any] = {
        "question": asked,
        "before": None,
        "is_found": known,
        "words": 40,
        "also_words": 0,
        "timings_ms": {"embed": 10.0, "total": 30.0},
        "parts": (),
    }
    base |= {name: fields.pop(name) for name in QuestionResult.model_fields.keys() & fields.keys()}
    measured = {"right": 1.0, "first": 1.0, "three": 1.0} if known else {}
    refused = {"refused" if known else "true_refused": float(not base["is_found"])}
    values = refused | measured | fields
    return QuestionResult.model_validate({"values": values, **base})


def run(*results: QuestionResult, **fields: Any) -> TenantRun:
    base: dict[str, Any] = {
        "tenant": "pharmacy",
        "questions": "evaluation/pharmacy.jsonl",
        "questions_sha256": "0" * 64,
        "index_version": "index-1",
        "embedding_model": "fake",
        "least_cosine": 0.4,
        "weights": {"ranker": "a" * 64},
        "seconds": 1.0,
        "results": results,
    }
    return TenantRun.model_validate({**base, **fields})
