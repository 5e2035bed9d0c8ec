"""Whether an answer's citations point at documents that answer the question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from assistant.domain.answers import FinishReason
from assistant.evaluating.questions import EvaluationQuestion


@dataclass(frozen=True, slots=True)
class AnsweredQuestion:
    """What came back for one question: documents by source number, and the numbers it cited."""

    question: EvaluationQuestion
    finish_reason: FinishReason
    documents: dict[int, str]
    cited: tuple[int, ...]
    sentences: int
    supported: int
    text: str


@dataclass(frozen=True, slots=True)
class CitationQuality:
    answered: int
    with_citation: int
    citation_precision: float
    """Cited sources whose document is relevant, over all cited sources."""
    correct_answers: float
    """Answered questions with at least one citation of a relevant document."""
    supported_sentences: float
    expected_strings: float
    """Answered questions whose text holds one of the strings that a right answer holds."""


def citation_quality(answers: Sequence[AnsweredQuestion]) -> CitationQuality:
    """Judge the answers of answerable questions that were written by the model."""
    written = [
        a
        for a in answers
        if a.question.answerable and a.finish_reason in (FinishReason.STOP, FinishReason.LENGTH)
    ]
    right = [sum(a.documents[n] in a.question.relevant for n in a.cited) for a in written]
    cited = sum(len(a.cited) for a in written)
    sentences = sum(a.sentences for a in written)
    return CitationQuality(
        answered=len(written),
        with_citation=sum(bool(a.cited) for a in written),
        citation_precision=sum(right) / cited if cited else 0.0,
        correct_answers=sum(r > 0 for r in right) / len(written) if written else 0.0,
        supported_sentences=sum(a.supported for a in written) / sentences if sentences else 0.0,
        expected_strings=(
            sum(any(s in a.text for s in a.question.answer_contains) for a in written) / len(written)
            if written
            else 0.0
        ),
    )
