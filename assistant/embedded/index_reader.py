"""The reading side of the embedded index: the legs of passages and of documents under one filter.

Imports the engines: load it only where it is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from assistant.domain.documents import (
    VECTOR_LEG_WEIGHT,
    DocumentHit,
    Passage,
    PassageHit,
    PassageQuery,
    RankedPassage,
    Retrieved,
    StoredDocument,
    reciprocal_rank_fusion,
)
from assistant.embedded import lexical
from assistant.embedded import passage_rows as rows
from assistant.embedded.index_follower import IndexFollower, IndexView
from assistant.embedded.vectors import VectorMatrix

LEXICAL_MARGIN = 2
"""tantivy is asked for this many times the leg: ties at its end are then ordered by passage id, and hits
that a write in progress took away do not shorten the leg."""
_COUNTS = 5
"""A writer may commit between the reading of vectors and the counting of passages."""
SCORE_DECIMALS = 5
Leg = list[tuple[int, float]]
"""(row, score), best first"""


class IndexReader:
    """Searches of one version's folder; not for two threads at once."""

    def __init__(self, folder: Path, *, index_version: str, dimensions: int) -> None:
        self._index_version = index_version
        self._follower = IndexFollower(folder, dimensions=dimensions)

    def close(self) -> None:
        self._follower.close()

    def counts(self) -> tuple[int, int, rows.IndexMeta]:
        """Return (passages, documents, counters); zeros when there is no index yet.

        Raises ValueError when there are passages without a vector, or vectors without a passage.
        """
        passages = vectors = 0
        for _ in range(_COUNTS):
            view = self._follower.refresh()
            if view is None:
                return 0, 0, rows.IndexMeta()
            passages, documents = rows.count_rows(view.connection)
            vectors = len(view.passages)
            if passages == vectors:
                return passages, documents, view.seen
        raise ValueError(f"the index has {passages} passages and {vectors} vectors")

    def search(self, queries: Sequence[PassageQuery]) -> list[Retrieved]:
        """Answer several queries as of one moment."""
        view = self._follower.refresh()
        if view is None:
            nothing = Retrieved(passages=(), best_cosine=0.0, index_version=self._index_version)
            return [nothing for _ in queries]
        vectors = [query.vector for query in queries]
        cosines = zip(view.passages.cosines(vectors), view.titles.cosines(vectors), strict=True)
        return [
            self._answer(view, query, of_passages, of_titles)
            for query, (of_passages, of_titles) in zip(queries, cosines, strict=True)
        ]

    def read_documents(
        self, document_ids: Sequence[str], *, labels: frozenset[str]
    ) -> dict[str, StoredDocument]:
        """Return the documents that ``labels`` let through, in the order asked for."""
        view = self._follower.refresh()
        if view is None:
            return {}
        documents = rows.documents_of(view.connection, document_ids, with_units=True)
        found = {document.card.document_id: document for document in documents}
        return {
            document_id: StoredDocument(
                card=document.card, passages=tuple(passage for _, passage in document.passages)
            )
            for document_id in document_ids
            if (document := found.get(document_id)) is not None
            and (not document.card.labels or labels.intersection(document.card.labels))
        }

    def _answer(
        self,
        view: IndexView,
        query: PassageQuery,
        passage_cosines: NDArray[np.float32],
        title_cosines: NDArray[np.float32],
    ) -> Retrieved:
        words = _lexical_leg(view, view.passages, "passages", query)
        vector = view.passages.best(
            passage_cosines, filters=query.filters, labels=query.labels, limit=query.leg_size
        )
        cosines = view.passages.at(passage_cosines, list(dict([*words, *vector])))
        hits = _passage_hits(view, dict(words), cosines)
        return Retrieved(
            passages=_ranked(view, query, words=words, vector=vector, cosines=cosines),
            best_cosine=vector[0][1] if vector else 0.0,
            index_version=self._index_version,
            hits=hits,
            documents=_document_hits(view, query, title_cosines, of_hits={hit.document_id for hit in hits}),
        )


def _lexical_leg(view: IndexView, matrix: VectorMatrix, leg: lexical.Leg, query: PassageQuery) -> Leg:
    hits = view.lexical.search(
        leg, query.text, filters=query.filters, labels=query.labels, limit=LEXICAL_MARGIN * query.leg_size
    )
    known = [(row, round(score, SCORE_DECIMALS)) for row, score in hits if row in matrix]
    known.sort(key=lambda hit: (-hit[1], matrix.name(hit[0])))
    return known[: query.leg_size]


def _passage_hits(
    view: IndexView, scores: Mapping[int, float], cosines: Mapping[int, float]
) -> tuple[PassageHit, ...]:
    hits = [
        PassageHit(
            passage_id=view.passages.name(row),
            document_id=view.passages.document_id(row),
            lexical_score=scores.get(row),
            cosine=cosine,
        )
        for row, cosine in cosines.items()
    ]
    return tuple(sorted(hits, key=lambda hit: hit.passage_id))


def _document_hits(
    view: IndexView, query: PassageQuery, cosines: NDArray[np.float32], *, of_hits: set[str]
) -> tuple[DocumentHit, ...]:
    """Return the documents of the three legs of documents and those of the passages' hits."""
    titles = view.titles
    nearest = titles.best(cosines, filters=query.filters, labels=query.labels, limit=query.leg_size)
    title_scores = _best_of_documents(titles, _lexical_leg(view, titles, "titles", query))
    text_scores = _best_of_documents(titles, _lexical_leg(view, titles, "texts", query))
    listed = of_hits.union(title_scores, text_scores, _best_of_documents(titles, nearest))
    title_cosines = titles.best_of_documents(cosines, listed)
    return tuple(
        DocumentHit(
            document_id=document_id,
            title_cosine=title_cosines.get(document_id),
            title_score=title_scores.get(document_id),
            text_score=text_scores.get(document_id),
        )
        for document_id in sorted(listed)
    )


def _best_of_documents(titles: VectorMatrix, leg: Leg) -> dict[str, float]:
    """Return each document's best score: the leg is best first."""
    best: dict[str, float] = {}
    for row, score in leg:
        best.setdefault(titles.document_id(row), score)
    return best


def _ranked(
    view: IndexView, query: PassageQuery, *, words: Leg, vector: Leg, cosines: Mapping[int, float]
) -> tuple[RankedPassage, ...]:
    """Fuse the two legs of passages and return the best with the legs' ranks and scores."""
    fused = reciprocal_rank_fusion(
        [[str(row) for row, _ in leg] for leg in (words, vector)], weights=(1.0, VECTOR_LEG_WEIGHT)
    )
    best = [(int(row), score) for row, score in list(fused.items())[: query.size]]
    passages: dict[int, Passage] = rows.passages_at(view.connection, [row for row, _ in best])
    scores = dict(words)
    lexical_ranks = {row: rank for rank, (row, _) in enumerate(words, start=1)}
    vector_ranks = {row: rank for rank, (row, _) in enumerate(vector, start=1)}
    kept = [(row, score) for row, score in best if row in passages]
    return tuple(
        RankedPassage(
            passage=passages[row],
            rank=rank,
            fused_score=score,
            lexical_rank=lexical_ranks.get(row),
            lexical_score=scores.get(row),
            vector_rank=vector_ranks.get(row),
            cosine=cosines[row],
        )
        for rank, (row, score) in enumerate(kept, start=1)
    )
