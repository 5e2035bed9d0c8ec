"""Is there evidence for an answer? Decided before any model writes, from raw scores only.

Two numbers are looked at, never a fused score:

- the best raw cosine between the question and the passages that the agent will see;
- coverage: the share of the question's content terms that these passages contain, title and heading
  included. A term weighs the more the rarer its word; what the tenant's glossary knows is found by either
  side's word.

They are traded against each other on a line through the tenant's two thresholds::

    cosine + 0.5 · coverage  ≥  min_cosine + 0.5 · min_coverage

so that a question in a caller's own words (low coverage) passes on meaning, and one of few, rare, exactly
matched words passes on them. A code that the question names ("reject 79") and no passage holds is silence,
whatever the scores: a neighbouring code's passage is similar and wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from assistant.answering.passage_text import PassageText
from assistant.answering.vocabulary import Vocabulary, codes_in
from assistant.domain.answers import GateDecision
from assistant.domain.retrieval import RankedPassage, Retrieved
from assistant.settings import GateSection

COSINE_PER_COVERAGE = 0.5
"""How much cosine one unit of coverage is worth; measured on both tenants' tuning questions."""


@dataclass(frozen=True, slots=True)
class EvidenceFeatures:
    """What the gate looks at."""

    best_cosine: float
    coverage: float
    """0.0 to 1.0; 1.0 for a question without content terms, which only meaning can judge."""
    missing_terms: tuple[str, ...]
    """The question's words that no passage contains, heaviest first."""
    missing_codes: tuple[str, ...]


def evidence_features(
    question: str,
    passages: Sequence[RankedPassage],
    *,
    vocabulary: Vocabulary,
    texts: Sequence[PassageText] | None = None,
) -> EvidenceFeatures:
    """Measure the evidence that the passages hold for a question. ``texts`` are the same passages, where
    they were taken apart before."""
    if texts is None:
        texts = [PassageText(ranked.passage, language=vocabulary.language) for ranked in passages]
    stems = frozenset[str]().union(*(text.terms for text in texts))
    terms = vocabulary.terms(question)
    missing = sorted((term for term in terms if not term.forms & stems), key=lambda term: -term.weight)
    total = sum(term.weight for term in terms)
    codes = vocabulary.named_codes(question)
    whole = "\n".join(ranked.passage.embedding_input for ranked in passages) if codes else ""
    held = codes_in(whole)
    return EvidenceFeatures(
        best_cosine=max((ranked.cosine or 0.0 for ranked in passages), default=0.0),
        coverage=1.0 - sum(term.weight for term in missing) / total if total else 1.0,
        missing_terms=tuple(term.word for term in missing),
        missing_codes=tuple(code for code in codes if code not in held),
    )


def gate(
    question: str,
    retrieved: Retrieved,
    *,
    thresholds: GateSection,
    vocabulary: Vocabulary,
    texts: Sequence[PassageText] | None = None,
    follow_up: bool = False,
) -> GateDecision:
    """Decide whether the retrieved passages are evidence enough to answer the question.

    A follow-up is retrieved with the question before it joined on, so its cosine says as much of that one:
    when more than one of its own terms is missing, half the tenant's threshold of coverage must be held.
    """
    features = evidence_features(question, retrieved.passages, vocabulary=vocabulary, texts=texts)
    evidence = features.best_cosine + COSINE_PER_COVERAGE * features.coverage
    needed = thresholds.min_cosine + COSINE_PER_COVERAGE * thresholds.min_coverage
    elliptic = len(features.missing_terms) <= 1  # "and by mail?" leans on the question before it
    on_subject = not follow_up or elliptic or features.coverage >= thresholds.min_coverage / 2
    return GateDecision(
        passed=bool(retrieved.passages) and not features.missing_codes and evidence >= needed and on_subject,
        best_cosine=round(features.best_cosine, 4),
        coverage=round(features.coverage, 4),
        min_cosine=thresholds.min_cosine,
        min_coverage=thresholds.min_coverage,
        missing_terms=tuple(dict.fromkeys((*features.missing_codes, *features.missing_terms))),
    )


def explain(decision: GateDecision, *, passages: int) -> str:
    """Return what was looked at, for the agent."""
    if passages == 0:
        return "The knowledge base holds no passage that these filters and access rights let through."
    missing = ", ".join(f"“{term}”" for term in decision.missing_terms[:5])
    return (
        f"Looked at the {passages} best passages: similarity {decision.best_cosine:.2f} with "
        f"{decision.coverage:.0%} of the question's terms found (enough is {decision.min_cosine:.2f} with "
        f"{decision.min_coverage:.0%}, or more of the one for less of the other)"
        + (f"; nothing on {missing}." if missing else ".")
    )
