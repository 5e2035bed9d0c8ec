"""What retrieval returns: passages with both legs' ranks and raw scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import AwareDatetime, Field

from assistant.domain.documents import DocumentCard, Passage
from assistant.domain.public import PublicModel

RRF_K = 60
"""Rank constant of reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009)."""
VECTOR_LEG_WEIGHT = 1.5
"""Of the vector leg, against 1 of the lexical one: chosen on both tenants' tuning questions with their
glossaries off, for these were written from the same questions and flatter the lexical leg."""


class SearchFilters(PublicModel):
    """Filters that a client may send. Access labels are not among them: they come only from the token."""

    source: tuple[str, ...] = Field(default=(), max_length=50)
    type: tuple[str, ...] = Field(default=(), max_length=50)
    document_id: tuple[str, ...] = Field(default=(), max_length=50)
    updated_after: AwareDatetime | None = None


@dataclass(frozen=True, slots=True)
class PassageQuery:
    """One hybrid query: the same filter stands over both legs."""

    text: str
    vector: Sequence[float]
    """Unit-length question vector, shape (dimensions,)."""
    filters: SearchFilters
    labels: frozenset[str]
    """The agent's access labels: a passage with labels is visible only if it shares one."""
    leg_size: int = 100
    size: int = 10


@dataclass(frozen=True, slots=True)
class RankedPassage:
    """A passage with its fused rank (1 is best) and what each leg said of it."""

    passage: Passage
    rank: int
    fused_score: float
    lexical_rank: int | None
    lexical_score: float | None
    vector_rank: int | None
    cosine: float | None
    """Raw cosine between question and passage, for every passage the vector leg returned."""


@dataclass(frozen=True, slots=True)
class PassageHit:
    """A passage that a leg found, without its text."""

    passage_id: str
    document_id: str
    lexical_score: float | None
    """Raw BM25; None when the lexical leg did not find it."""
    cosine: float | None


@dataclass(frozen=True, slots=True)
class DocumentHit:
    """What the index says of a whole document, raw; None where a leg of documents did not find it."""

    document_id: str
    title_cosine: float | None
    """Best cosine between the question and the document's title or one of its questions."""
    title_score: float | None
    """Best BM25 of the title or one of its questions."""
    text_score: float | None
    """BM25 of the whole text."""


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The answer of the passage index."""

    passages: tuple[RankedPassage, ...]
    """The best ``query.size`` passages, fused by RRF."""
    best_cosine: float
    """Best raw cosine over the whole vector leg; 0.0 when it is empty."""
    index_version: str
    hits: tuple[PassageHit, ...] = ()
    """Every passage of both legs, by passage id."""
    documents: tuple[DocumentHit, ...] = ()
    """Every document of the three legs of documents, and of every passage in ``hits``, by document id."""


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document as the index holds it: all its passages in order, with their units."""

    card: DocumentCard
    passages: tuple[Passage, ...]


@dataclass(frozen=True, slots=True)
class KnownWords:
    """The words of a tenant's knowledge that every agent may see: of documents without labels."""

    words: Mapping[str, int]
    """Folded word → number of documents that hold it."""
    abbreviations: Mapping[str, str]
    """Folded short form → long form. A short form that documents define differently is left out."""


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """What the index was built with."""

    index_version: str
    embedding_model: str
    dimensions: int
    passage_count: int
    document_count: int
    updated_at: datetime | None


def reciprocal_rank_fusion(
    legs: Sequence[Sequence[str]], *, weights: Sequence[float] | None = None, k: int = RRF_K
) -> Mapping[str, float]:
    """Fuse ranked lists of ids: score(id) = Σ over legs of weight / (k + rank), rank from 1, weight 1 a leg
    unless given.

    The mapping is ordered best first; ties keep the order of first appearance.
    """
    scores: dict[str, float] = {}
    for leg, weight in zip(legs, weights or [1.0] * len(legs), strict=True):
        for rank, passage_id in enumerate(leg, start=1):
            scores[passage_id] = scores.get(passage_id, 0.0) + weight / (k + rank)
    return dict(sorted(scores.items(), key=lambda item: -item[1]))
