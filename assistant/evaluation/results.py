"""What one question came to: plain data, kept in a run and shown in its report."""

from __future__ import annotations

from typing import Literal

from assistant.domain.public import PublicModel
from assistant.evaluation.questions import EvaluationQuestion, Split

Outcome = Literal["answered", "possibly", "refused"]


class QuotedUnit(PublicModel):
    """One unit of a quote, with what is known of it."""

    heading: str
    text: str
    is_gold: bool
    is_condition: bool
    """It stands under a heading that states when the document applies."""
    holds: tuple[str, ...] = ()
    """Strings of the right answer in it."""
    telltale: tuple[str, ...] = ()
    """Strings of the other branch in it."""


class ShownQuote(PublicModel):
    """The units quoted of one document."""

    document_id: str
    title: str
    units: tuple[QuotedUnit, ...]


class RankedCandidate(PublicModel):
    """A document in the order of its rank, with the raw features behind its score."""

    document_id: str
    title: str
    score: float
    is_right: bool
    features: dict[str, float]


class PartResult(PublicModel):
    """One question of a message: of a double question there are two."""

    searched: str
    outcome: Outcome
    probability: float
    quote: ShownQuote | None
    also: ShownQuote | None
    ranking: tuple[RankedCandidate, ...]
    gate_features: dict[str, float]
    missing: tuple[str, ...]
    """Words of the question that the best document does not hold."""


class SubjectChange(PublicModel):
    """The same question asked after one about another document, in one conversation."""

    before: str
    """``qid`` of the question before."""
    same: bool
    """Outcome and quoted units are those of the question asked alone."""
    right: bool


class QuestionResult(PublicModel):
    """One question's result. Shares and probabilities are from 0 to 1."""

    question: EvaluationQuestion
    before: str | None
    """The question asked before it, of a follow-up."""
    outcome: Outcome
    probability: float
    right: bool
    """The quote holds every string of the right answer; false where the question was refused."""
    right_with_also: bool
    gold_covered: float | None
    """Share of the gold excerpts that the quote holds; None where there are none."""
    telltale: bool | None
    """The quote holds a string of the other branch; None where the question has none."""
    chance: float | None
    """Probability that as many random words of the right document hold the answer."""
    best_window: bool | None
    """Neighbouring units of the right document, as long as a quote may be, hold the answer."""
    first: float | None
    """Share of the right documents that are ranked first, each for one part of the message."""
    three: float | None
    rrf_first: float | None
    """The same of reciprocal rank fusion."""
    rrf_three: float | None
    words: int
    """Words shown to the agent in the quote, headings included."""
    also_words: int
    timings_ms: dict[str, float]
    without_unit_vectors: bool
    """The embedding endpoint was late each time: this quote is worse than it should be."""
    parts: tuple[PartResult, ...]
    change: SubjectChange | None = None

    @property
    def qid(self) -> str:
        return self.question.qid

    @property
    def split(self) -> Split:
        return self.question.split

    @property
    def cluster(self) -> str:
        """The document by which intervals are bootstrapped."""
        return self.question.document
