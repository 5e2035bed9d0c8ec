"""From a question to the document that answers it: search, rank, read, score units, judge, quote."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from opentelemetry import trace

from assistant.answering.excerpts import remember_texts, shown_title
from assistant.answering.gate import NOTHING_VISIBLE, gate_features, judge, missing_in
from assistant.answering.quote import AskedOf, Headings, Quote, ScoredUnit, UnitScorer, choose
from assistant.answering.retrieve import (
    Candidates,
    CosineScale,
    RankedDocument,
    RetrievePassages,
    UnitVectors,
    candidates,
    rank,
    shipped_weights,
)
from assistant.answering.services import Steps, TenantServices
from assistant.answering.understand import Term, Vocabulary, codes_in, is_known
from assistant.domain.answers import Certainty, Correction, GateDecision
from assistant.domain.clock import Deadline
from assistant.domain.documents import KnownWords, Retrieved, SearchFilters, StoredDocument

DOCUMENTS_READ = 4
"""Best candidates whose units are read; the second ranking chooses among them."""
_TITLES_KEPT = 5_000
UNITS_EMBEDDED = 12
"""Units of the best document that get a vector of their own: some 450 tokens."""
UNITS_EMBEDDED_ALSO = 4
"""Of the document that contends with it."""
USUAL_PEAK = 0.11
"""By how much the nearest unit is nearer than the mean. The gate reads it where units have no vectors: a late
endpoint refuses nothing that would be let through."""
_CONTENDS_WITHIN = 2.0
"""In second-stage scores: a document that is behind by less is shown as "also possible"."""
_EARLIER_WEIGHT = 0.3
"""Of the terms of the question before, where a follow-up leans on it."""
_ALIKE = 0.5
"""Share of their words that two titles have in common when one condition tells their documents apart."""


@dataclass(frozen=True, slots=True)
class Sought:
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
    """Id of the document that answers the other half of a double question: where it contends, it is taken."""
    max_words: int = 120
    also_words: int = 60

    @property
    def joined(self) -> str:
        return self.question if self.before is None else f"{self.before}\n{self.question}"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the knowledge base holds for one question."""

    sought: Sought
    searched: str
    """What was searched: the question with the words that were added."""
    terms: tuple[Term, ...]
    retrieved: Retrieved
    ranked: tuple[RankedDocument, ...]
    """Every candidate, best first."""
    documents: Mapping[str, StoredDocument]
    """Those that were read, by id."""
    scored: Mapping[str, Sequence[ScoredUnit]]
    gate: GateDecision
    gate_features: Mapping[str, float]
    certainty: Certainty | None
    quote: Quote | None
    """Of the best document; there also where it is not let through the gate, for evaluation."""
    also: Quote | None
    """Of the document that contends with it."""
    clarify: str | None

    @property
    def best(self) -> StoredDocument | None:
        return self.documents.get(self.ranked[0].document_id) if self.ranked else None


@dataclass(frozen=True, slots=True)
class _Weighed:
    """The documents that were read, ranked by what their units say."""

    asked: AskedOf
    ranked: tuple[RankedDocument, ...]
    read: Mapping[str, StoredDocument]
    near: Mapping[str, Mapping[str, float]]
    """By document: the cosines of its passages, where a leg gave them."""
    scored: Mapping[str, Sequence[ScoredUnit]]
    held: Mapping[str, frozenset[str]]
    """By document: all its stems."""

    @property
    def best(self) -> StoredDocument:
        return self.read[self.ranked[0].document_id]

    @property
    def contending(self) -> StoredDocument | None:
        """The second document, where it is close behind the best one."""
        if len(self.ranked) < 2 or self.ranked[0].score - self.ranked[1].score > _CONTENDS_WITHIN:
            return None
        return self.read.get(self.ranked[1].document_id)

    def likely(self) -> list[Candidates]:
        """Return the units of the documents to quote that are worth a vector: the best so far."""
        quoted = [(self.best, UNITS_EMBEDDED)]
        if self.contending is not None:
            quoted.append((self.contending, UNITS_EMBEDDED_ALSO))
        return [
            Candidates(document.card, [one.unit for one in sorted(scored, key=_by_score)[:count]])
            for document, count in quoted
            for scored in [self.scored[document.card.document_id]]
        ]

    def nothing(self, sought: Sought, searched: str, retrieved: Retrieved) -> Evidence:
        """Return the evidence where no document is let through, or all went away meanwhile."""
        return Evidence(
            sought=sought,
            searched=searched,
            terms=self.asked.terms,
            retrieved=retrieved,
            ranked=self.ranked,
            documents=self.read,
            scored=self.scored,
            gate=NOTHING_VISIBLE,
            gate_features={},
            certainty=None,
            quote=None,
            also=None,
            clarify=None,
        )


class FindEvidence:
    """Finds evidence for one tenant's questions. One instance serves all requests of a process."""

    def __init__(self, services: TenantServices) -> None:
        tenant = services.tenant
        self._services = services
        self._retrieve = RetrievePassages(services)
        self.vocabulary = Vocabulary.of(tenant)
        self.headings = Headings.of(
            reply=tenant.answers.reply_headings, condition=tenant.answers.condition_headings
        )
        self.scorer = UnitScorer(self.vocabulary.language, shipped_weights("quoter"), self.headings)
        self._ranker, self._reranker = shipped_weights("ranker"), shipped_weights("reranker")
        self._gate = shipped_weights("gate")
        self._polar_title = remember_texts(_TITLES_KEPT)(self.vocabulary.language.polar_stems)
        self._unit_vectors = UnitVectors(services.embedder, clock=services.clock)
        self._cosines = CosineScale.of(tenant.embedding)

    @property
    def weights(self) -> dict[str, str]:
        """SHA-256 (hex) of each weights file, by kind."""
        used = (self._ranker, self._reranker, self.scorer.weights, self._gate)
        return {weights.kind: weights.sha256 for weights in used}

    async def find(
        self,
        sought: Sought,
        *,
        labels: frozenset[str],
        deadline: Deadline,
        filters: SearchFilters | None = None,
        size: int | None = None,
        steps: Steps | None = None,
    ) -> Evidence:
        """Find the document that answers; ``size`` as in ``RetrievePassages.retrieve``.

        Raises EmbeddingUnavailableError, SearchUnavailableError, OverloadedError, DeadlineExceededError.
        """
        steps = steps or Steps(trace.INVALID_SPAN, clock=self._services.clock)
        searched = self.vocabulary.expand(sought.joined, known=sought.known, corrections=sought.corrections)
        codes = self.vocabulary.named_codes(sought.question)
        # Units are compared with the question as it was asked: glossary words would draw them to themselves.
        texts = list(dict.fromkeys((searched, sought.joined)))
        vectors = await self._retrieve.embed(texts, deadline=deadline, steps=steps)
        retrieved = await self._retrieve.retrieve(
            searched,
            vector=vectors[0],
            labels=labels,
            deadline=deadline,
            filters=filters,
            size=size,
            with_codes=codes,
            steps=steps,
        )
        with steps.step("rank"):
            scaled = self._cosines.retrieved(retrieved)
            ranked = self._first_stage(scaled, codes)
        read = await self._retrieve.read(
            [one.document_id for one in ranked[:DOCUMENTS_READ]],
            labels=labels,
            deadline=deadline,
            steps=steps,
        )
        with steps.step("weigh"):
            weighed = self._weigh(sought, searched, scaled, ranked, read, codes)
        if not weighed.ranked or not weighed.read:
            return weighed.nothing(sought, searched, retrieved)
        with steps.step("units"):
            found = await self._unit_vectors.cosines(vectors[-1], weighed.likely(), deadline=deadline)
        with steps.step("quote"):
            cosines = {name: self._cosines.values(units) for name, units in found.items()}
            return self._judged(weighed, sought, searched, retrieved, codes, unit_cosines=cosines)

    def _first_stage(self, retrieved: Retrieved, codes: Sequence[str]) -> list[RankedDocument]:
        ranked = rank(candidates(retrieved), weights=self._ranker)
        if not codes:
            return ranked
        named = frozenset(codes)
        holding = {
            one.passage.document_id
            for one in retrieved.passages
            if named <= codes_in(one.passage.embedding_input)
        }
        return _raised(ranked, holding)

    def _title_features(self, title: str, searched: str) -> dict[str, float]:
        """Return what a title and the question agree and disagree in: "not controlled" is not "controlled",
        and a number in a title names one thing."""
        ours, theirs = self.vocabulary.language.polar_stems(searched), self._polar_title(title)
        opposed = sum(_opposite(stem) in ours and stem not in ours for stem in theirs)
        agreed = sum(stem in ours and _opposite(stem) not in ours for stem in theirs if " " in stem)
        numbers = codes_in(title) & codes_in(searched)
        return {"title_opposed": float(opposed - agreed), "title_number": float(bool(numbers))}

    def _weigh(
        self,
        sought: Sought,
        searched: str,
        retrieved: Retrieved,
        ranked: Sequence[RankedDocument],
        read: Mapping[str, StoredDocument],
        codes: Sequence[str],
    ) -> _Weighed:
        """Score the units of the documents that were read, and rank the documents again by them."""
        asked = AskedOf(self._terms(sought), sought.question)
        known = {hit.passage_id: hit.cosine for hit in retrieved.hits if hit.cosine is not None}
        near = {
            document_id: {
                passage.passage_id: known[passage.passage_id]
                for passage in document.passages
                if passage.passage_id in known
            }
            for document_id, document in read.items()
        }
        scored = {
            document_id: self.scorer.score(asked, document, passage_cosines=near[document_id])
            for document_id, document in read.items()
        }
        held = {
            document_id: self._held(document, scored[document_id]) for document_id, document in read.items()
        }
        again = self._second_stage(ranked, read, scored, held, asked, searched)
        if sought.beside in read:
            best = again[0].score
            contending = {one.document_id for one in again if best - one.score <= _CONTENDS_WITHIN}
            again = _raised(again, contending & {sought.beside})
        if codes:
            holding = {name for name, document in read.items() if not missing_in(codes, document)}
            # A code is an exact key: a neighbouring code's document is similar and wrong.
            again = _raised(again, holding)
        return _Weighed(asked, tuple(again), read, near, scored, held)

    def _judged(
        self,
        weighed: _Weighed,
        sought: Sought,
        searched: str,
        retrieved: Retrieved,
        codes: Sequence[str],
        *,
        unit_cosines: Mapping[str, Mapping[int, float]],
    ) -> Evidence:
        """Score the units to quote with their own vectors, judge the best document and quote it."""
        best = weighed.best
        name = best.card.document_id
        scored = dict(weighed.scored)
        for document_id, cosines in unit_cosines.items():
            scored[document_id] = self.scorer.score(
                weighed.asked,
                weighed.read[document_id],
                passage_cosines=weighed.near[document_id],
                unit_cosines=cosines,
            )
        features = gate_features(
            weighed.asked.terms,
            weighed.ranked,
            scored[name],
            held=weighed.held[name],
            unknown=self._unknown(weighed.asked.terms, sought),
        )
        nearest = unit_cosines.get(name, {}).values()
        features["unit_cosine"] = max(nearest, default=features["passage_cosine"])
        features["unit_peak"] = features["unit_cosine"] - fmean(nearest) if nearest else USUAL_PEAK
        judged = judge(
            features,
            terms=weighed.asked.terms,
            named_codes=codes,
            document=best,
            held=weighed.held[name],
            weights=self._gate,
            thresholds=self._services.tenant.gate,
            own_terms=self._own_terms(sought) if sought.before is not None and not sought.leans else (),
        )
        second = weighed.contending
        also = self._quote(second, scored, max_words=sought.also_words) if second is not None else None
        return Evidence(
            sought=sought,
            searched=searched,
            terms=weighed.asked.terms,
            retrieved=retrieved,
            ranked=weighed.ranked,
            documents=weighed.read,
            scored=scored,
            gate=judged.decision,
            gate_features=judged.features,
            certainty=judged.certainty,
            quote=self._quote(best, scored, max_words=sought.max_words),
            also=also,
            clarify=clarifying_question(
                searched, best, also, vocabulary=self.vocabulary, headings=self.headings
            ),
        )

    def _terms(self, sought: Sought) -> tuple[Term, ...]:
        """Return the question's terms, and at a lower weight those of the question that it leans on."""
        own = self._own_terms(sought)
        if sought.before is None:
            return own
        said = frozenset[str]().union(*(term.forms for term in own))
        earlier = self.vocabulary.terms(sought.before, known=sought.known)
        return own + tuple(
            replace(term, weight=_EARLIER_WEIGHT * term.weight) for term in earlier if not term.forms & said
        )

    def _unknown(self, terms: Sequence[Term], sought: Sought) -> frozenset[str]:
        """Return the words of the question that neither any document nor the glossary has."""
        if sought.known is None:
            return frozenset()
        corrected = {one.said for one in sought.corrections}
        return frozenset(
            term.word
            for term in terms
            if term.word.isalpha()
            and term.word not in corrected
            and not is_known(term.word, self.vocabulary, sought.known.words, common=False)
        )

    def _own_terms(self, sought: Sought) -> tuple[Term, ...]:
        return self.vocabulary.terms(sought.question, known=sought.known, corrections=sought.corrections)

    def _held(self, document: StoredDocument, scored: Sequence[ScoredUnit]) -> frozenset[str]:
        headings = {one.unit.heading for one in scored}
        names = "\n".join((document.card.title, *document.card.questions, *headings))
        return self.vocabulary.language.content_stems(names).union(*(one.unit.terms for one in scored))

    def _second_stage(
        self,
        ranked: Sequence[RankedDocument],
        read: Mapping[str, StoredDocument],
        scored: Mapping[str, Sequence[ScoredUnit]],
        held: Mapping[str, frozenset[str]],
        asked: AskedOf,
        searched: str,
    ) -> list[RankedDocument]:
        """Rank the documents that were read by what their units say too; the others follow as they were."""
        weighed = [one for one in ranked if one.document_id in scored]
        if not weighed:
            return list(ranked)
        again: list[RankedDocument] = []
        for one in weighed:
            units = scored[one.document_id]
            scores = sorted((unit.score for unit in units), reverse=True)
            features = {
                "index": one.score,
                "best_unit": scores[0] if scores else 0.0,
                "best_units": sum(scores[:3]) / 3 if scores else 0.0,
                "coverage": asked.coverage(held[one.document_id]),
                **self._title_features(read[one.document_id].card.title, searched),
            }
            score = self._reranker.score(features)
            again.append(RankedDocument(one.document_id, score, {**one.features, **features}))
        again.sort(key=lambda one: (-one.score, one.document_id))
        least = again[-1].score
        rest = [one for one in ranked if one.document_id not in scored]
        first = rest[0].score if rest else 0.0
        return again + [replace(one, score=least - (first - one.score) - 1.0) for one in rest]

    def _quote(
        self, document: StoredDocument, scored: Mapping[str, Sequence[ScoredUnit]], *, max_words: int
    ) -> Quote | None:
        units = scored[document.card.document_id]
        return choose(document, units, headings=self.headings, max_words=max_words) if units else None


def _raised(ranked: Sequence[RankedDocument], names: Collection[str]) -> list[RankedDocument]:
    """Return the documents with these ids before all others, each group in its order."""
    raised = [one for one in ranked if one.document_id in names]
    others = [one for one in ranked if one.document_id not in names]
    lift = max(0.0, others[0].score - raised[-1].score) if raised and others else 0.0
    return [replace(one, score=one.score + lift) for one in raised] + others


def merged_quote(found: Sequence[Evidence], *, headings: Headings, max_words: int) -> Quote | None:
    """Return one quote for several questions that the same document answers: of each unit the better score,
    relative to the best unit for that question."""
    first = found[0]
    if first.best is None:
        return None
    name = first.best.card.document_id
    best = [max((one.score for one in evidence.scored[name]), default=0.0) for evidence in found]
    merged = [
        replace(units[0], score=max(unit.score - top for unit, top in zip(units, best, strict=True)))
        for units in zip(*(evidence.scored[name] for evidence in found), strict=True)
    ]
    return choose(first.best, merged, headings=headings, max_words=max_words)


def _by_score(one: ScoredUnit) -> float:
    return -one.score


def _opposite(stem: str) -> str:
    return stem.removeprefix("not ") if stem.startswith("not ") else f"not {stem}"


def clarifying_question(
    searched: str, best: StoredDocument, also: Quote | None, *, vocabulary: Vocabulary, headings: Headings
) -> str | None:
    """Return a short question back where two procedures with nearly the same title contend, each for a
    condition of its own, and the question says nothing of what tells them apart."""
    if also is None or not all(_is_conditioned(one, headings) for one in (best, also.document)):
        return None
    titles = (best.card.title, also.document.card.title)
    first, second = (vocabulary.language.polar_stems(title) for title in titles)
    words = {stem.removeprefix("not ") for stem in first}, {stem.removeprefix("not ") for stem in second}
    if not all(words) or len(words[0] & words[1]) / len(words[0] | words[1]) < _ALIKE:
        return None
    if (first ^ second) & vocabulary.language.polar_stems(searched):
        return None
    return f"Which of these applies: “{shown_title(titles[0])}” or “{shown_title(titles[1])}”?"


def _is_conditioned(document: StoredDocument, headings: Headings) -> bool:
    return any(headings.is_condition(unit) for passage in document.passages for unit in passage.units)
