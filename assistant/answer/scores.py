"""Ranks documents, and the units of the best ones, for one question.

Both are weighted sums of features. A *leg* of the index is one of its ways to search, each of which measures
something else: the cosine of a document's title, the cosine of its best passages, BM25 of passages, of the
whole text and of the title. Ranks would not say how far a document is ahead, and raw scores of different legs
cannot be added. So each feature of a document by the index is standardised over the candidates of the
question (mean 0, deviation 1), and a weights file weighs the sum. A candidate that a leg did not find gets
that leg's lowest score. Weights are fitted on questions with known answers (``make fit``).

| weights file       | what it scores                              | features are made by       |
| "ranker"           | documents, by the index                     | ``candidates``             |
| "units"            | units of a document that was read, by words | ``UnitScorer.score``       |
| "unit_vectors"     | the same, with the cosines of their vectors | ``UnitScorer.score_again`` |
| "reranker"         | documents that were read, by words of units | ``document_features``      |
| "reranker_vectors" | the same, with the cosines of their vectors | ``document_features``      |

The names of features are keys of the weights files and of records.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files
from itertools import chain
from math import exp, log, sqrt
from operator import mul
from statistics import fmean
from typing import Literal, NamedTuple

from pydantic import Field, FiniteFloat

from assistant.answer.call import call_within
from assistant.answer.vocabulary import Term
from assistant.domain.clock import Deadline
from assistant.domain.documents import (
    DocumentCard,
    Passage,
    Retrieved,
    StoredDocument,
    Unit,
    UnitKind,
    embedding_input,
)
from assistant.domain.errors import EmbeddingUnavailableError
from assistant.domain.public import PublicModel
from assistant.stores.ports import TextEmbedder
from assistant.tenant.tenant import EmbeddingSection
from assistant.text.caches import remember_texts
from assistant.text.codes import codes_asked, numbers_in, rows_with_code
from assistant.text.language import Language

# Weights files


Kind = Literal["ranker", "units", "unit_vectors", "reranker", "reranker_vectors", "live", "near"]


class WeightsFile(PublicModel):
    """What ranking or the gate learned from questions with known answers.

    The SHA-256 of the file is in every record that it shaped. A model of a dozen weights is a dot product: it
    needs no library, and a reader of a record can compute it by hand.
    """

    schema_version: Literal[1] = 1
    kind: Kind
    features: dict[str, FiniteFloat] = Field(min_length=1)
    """Weight by feature name. A computed feature that is not named here is ignored."""
    bias: FiniteFloat = 0.0
    fitted_on: str
    """What it was fitted on, in words."""


@dataclass(frozen=True, slots=True)
class Weights:
    """One weights file, ready to score."""

    features: Mapping[str, float]
    bias: float
    sha256: str

    @classmethod
    def of(cls, raw: bytes) -> Weights:
        """Return the weights of a file's bytes. Raises ValidationError."""
        content = WeightsFile.model_validate_json(raw)
        return cls(content.features, content.bias, hashlib.sha256(raw).hexdigest())

    def score(self, values: Mapping[str, float]) -> float:
        """Return bias + Σ weight · value; a feature without a value counts as 0."""
        return self.bias + sum([weight * values.get(name, 0.0) for name, weight in self.features.items()])


@lru_cache
def shipped_weights(kind: Kind) -> Weights:
    """Return the weights that the repository ships under ``weights/``, fitted by ``make fit``."""
    return Weights.of(files("assistant.answer").joinpath("weights", f"{kind}.json").read_bytes())


# Ranking by the index


INDEX_FEATURES = (
    "title_cosine",
    "passage_cosine",
    "passage_cosine_2",
    "passage_score",
    "text_score",
    "title_score",
)
"""Raw features of a candidate that come from the index alone."""


@dataclass(frozen=True, slots=True)
class RankedDocument:
    """A candidate with its score; higher is better."""

    document_id: str
    score: float
    features: Mapping[str, float]
    """Raw values; a feature that no leg gave is absent."""


def candidates(retrieved: Retrieved) -> dict[str, dict[str, float]]:
    """Return the raw features of every document that any leg found, by document id.

    "passage_cosine_2" is the mean of the two best cosines. A feature that no leg gave is absent. Example::

        {"refill": {"title_cosine": 0.71, "passage_cosine": 0.64, "passage_cosine_2": 0.61}}
    """
    names = ("title_cosine", "title_score", "text_score")
    features_of: dict[str, dict[str, float]] = {
        hit.document_id: {name: value for name in names if (value := getattr(hit, name)) is not None}
        for hit in retrieved.documents
    }
    cosines: dict[str, list[float]] = {}
    for hit in retrieved.hits:
        features = features_of.setdefault(hit.document_id, {})
        if hit.lexical_score is not None:
            features["passage_score"] = max(features.get("passage_score", 0.0), hit.lexical_score)
        if hit.cosine is not None:
            cosines.setdefault(hit.document_id, []).append(hit.cosine)
    for document_id, values in cosines.items():
        best = sorted(values, reverse=True)[:2]
        features_of[document_id]["passage_cosine"] = best[0]
        features_of[document_id]["passage_cosine_2"] = sum(best) / len(best)
    return features_of


def rank(features_of: Mapping[str, Mapping[str, float]], *, weights: Weights) -> list[RankedDocument]:
    """Return the candidates, scored by standardised features, best first; ties by document id.
    ``features_of``: of ``candidates``; the result keeps these raw features."""
    standard = standardised(features_of, INDEX_FEATURES)
    return best_first(
        RankedDocument(document_id, weights.score(standard[document_id]), features)
        for document_id, features in features_of.items()
    )


def best_first(ranked: Iterable[RankedDocument]) -> list[RankedDocument]:
    """Return the documents by their scores to four decimals, equal ones by their ids: the same question then
    has the same order on every machine."""
    return sorted(ranked, key=lambda document: (-round(document.score, 4), document.document_id))


def standardised(
    features_of: Mapping[str, Mapping[str, float]], names: Iterable[str]
) -> dict[str, dict[str, float]]:
    """Return each named feature with mean 0 and deviation 1 over the candidates; a candidate without it gets
    the lowest value. A feature that no candidate has is absent, and one that is equal for all is 0."""
    standard: dict[str, dict[str, float]] = {document_id: {} for document_id in features_of}
    for name in names:
        present = [features[name] for features in features_of.values() if name in features]
        if not present:
            continue
        lowest = min(present)
        values = {document_id: features.get(name, lowest) for document_id, features in features_of.items()}
        mean = sum(values.values()) / len(values)
        deviation = sqrt(sum((value - mean) ** 2 for value in values.values()) / len(values))
        for document_id, value in values.items():
            standard[document_id][name] = (value - mean) / deviation if deviation > 1e-9 else 0.0
    return standard


# Cosines on one scale


@dataclass(frozen=True, slots=True)
class CosineScale:
    """Maps the cosines of a tenant's embedding model to the scale that the weights expect.

    With bge-small-en-v1.5 unrelated texts have a cosine of 0.47, not 0.07, and a gate that reads raw cosines
    would let everything pass. Two points, the mean cosines of unrelated and of related texts, define the
    linear map (docs/decisions/0032).
    """

    unrelated: float
    """Mean cosine of unrelated texts."""
    related: float

    @classmethod
    def of(cls, embedding: EmbeddingSection) -> CosineScale:
        return cls(embedding.cosine_unrelated, embedding.cosine_related)

    def value(self, cosine: float) -> float:
        """Return a cosine of the tenant's model on the scale of the packaged one."""
        if self == _FITTED_SCALE:  # unchanged to the last bit
            return cosine
        steepness = (_FITTED_SCALE.related - _FITTED_SCALE.unrelated) / (self.related - self.unrelated)
        return _FITTED_SCALE.unrelated + (cosine - self.unrelated) * steepness

    def retrieved(self, raw: Retrieved) -> Retrieved:
        """Return the search's result with the cosines of its hits on the scale of the weights."""
        if self == _FITTED_SCALE:
            return raw
        hits = (
            hit if hit.cosine is None else hit._replace(cosine=self.value(hit.cosine)) for hit in raw.hits
        )
        documents = (
            hit if hit.title_cosine is None else hit._replace(title_cosine=self.value(hit.title_cosine))
            for hit in raw.documents
        )
        return replace(raw, hits=tuple(hits), documents=tuple(documents))


_FITTED_SCALE = CosineScale.of(EmbeddingSection())
"""The scale of the packaged model, on whose cosines the shipped weights were fitted."""


# Units


_HEADINGS_KEPT = 20_000
"""Texts, mostly titles and headings, whose stems are cached."""
_USUAL_WORDS = 15
"""Words of a unit for which "overlap_by_length" is "overlap"."""
_UNITS_COUNTED = 100
"""A word in one of 4,000 units is no rarer in its language than in one of these: without a limit a handbook
comes before all short documents. The weights were fitted on documents of at most 93 units."""
_CODE_SCORE = 20.0
"""What a row gets that has a code of the question: more than all other features give."""
_LISTED = (UnitKind.STEP, UnitKind.ROW, UnitKind.ITEM, UnitKind.DEFINITION)
_LONG_WORDS = 60
"""Longer units count as this long."""
_DOCUMENTS_KEPT = 300
"""Documents whose ``DocumentWords`` are kept: some 50 KB each of 40 units."""


UNIT_FEATURES = (
    *("overlap", "overlap_by_length", "heading", "parent", "before", "after", "terms"),
    *("length", "short", "place", "first", "unit_cosine", "passage_cosine"),
    *("step", "row", "item", "definition", "leads"),
)
"""The features of a unit by words and form; the files weigh them in this order.

"overlap" is ``QuestionTerms.overlaps`` of the unit's words; "heading" of the words that its heading alone
has; "parent", "before" and "after" are the overlaps of the unit that introduces it and of its neighbours
under the same heading. "terms" is the share of the question's terms in it; "leads": it ends with a colon."""
_BY_WORDS = UNIT_FEATURES.index("length")
"""So many features are of the question's words; those up to the cosines, and behind them, of no question."""
_UNIT_COSINE, _PASSAGE_COSINE = UNIT_FEATURES.index("unit_cosine"), UNIT_FEATURES.index("passage_cosine")


class ScoredUnit(NamedTuple):  # hundreds a question, as ``PassageHit``
    """A unit with the passage in which it begins, its score (higher is better) and its features."""

    unit: Unit
    passage: Passage
    score: float
    features: tuple[float, ...] = ()
    """In the order of ``UNIT_FEATURES``; last 1.0, by which the bias counts."""
    code_score: float = 0.0
    """What it gets as one of ``rows_with_code``; no weight that could be fitted."""

    @property
    def words(self) -> int:
        return len(self.unit.text.split())


def _in_order(weights: Weights) -> tuple[float, ...]:
    """Return the weights of units in the order of ``UNIT_FEATURES``, and the bias."""
    return (*(weights.features.get(name, 0.0) for name in UNIT_FEATURES), weights.bias)


class _SamePassages(tuple[Passage, ...]):
    """The passages of a document as a key: those of another read are the same objects, or another key."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _SamePassages) and [*map(id, self)] == [*map(id, other)]

    def __hash__(self) -> int:
        return hash(tuple(map(id, self)))


@dataclass(frozen=True, slots=True)
class DocumentWords:
    """What the scores of a document's units need and no question changes."""

    pairs: tuple[tuple[Passage, Unit], ...]
    in_units: Mapping[str, Sequence[int]]
    """By stem, the places in ``pairs`` of the units that have it."""
    in_headings: Mapping[str, Sequence[int]]
    """The same of what the heading of a unit alone has, and neither the unit nor the title."""
    counts: Mapping[str, int]
    """In how many units, or their headings, each stem is."""
    around: Sequence[tuple[int, int, int]]
    """The places of each unit's parent and neighbours; that of one more unit, which has nothing, for none."""
    forms: Sequence[tuple[float, Sequence[float], Sequence[float]]]
    """Of each unit the divisor of "overlap_by_length", "length" to "first", and "step" to "leads"."""
    by_form: Sequence[tuple[Sequence[float], Sequence[float]]]
    """The products of each unit's ``forms`` with their weights, those that are not 0; the bias last."""
    stems: frozenset[str]
    """Of title, questions, headings and units."""
    names: frozenset[str]
    """Of the title and the listed questions."""


def shares(units: Sequence[ScoredUnit]) -> list[float]:
    """Return the probability of each unit of a document to hold the answer, if the document does: the softmax
    of their scores."""
    return softmax([unit.score for unit in units])


def softmax(scores: Sequence[float]) -> list[float]:
    """Return probabilities that add up to 1, in proportion to the exponentials of the scores."""
    highest = max(scores, default=0.0)
    raised = [exp(score - highest) for score in scores]
    total = sum(raised)
    return [value / total for value in raised]


class QuestionTerms:
    """The terms of one question and their summed weight.

    Example: of "refill at mail order" with the terms "refill" (weight 0.6), "mail" (0.3) and "order" (0.3)
    ``coverage`` of the stems {"refill", "mail"} is 0.75.
    """

    def __init__(self, terms: Sequence[Term], *, question: str = "") -> None:
        self.terms = tuple(terms)
        self.numbers, self.codes = numbers_in(question), codes_asked(question)
        self.weight = sum(term.weight for term in terms) or 1.0
        self.stems = frozenset[str]().union(*(term.forms for term in terms))

    def coverage(self, stems: frozenset[str]) -> float:
        """Return the share of the question's weight that the stems contain, 0 to 1."""
        return sum([term.weight for term in self.terms if not term.forms.isdisjoint(stems)]) / self.weight

    def overlaps(
        self, places: Mapping[str, Sequence[int]], counts: Mapping[str, int], units: int
    ) -> tuple[list[float], list[int]]:
        """Return for each unit of a document the same sum, but each term times how rare it is among them, so
        that the result may be above 1; and how many terms it has. Both end with a 0 for no unit.

        ``places``: by stem, of the units with it. ``counts``: in how many units each stem is. ``units``: how
        many there are; of more than _UNITS_COUNTED the shares count.
        """
        totals, matches, most = [0.0] * (units + 1), [0] * (units + 1), min(units, _UNITS_COUNTED)
        for term in self.terms:
            rarest: dict[int, int] = {}
            for stem in term.forms:
                for place in places.get(stem, ()):
                    rarest[place] = min(rarest.get(place, counts[stem]), counts[stem])
            for place, count in rarest.items():
                totals[place] += term.weight * log(1 + most / (1 + count * most / units))
                matches[place] += 1
        return [total / self.weight for total in totals], matches


class UnitScorer:
    """Scores the units of documents for questions of one tenant: ``score`` by words, then ``score_again``
    once units have vectors."""

    def __init__(self, language: Language) -> None:
        self._by_words = _in_order(shipped_weights("units"))
        self._by_vectors = _in_order(shipped_weights("unit_vectors"))
        self.stems = remember_texts(_HEADINGS_KEPT)(language.content_stems)
        """Returns the stems of a text's content words."""
        self._words = remember_texts(_DOCUMENTS_KEPT)(self._read_words)

    def score(
        self, asked: QuestionTerms, document: StoredDocument, *, passage_cosines: Mapping[str, float]
    ) -> list[ScoredUnit]:
        """Return every unit of the document with its score, in document order.

        ``passage_cosines``: by passage id, of passages that the search found by their vectors; the document's
        others get its lowest. The feature is the distance to the document's best passage, 0 or less.
        """
        words = self.words_of(document)
        count, terms = len(words.pairs), max(1, len(asked.terms))
        ids = [passage.passage_id for passage in document.passages]
        lowest = min((passage_cosines[name] for name in ids if name in passage_cosines), default=0.0)
        cosines = {name: passage_cosines.get(name, lowest) for name in ids}
        best = max((cosines[passage.passage_id] for passage, _ in words.pairs), default=0.0)
        shared, matches = asked.overlaps(words.in_units, words.counts, count)
        headings, _ = asked.overlaps(words.in_headings, words.counts, count)
        coded = rows_with_code(asked.codes, (unit for _, unit in words.pairs))
        weights, by_passage = self._by_words[:_BY_WORDS], self._by_words[_PASSAGE_COSINE]
        scored: list[ScoredUnit] = []
        for at, (passage, unit) in enumerate(words.pairs):
            (divisor, form, kind), (parent, before, after) = words.forms[at], words.around[at]
            near = (shared[parent], shared[before], shared[after], matches[at] / terms)
            of_words = (shared[at], shared[at] / divisor, headings[at], *near)
            from_best = cosines[passage.passage_id] - best
            features = (*of_words, *form, 0.0, from_best, *kind, 1.0)
            for_code = _CODE_SCORE * (unit.ordinal in coded)
            # the sum of all products in their order, without those that are 0
            above, below = words.by_form[at]
            score = sum(above, sum(map(mul, weights, of_words))) + by_passage * from_best
            score = sum(below, score) + for_code
            scored.append(ScoredUnit(unit, passage, score, features, for_code))
        return scored

    def score_again(self, units: Sequence[ScoredUnit], cosines: Mapping[int, float]) -> Sequence[ScoredUnit]:
        """Return the units with new scores by their own vectors too. ``cosines``: of the embedded units, by
        ordinal; the others get the lowest. Without any the units are unchanged."""
        if not cosines:
            return units
        lowest, again = min(cosines.values()), list[ScoredUnit]()
        for unit, passage, _, before, for_code in units:
            cosine = cosines.get(unit.ordinal, lowest)
            features = (*before[:_UNIT_COSINE], cosine, *before[_UNIT_COSINE + 1 :])
            score = sum(map(mul, self._by_vectors, features)) + for_code
            again.append(ScoredUnit(unit, passage, score, features, for_code))
        return again

    def words_of(self, document: StoredDocument) -> DocumentWords:
        """Return what the words of a document are, whatever is asked."""
        card = document.card
        return self._words(card.title, card.questions, _SamePassages(document.passages))

    def _read_words(self, title: str, questions: Sequence[str], passages: Sequence[Passage]) -> DocumentWords:
        pairs = tuple((passage, unit) for passage in passages for unit in passage.units)
        units, count = [unit for _, unit in pairs], len(pairs)
        stems, title_stems = [frozenset(unit.terms) for unit in units], self.stems(title)
        above = [self.stems(unit.heading) - title_stems - own for unit, own in zip(units, stems, strict=True)]
        place_of: dict[int | None, int] = {unit.ordinal: at for at, unit in enumerate(units)}
        over = [place_of.get(unit.parent, count) for unit in units]
        heads = [unit.heading for unit in units]
        before = [at - 1 if at and heads[at - 1] == head else count for at, head in enumerate(heads)]
        after = [at + 1 if heads[at + 1 : at + 2] == [head] else count for at, head in enumerate(heads)]
        around = [*zip(over, before, after, strict=True)]
        names = self.stems("\n".join((title, *questions)))
        every = names.union(self.stems("\n".join(sorted({unit.heading for unit in units}))), *stems)
        forms = [_form_of(unit, at, count) for at, unit in enumerate(units)]
        counts = Counter(chain(*stems, *above))
        by_form = [
            (self._products(_BY_WORDS, form), self._products(-len(kind) - 1, (*kind, 1.0)))
            for _, form, kind in forms
        ]
        return DocumentWords(
            pairs, _places(stems), _places(above), counts, around, forms, by_form, every, names
        )

    def _products(self, at: int, features: Sequence[float]) -> tuple[float, ...]:
        """Return the products, but those that are 0, of features with their weights by words; ``at``: the
        place of the first."""
        return tuple(filter(None, map(mul, self._by_words[at:], features)))


def _places(stems: Sequence[frozenset[str]]) -> Mapping[str, Sequence[int]]:
    """Return by stem the places of the units that have it."""
    places = defaultdict[str, list[int]](list)
    for at, each in enumerate(stems):
        for stem in each:
            places[stem].append(at)
    return dict(places)


def _form_of(unit: Unit, at: int, count: int) -> tuple[float, Sequence[float], Sequence[float]]:
    """Return ``DocumentWords.forms`` of one unit, at a place among ``count``."""
    words, kinds = len(unit.text.split()), [float(unit.kind is kind) for kind in _LISTED]
    length, place = min(words, _LONG_WORDS) / (_LONG_WORDS / 2), at / max(1, count - 1)
    form = (length, float(words < 6), place, float(at == 0))
    return sqrt(max(words, 5) / _USUAL_WORDS), form, (*kinds, float(unit.text.rstrip().endswith(":")))


# Vectors of units


MOST_UNIT_VECTORS = 20_000
"""Vectors of units kept in one process: 30 MiB at 384 dimensions."""
UNITS_EMBEDDED = 12
"""Likeliest units of a document that get a vector of their own: some 450 tokens."""
_LONGEST_CHARACTERS = 700
"""A longer text of a unit gets no vector: it may be over the model's token limit."""


class UnitKey(NamedTuple):
    """Names the text that a vector belongs to."""

    content_hash: str
    title: str
    ordinal: int


class UnitVectors:
    """Embeds units when a question first needs them and caches their vectors, the last used. For one event
    loop.

    An index with a vector for each unit would be three times as large (450 MB more at 16,407 documents) and
    take twice as long to fill. The three dozen units that a question may need cost the embedding endpoint
    some 1,500 tokens once. A vector depends on its text alone, so it does not matter which question asked for
    it first.
    """

    def __init__(self, embedder: TextEmbedder, *, limit_s: float) -> None:
        self._embedder, self._limit_s = embedder, limit_s
        self._kept: OrderedDict[UnitKey, array[float]] = OrderedDict()

    async def cosines(
        self,
        question: Sequence[float],
        wanted: Sequence[tuple[DocumentCard, Sequence[ScoredUnit]]],
        *,
        deadline: Deadline,
    ) -> Mapping[str, Mapping[int, float]]:
        """Return the cosine of the question's unit-length vector with each embedded unit: by document id, by
        ordinal. ``wanted``: documents with all their scored units, of which the likeliest are embedded.

        Raises EmbeddingUnavailableError, OverloadedError, DeadlineExceededError.
        """
        by_document = {card.document_id: _texts(card, units) for card, units in wanted}
        texts = {key: text for unit_texts in by_document.values() for key, text in unit_texts.items()}
        vectors = {key: kept for key in texts if (kept := self._kept.get(key)) is not None}
        if missing := [key for key in texts if key not in vectors]:
            made = await call_within(
                self._limit_s,
                lambda step: self._embedder.embed([texts[key] for key in missing], deadline=step),
                deadline=deadline,
                late=EmbeddingUnavailableError("The embedding endpoint is late with vectors of units."),
            )
            vectors.update((key, array("f", vector)) for key, vector in zip(missing, made, strict=True))
        for key, vector in vectors.items():  # another question may have evicted some meanwhile
            self._kept[key] = vector
            self._kept.move_to_end(key)
        while len(self._kept) > MOST_UNIT_VECTORS:
            self._kept.popitem(last=False)
        asked = array("f", question).tolist()
        return {
            document_id: {key.ordinal: sum(map(mul, asked, vectors[key])) for key in unit_texts}
            for document_id, unit_texts in by_document.items()
        }


def _texts(card: DocumentCard, units: Sequence[ScoredUnit]) -> dict[UnitKey, str]:
    """Return the text to embed of the likeliest units: document title, heading and unit.

    Alone, "Use prescription numbers and not names" does not say what it is about (docs/decisions/0029). Units
    that go beyond their passage, and long texts, are left out: where one text is over the model's token
    limit, the whole call fails, and no unit gets a vector.
    """
    likeliest = sorted(units, key=lambda unit: (-round(unit.score, 4), unit.unit.ordinal))[:UNITS_EMBEDDED]
    texts = {
        UnitKey(card.content_hash, card.title, candidate.unit.ordinal): embedding_input(
            title=card.title, heading=candidate.unit.heading, text=candidate.unit.text
        )
        for candidate in likeliest
        if candidate.unit.span.end <= candidate.passage.span.end
    }
    return {key: text for key, text in texts.items() if len(text) <= _LONGEST_CHARACTERS}


# Ranking by units


def document_features(
    ranked: RankedDocument,
    document: StoredDocument,
    units: Sequence[ScoredUnit],
    *,
    asked: QuestionTerms,
    words: DocumentWords,
    cosines: Mapping[int, float],
) -> dict[str, float]:
    """Return the features of a document that was read, by its units and its score by the index.

    ``ranked``: with the score by the index alone. ``units``: scored without vectors. ``words``: of the
    document. ``cosines``: of its embedded units, by ordinal; empty: none has a vector.

    "names" is the share of the question that the document's title and listed questions hold: what its author
    says that it answers. "mass" is the logarithm of the summed exponentials of the units' scores.
    "title_number": the title has a number or code of the question; "title_other_number": both have numbers,
    but none in common.
    """
    scores = sorted((unit.score for unit in units), reverse=True)[:3]
    nearest = sorted(cosines.values(), reverse=True)
    in_title, in_question = numbers_in(document.card.title), asked.numbers
    return {
        "index": ranked.score,
        "best_unit": scores[0] if scores else 0.0,
        "best_units": fmean(scores) if scores else 0.0,
        "mass": log(sum(exp(min(30.0, unit.score)) for unit in units)) if units else 0.0,
        "coverage": asked.coverage(words.stems),
        "names": asked.coverage(words.names),
        "title_number": float(bool(in_title & in_question)),
        "title_other_number": float(bool(in_title and in_question) and not in_title & in_question),
        "unit_cosine": nearest[0] if nearest else 0.0,
        "unit_cosines": fmean(nearest[:3]) if nearest else 0.0,
    }
