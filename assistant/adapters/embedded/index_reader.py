"""The reading side of the embedded index: both legs under one filter, fused.

Imports the engines: load it only where it is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from assistant.adapters.embedded import passage_rows as rows
from assistant.adapters.embedded.index_follower import IndexFollower, IndexView
from assistant.domain.documents import Passage
from assistant.domain.retrieval import (
    VECTOR_LEG_WEIGHT,
    PassageQuery,
    RankedPassage,
    Retrieved,
    reciprocal_rank_fusion,
)

LEXICAL_MARGIN = 2
"""tantivy is asked for this many times the leg: ties at its end are then ordered by passage id, and hits
that a write in progress took away do not shorten the leg."""
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
        """Return (passages, documents, counters); zeros when there is no index yet."""
        view = self._follower.refresh()
        if view is None:
            return 0, 0, rows.IndexMeta()
        return *rows.count_rows(view.connection), view.seen

    def search(self, queries: Sequence[PassageQuery]) -> list[Retrieved]:
        """Answer several queries as of one moment."""
        view = self._follower.refresh()
        if view is None:
            nothing = Retrieved(passages=(), best_cosine=0.0, index_version=self._index_version)
            return [nothing for _ in queries]
        cosines = view.matrix.cosines([query.vector for query in queries])
        return [self._answer(view, query, of_all) for query, of_all in zip(queries, cosines, strict=True)]

    def _answer(self, view: IndexView, query: PassageQuery, cosines: NDArray[np.float32]) -> Retrieved:
        lexical = _lexical_leg(view, query)
        vector = view.matrix.best(cosines, filters=query.filters, labels=query.labels, limit=query.leg_size)
        fused = reciprocal_rank_fusion(
            [[str(row) for row, _ in leg] for leg in (lexical, vector)], weights=(1.0, VECTOR_LEG_WEIGHT)
        )
        best = [(int(row), score) for row, score in list(fused.items())[: query.size]]
        passages = rows.passages_at(view.connection, [row for row, _ in best])
        kept = [(passages[row], row, score) for row, score in best if row in passages]
        of_best = view.matrix.at(cosines, [row for _, row, _ in kept])
        return Retrieved(
            passages=_ranked(kept, lexical=lexical, vector=vector, cosines=of_best),
            best_cosine=vector[0][1] if vector else 0.0,
            index_version=self._index_version,
        )


def _lexical_leg(view: IndexView, query: PassageQuery) -> Leg:
    hits = view.lexical.search(
        query.text, filters=query.filters, labels=query.labels, limit=LEXICAL_MARGIN * query.leg_size
    )
    known = [(row, round(score, SCORE_DECIMALS)) for row, score in hits if row in view.matrix]
    known.sort(key=lambda hit: (-hit[1], view.matrix.passage_id(hit[0])))
    return known[: query.leg_size]


def _ranked(
    best: Sequence[tuple[Passage, int, float]], *, lexical: Leg, vector: Leg, cosines: Mapping[int, float]
) -> tuple[RankedPassage, ...]:
    """Put the legs' ranks and scores to (passage, row, fused score), best first."""
    scores = dict(lexical)
    lexical_ranks = {row: rank for rank, (row, _) in enumerate(lexical, start=1)}
    vector_ranks = {row: rank for rank, (row, _) in enumerate(vector, start=1)}
    return tuple(
        RankedPassage(
            passage=passage,
            rank=rank,
            fused_score=fused,
            lexical_rank=lexical_ranks.get(row),
            lexical_score=scores.get(row),
            vector_rank=vector_ranks.get(row),
            cosine=cosines[row],
        )
        for rank, (passage, row, fused) in enumerate(best, start=1)
    )
