"""Ranks the documents that were found: by the index, then the best of them by the words of their units."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from assistant.answer.adaptations import Adaptations
from assistant.answer.offers import Cite, Named
from assistant.answer.route import Routing, SourceScores, route, spread_out
from assistant.answer.rows import Row, rows_about
from assistant.answer.scores import (
    QuestionTerms,
    RankedDocument,
    ScoredUnit,
    UnitScorer,
    best_first,
    candidates,
    document_features,
    rank,
    shipped_weights,
)
from assistant.answer.search import Hits
from assistant.answer.services import TenantServices
from assistant.answer.sources import EvidenceQuery, SearchScope, SourceSearch
from assistant.answer.vocabulary import codes_in
from assistant.domain.answers import GateDecision
from assistant.domain.documents import Passage, RankedPassage, Retrieved, StoredDocument
from assistant.tenant.tenant import GateSection

DOCUMENTS_READ = 8
"""Best documents by the index that are read, and ranked by their words."""
DOCUMENTS_READ_OF_SOURCES, _MOST_OF_ONE_SOURCE = 8, 6
"""Documents that are read of a tenant with several sources, and how many of one while others have any."""
DOCUMENTS_READ_OF_NAMED, _MOST_OF_ONE_SOURCE_OF_NAMED = 14, 9
"""The same where the question names a thing, on which there may be many documents."""
_NAMED_FROM = 0.5
"""Share of a question's weight that a row holds for it to be near although no vector is: a row is short, and
among dozens in its passage."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """The documents for one question, in order."""

    hits: Hits
    asked: QuestionTerms
    order: tuple[RankedDocument, ...]
    """Every candidate, best first."""
    documents: Mapping[str, StoredDocument]
    """The documents that were read, by id."""
    routing: Routing | None
    """How much each source matters; None for a tenant with one source."""
    scores: SourceScores | None
    """What the routing adds to the scores of documents."""
    gate: GateDecision
    """Whether anything is near."""
    scored: Mapping[str, Sequence[ScoredUnit]] = field(default_factory=dict[str, Sequence[ScoredUnit]])
    """Units of the documents that were read, by document."""
    by_words: tuple[StoredDocument, ...] = ()
    """The documents that were read, best first by the words of their units."""

    @property
    def query(self) -> EvidenceQuery:
        return self.hits.query

    @property
    def best(self) -> StoredDocument | None:
        return self.documents.get(self.order[0].document_id) if self.order else None

    @property
    def read(self) -> list[StoredDocument]:
        """The documents that were read, best first."""
        return [
            self.documents[candidate.document_id]
            for candidate in self.order
            if candidate.document_id in self.documents
        ]

    @property
    def for_model(self) -> list[StoredDocument]:
        """The documents that were read, for a prompt: the best by its words, then the best by the index."""
        first = self.by_words[:1]
        return [*first, *(document for document in self.read if document not in first)]


class Gate:
    """One tenant's gate.

    A model is not asked where the nearest passage or title is farther than ``GateSection.model_cosine``, and
    without a model no section is shown where it is farther than ``GateSection.hopeless_cosine``. Whether what
    is near answers is for the model, or for the agent, to see.

    Example::

        decision = Gate(tenant.gate, asks_model=True).run(best_cosine=0.61)
        if not decision.passed: ...  # nothing is near
    """

    def __init__(self, settings: GateSection, *, asks_model: bool) -> None:
        self._least = settings.model_cosine if asks_model else settings.hopeless_cosine

    def run(self, best_cosine: float) -> GateDecision:
        """Judge the cosine of the nearest passage or title; -1 where there is none."""
        return GateDecision(
            passed=best_cosine >= self._least, best_cosine=round(best_cosine, 4), min_cosine=self._least
        )


class RankDocuments:
    """Ranks the documents of one tenant.

    Example::

        [ranked] = await rank.run([hits], scope)
        ranked.order[0]  # RankedDocument("refill", 3.1, {"title_cosine": 0.7, ...}): the best by the index
        ranked.by_words[0].card.title  # "Refill too soon": a model reads it first
    """

    def __init__(self, services: TenantServices, adaptations: Adaptations, sources: SourceSearch) -> None:
        tenant = services.tenant
        self.scorer = UnitScorer(adaptations.now.vocabulary.language)
        self._adaptations, self._sources = adaptations, sources
        self._ranker, self._reranker = shipped_weights("ranker"), shipped_weights("reranker")
        self._gate = Gate(tenant.gate, asks_model=services.writer.model.writes_answers)
        self._entries, self._clock = tenant.sources, services.clock

    async def run(self, hits: Sequence[Hits], scope: SearchScope) -> Sequence[Ranked]:
        """Rank by the index, read the best documents, and rank these by their words.

        Raises SearchUnavailableError, DeadlineExceededError.
        """
        return await asyncio.gather(*(self._ranked(found, scope) for found in hits))

    async def _ranked(self, hits: Hits, scope: SearchScope) -> Ranked:
        query, named = hits.query, hits.named
        with scope.steps.step("rank"):
            routing, moved = self._route(query), None
            if routing is not None and len(hits.states) > 1:
                moved = SourceScores(routing, sources=self._entries, today=self._clock.now().date())
            order = rank(candidates(hits.retrieved), weights=self._ranker)
            order = moved.added(order) if moved is not None else order
        vocabulary = self._adaptations.now.vocabulary
        terms = vocabulary.terms(query.text, known=query.known)
        if named is not None:
            # Names choose documents: within one they would choose every line that repeats them.
            terms = vocabulary.terms(named.rest, known=query.known) or terms
        documents = await self._sources.read(_to_read(order, named, are_many=moved is not None), scope)
        ranked = Ranked(
            hits,
            QuestionTerms(terms, codes=codes_in(query.text)),
            _named_first(_move_to_front(order, documents), documents, named),
            documents,
            routing,
            moved,
            self._gate.run(_best_cosine(hits.retrieved)),
        )
        if ranked.best is None:
            return ranked
        with scope.steps.step("words"):
            return self._with_words(ranked)

    def _with_words(self, ranked: Ranked) -> Ranked:
        """Return the documents with their units, and in the order of their words."""
        hits = ranked.hits.retrieved.hits
        near = {hit.passage_id: hit.cosine for hit in hits if hit.cosine is not None}
        scored: dict[str, Sequence[ScoredUnit]] = {
            name: self.scorer.score(ranked.asked, document, passage_cosines=_of(document, near))
            for name, document in ranked.documents.items()
        }
        ranked = replace(ranked, scored=scored)
        by_words = tuple(replace(ranked, order=self.by_units(ranked, {})).read)
        gate = ranked.gate
        if not gate.passed:
            is_named = any(row.coverage >= _NAMED_FROM for row in self.rows(by_words[0], ranked))
            gate = gate.model_copy(update={"passed": is_named})
        return replace(ranked, by_words=by_words, gate=gate)

    def by_units(
        self, ranked: Ranked, cosines: Mapping[str, Mapping[int, float]]
    ) -> tuple[RankedDocument, ...]:
        """Rank the documents again whose units have vectors; the others follow in their order. Without any
        vectors, all that were read are ranked by their words."""
        moved = ranked.scores
        again: list[RankedDocument] = []
        rest: list[RankedDocument] = []
        for candidate in ranked.order:
            document = ranked.documents.get(candidate.document_id)
            if document is None or (cosines and candidate.document_id not in cosines):
                rest.append(candidate)
                continue
            added = moved.of(candidate.document_id) if moved is not None else 0.0
            units = ranked.scored[candidate.document_id]
            features = document_features(
                replace(candidate, score=candidate.score - added),
                document,
                units,
                asked=ranked.asked,
                stems=self.scorer.stems_of(document, units),
                cosines=cosines.get(candidate.document_id, {}),
            )
            added += moved.of_age(document.card) if moved is not None else 0.0
            score = self._reranker.score(features) + added
            again.append(RankedDocument(candidate.document_id, score, {**candidate.features, **features}))
        again = best_first(again)
        last, first = again[-1].score, rest[0].score if rest else 0.0
        again += [replace(candidate, score=last - (first - candidate.score) - 1.0) for candidate in rest]
        return _named_first(again, ranked.documents, ranked.hits.named)

    def rows(self, document: StoredDocument, ranked: Ranked) -> tuple[Row, ...]:
        """Return the rows of a document that the question names."""
        return rows_about(ranked.scored[document.card.document_id], ranked.asked, stems=self.scorer.stems)

    def _route(self, query: EvidenceQuery) -> Routing | None:
        if len(self._entries) < 2:
            return None
        question, vector = query.routed_text or query.text, query.routed_vector or query.vector
        return route(question, vector, sources=self._entries, router=self._adaptations.now.router)


def _best_cosine(retrieved: Retrieved) -> float:
    """Return the nearest passage's or title's cosine with the question; -1 where there is none."""
    cosines = [hit.cosine for hit in retrieved.hits if hit.cosine is not None]
    cosines += [hit.title_cosine for hit in retrieved.documents if hit.title_cosine is not None]
    return max(cosines, default=-1.0)


def _of(document: StoredDocument, near: Mapping[str, float]) -> dict[str, float]:
    ids = (passage.passage_id for passage in document.passages)
    return {passage_id: near[passage_id] for passage_id in ids if passage_id in near}


def _to_read(ranked: Sequence[RankedDocument], named: Named | None, *, are_many: bool) -> list[str]:
    """Return the ids of the documents that are read; those of what is named are among them."""
    if named is not None:
        more = spread_out(ranked, count=DOCUMENTS_READ_OF_NAMED, most=_MOST_OF_ONE_SOURCE_OF_NAMED)
        return list(dict.fromkeys((*named.document_ids, *more)))
    if are_many:
        return spread_out(ranked, count=DOCUMENTS_READ_OF_SOURCES, most=_MOST_OF_ONE_SOURCE)
    return [candidate.document_id for candidate in ranked[:DOCUMENTS_READ]]


def _move_to_front(ranked: Sequence[RankedDocument], names: Collection[str]) -> list[RankedDocument]:
    """Return the documents with these ids before all others, each group in its order."""
    front = [candidate for candidate in ranked if candidate.document_id in names]
    others = [candidate for candidate in ranked if candidate.document_id not in names]
    lift = max(0.0, others[0].score - front[-1].score) if front and others else 0.0
    return [replace(candidate, score=candidate.score + lift) for candidate in front] + others


def _named_first(
    order: Sequence[RankedDocument], documents: Mapping[str, StoredDocument], named: Named | None
) -> tuple[RankedDocument, ...]:
    """Return the documents whose subject is what the question names before all others."""
    if named is None:
        return tuple(order)
    front = {name for name, document in documents.items() if named.are_subject_of(document)}
    return tuple(_move_to_front(order, front))


class SourceList:
    """The numbered sources of one answer: one for each document."""

    def __init__(self, passages: Iterable[RankedPassage] = ()) -> None:
        self.passages = list(passages)
        self._numbers = {ranked.passage.document_id: n for n, ranked in enumerate(self.passages, start=1)}

    def number(self, passage: Passage, found: Ranked) -> int:
        """Return the number of the passage's document; a new one, at this passage, where it has none yet."""
        number = self._numbers.get(passage.document_id)
        if number is None:
            number = self._numbers[passage.document_id] = len(self.passages) + 1
            self.passages.append(_ranked_passage(passage, found, rank=number))
        return number

    def citing(self, found: Ranked) -> Cite:
        """Return what numbers the passages that are shown for one question."""
        return partial(self.number, found=found)

    def add(self, document: StoredDocument, found: Ranked) -> int | None:
        """Return the number of a document, at its best passage; None for one without passages."""
        scores = {
            hit.passage_id: (hit.cosine or 0.0) + (hit.lexical_score or 0.0) / 100
            for hit in found.hits.retrieved.hits
        }
        first = sorted(
            document.passages, key=lambda one: (-round(scores.get(one.passage_id, -1.0), 4), one.ordinal)
        )[:1]
        return self.number(first[0], found) if first else None

    def fill(self, found: Ranked, *, up_to: int) -> None:
        """Add the documents that were read, best first, until there are ``up_to``."""
        for document in found.read:
            if len(self.passages) >= up_to:
                return
            self.add(document, found)


def _ranked_passage(passage: Passage, found: Ranked, *, rank: int) -> RankedPassage:
    """Return the passage with the scores of both legs, its cosine on the scale of the weights."""
    passages, hits = found.hits.retrieved.passages, found.hits.retrieved.hits
    fused = next((ranked for ranked in passages if ranked.passage.passage_id == passage.passage_id), None)
    hit = next((hit for hit in hits if hit.passage_id == passage.passage_id), None)
    return replace(
        fused or RankedPassage(passage, rank, 0.0, None, None, None, None),
        passage=passage,
        rank=rank,
        lexical_score=hit.lexical_score if hit else None,
        cosine=hit.cosine if hit else None,
    )
