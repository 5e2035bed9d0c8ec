"""Ranks the documents that a search found for one question.

First all of them by the scores of the index; then the best are read and ranked by the words of their units,
and later, in ``choose.py``, by vectors of these units too.

Scores fall along every order of this file, because ``choose.py`` compares the first two. Three places move
them:

1. ``SourceScores`` adds what the routing says of a document's source, before the documents to read are taken.
   ``by_units`` takes it off while it weighs the units, whose feature "index" is the index's score alone, and
   adds it again, with what the age of the document takes.
2. ``_move_to_front`` raises the documents that were read above those that were not, and the documents about a
   thing that the question names above all others. The feature "index" keeps what it added.
3. ``_behind`` lowers the documents that ``by_units`` does not rank below those that it does: scores of
   different weights cannot be compared.
"""

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
    Weights,
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
_MOST_OF_ONE_SOURCE = 6
"""Of these, how many may be of one source of a tenant with several, while others have any."""
_DOCUMENTS_READ_OF_NAMED = 14
"""Documents that are read where the question names a thing: many may be about it."""
_MOST_OF_ONE_SOURCE_OF_NAMED = 9
"""Of these, how many may be of one source, while others have any."""
_NEAR_ROW_COVERAGE = 0.5
"""A row that holds this share of the question's weight opens the gate although no vector is near: a row is
short, and one of dozens in its passage, so that the passage's vector says little of it."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """The documents for one question, in order.

    Example: "Are refills payable?" finds 30 documents, and reads 8 of them::

        ranked.order  # 30 RankedDocument; the 8 that were read come first
        ranked.read  # 8 StoredDocument, in the order of ``order``: by the index
        ranked.by_words  # the same 8, by the words of their units
        ranked.scored["refill"][0].score  # 2.4: the first unit of one of them
    """

    hits: Hits
    asked: QuestionTerms
    order: tuple[RankedDocument, ...]
    """Every candidate, best first: by the index; ``choose.py`` replaces it by an order of ``by_units``."""
    documents: Mapping[str, StoredDocument]
    """The documents that were read, by id."""
    routing: Routing | None
    """How much each source matters; None for a tenant with one source."""
    source_scores: SourceScores | None
    """What the routing adds to the scores of documents; None where only one source was searched."""
    gate: GateDecision
    """Whether anything is near."""
    scored: Mapping[str, Sequence[ScoredUnit]] = field(default_factory=dict[str, Sequence[ScoredUnit]])
    """Units of the documents that were read, by document id. Empty where none was read."""
    by_words: tuple[StoredDocument, ...] = ()
    """The documents that were read, best first by the words of their units. Empty where none was read."""

    @property
    def query(self) -> EvidenceQuery:
        return self.hits.query

    @property
    def best(self) -> StoredDocument | None:
        """The first document of ``order``; None where no document could be read."""
        return self.documents.get(self.order[0].document_id) if self.order else None

    @property
    def read(self) -> list[StoredDocument]:
        """The documents that were read, in the order of ``order``."""
        ids = (candidate.document_id for candidate in self.order)
        return [self.documents[document_id] for document_id in ids if document_id in self.documents]

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
        self._minimum = settings.model_cosine if asks_model else settings.hopeless_cosine

    def run(self, best_cosine: float) -> GateDecision:
        """Judge the cosine of the nearest passage or title; -1 where there is none."""
        return GateDecision(
            passed=best_cosine >= self._minimum, best_cosine=round(best_cosine, 4), min_cosine=self._minimum
        )


class RankDocuments:
    """Ranks the documents of one tenant: ``run`` for each message, then ``choose.py`` calls ``by_units``.

    Example::

        [ranked] = await rank.run([hits], scope)
        ranked.order[0]  # RankedDocument("refill", 3.1, {"title_cosine": 0.7, ...}): the best by the index
        ranked.by_words[0].card.title  # "Refill too soon": a model reads it first
    """

    def __init__(self, services: TenantServices, adaptations: Adaptations, sources: SourceSearch) -> None:
        tenant = services.tenant
        self.scorer = UnitScorer(adaptations.now.vocabulary.language)
        self._adaptations, self._sources = adaptations, sources
        self._ranker = shipped_weights("ranker")
        self._by_words, self._by_vectors = shipped_weights("reranker"), shipped_weights("reranker_vectors")
        self._gate = Gate(tenant.gate, asks_model=services.writer.model.writes_answers)
        self._entries, self._clock = tenant.sources, services.clock

    async def run(self, hits: Sequence[Hits], scope: SearchScope) -> Sequence[Ranked]:
        """Rank by the index, read the best documents, and rank these by their words.

        Raises SearchUnavailableError, DeadlineExceededError.
        """
        return await asyncio.gather(*(self._ranked(of_question, scope) for of_question in hits))

    async def _ranked(self, hits: Hits, scope: SearchScope) -> Ranked:
        query, named = hits.query, hits.named
        with scope.steps.step("rank"):
            routing, source_scores = self._route(query), None
            order = rank(candidates(hits.retrieved), weights=self._ranker)
            if routing is not None and len(hits.states) > 1:
                source_scores = SourceScores(routing, sources=self._entries, today=self._clock.now().date())
                order = source_scores.added(order)
        vocabulary = self._adaptations.now.vocabulary
        terms = vocabulary.terms(query.text, known=query.known)
        if named is not None:
            # Names choose documents: within one they would choose every line that repeats them.
            terms = vocabulary.terms(named.rest, known=query.known) or terms
        document_ids = _to_read(order, named, has_sources=source_scores is not None)
        documents = await self._sources.read(document_ids, scope)
        ranked = Ranked(
            hits,
            QuestionTerms(terms, codes=codes_in(query.text)),
            order=_named_first(_move_to_front(order, documents), documents, named),
            documents=documents,
            routing=routing,
            source_scores=source_scores,
            gate=self._gate.run(_best_cosine(hits.retrieved)),
        )
        if ranked.best is None:
            return ranked
        with scope.steps.step("words"):
            return self._with_words(ranked)

    def _with_words(self, ranked: Ranked) -> Ranked:
        """Return the documents with their units, their order by words, and the gate open for a near row."""
        hits = ranked.hits.retrieved.hits
        cosines = {hit.passage_id: hit.cosine for hit in hits if hit.cosine is not None}
        scored: dict[str, Sequence[ScoredUnit]] = {
            document_id: self.scorer.score(ranked.asked, document, passage_cosines=_within(document, cosines))
            for document_id, document in ranked.documents.items()
        }
        ranked = replace(ranked, scored=scored)
        by_words = tuple(replace(ranked, order=self.by_units(ranked, {})).read)
        gate = ranked.gate
        if not gate.passed:
            is_near = any(row.coverage >= _NEAR_ROW_COVERAGE for row in self.rows(by_words[0], ranked))
            gate = gate.model_copy(update={"passed": is_near})
        return replace(ranked, by_words=by_words, gate=gate)

    def by_units(
        self, ranked: Ranked, cosines: Mapping[str, Mapping[int, float]]
    ) -> tuple[RankedDocument, ...]:
        """Return the order by the units of documents; those that it does not rank follow in their order.

        ``cosines``: by id of a document that was read, of its units by ordinal. Only these documents are
        ranked. Empty, before units have vectors or where the embedding endpoint failed: all documents that
        were read are ranked, by words alone.
        """
        to_rank = cosines or ranked.documents
        weights = self._by_vectors if cosines else self._by_words
        by_units = best_first(
            self._by_units(ranked, candidate, cosines.get(candidate.document_id, {}), weights)
            for candidate in ranked.order
            if candidate.document_id in to_rank
        )
        others = [candidate for candidate in ranked.order if candidate.document_id not in to_rank]
        by_units += _behind(by_units, others)
        return _named_first(by_units, ranked.documents, ranked.hits.named)

    def _by_units(
        self, ranked: Ranked, candidate: RankedDocument, cosines: Mapping[int, float], weights: Weights
    ) -> RankedDocument:
        """Return a document that was read with the score that its units give."""
        document, units = ranked.documents[candidate.document_id], ranked.scored[candidate.document_id]
        source_scores = ranked.source_scores
        for_source = source_scores.of(candidate.document_id) if source_scores is not None else 0.0
        for_age = source_scores.of_age(document.card) if source_scores is not None else 0.0
        features = document_features(
            replace(candidate, score=candidate.score - for_source),
            document,
            units,
            asked=ranked.asked,
            stems=self.scorer.stems_of(document, units),
            names=self.scorer.names_of(document),
            cosines=cosines,
        )
        score = weights.score(features) + (for_source + for_age)
        return RankedDocument(candidate.document_id, score, {**candidate.features, **features})

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


def _within(document: StoredDocument, cosines: Mapping[str, float]) -> dict[str, float]:
    """Return the cosines, by passage id, of the document's passages alone."""
    ids = (passage.passage_id for passage in document.passages)
    return {passage_id: cosines[passage_id] for passage_id in ids if passage_id in cosines}


def _to_read(ranked: Sequence[RankedDocument], named: Named | None, *, has_sources: bool) -> list[str]:
    """Return the ids of the documents to read. The named thing's own documents come beside the best ones.

    ``has_sources``: whether several sources were searched.
    """
    if named is not None:
        best = spread_out(ranked, count=_DOCUMENTS_READ_OF_NAMED, most=_MOST_OF_ONE_SOURCE_OF_NAMED)
        return list(dict.fromkeys((*named.document_ids, *best)))
    if has_sources:
        return spread_out(ranked, count=DOCUMENTS_READ, most=_MOST_OF_ONE_SOURCE)
    return [candidate.document_id for candidate in ranked[:DOCUMENTS_READ]]


def _move_to_front(ranked: Sequence[RankedDocument], ids: Collection[str]) -> list[RankedDocument]:
    """Return the documents with these ids before all others, each group in its order.

    Raises the scores in front by one amount, so that the last of them equals the first of the others::

        _move_to_front([a 5.0, b 4.0, c 1.0], {"c"})  # [c 5.0, a 5.0, b 4.0]
    """
    front = [candidate for candidate in ranked if candidate.document_id in ids]
    others = [candidate for candidate in ranked if candidate.document_id not in ids]
    lift = max(0.0, others[0].score - front[-1].score) if front and others else 0.0
    return [replace(candidate, score=candidate.score + lift) for candidate in front] + others


def _behind(front: Sequence[RankedDocument], others: Sequence[RankedDocument]) -> list[RankedDocument]:
    """Return ``others`` with scores that begin 1.0 below the last of ``front``.

    Their differences stay::

        _behind([a 3.0, b 2.0], [c 9.0, d 8.5])  # [c 1.0, d 0.5]
    """
    last, first = front[-1].score, others[0].score if others else 0.0
    return [replace(candidate, score=last - (first - candidate.score) - 1.0) for candidate in others]


def _named_first(
    order: Sequence[RankedDocument], documents: Mapping[str, StoredDocument], named: Named | None
) -> tuple[RankedDocument, ...]:
    """Return the documents about what the question names, and nothing else, before all others."""
    if named is None:
        return tuple(order)
    subjects = {document_id for document_id, document in documents.items() if named.are_subject_of(document)}
    return tuple(_move_to_front(order, subjects))


class SourceList:
    """The numbered sources of one answer: one for each document, at the passage that was numbered first.

    One list serves all questions of a message, so each call says of which question a passage is::

        sources = SourceList()
        sources.add(refill, ranked)  # 1: a prompt shows the document
        cite = sources.citing(ranked)
        cite(refill.passages[2])  # 1: its document has a number
        cite(copay.passages[0])  # 2
        sources.passages  # [RankedPassage of "refill", RankedPassage of "copay"]
    """

    def __init__(self, passages: Iterable[RankedPassage] = ()) -> None:
        self.passages = list(passages)
        self._numbers = {source.passage.document_id: n for n, source in enumerate(self.passages, start=1)}

    def number(self, passage: Passage, ranked: Ranked) -> int:
        """Return the number of the passage's document; a new one, at this passage, where it has none yet."""
        number = self._numbers.get(passage.document_id)
        if number is None:
            number = self._numbers[passage.document_id] = len(self.passages) + 1
            self.passages.append(_ranked_passage(passage, ranked, rank=number))
        return number

    def citing(self, ranked: Ranked) -> Cite:
        """Return ``number`` for the passages of one question."""
        return partial(self.number, ranked=ranked)

    def add(self, document: StoredDocument, ranked: Ranked) -> int | None:
        """Return the number of a document, at its best passage; None for one without passages.

        The best has the highest cosine plus a hundredth of its BM25 score, which thus decides where cosines
        are missing or nearly equal. A passage that no leg found comes last.
        """
        scores = {
            hit.passage_id: (hit.cosine or 0.0) + (hit.lexical_score or 0.0) / 100
            for hit in ranked.hits.retrieved.hits
        }
        best = min(
            document.passages,
            key=lambda passage: (-round(scores.get(passage.passage_id, -1.0), 4), passage.ordinal),
            default=None,
        )
        return None if best is None else self.number(best, ranked)

    def fill(self, ranked: Ranked, *, up_to: int) -> None:
        """Add the documents that were read, best first, until there are ``up_to``."""
        for document in ranked.read:
            if len(self.passages) >= up_to:
                return
            self.add(document, ranked)


def _ranked_passage(passage: Passage, ranked: Ranked, *, rank: int) -> RankedPassage:
    """Return the passage at a rank, with the scores that the search gave it; None for a leg that did not
    find it.

    The fused result has the scores of its best passages alone; the hits have those of all.
    """
    fused, hits = ranked.hits.retrieved.passages, ranked.hits.retrieved.hits
    in_fused = next((other for other in fused if other.passage.passage_id == passage.passage_id), None)
    hit = next((hit for hit in hits if hit.passage_id == passage.passage_id), None)
    return replace(
        in_fused or RankedPassage(passage, rank, 0.0, None, None, None, None),
        passage=passage,
        rank=rank,
        lexical_score=hit.lexical_score if hit else None,
        cosine=hit.cosine if hit else None,
    )
