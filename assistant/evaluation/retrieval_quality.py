"""Recall@5, MRR and nDCG@10 by ir-measures, for hybrid retrieval and for each leg alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import ir_measures
from ir_measures import RR, R, nDCG

from assistant.domain.documents import RankedPassage
from assistant.evaluation.questions import EvaluationQuestion

Leg = Literal["hybrid", "bm25", "vectors"]
LEGS: tuple[Leg, ...] = ("hybrid", "bm25", "vectors")
MEASURES = {"recall@5": R @ 5, "mrr": RR, "ndcg@10": nDCG @ 10}


def ranked_documents(passages: Sequence[RankedPassage], *, leg: Leg) -> list[str]:
    """Return distinct document ids by their best passage in one leg, best first."""

    def rank(ranked: RankedPassage) -> int | None:
        match leg:
            case "hybrid":
                return ranked.rank
            case "bm25":
                return ranked.lexical_rank
            case "vectors":
                return ranked.vector_rank

    found = [(position, ranked) for ranked in passages if (position := rank(ranked)) is not None]
    found.sort(key=lambda item: item[0])
    return list(dict.fromkeys(ranked.passage.document_id for _, ranked in found))


def retrieval_quality(
    questions: Iterable[EvaluationQuestion], runs: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """Return the mean of each measure over the answerable questions.

    ``runs`` maps a question id to document ids, best first.
    """
    qrels = [ir_measures.Qrel(q.qid, document_id, 1) for q in questions for document_id in q.documents]
    asked = {qrel.query_id for qrel in qrels}
    scored = [
        ir_measures.ScoredDoc(qid, document_id, float(-position))
        for qid, document_ids in runs.items()
        if qid in asked
        for position, document_id in enumerate(document_ids)
    ]
    results = ir_measures.calc_aggregate(  # pyright: ignore[reportUnknownMemberType]  # partly annotated
        list(MEASURES.values()), qrels, scored
    )
    return {name: float(results[measure]) for name, measure in MEASURES.items()}
