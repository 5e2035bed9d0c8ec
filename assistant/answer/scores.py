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
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files
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


@dataclass(frozen=True, slots=True)
class ScoredUnit:
    """A unit with the passage in which it begins, its score (higher is better) and its features."""

    unit: Unit
    passage: Passage
    score: float
    features: Mapping[str, float]

    @property
    def words(self) -> int:
        return len(self.unit.text.split())


def _scored(unit: Unit, passage: Passage, features: Mapping[str, float], weights: Weights) -> ScoredUnit:
    """Return a unit with its score; what its code gives is no weight that could be fitted."""
    return ScoredUnit(unit, passage, weights.score(features) + features["code"], features)


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
        return sum(term.weight for term in self.terms if term.forms & stems) / self.weight

    def overlap(self, stems: frozenset[str], counts: Mapping[str, int], units: int) -> float:
        """Return the same sum, but each term times how rare it is among the document's units, so that the
        result may be above 1.

        ``counts``: in how many units each stem is. ``units``: how many units there are; of more than
        _UNITS_COUNTED the shares count.
        """
        total, most = 0.0, min(units, _UNITS_COUNTED)
        for term in self.terms:
            if shared := term.forms & stems:
                count = min(counts.get(stem, 0) for stem in shared) * most / units
                total += term.weight * log(1 + most / (1 + count))
        return total / self.weight


class UnitScorer:
    """Scores the units of documents for questions of one tenant: ``score`` by words, then ``score_again``
    once units have vectors."""

    def __init__(self, language: Language) -> None:
        self.weights, self.vector_weights = shipped_weights("units"), shipped_weights("unit_vectors")
        self.stems = remember_texts(_HEADINGS_KEPT)(language.content_stems)
        """Returns the stems of a text's content words."""

    def score(
        self, asked: QuestionTerms, document: StoredDocument, *, passage_cosines: Mapping[str, float]
    ) -> list[ScoredUnit]:
        """Return every unit of the document with its score, in document order.

        ``passage_cosines``: by passage id, of passages that the search found by their vectors; the document's
        others get its lowest. The feature is the distance to the document's best passage, 0 or less.
        """
        pairs = [(passage, unit) for passage in document.passages for unit in passage.units]
        ids = passage_cosines.keys() & {passage.passage_id for passage in document.passages}
        lowest = min((passage_cosines[passage_id] for passage_id in ids), default=0.0)
        cosines = [passage_cosines.get(passage.passage_id, lowest) for passage, _ in pairs]
        best = max(cosines, default=0.0)
        described = self._features(asked, document.card.title, [unit for _, unit in pairs])
        return [
            _scored(unit, passage, features | {"passage_cosine": cosine - best}, self.weights)
            for (passage, unit), cosine, features in zip(pairs, cosines, described, strict=True)
        ]

    def score_again(self, units: Sequence[ScoredUnit], cosines: Mapping[int, float]) -> Sequence[ScoredUnit]:
        """Return the units with new scores by their own vectors too. ``cosines``: of the embedded units, by
        ordinal; the others get the lowest. Without any the units are unchanged."""
        if not cosines:
            return units
        lowest = min(cosines.values())
        described = (
            {**unit.features, "unit_cosine": cosines.get(unit.unit.ordinal, lowest)} for unit in units
        )
        return [
            _scored(unit.unit, unit.passage, features, self.vector_weights)
            for unit, features in zip(units, described, strict=True)
        ]

    def stems_of(self, document: StoredDocument, units: Sequence[ScoredUnit]) -> frozenset[str]:
        """Return all stems of a document: title, questions, headings and units."""
        headings = "\n".join(sorted({unit.unit.heading for unit in units}))
        return self.names_of(document).union(self.stems(headings), *(unit.unit.terms for unit in units))

    def names_of(self, document: StoredDocument) -> frozenset[str]:
        """Return the stems of a document's title and listed questions."""
        return self.stems("\n".join((document.card.title, *document.card.questions)))

    def _features(self, asked: QuestionTerms, title: str, units: Sequence[Unit]) -> list[dict[str, float]]:
        """Return the features of each unit by words and form. ``units``: all of the document, in order.

        "overlap" is ``QuestionTerms.overlap`` with the unit's words; "heading" with the words that its
        heading alone has; "parent", "before" and "after" are the overlaps of the unit that introduces it and
        of its neighbours under the same heading. "terms" is the share of the question's terms in it; "leads":
        it ends with a colon; "code", which no file weighs: it is one of ``rows_with_code``.
        """
        title_stems = self.stems(title)
        stems = [frozenset(unit.terms) for unit in units]
        headings = [self.stems(unit.heading) - title_stems for unit in units]
        counts = Counter(stem for pair in zip(stems, headings, strict=True) for stem in pair[0] | pair[1])
        shared = [asked.overlap(terms, counts, len(units)) for terms in stems]
        places = {unit.ordinal: at for at, unit in enumerate(units)}
        coded = rows_with_code(asked.codes, units)
        described: list[dict[str, float]] = []
        for at, unit in enumerate(units):
            is_after = at > 0 and units[at - 1].heading == unit.heading
            is_before = at + 1 < len(units) and units[at + 1].heading == unit.heading
            parent = places.get(unit.parent) if unit.parent is not None else None
            words = len(unit.text.split())
            matches = sum(not term.forms.isdisjoint(stems[at]) for term in asked.terms)
            described.append(
                {
                    "overlap": shared[at],
                    "overlap_by_length": shared[at] / sqrt(max(words, 5) / _USUAL_WORDS),
                    "heading": asked.overlap(headings[at] - stems[at], counts, len(units)),
                    "parent": shared[parent] if parent is not None else 0.0,
                    "before": shared[at - 1] if is_after else 0.0,
                    "after": shared[at + 1] if is_before else 0.0,
                    "terms": matches / max(1, len(asked.terms)),
                    "length": min(words, _LONG_WORDS) / (_LONG_WORDS / 2),
                    "short": float(words < 6),
                    "place": at / max(1, len(units) - 1),
                    "first": float(at == 0),
                    **{kind.value: float(unit.kind is kind) for kind in _LISTED},
                    "leads": float(unit.text.rstrip().endswith(":")),
                    "code": _CODE_SCORE * (unit.ordinal in coded),
                }
            )
        return described


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
        asked = array("f", question)
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
    stems: frozenset[str],
    names: frozenset[str],
    cosines: Mapping[int, float],
) -> dict[str, float]:
    """Return the features of a document that was read, by its units and its score by the index.

    ``ranked``: with the score by the index alone. ``units``: scored without vectors. ``stems``, ``names``:
    ``stems_of`` and ``names_of`` of ``UnitScorer``. ``cosines``: of its embedded units, by ordinal; empty:
    none has a vector.

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
        "coverage": asked.coverage(stems),
        "names": asked.coverage(names),
        "title_number": float(bool(in_title & in_question)),
        "title_other_number": float(bool(in_title and in_question) and not in_title & in_question),
        "unit_cosine": nearest[0] if nearest else 0.0,
        "unit_cosines": fmean(nearest[:3]) if nearest else 0.0,
    }
