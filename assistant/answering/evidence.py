"""Finds the document that answers a question: search, rank, read, score units, judge, quote."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from assistant.answering.adaptations import Adaptations
from assistant.answering.approved_sources import FindApproved, ServedAnswer
from assistant.answering.comparisons import Comparison, ItemTables, lines_of, opinions
from assistant.answering.excerpts import remember_texts, shown_title
from assistant.answering.gate import NOTHING_VISIBLE, Gate, gate_features, missing_in
from assistant.answering.item_questions import ItemQuestion, NamedItems
from assistant.answering.item_words import FILLER, opinion_asked
from assistant.answering.quote import Headings, QuestionTerms, Quote, ScoredUnit, UnitScorer, choose
from assistant.answering.retrieve import (
    NO_FILTERS,
    Candidates,
    CosineScale,
    RankedDocument,
    RetrievePassages,
    SearchScope,
    UnitVectors,
    Weights,
    candidates,
    rank,
    shipped_weights,
)
from assistant.answering.routing import RouterInput, Routing, SourceScores, route, spread_out
from assistant.answering.services import TenantServices
from assistant.answering.sources import State
from assistant.answering.understand import Term, Vocabulary, codes_in, is_known
from assistant.domain.answers import Certainty, Correction, GateDecision
from assistant.domain.documents import (
    KnownWords,
    Passage,
    RankedPassage,
    Retrieved,
    StoredDocument,
    id_prefix_of,
)
from assistant.settings.tenant import SourceEntry

DOCUMENTS_READ = 4
"""Best candidates whose units are read; the second ranking chooses among them."""
DOCUMENTS_READ_OF_SOURCES = 8
"""The same of a tenant with several sources of documents."""
_MOST_OF_ONE_SOURCE = 6
DOCUMENTS_READ_OF_ITEMS, _MOST_OF_ONE_SOURCE_OF_ITEMS = 14, 9
"""The same where the question names an item, of which there may be many reviews."""
"""Of these, while other sources have any."""
_TITLES_KEPT = 5_000
UNITS_EMBEDDED = 12
"""Units of the best document that get a vector of their own: some 450 tokens."""
UNITS_EMBEDDED_ALSO = 4
"""Units of the contending document that get one."""
_CONTENDS_WITHIN = 2.0
"""Largest difference of second-stage scores at which the second document is shown as "also possible"."""
_NEARLY_ALL, _NEXT_TO_NONE = 0.9, 0.01
"""Shares of a live source, and of the source of the best document, at which that document says nothing beside
the live values. Chosen on the tuning questions: of those that want both, the least share of the help pages is
0.011 (routers that had not seen them)."""
_NEAR_ENOUGH = 0.62
"""Cosine from which a unit is about what a question on an item says in other words. Chosen on the tuning
questions: of right quotes without a word of the question the least is 0.627, of wrong ones most are below."""
_EARLIER_WEIGHT = 0.3
"""Weight of the terms of the question before, where a follow-up depends on it."""
_ALIKE = 0.5
"""Share of their words that two titles have in common when one condition distinguishes their documents."""


@dataclass(frozen=True, slots=True)
class EvidenceQuery:
    """One question to find evidence for."""

    question: str
    """In the asker's words."""
    before: str | None = None
    """The question before it, where that is searched with it."""
    leans: bool = False
    """Whether the question makes no sense without ``before``."""
    corrections: tuple[Correction, ...] = ()
    known: KnownWords | None = None
    beside: str | None = None
    """Id of the document that answers the other half of a double question: preferred if it contends."""
    by_items: bool = True
    """Whether items that the question names come first, and tables answer; False to measure routing alone."""
    max_words: int = 120
    also_words: int = 60

    @property
    def joined(self) -> str:
        return self.question if self.before is None else f"{self.before}\n{self.question}"

    def corrected(self, text: str) -> str:
        """Return a text of the query with its words as they were corrected."""
        for one in self.corrections:
            text = re.sub(
                rf"(?<![^\W_]){re.escape(one.said)}(?![^\W_])", one.read_as, text, flags=re.IGNORECASE
            )
        return text


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the knowledge base holds for one question. It is completed step by step."""

    query: EvidenceQuery
    searched: str
    """The question with the words that were added for the search."""
    codes: tuple[str, ...]
    """Codes that the question names."""
    asked: QuestionTerms
    retrieved: Retrieved
    ranked: tuple[RankedDocument, ...]
    """Every candidate, best first."""
    documents: Mapping[str, StoredDocument]
    """The documents that were read, by id; so are the two mappings below."""
    scored: Mapping[str, Sequence[ScoredUnit]] = field(default_factory=dict[str, Sequence[ScoredUnit]])
    stems: Mapping[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    """All stems, title and headings included; empty once the evidence is judged."""
    gate: GateDecision = NOTHING_VISIBLE
    gate_features: Mapping[str, float] = field(default_factory=dict[str, float])
    certainty: Certainty | None = None
    quote: Quote | None = None
    """Of the best document; also where the gate refuses it, for evaluation."""
    also: Quote | None = None
    """Of the document that contends with it."""
    clarify: str | None = None
    approved: ServedAnswer | None = None
    """It answers in place of the quote."""
    table: Comparison | None = None
    """Items of the catalogue that answer in place of the quote, or why none does."""
    named: NamedItems | None = None
    """Items of the catalogue that the question names."""
    properties: tuple[str, ...] = ()
    """Properties of the one named item that it asks for."""
    routing: Routing | None = None
    """How much each source of the tenant matters; None for a tenant with one source."""
    states: Mapping[str, State] = field(default_factory=dict[str, State])
    """What came of each source of documents, by name."""
    source_scores: SourceScores | None = None
    """What the routing adds to the scores of documents."""

    @property
    def terms(self) -> tuple[Term, ...]:
        return self.asked.terms

    @property
    def best(self) -> StoredDocument | None:
        return self.documents.get(self.ranked[0].document_id) if self.ranked else None

    @property
    def best_id(self) -> str | None:
        return self.best.card.document_id if self.best is not None else None

    @property
    def contending(self) -> StoredDocument | None:
        """The second document, where it is close behind the best one."""
        if len(self.ranked) < 2 or self.ranked[0].score - self.ranked[1].score > _CONTENDS_WITHIN:
            return None
        return self.documents.get(self.ranked[1].document_id)

    def units_to_embed(self) -> list[Candidates]:
        """Return the best units so far of the documents to quote."""
        quoted = [(self.best, UNITS_EMBEDDED), (self.contending, UNITS_EMBEDDED_ALSO)]
        return [
            Candidates(document.card, [one.unit for one in sorted(scored, key=_negative_score)[:count]])
            for document, count in quoted
            if document is not None
            for scored in [self.scored[document.card.document_id]]
        ]


class FindEvidence:
    """Finds evidence for one tenant's questions. One instance serves all requests of a process."""

    def __init__(self, services: TenantServices, adaptations: Adaptations | None = None) -> None:
        """``adaptations`` None: neither desk nor learner changes anything."""
        tenant = services.tenant
        self._retrieve = RetrievePassages(services)
        self.adaptations = adaptations or Adaptations(
            tenant, desk=None, embedder=services.embedder, clock=services.clock
        )
        self._approved = FindApproved(services, self.adaptations)
        self.headings = Headings.of(
            reply=tenant.answers.reply_headings, condition=tenant.answers.condition_headings
        )
        self.scorer = UnitScorer(self.vocabulary.language, shipped_weights("quoter"), self.headings)
        self._ranker, self._reranker = shipped_weights("ranker"), shipped_weights("reranker")
        self._gate = Gate(shipped_weights("gate"), tenant.gate)
        self._polar_title = remember_texts(_TITLES_KEPT)(self.vocabulary.language.polar_stems)
        self._unit_vectors = UnitVectors(services.embedder)
        self._cosines = CosineScale.of(tenant.embedding)
        self._sources, self._clock = tenant.sources, services.clock
        self._tables = ItemTables(services, self.vocabulary.language)

    @property
    def vocabulary(self) -> Vocabulary:
        return self.adaptations.now.vocabulary

    @property
    def weights(self) -> dict[str, str]:
        """SHA-256 (hex) of each shipped weights file, by kind."""
        used = (self._ranker, self._reranker, self.scorer.weights, self._gate.weights)
        return {weights.kind: weights.sha256 for weights in used}

    def named_items(self, question: str, *, known: KnownWords | None) -> NamedItems | None:
        """Return the items of the catalogue that a question names; None without one."""
        return self._tables.named(question, known=known)

    def without_items(self, text: str, *, known: KnownWords | None) -> str:
        """Return a text with "it" for each item that it names; the text itself where it names none."""
        named = self.named_items(text, known=known)
        return text if named is None else named.pronouns

    def asks_of_item(self, before: str, question: str, *, known: KnownWords | None) -> bool:
        """Return whether a question without an item asks for a property of the one that ``before`` names:
        "how much is the Rivulet 400" and "is the mist warm?"."""
        named = self.named_items(before, known=known)
        if named is None or self.named_items(question, known=known) is not None:
            return False
        meanings = self.vocabulary.meanings(question, known=known)
        return self._tables.asks_of(named, question, known=known, meanings=meanings)

    async def find(self, query: EvidenceQuery, scope: SearchScope) -> Evidence:
        """Find the document that answers.

        Raises EmbeddingUnavailableError, SearchUnavailableError, OverloadedError, DeadlineExceededError.
        """
        searched = self.vocabulary.expand(query.joined, known=query.known, corrections=query.corrections)
        named = None
        if query.by_items:
            asked_of_items = query.corrected(query.joined if query.leans else query.question)
            named = self.named_items(asked_of_items, known=query.known)
        properties = self._properties(query, named)
        codes = self.vocabulary.named_codes(query.question)
        routed = None
        if len(self._sources) > 1:
            routed = self.router_input(query.joined, known=query.known, corrections=query.corrections)
        # Units are compared with the question as asked: glossary words would distort the comparison.
        texts = list(dict.fromkeys((searched, query.joined, *((routed.text,) if routed else ()))))
        vectors = dict(zip(texts, await self._retrieve.embed(texts, scope), strict=True))
        vector = vectors[query.joined]
        asked_of = await self._retrieve.search(
            searched, vector=vectors[searched], scope=scope, whole_legs=bool(codes)
        )
        retrieved = asked_of.retrieved
        approved = None
        if query.before is None:  # with the question before it, it may mean something else
            approved = await self._approved.find(query.question, vector, scope)
        table = await self._table(query, vector, scope) if approved is None else None
        with scope.steps.step("rank"):
            scaled = self._cosines.retrieved(retrieved)
            routing = None
            if routed is not None:
                router = self.adaptations.now.router
                routing = route(routed, vectors[routed.text], sources=self._sources, router=router)
            moved = self._source_scores(routing) if len(asked_of.states) > 1 else None
            ranked = self._rank_by_index(scaled, codes, ranker=scope.ranker or self._ranker, moved=moved)
        read = await self._retrieve.read(_to_read(ranked, named, are_many=moved is not None), scope)
        with scope.steps.step("weigh"):
            asked = QuestionTerms(_with_meanings(self._terms(query), named), query.question)
            found = Evidence(
                query,
                searched,
                codes,
                asked,
                retrieved,
                tuple(ranked),
                read,
                named=named,
                properties=properties,
                routing=routing,
                states=asked_of.states,
                source_scores=moved,
            )
            found = self._rank_by_units(self._score_units(found, scaled))
        if found.best is None:
            return _with_table(_with_approved(found, approved), table)
        with scope.steps.step("units"):
            raw = await self._unit_vectors.cosines(vector, found.units_to_embed(), deadline=scope.deadline)
        with scope.steps.step("quote"):
            cosines = {name: self._cosines.values(units) for name, units in raw.items()}
            found = _with_table(_with_approved(self._judge(found, cosines), approved), table)
        found = await self._with_opinions(found, vector, scope)
        return replace(found, certainty=Certainty.POSSIBLY) if self._says_nothing_of_it(found) else found

    def _says_nothing_of_it(self, found: Evidence) -> bool:
        """Return whether what is shown of a named item has no word of what else the question says, and is not
        near it either: its data sheet for "does it have a UV lamp?"."""
        is_quoted = found.approved is None and (found.table is None or found.table.asked.kind == "opinion")
        if found.named is None or found.properties or found.certainty is None or not is_quoted:
            return False
        if found.gate_features.get("unit_cosine", 0.0) >= _NEAR_ENOUGH:
            return False
        asked = [term for term in self._asked_of_item(found, found.named) if term.word not in FILLER]
        units = [one.unit for one in found.quote.units] if found.quote is not None else []
        reviews = found.table.reviews if found.table is not None else ()
        units += [unit for review in reviews for passage in review.passages for unit in passage.units]
        said = frozenset[str]().union(*(unit.terms for unit in units))
        return bool(asked) and not any(term.forms & said for term in asked)

    def _properties(self, query: EvidenceQuery, named: NamedItems | None) -> tuple[str, ...]:
        """Return the properties of the one named item that a question asks for; none of one for opinions."""
        if named is None or opinion_asked(named.rest) is not None:
            return ()
        meanings = self.vocabulary.meanings(named.rest, known=query.known)
        return self._tables.properties_of(named, known=query.known, meanings=meanings)

    async def _with_opinions(self, found: Evidence, vector: Sequence[float], scope: SearchScope) -> Evidence:
        """Return the evidence with reviews for and against the one named item, where a review is quoted."""
        best, named = found.best, found.named
        if best is None or named is None or len(named.items) != 1 or not self._is_review(best):
            return found
        if found.certainty is None or found.table is not None or found.approved is not None:
            return found
        item, own = named.items[0], named.item_ids
        ranked = [
            document
            for one in found.ranked
            for document in [found.documents.get(one.document_id)]
            if document is not None and self._is_review(document)
            if document.card.item is not None and document.card.item.item_id in own
        ]
        sheet = found.documents.get(item.document_id)
        if sheet is None or not ranked:
            return found
        with scope.steps.step("items"):
            reviews = await self._tables.reviews_of(sheet, vector=vector, scope=scope)
        asked = ItemQuestion("opinion", (item,), item.facts.category)
        opinion = opinion_asked(named.rest) or "both"
        said = opinions(asked, reviews, opinion, ranked=ranked)
        if not said.reviews or [one.card.document_id for one in said.reviews] == [found.best_id]:
            return found
        return replace(found, table=said, also=None, clarify=None)

    def _is_review(self, document: StoredDocument) -> bool:
        prefix = id_prefix_of(document.card.document_id)
        return any(one.id_prefix == prefix and one.kind == "reviews" for one in self._sources)

    async def _table(
        self, query: EvidenceQuery, vector: Sequence[float], scope: SearchScope
    ) -> Comparison | None:
        """Return the table that answers a question about items; None for any other question."""
        stands_alone = query.before is None or query.leans
        if not query.by_items or scope.filters != NO_FILTERS or not stands_alone:
            return None
        text = query.corrected(query.joined)
        meanings = self.vocabulary.meanings(text, known=query.known)
        asked = self._tables.read(text, known=query.known, meanings=meanings)
        if asked is None:
            return None
        with scope.steps.step("items"):
            return await self._tables.find(asked, vector=vector, scope=scope)

    def router_input(
        self, question: str, *, known: KnownWords | None, corrections: Sequence[Correction] = ()
    ) -> RouterInput:
        """Return a question as a router reads it."""
        meanings = self.vocabulary.meanings(question, known=known)
        meanings |= {one.said: one.read_as for one in corrections}
        forms = self._tables.forms(question, known=known, meanings=meanings)
        return RouterInput(self.without_items(question, known=known), forms)

    def _source_scores(self, routing: Routing | None) -> SourceScores | None:
        if routing is None:
            return None
        return SourceScores(routing, sources=self._sources, today=self._clock.now().date())

    def _rank_by_index(
        self, retrieved: Retrieved, codes: Sequence[str], *, ranker: Weights, moved: SourceScores | None
    ) -> list[RankedDocument]:
        ranked = rank(candidates(retrieved), weights=ranker)
        if moved is not None:
            ranked = moved.added(ranked)
        if not codes:
            return ranked
        named = frozenset(codes)
        with_codes = {
            one.passage.document_id
            for one in retrieved.passages
            if named <= codes_in(one.passage.embedding_input)
        }
        return _move_to_front(ranked, with_codes)

    def _score_units(self, found: Evidence, scaled: Retrieved) -> Evidence:
        """Add the scores of the units of the documents that were read."""
        cosines = {hit.passage_id: hit.cosine for hit in scaled.hits if hit.cosine is not None}
        asked = self._asked_of_units(found)
        scored: dict[str, Sequence[ScoredUnit]] = {}
        stems: dict[str, frozenset[str]] = {}
        for name, document in found.documents.items():
            ids = [passage.passage_id for passage in document.passages if passage.passage_id in cosines]
            near = {passage_id: cosines[passage_id] for passage_id in ids}
            units = scored[name] = self.scorer.score(asked, document, passage_cosines=near)
            headings = {one.unit.heading for one in units}
            names = "\n".join((document.card.title, *document.card.questions, *headings))
            terms = (one.unit.terms for one in units)
            stems[name] = self.vocabulary.language.content_stems(names).union(*terms)
        return replace(found, scored=scored, stems=stems)

    def _asked_of_units(self, found: Evidence) -> QuestionTerms:
        """Return the terms that units are scored by. Names of items choose documents: within one they would
        choose every line that repeats them."""
        if found.named is None:
            return found.asked
        terms = self._asked_of_item(found, found.named)
        return QuestionTerms(terms, found.named.rest) if terms else found.asked

    def _asked_of_item(self, found: Evidence, named: NamedItems) -> tuple[Term, ...]:
        """Return the terms of the question without the names of its items."""
        query = found.query
        rest = self.vocabulary.terms(named.rest, known=query.known, corrections=query.corrections)
        return _with_meanings(rest, named)

    def _rank_by_units(self, found: Evidence) -> Evidence:
        """Rank the documents that were read again, by their units too; the others follow in their order."""
        again = [self._rank_again(one, found) for one in found.ranked if one.document_id in found.scored]
        if not again:
            return found
        again.sort(key=lambda one: (-one.score, one.document_id))
        last = again[-1].score
        rest = [one for one in found.ranked if one.document_id not in found.scored]
        first = rest[0].score if rest else 0.0
        ranked = again + [replace(one, score=last - (first - one.score) - 1.0) for one in rest]
        beside = found.query.beside
        if beside in found.documents:
            best = ranked[0].score
            contending = {one.document_id for one in ranked if best - one.score <= _CONTENDS_WITHIN}
            ranked = _move_to_front(ranked, contending & {beside})
        if found.named is not None:
            # So is an item's name: opinions on its neighbour answer nothing.
            ranked = _move_to_front(ranked, self._of_items(found.named, found))
            if len(found.properties) > 1:  # a review may say one of them, the data sheet all
                ranked = _move_to_front(ranked, {found.named.items[0].document_id} & found.documents.keys())
        if found.codes:
            # A code is an exact key: a neighbouring code's document is similar and wrong.
            with_codes = {
                name for name, document in found.documents.items() if not missing_in(found.codes, document)
            }
            ranked = _move_to_front(ranked, with_codes)
        return replace(found, ranked=tuple(ranked))

    def _of_items(self, named: NamedItems, found: Evidence) -> set[str]:
        """Return the documents about the named items that name no other."""
        of_items: set[str] = set()
        for name, document in found.documents.items():
            item = document.card.item
            if item is None or item.item_id not in named.item_ids:
                continue
            others = self._tables.named(document.card.title, known=found.query.known)
            if others is None or others.item_ids <= named.item_ids:
                of_items.add(name)
        return of_items

    def _rank_again(self, one: RankedDocument, found: Evidence) -> RankedDocument:
        moved = found.source_scores
        added = moved.of(one.document_id) if moved is not None else 0.0
        scores = sorted((unit.score for unit in found.scored[one.document_id]), reverse=True)
        features = {
            "index": one.score - added,
            "best_unit": scores[0] if scores else 0.0,
            "best_units": sum(scores[:3]) / 3 if scores else 0.0,
            "coverage": found.asked.coverage(found.stems[one.document_id]),
            **self._title_features(found.documents[one.document_id].card.title, found.searched),
        }
        if moved is not None:
            added += moved.of_age(found.documents[one.document_id].card)
        score = self._reranker.score(features) + added
        return RankedDocument(one.document_id, score, {**one.features, **features})

    def _title_features(self, title: str, searched: str) -> dict[str, float]:
        """Return in what a title and the question agree and disagree: "not controlled" is not "controlled",
        and a number in a title names one thing."""
        ours, theirs = self.vocabulary.language.polar_stems(searched), self._polar_title(title)
        opposed = sum(_opposite(stem) in ours and stem not in ours for stem in theirs)
        agreed = sum(stem in ours and _opposite(stem) not in ours for stem in theirs if " " in stem)
        numbers = codes_in(title) & codes_in(searched)
        return {"title_opposed": float(opposed - agreed), "title_number": float(bool(numbers))}

    def _judge(self, found: Evidence, unit_cosines: Mapping[str, Mapping[int, float]]) -> Evidence:
        """Score the units to quote with their own vectors, judge the best document and quote it."""
        best, second, query = found.documents[found.ranked[0].document_id], found.contending, found.query
        name = best.card.document_id
        scored = dict(found.scored)
        for document_id, cosines in unit_cosines.items():
            scored[document_id] = self.scorer.score_again(scored[document_id], cosines)
        features = gate_features(
            found.asked,
            found.ranked,
            scored[name],
            stems=found.stems[name],
            unknown=self._unknown_words(found.terms, query),
            unit_cosines=unit_cosines.get(name, {}).values(),
        )
        judged = self._gate.judge(
            features,
            terms=found.terms,
            missing_codes=missing_in(found.codes, best),
            stems=found.stems[name],
            own_terms=self._own_terms(query) if query.before is not None and not query.leans else (),
        )
        also = self._quote(second, scored, max_words=query.also_words) if second is not None else None
        return replace(
            found,
            scored=scored,
            stems={},  # an answer keeps its evidence until it ends, and nothing reads them after the gate
            gate=judged.decision,
            gate_features=features,
            certainty=judged.certainty,
            quote=self._by_name(found, scored) or self._quote(best, scored, max_words=query.max_words),
            also=also,
            clarify=clarifying_question(
                found.searched, best, also, vocabulary=self.vocabulary, headings=self.headings
            ),
        )

    def _terms(self, query: EvidenceQuery) -> tuple[Term, ...]:
        """Return the question's terms, and at a lower weight those of the question before it."""
        own = self._own_terms(query)
        if query.before is None:
            return own
        forms = frozenset[str]().union(*(term.forms for term in own))
        earlier = self.vocabulary.terms(query.before, known=query.known)
        return own + tuple(
            replace(term, weight=_EARLIER_WEIGHT * term.weight) for term in earlier if not term.forms & forms
        )

    def _own_terms(self, query: EvidenceQuery) -> tuple[Term, ...]:
        return self.vocabulary.terms(query.question, known=query.known, corrections=query.corrections)

    def _unknown_words(self, terms: Sequence[Term], query: EvidenceQuery) -> frozenset[str]:
        """Return the words of the question that neither a document nor the glossary has."""
        if query.known is None:
            return frozenset()
        corrected = {one.said for one in query.corrections}
        return frozenset(
            term.word
            for term in terms
            if term.word.isalpha()
            and term.word not in corrected
            and not is_known(term.word, self.vocabulary, query.known.words, common=False)
        )

    def _by_name(self, found: Evidence, scored: Mapping[str, Sequence[ScoredUnit]]) -> Quote | None:
        """Return the lines of the named item's data sheet that say two or more properties asked for."""
        best, named = found.best, found.named
        if best is None or named is None or best.card.document_id != named.items[0].document_id:
            return None
        lines = lines_of(best, found.properties)
        units = tuple(one for one in scored[best.card.document_id] if one.unit.ordinal in lines)
        if len(units) < 2:
            return None
        return Quote(best, units, max(one.score for one in units), reply=(), is_by_name=True)

    def _quote(
        self, document: StoredDocument, scored: Mapping[str, Sequence[ScoredUnit]], *, max_words: int
    ) -> Quote | None:
        units = scored[document.card.document_id]
        if not units:
            return None
        if self._is_of_customer(document) and sum(one.words for one in units) <= max_words:
            best = max(one.score for one in units)  # half an opinion misleads
            return Quote(document, tuple(units), best, reply=())
        return choose(document, units, headings=self.headings, max_words=max_words)

    def _is_of_customer(self, document: StoredDocument) -> bool:
        prefix = id_prefix_of(document.card.document_id)
        return any(
            source.id_prefix == prefix and source.kind in ("reviews", "community") for source in self._sources
        )


def _to_read(ranked: Sequence[RankedDocument], named: NamedItems | None, *, are_many: bool) -> list[str]:
    """Return the ids of the candidates whose units are read; of a named item its own document, too."""
    if named is not None:
        more = spread_out(ranked, count=DOCUMENTS_READ_OF_ITEMS, most=_MOST_OF_ONE_SOURCE_OF_ITEMS)
        return list(dict.fromkeys((*(item.document_id for item in named.items), *more)))
    if are_many:
        return spread_out(ranked, count=DOCUMENTS_READ_OF_SOURCES, most=_MOST_OF_ONE_SOURCE)
    return [one.document_id for one in ranked[:DOCUMENTS_READ]]


def _with_meanings(terms: tuple[Term, ...], named: NamedItems | None) -> tuple[Term, ...]:
    """Return the terms with the names of the properties that they ask for: "loud" is "noise level", too."""
    if named is None or not named.meant:
        return terms
    nothing = frozenset[str]()
    return tuple(replace(term, forms=term.forms | named.meant.get(term.word, nothing)) for term in terms)


def _with_approved(found: Evidence, approved: ServedAnswer | None) -> Evidence:
    """Return the evidence with the approved answer in place of the quote and of what contends with it."""
    if approved is None:
        return found
    return replace(found, approved=approved, certainty=Certainty.ANSWERED, also=None, clarify=None)


def _with_table(found: Evidence, table: Comparison | None) -> Evidence:
    """Return the evidence with a table of items in place of the quote, or with its refusal.

    Where a wish was not checked, the items possibly fit."""
    if table is None or (table.refusal and table.asked.kind == "comparison"):
        return found
    certainty = Certainty.ANSWERED if table.asked.is_checked else Certainty.POSSIBLY
    certainty = None if table.refusal else certainty
    return replace(found, table=table, certainty=certainty, also=None, clarify=None)


def left_to_system(found: Evidence, *, sources: Sequence[SourceEntry]) -> Evidence:
    """Return the evidence of a question that a live system is read for; without an answer where a learned
    router gives that system nearly all of the share, and the best document's source next to none."""
    routing, best = found.routing, found.best_id
    if routing is None or routing.router is None or best is None or found.approved is not None:
        return found
    if found.table is not None and found.table.asked.kind != "opinion":
        return found  # the catalogue's own words ask for a table
    live = max((routing.shares[one.name] for one in sources if one.kind == "live"), default=0.0)
    own = next((one for one in sources if one.kind != "live" and one.id_prefix == id_prefix_of(best)), None)
    if own is None or live < _NEARLY_ALL or routing.shares[own.name] >= _NEXT_TO_NONE:
        return found
    gate = found.gate.model_copy(update={"passed": False})
    return replace(found, gate=gate, certainty=None, table=None, also=None, clarify=None)


def _move_to_front(ranked: Sequence[RankedDocument], names: Collection[str]) -> list[RankedDocument]:
    """Return the documents with these ids before all others, each group in its order."""
    front = [one for one in ranked if one.document_id in names]
    others = [one for one in ranked if one.document_id not in names]
    lift = max(0.0, others[0].score - front[-1].score) if front and others else 0.0
    return [replace(one, score=one.score + lift) for one in front] + others


def _negative_score(one: ScoredUnit) -> float:
    return -one.score


def _opposite(stem: str) -> str:
    return stem.removeprefix("not ") if stem.startswith("not ") else f"not {stem}"


def merged_quote(found: Sequence[Evidence], *, headings: Headings, max_words: int) -> Quote | None:
    """Return one quote for several questions that the same document answers.

    Each unit has the better of its scores, relative to the best unit for that question.
    """
    best = found[0].best
    if best is None:
        return None
    by_name = any(one.quote.is_by_name for one in found if one.quote is not None)
    if by_name:  # they hold the properties that each half asks for
        quotes = [one.quote for one in found if one.quote and (one.quote.is_by_name or not one.properties)]
        units = {one.unit.ordinal: one for quote in quotes for one in quote.units}
        score = max(quote.best_score for quote in quotes)
        ordered = tuple(units[ordinal] for ordinal in sorted(units))
        return Quote(best, ordered, score, reply=(), is_by_name=True)
    scored = [evidence.scored[best.card.document_id] for evidence in found]
    tops = [max((one.score for one in units), default=0.0) for units in scored]
    merged = [
        replace(units[0], score=max(unit.score - top for unit, top in zip(units, tops, strict=True)))
        for units in zip(*scored, strict=True)
    ]
    return choose(best, merged, headings=headings, max_words=max_words)


def clarifying_question(
    searched: str, best: StoredDocument, also: Quote | None, *, vocabulary: Vocabulary, headings: Headings
) -> str | None:
    """Return a short question back, or None.

    It is asked where two procedures with nearly the same title contend, each for a condition of its own, and
    the question does not say which of them applies.
    """
    if also is None or not all(_has_condition(one, headings) for one in (best, also.document)):
        return None
    titles = (best.card.title, also.document.card.title)
    first, second = (vocabulary.language.polar_stems(title) for title in titles)
    words = {stem.removeprefix("not ") for stem in first}, {stem.removeprefix("not ") for stem in second}
    if not all(words) or len(words[0] & words[1]) / len(words[0] | words[1]) < _ALIKE:
        return None
    if (first ^ second) & vocabulary.language.polar_stems(searched):
        return None
    return f"Which of these applies: “{shown_title(titles[0])}” or “{shown_title(titles[1])}”?"


def _has_condition(document: StoredDocument, headings: Headings) -> bool:
    return any(headings.is_condition(unit) for passage in document.passages for unit in passage.units)


class SourceList:
    """The numbered sources of one answer: the quoted passages first, then the best of each document."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self.passages: list[RankedPassage] = []

    def number(self, passage: Passage, found: Evidence) -> int:
        """Return the passage's number, a new one when it has none yet."""
        number = self._numbers.get(passage.passage_id)
        if number is None:
            number = self._numbers[passage.passage_id] = len(self.passages) + 1
            self.passages.append(_ranked_passage(passage, found, rank=number))
        return number

    def fill(self, found: Evidence, *, up_to: int) -> None:
        """Add the best passage of each ranked document, then their others, until there are ``up_to``."""
        by_document = [
            _best_first(found.documents[one.document_id].passages, found)
            for one in found.ranked
            if one.document_id in found.documents
        ]
        firsts = [passages[0] for passages in by_document if passages]
        others = [passage for passages in by_document for passage in passages[1:]]
        for passage in (*firsts, *others):
            if len(self.passages) >= up_to:
                return
            self.number(passage, found)


def _best_first(passages: Iterable[Passage], found: Evidence) -> list[Passage]:
    scores = {
        hit.passage_id: (hit.cosine or 0.0) + (hit.lexical_score or 0.0) / 100 for hit in found.retrieved.hits
    }
    return sorted(passages, key=lambda one: (-scores.get(one.passage_id, -1.0), one.ordinal))


def _ranked_passage(passage: Passage, found: Evidence, *, rank: int) -> RankedPassage:
    """Return the passage with the raw scores of both legs."""
    passages, hits = found.retrieved.passages, found.retrieved.hits
    fused = next((one for one in passages if one.passage.passage_id == passage.passage_id), None)
    hit = next((one for one in hits if one.passage_id == passage.passage_id), None)
    return RankedPassage(
        passage=passage,
        rank=rank,
        fused_score=fused.fused_score if fused else 0.0,
        lexical_rank=fused.lexical_rank if fused else None,
        lexical_score=hit.lexical_score if hit else None,
        vector_rank=fused.vector_rank if fused else None,
        cosine=hit.cosine if hit else None,
    )
