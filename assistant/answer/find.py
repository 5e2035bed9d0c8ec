"""Finds documents for each question of a message: searches, ranks, and reads the best.

A tenant's sources are asked at once, each under its own limit and circuit. One that is late or fails is left
out, which the answer says (``Finding.degraded``). A leg is one ranked list of a search: the passages by their
words (BM25), and by their vectors.

Documents are ranked by the scores of the index; then the best are read and ranked by the words of their
units, and later, in ``section.py``, by vectors of these units too. Scores fall along every order of this
file, because ``section.py`` compares the first two. Three places move them:

1. ``SourceScores`` adds what the routing says of a document's source, before the documents to read are taken.
   ``RankByUnits`` takes it off while it weighs the units, whose feature "index" is the index's score alone,
   and adds it again, with what the age of the document takes.
2. ``_move_to_front`` raises the documents that were read above those that were not, and the documents about a
   thing that the question names above all others. The feature "index" keeps what it added.
3. ``_behind`` lowers the documents that ``RankByUnits`` does not rank below those that it does: scores of
   different weights cannot be compared.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from heapq import nlargest
from itertools import chain, zip_longest
from math import sqrt
from typing import Any, Literal

import structlog
from opentelemetry.trace import SpanKind

from assistant.answer.adaptations import Adaptations
from assistant.answer.call import AnswerCall, Loaded, Result, call_within
from assistant.answer.message import PartQuery
from assistant.answer.offers import Cite, Named, Offered
from assistant.answer.route import Routing, SourceScores, route, spread_out
from assistant.answer.rows import Row, rows_about
from assistant.answer.scores import (
    CosineScale,
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
from assistant.answer.services import TenantServices
from assistant.answer.vocabulary import FIRST_WAIT_S, FRESH_FOR_S
from assistant.domain.answers import GateDecision
from assistant.domain.clock import Circuit, Deadline
from assistant.domain.documents import (
    Passage,
    PassageQuery,
    RankedPassage,
    Retrieved,
    SourceIds,
    StoredDocument,
)
from assistant.domain.errors import SearchUnavailableError
from assistant.stores.documents import read_editions
from assistant.tenant.tenant import SourceEntry, SourceKind, TenantConfig
from assistant.text.codes import codes_in
from assistant.text.editions import Editions, EditionsAsked

FAILURES_TO_OPEN = 3
"""Failures in a row after which a source is left out unasked for a while."""
LEAST_LEG = 20
"""Passages that each source may give to each leg, however many sources there are."""
State = Literal["answered", "empty", "late", "failed"]
DOCUMENTS_READ = 8
"""Best documents by the index that are read, and ranked by their words."""
_MOST_OF_ONE_SOURCE = 6
"""Of these, how many may be of one source of a tenant with several, while others have any."""
_DOCUMENTS_READ_OF_NAMED = 14
"""Documents that are read where the question names a thing: many may be about it."""
_MOST_OF_ONE_SOURCE_OF_NAMED = 9
"""Of these, how many may be of one source, while others have any."""
_READ_BY_WORDS = 3
"""Best passages by their words, whose documents are read too where the question has a code: the index's order
of documents hardly sees a word that one of them alone has."""
NEAR_ROW_COVERAGE = 0.5
"""A row that holds this share of the question's weight opens the gate although no vector is near: a row is
short, and one of dozens in its passage, so that the passage's vector says little of it."""
_RAW_WEIGHT = 0.5
KEPT_CANDIDATES = 20
"""Documents whose features the record keeps."""
_log = structlog.get_logger(__name__)


# The search


@dataclass(frozen=True, slots=True)
class AskedSources:
    """What the sources of documents answered."""

    retrieved: Retrieved
    """The results of all that answered, merged as if by one search."""
    states: Mapping[str, State]
    """By name of the source; with only one search for all of them, each has its state."""


def source_ids(tenant: TenantConfig, *, kind: SourceKind) -> tuple[SourceIds, ...]:
    """Return the ids of the documents of the tenant's sources of one kind."""
    return tuple(_ids_of(source, tenant.sources) for source in tenant.sources if source.kind == kind)


def _ids_of(source: SourceEntry, sources: Iterable[SourceEntry]) -> SourceIds:
    """Return which ids of all ``sources`` are this one's: those with its prefix; where it has none, those
    without the others' prefixes."""
    if source.id_prefix:
        return SourceIds(source.id_prefix)
    return SourceIds("", tuple(other.id_prefix for other in sources if other.id_prefix))


class SourceSearch:
    """Searches one tenant's documents. One instance serves all requests of a process."""

    def __init__(self, services: TenantServices) -> None:
        self._services = services
        self.sources = tuple(source for source in services.tenant.sources if source.kind != "live")
        """Those whose documents are in the index; a live source has none."""
        self._ids = {source.name: _ids_of(source, self.sources) for source in self.sources}
        self._circuits = {
            source.name: Circuit(clock=services.clock, failures=FAILURES_TO_OPEN) for source in self.sources
        }

    async def run(
        self, text: str, *, vector: Sequence[float], call: AnswerCall, without: frozenset[str] = frozenset()
    ) -> AskedSources:
        """Return what the index has for a text and its vector: by one search, or by one for each source where
        the tenant has several of documents. ``without``: ids of documents that are left out.

        Raises SearchUnavailableError when none answered, DeadlineExceededError.
        """
        settings = self._services.tenant.retrieval
        query = PassageQuery(
            text=text,
            vector=vector,
            filters=call.filters,
            labels=call.labels,
            leg_size=max(settings.leg_size, settings.passages),
            size=settings.passages,
            without=without,
        )
        with call.steps.step(
            "search",
            span_name="retrieval passages",
            kind=SpanKind.CLIENT,
            attributes={"gen_ai.operation.name": "retrieval", "gen_ai.data_source.id": "passages"},
        ) as span:
            asked = await self._ask_all(query, call)
            span.set_attribute("assistant.index_version", asked.retrieved.index_version)
            span.set_attribute("assistant.passages", len(asked.retrieved.passages))
            return asked

    async def _ask_all(self, query: PassageQuery, call: AnswerCall) -> AskedSources:
        if len(self.sources) <= 1:  # one search, without a source's own limit and circuit
            retrieved = await self._call_index(
                lambda step: self._services.search.search(query, deadline=step), call.deadline
            )
            state: State = "answered" if retrieved.documents else "empty"
            return AskedSources(retrieved, {source.name: state for source in self.sources})
        results = await asyncio.gather(*(self._ask(source, query, call.deadline) for source in self.sources))
        answers = [retrieved for _, retrieved in results if retrieved is not None]
        if not answers:
            raise SearchUnavailableError("No source of the knowledge base answered; ask again.")
        states: dict[str, State] = dict(zip(self._ids, (state for state, _ in results), strict=True))
        return AskedSources(_merged(answers, size=query.size), states)

    async def _ask(
        self, source: SourceEntry, query: PassageQuery, deadline: Deadline
    ) -> tuple[State, Retrieved | None]:
        """Return a source's state and what it found; None if it is late, fails, or its circuit is open."""
        circuit = self._circuits[source.name]
        if not circuit.allows():
            return "failed", None
        limit_s = min(source.search_limit_s, self._services.tenant.limits.search_timeout_s)
        late = SearchUnavailableError(f"The source {source.name} took over {limit_s:g} s.")
        source_query = replace(query, ids=self._ids[source.name], leg_size=self._leg_size(query.leg_size))
        try:
            retrieved = await call_within(
                limit_s,
                lambda step: self._services.search.search(source_query, deadline=step),
                deadline=deadline,
                late=late,
            )
        except SearchUnavailableError as error:
            circuit.failed()
            _log.warning("source_left_out", source=source.name, reason=error.message)
            # ``call_within`` raises ``late`` itself, the index another error.
            return ("late" if error is late else "failed"), None
        circuit.succeeded()
        return ("answered" if retrieved.documents else "empty"), retrieved

    def _leg_size(self, leg_size: int) -> int:
        """Return how many passages one source may give to a leg: an equal share, at least LEAST_LEG."""
        return max(min(LEAST_LEG, leg_size), leg_size // len(self.sources))

    async def read(self, document_ids: Sequence[str], call: AnswerCall) -> Mapping[str, StoredDocument]:
        """Return documents with their units. Raises SearchUnavailableError, DeadlineExceededError."""
        if not document_ids:
            return {}
        with call.steps.step("read", kind=SpanKind.CLIENT):
            return await self._call_index(
                lambda step: self._services.search.read_documents(
                    document_ids, labels=call.labels, deadline=step
                ),
                call.deadline,
            )

    async def _call_index(
        self, work: Callable[[Deadline], Coroutine[Any, Any, Result]], deadline: Deadline
    ) -> Result:
        limit_s = self._services.tenant.limits.search_timeout_s
        return await call_within(
            limit_s,
            work,
            deadline=deadline,
            late=SearchUnavailableError(f"The passage index took over {limit_s:g} s; ask again."),
        )


def _merged(answers: Sequence[Retrieved], *, size: int) -> Retrieved:
    """Return the results of several sources, whose documents differ, as one: the passages get new
    ranks by their fused scores, each of which is of the ranks in its source."""
    ranked = sorted(
        chain.from_iterable(answer.passages for answer in answers),
        key=lambda passage: (-passage.fused_score, passage.passage.passage_id),
    )
    return Retrieved(
        passages=tuple(replace(passage, rank=rank) for rank, passage in enumerate(ranked[:size], start=1)),
        best_cosine=max(answer.best_cosine for answer in answers),
        index_version=answers[0].index_version,
        hits=tuple(sorted(chain.from_iterable(answer.hits for answer in answers))),
        documents=tuple(sorted(chain.from_iterable(answer.documents for answer in answers))),
    )


# The documents for one question


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found for one question of a message. ``FindDocuments`` makes it.

    Example: "Are refills payable?" finds 30 documents, and reads 8 of them::

        finding.order  # 30 RankedDocument; the 8 that were read come first
        finding.read  # 8 StoredDocument, in the order of ``order``: by the index
        finding.by_words  # the same 8, by the words of their units
        finding.scored["refill"][0].score  # 2.4: the first unit of one of them
    """

    query: PartQuery
    searched: str
    """The question with the words that were added for the search."""
    retrieved: Retrieved
    """Passages and documents of all sources that answered; cosines on the scale of the weights
    (``CosineScale``)."""
    states: Mapping[str, State]
    """What came of each source of documents, by its name."""
    offered: tuple[Offered, ...]
    """What options have for it: in place of a section, or beside it."""
    named: Named | None
    """Things that the question names, by the first option that recognises any; None: none."""
    asked: QuestionTerms
    order: tuple[RankedDocument, ...]
    """Every candidate, best first, by the index."""
    documents: Mapping[str, StoredDocument]
    """The documents that were read, by id."""
    routing: Routing | None
    """How much each source matters; None for a tenant with one source."""
    source_scores: SourceScores | None
    """What the routing adds to the scores of documents; None where only one source was searched."""
    gate: GateDecision
    """Whether anything is near enough to ask a model."""
    scored: Mapping[str, Sequence[ScoredUnit]] = field(default_factory=dict[str, Sequence[ScoredUnit]])
    """Units of the documents that were read, by document id. Empty where none was read."""
    by_words: tuple[StoredDocument, ...] = ()
    """The documents that were read, best first by the words of their units. Empty where none was read."""

    @property
    def degraded(self) -> tuple[str, ...]:
        """The sources that were left out because they failed or were late."""
        return tuple(f"source {name}" for name, state in self.states.items() if state in ("late", "failed"))

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


class RankByUnits:
    """Ranks documents that were read by their units: for the first of them by words alone, then, in
    ``section.py``, by vectors too.

    Example::

        by_units.order(finding, {})[0].document_id  # "refill": the best by its words
    """

    def __init__(self, adaptations: Adaptations) -> None:
        self.scorer = UnitScorer(adaptations.now.vocabulary.language)
        self._by_words, self._by_vectors = shipped_weights("reranker"), shipped_weights("reranker_vectors")

    def order(
        self, finding: Finding, cosines: Mapping[str, Mapping[int, float]]
    ) -> tuple[RankedDocument, ...]:
        """Return the order by the units of documents; those that it does not rank follow in their order.

        ``cosines``: by id of a document that was read, of its units by ordinal. Only these documents are
        ranked. Empty, before units have vectors or where the embedding endpoint failed: all documents that
        were read are ranked, by words alone.
        """
        to_rank = cosines or finding.documents
        weights = self._by_vectors if cosines else self._by_words
        by_units = best_first(
            self._of_units(finding, candidate, cosines.get(candidate.document_id, {}), weights)
            for candidate in finding.order
            if candidate.document_id in to_rank
        )
        others = [candidate for candidate in finding.order if candidate.document_id not in to_rank]
        by_units += _behind(by_units, others)
        return _named_first(by_units, finding.documents, finding.named)

    def _of_units(
        self, finding: Finding, candidate: RankedDocument, cosines: Mapping[int, float], weights: Weights
    ) -> RankedDocument:
        """Return a document that was read with the score that its units give."""
        document, units = finding.documents[candidate.document_id], finding.scored[candidate.document_id]
        source_scores = finding.source_scores
        for_source = source_scores.of(candidate.document_id) if source_scores is not None else 0.0
        for_age = source_scores.of_age(document.card) if source_scores is not None else 0.0
        features = document_features(
            replace(candidate, score=candidate.score - for_source),
            document,
            units,
            asked=finding.asked,
            words=self.scorer.words_of(document),
            cosines=cosines,
        )
        score = weights.score(features) + (for_source + for_age)
        return RankedDocument(candidate.document_id, score, {**candidate.features, **features})

    def rows(self, document: StoredDocument, finding: Finding) -> tuple[Row, ...]:
        """Return the rows of a document that the question names."""
        return rows_about(finding.scored[document.card.document_id], finding.asked, stems=self.scorer.stems)


class FindDocuments:
    """Finds the documents for the questions of one tenant.

    Example::

        [finding] = await find.run([PartQuery("Are refills payable?", vector)], call)
        finding.states  # {"documents": "answered"}
        finding.order[0]  # RankedDocument("refill", 3.1, {"title_cosine": 0.7, ...}): the best by the index
        finding.by_words[0].card.title  # "Refill too soon": a model reads it first
    """

    def __init__(self, services: TenantServices, adaptations: Adaptations, by_units: RankByUnits) -> None:
        tenant = services.tenant
        self._adaptations, self._by_units = adaptations, by_units
        self._sources = SourceSearch(services)
        self._cosines = CosineScale.of(tenant.embedding)
        self._ranker = shipped_weights("ranker")
        self._least_cosine = tenant.gate.model_cosine
        self._entries, self._clock, self._today = tenant.sources, services.clock, services.today
        read = partial(read_editions, services.documents.states)
        self._editions = Loaded(read, clock=self._clock, failure="editions_late", fresh_for_s=FRESH_FOR_S)

    async def run(self, queries: Sequence[PartQuery], call: AnswerCall) -> tuple[Finding, ...]:
        """Search for all questions at once, rank by the index, read the best documents, and rank these by
        their words.

        Raises SearchUnavailableError, OverloadedError, DeadlineExceededError.
        """
        return tuple(await asyncio.gather(*(self._find(query, call) for query in queries)))

    async def _find(self, query: PartQuery, call: AnswerCall, codes: frozenset[str] = frozenset()) -> Finding:
        """Return what there is for one question: names and search, what options offer, then the best
        documents. What leans on words above asks no option. ``codes``: of the question, which no document in
        force has: those not in force are searched for them."""
        vocabulary = self._adaptations.now.vocabulary
        searched, named, offered = query.question, None, tuple[Offered, ...]()
        asked = AskedSources(Retrieved(passages=(), best_cosine=0.0, index_version=""), {})
        now = self._clock.now()
        editions = await self._editions.get(within_s=FIRST_WAIT_S) or Editions()
        over = EditionsAsked(editions, query.question, self._today(now) or now.date())
        without = frozenset[str]() if codes else over.left_out
        if query.is_searched:
            named = self._adaptations.named(query.question, known=query.known)
            searched = vocabulary.expand(query.question, known=query.known)
            asked = await self._sources.run(searched, vector=query.vector, call=call, without=without)
            offered = () if query.leans else await self._offered(query, call)
        retrieved = self._cosines.retrieved(asked.retrieved)
        with call.steps.step("rank"):
            routing, source_scores = self._route(query), None
            order = rank(candidates(retrieved), weights=self._ranker)
            if routing is not None and len(asked.states) > 1:
                source_scores = SourceScores(routing, sources=self._entries, today=self._clock.now().date())
                order = source_scores.added(order)
        # Names choose documents: within one they would choose every line that repeats them.
        rest = vocabulary.terms(named.rest, known=query.known) if named is not None else ()
        terms = rest or vocabulary.terms(query.question, known=query.known)
        document_ids = _to_read(order, named)
        asked_terms = QuestionTerms(terms, question=query.question)
        if asked_terms.codes:
            hits = nlargest(_READ_BY_WORDS, retrieved.hits, key=lambda hit: hit.lexical_score or 0.0)
            document_ids = list(dict.fromkeys((*document_ids, *(hit.document_id for hit in hits))))
        read = await self._sources.read(document_ids, call)
        with_code = {name for name, document in read.items() if codes and codes & _codes_of(document)}
        documents = over.told(read, labels=call.labels, asked_for=with_code)
        finding = Finding(
            query=query,
            searched=searched,
            retrieved=retrieved,
            states=asked.states,
            offered=offered,
            named=named,
            asked=asked_terms,
            order=_named_first(_move_to_front(order, documents), documents, named),
            documents=documents,
            routing=routing,
            source_scores=source_scores,
            gate=self._gate(retrieved),
        )
        lacking = frozenset(codes_in(query.question)) if without else frozenset[str]()
        if lacking and (lacking := lacking.difference(*map(_codes_of, documents.values()))):
            other = await self._find(query, call, lacking)
            finding = other if other.best is not None and other.best.card.not_in_force else finding
        if finding.best is None or finding.scored:
            return finding
        with call.steps.step("words"):
            return self._with_words(finding)

    def _with_words(self, finding: Finding) -> Finding:
        """Return the finding with the units of its documents, their order by words, and the gate open for a
        near row."""
        hits = finding.retrieved.hits
        cosines = {hit.passage_id: hit.cosine for hit in hits if hit.cosine is not None}
        scored = {
            document_id: self._by_units.scorer.score(finding.asked, document, passage_cosines=cosines)
            for document_id, document in finding.documents.items()
        }
        finding = replace(finding, scored=scored)
        by_words = tuple(replace(finding, order=self._by_units.order(finding, {})).read)
        gate = finding.gate
        if not gate.passed:
            rows = self._by_units.rows(by_words[0], finding)
            is_near = any(row.coverage >= NEAR_ROW_COVERAGE for row in rows)
            gate = gate.model_copy(update={"passed": is_near})
        return replace(finding, by_words=by_words, gate=gate)

    def _gate(self, retrieved: Retrieved) -> GateDecision:
        """Judge the cosine of the nearest passage or title; -1 where there is none."""
        cosines = [hit.cosine for hit in retrieved.hits if hit.cosine is not None]
        cosines += [hit.title_cosine for hit in retrieved.documents if hit.title_cosine is not None]
        best, least = max(cosines, default=-1.0), self._least_cosine
        return GateDecision(passed=best >= least, best_cosine=round(best, 4), min_cosine=least)

    async def _offered(self, query: PartQuery, call: AnswerCall) -> tuple[Offered, ...]:
        """Return what options have for a question. They are asked in turn, up to the first that answers
        it."""
        meanings = self._adaptations.now.vocabulary.meanings(query.question, known=query.known)
        everything: list[Offered] = []
        for offer in self._adaptations.offers:
            offered = await offer.find(query, call, meanings=meanings)
            if offered is not None:
                everything.append(offered)
                if offered.answers:
                    break
        return tuple(everything)

    def _route(self, query: PartQuery) -> Routing | None:
        if len(self._entries) < 2:
            return None
        question, vector = query.routed_text or query.question, query.routed_vector or query.vector
        return route(question, vector, sources=self._entries, router=self._adaptations.now.router)


def _codes_of(document: StoredDocument) -> frozenset[str]:
    """Return the codes of a document's text."""
    return frozenset(code for passage in document.passages for code in codes_in(passage.text))


def _to_read(ranked: Sequence[RankedDocument], named: Named | None) -> list[str]:
    """Return the ids of the documents to read: the best ones, or beside them the named thing's own."""
    if named is None:
        return spread_out(ranked, count=DOCUMENTS_READ, most=_MOST_OF_ONE_SOURCE)
    best = spread_out(ranked, count=_DOCUMENTS_READ_OF_NAMED, most=_MOST_OF_ONE_SOURCE_OF_NAMED)
    return list(dict.fromkeys((*named.document_ids, *best)))


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
    """Return the documents about what the question names, and nothing else, and the editions that it asks
    for, before all others."""
    subjects = {
        document_id
        for document_id, document in documents.items()
        if document.card.is_asked_for or (named is not None and named.are_subject_of(document))
    }
    return tuple(_move_to_front(order, subjects))


def in_turn(findings: Sequence[Finding], *, most: int) -> list[tuple[Finding, StoredDocument]]:
    """Return the documents for a prompt, each with the question that it is for: the best of each question,
    then the second of each, … A document of two questions comes once, for the first of them."""
    found: dict[str, tuple[Finding, StoredDocument]] = {}
    for documents in zip_longest(*(finding.for_model for finding in findings)):
        for finding, document in zip(findings, documents, strict=True):
            if document is not None:
                found.setdefault(document.card.document_id, (finding, document))
    return list(found.values())[:most]


def merged(
    asked: Sequence[Finding], raw: Sequence[Finding], *, most: int
) -> list[tuple[Finding, StoredDocument]]:
    """Return the documents for a prompt by the sum of their reciprocal ranks: those of the model's searches
    (``asked``), the first of which counts most, and by half of those of the conversation's own words."""
    scores = defaultdict[str, float](float)
    found: dict[str, tuple[Finding, StoredDocument]] = {}
    for weight, findings in ((1.0, asked), (_RAW_WEIGHT, raw)):
        for nth, finding in enumerate(findings, start=1):
            for place, document in enumerate(finding.for_model, start=1):
                document_id = document.card.document_id
                found.setdefault(document_id, (finding, document))
                scores[document_id] += weight / sqrt(nth) / (place + 1)
    best_first = sorted(found, key=lambda name: (-round(scores[name], 6), name))
    return [found[name] for name in best_first[:most]]


class SourceList:
    """The numbered sources of one answer: one for each document, at the passage that was numbered first.

    One list serves all questions of a message, so each call says of which question a passage is::

        sources = SourceList()
        sources.add(refill, finding)  # 1: a prompt shows the document
        cite = sources.citing(finding)
        cite(refill.passages[2])  # 1: its document has a number
        cite(copay.passages[0])  # 2
        sources.passages  # [RankedPassage of "refill", RankedPassage of "copay"]
    """

    def __init__(self, passages: Iterable[RankedPassage] = ()) -> None:
        self.passages = list(passages)
        self._numbers = {source.passage.document_id: n for n, source in enumerate(self.passages, start=1)}

    def number(self, passage: Passage, finding: Finding) -> int:
        """Return the number of the passage's document; a new one, at this passage, where it has none yet."""
        number = self._numbers.get(passage.document_id)
        if number is None:
            number = self._numbers[passage.document_id] = len(self.passages) + 1
            self.passages.append(_ranked_passage(passage, finding, rank=number))
        return number

    def citing(self, finding: Finding) -> Cite:
        """Return ``number`` for the passages of one question."""
        return partial(self.number, finding=finding)

    def add(self, document: StoredDocument, finding: Finding) -> int | None:
        """Return the number of a document, at its best passage; None for one without passages.

        The best has the highest cosine plus a hundredth of its BM25 score, which thus decides where cosines
        are missing or nearly equal. A passage that no leg found comes last.
        """
        scores = {
            hit.passage_id: (hit.cosine or 0.0) + (hit.lexical_score or 0.0) / 100
            for hit in finding.retrieved.hits
        }
        best = min(
            document.passages,
            key=lambda passage: (-round(scores.get(passage.passage_id, -1.0), 4), passage.ordinal),
            default=None,
        )
        return None if best is None else self.number(best, finding)

    def fill(self, finding: Finding, *, up_to: int) -> None:
        """Add the documents that were read, best first, until there are ``up_to``."""
        for document in finding.read:
            if len(self.passages) >= up_to:
                return
            self.add(document, finding)


def _ranked_passage(passage: Passage, finding: Finding, *, rank: int) -> RankedPassage:
    """Return the passage at a rank, with the scores that the search gave it; None for a leg that did not
    find it.

    The fused result has the scores of its best passages alone; the hits have those of all.
    """
    fused, hits = finding.retrieved.passages, finding.retrieved.hits
    in_fused = next((other for other in fused if other.passage.passage_id == passage.passage_id), None)
    hit = next((hit for hit in hits if hit.passage_id == passage.passage_id), None)
    return replace(
        in_fused or RankedPassage(passage, rank, 0.0, None, None, None, None),
        passage=passage,
        rank=rank,
        lexical_score=hit.lexical_score if hit else None,
        cosine=hit.cosine if hit else None,
    )
