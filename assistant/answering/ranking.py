"""Which document answers the question: a weighted sum of standardised raw scores.

Each leg of the index says something else of a document: the cosine of its title, the cosine of its best
passages, BM25 of passages, of the whole text and of the title. Fused ranks forget how far one is ahead; raw
scores of different legs cannot be added. So each feature is standardised over the candidates of the question
(mean 0, deviation 1) and the sum is weighted by a weights file (``learned.py``). A candidate that a leg did
not find has that leg's lowest score.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

from assistant.answering.learned import Weights
from assistant.domain.retrieval import Retrieved

INDEX_FEATURES = (
    "title_cosine",
    "passage_cosine",
    "passage_cosine_2",
    "passage_score",
    "text_score",
    "title_score",
)
"""Raw features of a candidate that the index alone gives."""


@dataclass(frozen=True, slots=True)
class RankedDocument:
    """A candidate with its score; the best has the highest."""

    document_id: str
    score: float
    features: Mapping[str, float]
    """Raw; a feature that no leg gave is absent."""


def candidates(retrieved: Retrieved) -> dict[str, dict[str, float]]:
    """Return the raw features of every document that any leg found, by document id."""
    found: dict[str, dict[str, float]] = {
        hit.document_id: {
            name: value
            for name, value in (
                ("title_cosine", hit.title_cosine),
                ("title_score", hit.title_score),
                ("text_score", hit.text_score),
            )
            if value is not None
        }
        for hit in retrieved.documents
    }
    cosines: dict[str, list[float]] = {}
    for hit in retrieved.hits:
        features = found.setdefault(hit.document_id, {})
        if hit.lexical_score is not None:
            features["passage_score"] = max(features.get("passage_score", 0.0), hit.lexical_score)
        if hit.cosine is not None:
            cosines.setdefault(hit.document_id, []).append(hit.cosine)
    for document_id, values in cosines.items():
        values.sort(reverse=True)
        best = values[:2]
        found[document_id]["passage_cosine"] = best[0]
        found[document_id]["passage_cosine_2"] = sum(best) / len(best)
    return found


def rank(
    found: Mapping[str, Mapping[str, float]], *, weights: Weights, names: Sequence[str] = INDEX_FEATURES
) -> list[RankedDocument]:
    """Return the candidates, best first; ties by document id."""
    standard = standardised(found, names)
    ranked = [
        RankedDocument(document_id, weights.score(standard[document_id]), features)
        for document_id, features in found.items()
    ]
    ranked.sort(key=lambda one: (-one.score, one.document_id))
    return ranked


def standardised(
    found: Mapping[str, Mapping[str, float]], names: Iterable[str]
) -> dict[str, dict[str, float]]:
    """Return each feature with mean 0 and deviation 1 over the candidates."""
    standard: dict[str, dict[str, float]] = {document_id: {} for document_id in found}
    for name in names:
        present = [features[name] for features in found.values() if name in features]
        if not present:
            continue
        lowest = min(present)
        values = {document_id: features.get(name, lowest) for document_id, features in found.items()}
        mean = sum(values.values()) / len(values)
        deviation = sqrt(sum((value - mean) ** 2 for value in values.values()) / len(values))
        for document_id, value in values.items():
            standard[document_id][name] = (value - mean) / deviation if deviation > 1e-9 else 0.0
    return standard
