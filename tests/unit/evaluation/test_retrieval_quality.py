from datetime import UTC, datetime

import pytest

from assistant.domain.documents import Passage, RankedPassage, Span
from assistant.evaluation.measures import ranked_documents, retrieval_quality
from assistant.evaluation.questions import EvaluationQuestion


def ranked(passage_id: str, *, rank: int, lexical: int | None, vector: int | None) -> RankedPassage:
    document_id = passage_id.split("#", maxsplit=1)[0]
    passage = Passage(
        passage_id=passage_id,
        document_id=document_id,
        content_hash="",
        ordinal=0,
        title="",
        heading="",
        text="",
        span=Span(0, 0),
        token_count=0,
        source="",
        type="",
        url=None,
        updated_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    return RankedPassage(
        passage=passage,
        rank=rank,
        fused_score=0,
        lexical_rank=lexical,
        lexical_score=None,
        vector_rank=vector,
        cosine=None,
    )


def test_documents_are_distinct_and_ordered_by_their_best_passage_in_each_leg() -> None:
    passages = [
        ranked("a#0", rank=1, lexical=3, vector=None),
        ranked("b#0", rank=2, lexical=1, vector=2),
        ranked("a#1", rank=3, lexical=None, vector=1),
    ]
    assert ranked_documents(passages, leg="hybrid") == ["a", "b"]
    assert ranked_documents(passages, leg="bm25") == ["b", "a"]
    assert ranked_documents(passages, leg="vectors") == ["a", "b"]


def question(qid: str, *relevant: str) -> EvaluationQuestion:
    return EvaluationQuestion(
        qid=qid, kind="plain" if relevant else "unanswerable", question="?", documents=relevant
    )


def test_measures_over_answerable_questions_only() -> None:
    questions = [question("q1", "a"), question("q2", "b"), question("u1")]
    quality = retrieval_quality(questions, {"q1": ["a", "x"], "q2": ["x", "b"], "u1": ["x"]})
    assert quality["mrr"] == pytest.approx(0.75)
    assert quality["recall@5"] == 1.0
    assert 0.8 < quality["ndcg@10"] < 0.82


def test_a_question_with_no_result_counts_as_zero() -> None:
    quality = retrieval_quality([question("q1", "a"), question("q2", "b")], {"q1": ["a"], "q2": []})
    assert quality["recall@5"] == 0.5
