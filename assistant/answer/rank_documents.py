"""Finds what is near one question: search → rank → read → words → units → section.

``find`` needs the index and the words of what was read, and is enough for a prompt. ``weigh`` embeds the
likeliest units, ranks the documents that were read by them, and chooses what is shown. Where a model writes
it runs beside the model's first token.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from assistant.answer.adaptations import Adaptations
from assistant.answer.certainty import Gate
from assistant.answer.choose import Section, choose, of_rows
from assistant.answer.offers import Cite, Named, Offered
from assistant.answer.rank import (
    CosineScale,
    QuestionTerms,
    RankedDocument,
    ScoredUnit,
    UnitScorer,
    UnitVectors,
    best_first,
    candidates,
    document_features,
    rank,
    shipped_weights,
)
from assistant.answer.route import Routing, SourceScores, route, spread_out
from assistant.answer.rows import Row, differing, rows_about
from assistant.answer.search import EvidenceQuery, Search, SearchScope, State
from assistant.answer.services import TenantServices
from assistant.answer.vocabulary import Vocabulary, codes_in
from assistant.domain.answers import GateDecision
from assistant.domain.documents import (
    Passage,
    RankedPassage,
    Retrieved,
    StoredDocument,
)
from assistant.domain.errors import AssistantError, DeadlineExceededError

DOCUMENTS_READ = 8
"""Best documents by the index that are read, and ranked by their words."""
DOCUMENTS_READ_OF_SOURCES, _MOST_OF_ONE_SOURCE = 8, 6
"""Documents that are read of a tenant with several sources, and how many of one while others have any."""
DOCUMENTS_READ_OF_NAMED, _MOST_OF_ONE_SOURCE_OF_NAMED = 14, 9
"""The same where the question names a thing, on which there may be many documents."""
DOCUMENTS_EMBEDDED = 5
"""Best documents by their words whose likeliest units get vectors."""
_CONTENDS_WITHIN = 2.0
"""Largest difference of scores at which the second document is shown as "also possible"."""
_NAMED_FROM = 0.5
"""Share of a question's weight that a row holds for it to be near although no vector is: a row is short, and
among dozens in its passage."""


@dataclass(frozen=True, slots=True)
class SourcesAsked:
    """The tenant's sources of documents, as they were asked for one question."""

    states: Mapping[str, State]
    """What came of each, by name."""
    routing: Routing | None
    """How much each matters; None for a tenant with one source."""
    scores: SourceScores | None
    """What the routing adds to the scores of documents."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the knowledge base holds for one question. ``find`` makes it, ``weigh`` completes it."""

    query: EvidenceQuery
    searched: str
    """The question with the words that were added for the search."""
    asked: QuestionTerms
    retrieved: Retrieved
    ranked: tuple[RankedDocument, ...]
    """Every candidate, best first: by the index, and by units after ``weigh``."""
    documents: Mapping[str, StoredDocument]
    """The documents that were read, by id."""
    sources: SourcesAsked
    gate: GateDecision
    """Whether anything is near."""
    offered: tuple[Offered, ...] = ()
    """What options have for it: in place of the section, or beside it."""
    named: Named | None = None
    """Things that the question names, as an option knows them."""
    scored: Mapping[str, Sequence[ScoredUnit]] = field(default_factory=dict[str, Sequence[ScoredUnit]])
    """Units of the documents that were read, by document: with vectors after ``weigh``."""
    by_words: tuple[StoredDocument, ...] = ()
    """The documents that were read, best first by the words of their units: the first of them get vectors."""
    section: Section | None = None
    """Of the best document; also where nothing is near, for evaluation."""
    also: Section | None = None
    """Of the document that contends with it."""
    differing: tuple[Section, ...] = ()
    """Rows of other documents that give the thing of one of the section's rows another value."""

    @property
    def best(self) -> StoredDocument | None:
        return self.documents.get(self.ranked[0].document_id) if self.ranked else None

    @property
    def read(self) -> list[StoredDocument]:
        """The documents that were read, best first."""
        return [
            self.documents[candidate.document_id]
            for candidate in self.ranked
            if candidate.document_id in self.documents
        ]

    @property
    def for_model(self) -> list[StoredDocument]:
        """The documents that were read, for a prompt: the best by its words, then the best by the index."""
        first = self.by_words[:1]
        return [*first, *(document for document in self.read if document not in first)]

    @property
    def passage_cosines(self) -> dict[str, float]:
        """The cosines of the passages that the vector search found, by passage."""
        return {hit.passage_id: hit.cosine for hit in self.retrieved.hits if hit.cosine is not None}

    @property
    def answer(self) -> Offered | None:
        """What answers by itself in place of the section, so that no model needs to write."""
        return next((offered for offered in self.offered if offered.answers), None)

    @property
    def refusal(self) -> str:
        """Why what the question asks for is not there; no section takes its place."""
        return next((offered.refusal for offered in self.offered if offered.refusal), "")

    @property
    def is_found(self) -> bool:
        """Whether there is something to show without a model: what an option offers, or a section that is
        near."""
        if self.answer is not None:
            return True
        return self.gate.passed and self.section is not None and not self.refusal

    @property
    def is_undisputed(self) -> bool:
        """Whether a section is found, and no other document contends with its own.

        Then its document is the right one for 93 and 96 % of the answerable questions of the held-out halves
        (pharmacy, clinic), else for 49 and 61 %.
        """
        return self.is_found and self.also is None and not self.differing and self.answer is None


class FindEvidence:
    """Finds evidence for one tenant's questions. One instance serves all requests of a process."""

    def __init__(self, services: TenantServices, adaptations: Adaptations) -> None:
        tenant = services.tenant
        self.search = Search(services)
        self.adaptations = adaptations
        self.scorer = UnitScorer(self.vocabulary.language)
        self._ranker, self._reranker = shipped_weights("ranker"), shipped_weights("reranker")
        self._gate = Gate(tenant.gate)
        self._unit_vectors = UnitVectors(services.embedder)
        self._cosines = CosineScale.of(tenant.embedding)
        self._sources, self._clock = tenant.sources, services.clock

    @property
    def vocabulary(self) -> Vocabulary:
        return self.adaptations.now.vocabulary

    @property
    def weights(self) -> dict[str, str]:
        """SHA-256 (hex) of each shipped weights file, by kind."""
        scorer = self.scorer
        used = (self._ranker, self._reranker, scorer.weights, scorer.vector_weights)
        return {weights.kind: weights.sha256 for weights in used}

    async def run(self, query: EvidenceQuery, scope: SearchScope) -> Evidence:
        """Find and weigh. Raises as ``find``."""
        return await self.weigh(await self.find(query, scope), scope)

    async def find(self, query: EvidenceQuery, scope: SearchScope) -> Evidence:
        """Search, rank by the index, read the best documents, and rank these by their words.

        Raises SearchUnavailableError, OverloadedError, DeadlineExceededError.
        """
        named = self.adaptations.named(query.text, known=query.known) if query.with_offers else None
        searched = self.vocabulary.expand(query.text, known=query.known)
        asked_of = await self.search.run(searched, vector=query.vector, scope=scope)
        retrieved = self._cosines.retrieved(asked_of.retrieved)
        offered = await self._offered(query, scope) if query.with_offers else ()
        with scope.steps.step("rank"):
            routing = self._route(query)
            moved = None
            if routing is not None and len(asked_of.states) > 1:
                moved = SourceScores(routing, sources=self._sources, today=self._clock.now().date())
            ranked = rank(candidates(retrieved), weights=self._ranker)
            ranked = moved.added(ranked) if moved is not None else ranked
        terms = self.vocabulary.terms(query.text, known=query.known)
        if named is not None:
            # Names choose documents: within one they would choose every line that repeats them.
            terms = self.vocabulary.terms(named.rest, known=query.known) or terms
        documents = await self.search.read(_to_read(ranked, named, are_many=moved is not None), scope)
        found = Evidence(
            query,
            searched,
            QuestionTerms(terms, codes=codes_in(query.text)),
            retrieved,
            tuple(_move_to_front(ranked, documents)),
            documents,
            SourcesAsked(asked_of.states, routing, moved),
            self._gate.run(_best_cosine(retrieved)),
            offered=offered,
            named=named,
        )
        found = replace(found, ranked=tuple(self._named_first(found)))
        if found.best is None:
            return found
        with scope.steps.step("words"):
            near = found.passage_cosines
            scored: dict[str, Sequence[ScoredUnit]] = {
                name: self.scorer.score(found.asked, document, passage_cosines=_of(document, near))
                for name, document in documents.items()
            }
            found = replace(found, scored=scored)
            by_words = tuple(self._weighed(found, {}).read)
            if not found.gate.passed:
                is_named = any(row.coverage >= _NAMED_FROM for row in self._rows(by_words[0], found))
                found = replace(found, gate=found.gate.model_copy(update={"passed": is_named}))
            return replace(found, by_words=by_words)

    async def weigh(self, found: Evidence, scope: SearchScope) -> Evidence:
        """Rank the documents that were read by their units, and choose the best one's section.

        It raises only DeadlineExceededError: without the embedding endpoint units go by their words, and
        ``scope.degraded`` says so.
        """
        if found.best is None:
            return found
        with scope.steps.step("units"):
            cosines = await self._cosines_of_units(found, scope)
        with scope.steps.step("choose"):
            weighed = {
                name: self.scorer.score_again(units, cosines.get(name, {}))
                for name, units in found.scored.items()
            }
            found = self._with_sections(replace(self._weighed(found, cosines), scored=weighed))
        return await self._reconsidered(found, scope)

    async def _cosines_of_units(
        self, found: Evidence, scope: SearchScope
    ) -> Mapping[str, Mapping[int, float]]:
        best = found.by_words[:DOCUMENTS_EMBEDDED]
        wanted = [(document.card, found.scored[document.card.document_id]) for document in best]
        try:
            raw = await self._unit_vectors.cosines(found.query.vector, wanted, deadline=scope.deadline)
        except DeadlineExceededError:
            raise
        except AssistantError:
            scope.degraded.append("vectors of units")
            return {}
        return {
            name: {ordinal: self._cosines.value(cosine) for ordinal, cosine in units.items()}
            for name, units in raw.items()
        }

    def _weighed(self, found: Evidence, cosines: Mapping[str, Mapping[int, float]]) -> Evidence:
        """Rank the documents again whose units have vectors; the others follow in their order. Without any
        vectors, all that were read are ranked by their words."""
        moved = found.sources.scores
        again: list[RankedDocument] = []
        rest: list[RankedDocument] = []
        for candidate in found.ranked:
            document = found.documents.get(candidate.document_id)
            if document is None or (cosines and candidate.document_id not in cosines):
                rest.append(candidate)
                continue
            added = moved.of(candidate.document_id) if moved is not None else 0.0
            units = found.scored[candidate.document_id]
            features = document_features(
                replace(candidate, score=candidate.score - added),
                document,
                units,
                asked=found.asked,
                stems=self.scorer.stems_of(document, units),
                cosines=cosines.get(candidate.document_id, {}),
            )
            added += moved.of_age(document.card) if moved is not None else 0.0
            score = self._reranker.score(features) + added
            again.append(RankedDocument(candidate.document_id, score, {**candidate.features, **features}))
        again = best_first(again)
        last, first = again[-1].score, rest[0].score if rest else 0.0
        again += [replace(candidate, score=last - (first - candidate.score) - 1.0) for candidate in rest]
        found = replace(found, ranked=tuple(again))
        return replace(found, ranked=tuple(self._named_first(found)))

    def _with_sections(self, found: Evidence) -> Evidence:
        """Choose the best document's section, and that of a document which contends with it."""
        best, *others = found.read
        rows = self._rows(best, found)
        query, also = found.query, None
        section = self._section(best, found, rows, max_words=query.max_words, also_words=query.also_words)
        contends = len(found.read) > 1 and found.ranked[0].score - found.ranked[1].score <= _CONTENDS_WITHIN
        if contends and found.answer is None and not found.refusal:
            second = self._rows(others[0], found)
            also = self._section(others[0], found, second, max_words=query.also_words)
        differ = self._differing(section, rows, others, found) if section is not None else ()
        return replace(found, section=section, also=also, differing=differ)

    def _differing(
        self, section: Section, named: Sequence[Row], others: Sequence[StoredDocument], found: Evidence
    ) -> tuple[Section, ...]:
        """Return the rows of other documents that give the thing of a shown row another value.

        ``named``: rows of the section's document that the question names. A document that lacks a word of
        the question which stands above the row is about something else.
        """
        shown = {unit.unit.ordinal for unit in section.units}
        rows = [row for row in named if row.unit.ordinal in shown]
        above = self.scorer.stems(
            "\n".join((section.document.card.title, *(row.unit.heading for row in rows)))
        )
        titled = [term.forms for term in found.asked.terms if term.forms & above]
        differ: list[Section] = []
        for other in others if rows else ():
            units, of_other = self._units(other, found), self._rows(other, found)
            stems = self.scorer.stems_of(other, units)
            if (pairs := differing(rows, of_other)) and all(forms & stems for forms in titled):
                differ.append(of_rows(other, units, pairs))
        return tuple(differ)

    def _section(
        self,
        document: StoredDocument,
        found: Evidence,
        rows: Sequence[Row],
        *,
        max_words: int,
        also_words: int = 0,
    ) -> Section | None:
        units = self._units(document, found)
        return choose(document, units, max_words=max_words, also_words=also_words, rows=rows)

    def _units(self, document: StoredDocument, found: Evidence) -> Sequence[ScoredUnit]:
        return found.scored[document.card.document_id]

    def _rows(self, document: StoredDocument, found: Evidence) -> tuple[Row, ...]:
        return rows_about(self._units(document, found), found.asked, stems=self.scorer.stems)

    def _route(self, query: EvidenceQuery) -> Routing | None:
        if len(self._sources) < 2:
            return None
        question, vector = query.routed_text or query.text, query.routed_vector or query.vector
        return route(question, vector, sources=self._sources, router=self.adaptations.now.router)

    # What options offer

    async def _offered(self, query: EvidenceQuery, scope: SearchScope) -> tuple[Offered, ...]:
        """Return what options have for a question; the first that answers it is the last that is asked."""
        meanings = self.vocabulary.meanings(query.text, known=query.known)
        everything: list[Offered] = []
        for offer in self.adaptations.offers:
            offered = await offer.find(query, scope, meanings=meanings)
            if offered is not None:
                everything.append(offered)
                if offered.answers:
                    break
        return tuple(everything)

    async def _reconsidered(self, found: Evidence, scope: SearchScope) -> Evidence:
        """Return the evidence with what an option has in place of the section that was found."""
        if not found.query.with_offers or not found.is_found or found.answer is not None:
            return found
        for offer in self.adaptations.offers:
            offered = await offer.reconsider(found.query, scope, read=found.documents, ranked=found.read)
            if offered is not None:
                return replace(found, offered=(*found.offered, offered), also=None)
        return found

    def _named_first(self, found: Evidence) -> list[RankedDocument]:
        """Return the documents whose subject is what the question names before all others."""
        named = found.named
        if named is None:
            return list(found.ranked)
        front = {name for name, document in found.documents.items() if named.are_subject_of(document)}
        return _move_to_front(found.ranked, front)


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


class SourceList:
    """The numbered sources of one answer: one for each document."""

    def __init__(self, passages: Iterable[RankedPassage] = ()) -> None:
        self.passages = list(passages)
        self._numbers = {ranked.passage.document_id: n for n, ranked in enumerate(self.passages, start=1)}

    def number(self, passage: Passage, found: Evidence) -> int:
        """Return the number of the passage's document; a new one, at this passage, where it has none yet."""
        number = self._numbers.get(passage.document_id)
        if number is None:
            number = self._numbers[passage.document_id] = len(self.passages) + 1
            self.passages.append(_ranked_passage(passage, found, rank=number))
        return number

    def citing(self, found: Evidence) -> Cite:
        """Return what numbers the passages that are shown for one question."""
        return partial(self.number, found=found)

    def add(self, document: StoredDocument, found: Evidence) -> int | None:
        """Return the number of a document, at its best passage; None for one without passages."""
        scores = {
            hit.passage_id: (hit.cosine or 0.0) + (hit.lexical_score or 0.0) / 100
            for hit in found.retrieved.hits
        }
        first = sorted(
            document.passages, key=lambda one: (-round(scores.get(one.passage_id, -1.0), 4), one.ordinal)
        )[:1]
        return self.number(first[0], found) if first else None

    def fill(self, found: Evidence, *, up_to: int) -> None:
        """Add the documents that were read, best first, until there are ``up_to``."""
        for document in found.read:
            if len(self.passages) >= up_to:
                return
            self.add(document, found)


def _ranked_passage(passage: Passage, found: Evidence, *, rank: int) -> RankedPassage:
    """Return the passage with the scores of both legs, its cosine on the scale of the weights."""
    passages, hits = found.retrieved.passages, found.retrieved.hits
    fused = next((ranked for ranked in passages if ranked.passage.passage_id == passage.passage_id), None)
    hit = next((hit for hit in hits if hit.passage_id == passage.passage_id), None)
    return replace(
        fused or RankedPassage(passage, rank, 0.0, None, None, None, None),
        passage=passage,
        rank=rank,
        lexical_score=hit.lexical_score if hit else None,
        cosine=hit.cosine if hit else None,
    )
