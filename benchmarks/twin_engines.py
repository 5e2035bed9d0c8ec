"""How alike two search engines answer the same questions over the same passages and vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from assistant.answering.retrieve import RetrievePassages, candidates, rank, shipped_weights
from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.documents import Retrieved
from assistant.evaluation.measures import LEGS, ranked_documents, retrieval_quality
from assistant.evaluation.questions import load_questions
from assistant.settings.process import ServiceSettings
from assistant.wiring.services import open_tenants
from benchmarks.local_embedding import TENANT

TOP = 10
_QUESTIONS = Path(__file__).parents[1] / "evaluation" / "clinic.jsonl"
_TIMEOUT_S = 30.0
_WHOLE_LEGS = 200


@dataclass(frozen=True, slots=True)
class TwinFigures:
    """Each engine's quality on the committed questions, and how much of their answers is the same."""

    ndcg: Mapping[str, tuple[float, float]]
    """By leg: nDCG@10 of the embedded engine and of OpenSearch."""
    overlap: float
    """Mean share of the embedded engine's best 10 passages that are among OpenSearch's."""
    legs_overlap: Mapping[str, float]
    same_first: float
    same_document: float
    """Share of the questions for which the first ranking puts the same document first."""
    cosine_apart: float
    """The largest difference between the two best raw cosines of a question."""

    def ndcg_apart(self) -> float:
        embedded, real = self.ndcg["hybrid"]
        return abs(embedded - real)

    def lines(self) -> list[str]:
        """Return the report, one figure a line."""
        lines = [
            f"nDCG@10         {leg}: embedded {embedded:.3f}, opensearch {real:.3f}"
            for leg, (embedded, real) in self.ndcg.items()
        ]
        legs = ", ".join(f"{leg} {share:.3f}" for leg, share in self.legs_overlap.items())
        lines.append(f"top {TOP} alike     {self.overlap:.3f} ({legs}); the first {self.same_first:.3f}")
        lines.append(f"best document   {self.same_document:.3f} alike, by the ranking of all legs")
        lines.append(f"best cosines    {self.cosine_apart:.1e} apart at most")
        return lines


async def compare_engines(
    embedded: ServiceSettings, real: ServiceSettings, *, questions: Sequence[str]
) -> TwinFigures:
    """Ask both engines the committed questions and the given ones. The first stands for what is right."""
    judged = [question for question in load_questions(_QUESTIONS) if question.answerable]
    asked = list(dict.fromkeys([*(question.question for question in judged), *questions]))
    answers = [await _ask(settings, asked) for settings in (embedded, real)]
    ndcg: dict[str, tuple[float, float]] = {}
    for leg in LEGS:
        first, second = (
            retrieval_quality(
                judged, {q.qid: ranked_documents(found[q.question].passages, leg=leg) for q in judged}
            )["ndcg@10"]
            for found in answers
        )
        ndcg[leg] = (first, second)
    pairs = [(answers[0][question], answers[1][question]) for question in asked]
    return TwinFigures(
        ndcg=ndcg,
        overlap=fmean(_overlap(a, b, key="rank") for a, b in pairs),
        legs_overlap={
            "bm25": fmean(_overlap(a, b, key="lexical_rank") for a, b in pairs),
            "vectors": fmean(_overlap(a, b, key="vector_rank") for a, b in pairs),
        },
        same_first=fmean(_best(a, 1, "rank") == _best(b, 1, "rank") for a, b in pairs),
        same_document=fmean(_best_document(a) == _best_document(b) for a, b in pairs),
        cosine_apart=max(abs(a.best_cosine - b.best_cosine) for a, b in pairs),
    )


async def _ask(settings: ServiceSettings, questions: Sequence[str]) -> dict[str, Retrieved]:
    clock = SystemClock()
    async with open_tenants(settings, generates=False) as tenants:
        retrieval = RetrievePassages(tenants[TENANT].answering)
        found: dict[str, Retrieved] = {}
        for question in questions:
            deadline = Deadline.after(_TIMEOUT_S, clock=clock)
            (vector,) = await retrieval.embed([question], deadline=deadline)
            found[question] = await retrieval.retrieve(
                question, vector=vector, labels=frozenset(), deadline=deadline, size=_WHOLE_LEGS
            )
        return found


def _overlap(first: Retrieved, second: Retrieved, *, key: str) -> float:
    wanted = _best(first, TOP, key)
    return len(wanted & _best(second, TOP, key)) / len(wanted) if wanted else 1.0


def _best_document(found: Retrieved) -> str | None:
    ranked = rank(candidates(found), weights=shipped_weights("ranker"))
    return ranked[0].document_id if ranked else None


def _best(found: Retrieved, count: int, key: str) -> set[str]:
    ranked = [(getattr(one, key), one.passage.passage_id) for one in found.passages]
    return {name for rank, name in ranked if rank is not None and rank <= count}
