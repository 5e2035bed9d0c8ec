"""Finds candidates for a question: embed, search both legs of the index, rank documents, embed their units.

Ranking is a weighted sum of standardised raw scores. Each leg of the index measures something else: the
cosine of a document's title, the cosine of its best passages, BM25 of passages, of the whole text and of the
title. Fused ranks lose how far one is ahead, and raw scores of different legs cannot be added. So each
feature is standardised over the candidates of the question (mean 0, deviation 1), and a weights file weighs
the sum. A candidate that a leg did not find gets that leg's lowest score.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.resources import files
from math import exp, fsum, sqrt
from operator import mul
from typing import Any, Literal, NamedTuple

import structlog
from opentelemetry.trace import INVALID_SPAN, SpanKind
from pydantic import Field, FiniteFloat, ValidationError

from assistant.answering.ports import TextEmbedder
from assistant.answering.services import PROVIDER, Result, Steps, TenantServices, call_within
from assistant.answering.sources import AskedSources, AskSources
from assistant.domain.clock import Deadline
from assistant.domain.documents import (
    DocumentCard,
    PassageQuery,
    Retrieved,
    SearchFilters,
    StoredDocument,
    Unit,
    embedding_input,
)
from assistant.domain.errors import (
    AssistantError,
    ConfigurationError,
    EmbeddingUnavailableError,
    PassageTooLongError,
    SearchUnavailableError,
)
from assistant.domain.public import PublicModel
from assistant.settings.tenant import EmbeddingSection

_MOST_PIECES = 64
"""Of a text over the model's token limit."""
MOST_UNIT_VECTORS = 4_000
"""Vectors of units kept in one process: 6 MiB at 384 dimensions."""
UNIT_VECTORS_LIMIT_S = 0.25
"""A quote without unit vectors is some points worse; a longer wait is worse than that."""
LONGEST_CHARACTERS = 700
"""A longer unit is near or over the model's token limit and gets no vector."""
NO_FILTERS = SearchFilters()
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SearchScope:
    """Whose search it is, what it may find, how long it may take, and where its steps are timed."""

    labels: frozenset[str]
    """The agent's access labels."""
    deadline: Deadline
    steps: Steps
    filters: SearchFilters = NO_FILTERS
    size: int | None = None
    """Passages to return; by default as many as the tenant's answers show."""
    ranker: Weights | None = None
    """Weights of kind ``ranker``; None: the shipped ones."""
    embedded: dict[str, Sequence[float]] = field(default_factory=dict[str, Sequence[float]])
    """Unit-length vectors of the texts that were embedded so far, by text."""

    @classmethod
    def untraced(cls, deadline: Deadline, *, size: int | None = None) -> SearchScope:
        """Return a scope outside any answer: documents without labels, no spans."""
        return cls(frozenset(), deadline, Steps(INVALID_SPAN, clock=deadline.clock), size=size)


class RetrievePassages:
    """Embeds a question and searches the tenant's index, each call under its own limit and the deadline."""

    def __init__(self, services: TenantServices) -> None:
        self._services = services
        self._sources = AskSources(services)

    async def search(
        self, text: str, *, vector: Sequence[float], scope: SearchScope, whole_legs: bool = False
    ) -> AskedSources:
        """Return what the index has for a text and its vector, with the best passages: by one search, or by
        one for each source where the tenant has several of documents.

        ``whole_legs``: with all passages of both legs, as a question needs that names codes. Raises
        SearchUnavailableError, DeadlineExceededError.
        """
        settings = self._services.tenant.retrieval
        size = scope.size or settings.passages
        leg_size = max(settings.leg_size, size)
        query = PassageQuery(
            text=text,
            vector=vector,
            filters=scope.filters,
            labels=scope.labels,
            leg_size=leg_size,
            size=2 * leg_size if whole_legs else size,
        )
        with scope.steps.step(
            "search",
            span_name="retrieval passages",
            kind=SpanKind.CLIENT,
            attributes={"gen_ai.operation.name": "retrieval", "gen_ai.data_source.id": "passages"},
        ) as span:
            if self._sources.are_many:
                asked = await self._sources.search(query, deadline=scope.deadline)
            else:
                retrieved = await self._call_index(
                    lambda step: self._services.search.search(query, deadline=step), scope.deadline
                )
                asked = self._sources.of_one(retrieved)
            span.set_attribute("assistant.index_version", asked.retrieved.index_version)
            span.set_attribute("assistant.passages", len(asked.retrieved.passages))
            return asked

    async def read(self, document_ids: Sequence[str], scope: SearchScope) -> Mapping[str, StoredDocument]:
        """Return documents with their units. Raises SearchUnavailableError, DeadlineExceededError."""
        if not document_ids:
            return {}
        with scope.steps.step("read", kind=SpanKind.CLIENT):
            return await self._call_index(
                lambda step: self._services.search.read_documents(
                    document_ids, labels=scope.labels, deadline=step
                ),
                scope.deadline,
            )

    async def _call_index(
        self, call: Callable[[Deadline], Coroutine[Any, Any, Result]], deadline: Deadline
    ) -> Result:
        limit_s = self._services.tenant.limits.search_timeout_s
        return await call_within(
            limit_s,
            call,
            deadline=deadline,
            late=lambda: SearchUnavailableError(f"The passage index took over {limit_s:g} s; ask again."),
        )

    async def embed(self, texts: Sequence[str], scope: SearchScope) -> list[list[float]]:
        """Return a vector for each text, by one call. A text over the model's token limit is embedded in
        pieces and gets the mean of their vectors: nothing is cut.

        Raises EmbeddingUnavailableError, OverloadedError, DeadlineExceededError.
        """
        embedding = self._services.tenant.embedding
        limit_s = self._services.tenant.limits.embedding_timeout_s
        with scope.steps.step(
            "embed",
            span_name=f"embeddings {embedding.model}",
            kind=SpanKind.CLIENT,
            attributes={
                "gen_ai.operation.name": "embeddings",
                "gen_ai.provider.name": PROVIDER,
                "gen_ai.request.model": embedding.model,
                "gen_ai.embeddings.dimension.count": embedding.dimensions,
            },
        ):
            vectors = await call_within(
                limit_s,
                lambda step: self._vectors(texts, deadline=step),
                deadline=scope.deadline,
                late=lambda: EmbeddingUnavailableError(
                    f"The embedding endpoint took over {limit_s:g} s; ask again."
                ),
            )
        scope.embedded.update(zip(texts, vectors, strict=True))
        return vectors

    async def _vectors(self, texts: Sequence[str], *, deadline: Deadline) -> list[list[float]]:
        try:
            return await self._services.embedder.embed(texts, deadline=deadline)
        except PassageTooLongError:
            return [_mean(await self._vectors_of_pieces(text, deadline=deadline)) for text in texts]

    async def _vectors_of_pieces(self, text: str, *, deadline: Deadline) -> list[list[float]]:
        pieces = [text]
        while True:
            try:
                return await self._services.embedder.embed(pieces, deadline=deadline)
            except PassageTooLongError:
                if len(pieces) >= _MOST_PIECES:
                    raise
                pieces = [half for piece in pieces for half in _halves(piece)]


def _halves(text: str) -> list[str]:
    """Cut a text in two at the white space nearest to its middle, or in its middle if it has none."""
    middle = len(text) // 2
    before, after = text.rfind(" ", 0, middle), text.find(" ", middle)
    cut = min((at for at in (before, after) if at > 0), key=lambda at: abs(at - middle), default=middle)
    return [half for half in (text[:cut].strip(), text[cut:].strip()) if half]


def _mean(vectors: Sequence[Sequence[float]]) -> list[float]:
    """Return the unit-length mean of unit-length vectors."""
    if len(vectors) == 1:
        return list(vectors[0])
    sums = [fsum(column) for column in zip(*vectors, strict=True)]
    length = sqrt(fsum(value * value for value in sums)) or 1.0
    return [value / length for value in sums]


# Weights files


Kind = Literal["ranker", "reranker", "quoter", "gate"]


class WeightsFile(PublicModel):
    """What ranking, quoting or the gate learned from questions with known answers.

    The SHA-256 of the file is in every record that it shaped. A model of a dozen weights is a dot product: it
    needs no library, and a reader of a record can compute it by hand.
    """

    schema_version: Literal[1] = 1
    kind: Kind
    features: dict[str, FiniteFloat] = Field(min_length=1)
    """Weight by feature name. A computed feature that is not named here is ignored."""
    bias: FiniteFloat = 0.0
    documents: dict[str, FiniteFloat] = Field(default_factory=dict[str, float], max_length=20_000)
    """Of a ranker that learned from a tenant's feedback: what is added to a document's score, by its id."""
    fitted_on: str
    """What it was fitted on, in words."""


class Weights:
    """One weights file, ready to score."""

    __slots__ = ("_weights", "bias", "documents", "features", "kind", "sha256")

    def __init__(self, content: WeightsFile, *, sha256: str) -> None:
        self.kind = content.kind
        self.features = content.features
        self._weights = tuple(content.features.items())
        self.bias = content.bias
        self.documents = content.documents
        self.sha256 = sha256

    def score(self, values: Mapping[str, float]) -> float:
        """Return bias + Σ weight · value; a feature without a value counts as 0."""
        get = values.get
        return self.bias + sum([weight * get(name, 0.0) for name, weight in self._weights])

    def probability(self, values: Mapping[str, float]) -> float:
        """Return the logistic function of the score."""
        score = max(-40.0, min(40.0, self.score(values)))
        return 1.0 / (1.0 + exp(-score))


def read_weights(raw: bytes, *, name: str, kind: Kind) -> Weights:
    """Return the weights of a file's bytes. Raises ConfigurationError, which names the file and the fault."""
    try:
        content = WeightsFile.model_validate_json(raw)
    except ValidationError as error:
        raise ConfigurationError(f"{name}: not a weights file: {error.errors()[0]['msg']}.") from None
    if content.kind != kind:
        raise ConfigurationError(f'{name}: kind is "{content.kind}"; it must be "{kind}" here.')
    return Weights(content, sha256=hashlib.sha256(raw).hexdigest())


@lru_cache
def shipped_weights(kind: Kind) -> Weights:
    """Return the weights that the repository ships under ``weights/``, fitted by ``make fit``."""
    resource = files("assistant.answering").joinpath("weights", f"{kind}.json")
    return read_weights(resource.read_bytes(), name=f"weights/{kind}.json", kind=kind)


# Ranking of documents


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
    """Return the raw features of every document that any leg found, by document id."""
    names = ("title_cosine", "title_score", "text_score")
    found: dict[str, dict[str, float]] = {
        hit.document_id: {name: value for name in names if (value := getattr(hit, name)) is not None}
        for hit in retrieved.documents
    }
    cosines: dict[str, list[float]] = {}
    for hit in retrieved.hits:
        features = found.setdefault(hit.document_id, {})
        if hit.lexical_score is not None:
            features["passage_score"] = max(features.get("passage_score", 0.0), hit.lexical_score)
        if hit.cosine is not None:
            cosines.setdefault(hit.document_id, []).append(hit.cosine)
    for document_id, values in cosines.items():
        best = sorted(values, reverse=True)[:2]
        found[document_id]["passage_cosine"] = best[0]
        found[document_id]["passage_cosine_2"] = sum(best) / len(best)
    return found


def rank(found: Mapping[str, Mapping[str, float]], *, weights: Weights) -> list[RankedDocument]:
    """Return the candidates, best first; ties by document id."""
    standard = standardised(found, INDEX_FEATURES)
    learned = weights.documents
    ranked = [
        RankedDocument(
            document_id, weights.score(standard[document_id]) + learned.get(document_id, 0.0), features
        )
        for document_id, features in found.items()
    ]
    ranked.sort(key=lambda one: (-one.score, one.document_id))
    return ranked


def standardised(
    found: Mapping[str, Mapping[str, float]], names: Iterable[str]
) -> dict[str, dict[str, float]]:
    """Return each feature with mean 0 and deviation 1 over the candidates."""
    standard: dict[str, dict[str, float]] = {document_id: {} for document_id in found}
    for name in names:
        present = [features[name] for features in found.values() if name in features]
        if not present:
            continue
        lowest = min(present)
        values = {document_id: features.get(name, lowest) for document_id, features in found.items()}
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
    related: float

    @classmethod
    def of(cls, embedding: EmbeddingSection) -> CosineScale:
        return cls(embedding.cosine_unrelated, embedding.cosine_related)

    def value(self, cosine: float) -> float:
        if self == _FITTED_SCALE:  # unchanged to the last bit
            return cosine
        steepness = (_FITTED_SCALE.related - _FITTED_SCALE.unrelated) / (self.related - self.unrelated)
        return _FITTED_SCALE.unrelated + (cosine - self.unrelated) * steepness

    def values(self, cosines: Mapping[int, float]) -> Mapping[int, float]:
        return {ordinal: self.value(cosine) for ordinal, cosine in cosines.items()}

    def retrieved(self, found: Retrieved) -> Retrieved:
        """Return the search's result with the cosines of its hits on the scale of the weights."""
        if self == _FITTED_SCALE:
            return found
        hits = (
            hit if hit.cosine is None else hit._replace(cosine=self.value(hit.cosine)) for hit in found.hits
        )
        documents = (
            hit if hit.title_cosine is None else hit._replace(title_cosine=self.value(hit.title_cosine))
            for hit in found.documents
        )
        return replace(found, hits=tuple(hits), documents=tuple(documents))


_FITTED_SCALE = CosineScale.of(EmbeddingSection())
"""Of the packaged model, on whose cosines the shipped weights were fitted."""


# Vectors of units


class UnitKey(NamedTuple):
    """Names the text that a vector belongs to."""

    content_hash: str
    title: str
    ordinal: int


@dataclass(frozen=True, slots=True)
class Candidates:
    """Units of one document that may be quoted."""

    card: DocumentCard
    units: Sequence[Unit]

    def texts(self) -> dict[UnitKey, str]:
        """Return the text to embed by unit: document title, heading and unit. Long units are left out.

        Alone, "Use prescription numbers and not names" does not say what it is about (docs/decisions/0029).
        """
        title = self.card.title
        texts = {
            UnitKey(self.card.content_hash, title, unit.ordinal): embedding_input(
                title=title, heading=unit.heading, text=unit.text
            )
            for unit in self.units
        }
        return {key: text for key, text in texts.items() if len(text) <= LONGEST_CHARACTERS}


class UnitVectors:
    """Embeds units when a question needs them and keeps the recently used vectors. For one event loop.

    An index with a vector for each unit would be three times as large (450 MB more at 16,407 documents) and
    take twice as long to fill. The dozen units that a question may quote cost the embedding endpoint some 500
    tokens instead, and nothing when they are asked about again.
    """

    def __init__(self, embedder: TextEmbedder) -> None:
        self._embedder = embedder
        self._kept: OrderedDict[UnitKey, array[float]] = OrderedDict()

    async def cosines(
        self, question: Sequence[float], wanted: Sequence[Candidates], *, deadline: Deadline
    ) -> Mapping[str, Mapping[int, float]]:
        """Return the cosine of the question's unit-length vector with each unit: by document id, by ordinal.

        Empty when the endpoint fails or is late: quotes work without. Raises DeadlineExceededError.
        """
        by_document = {one.card.document_id: one.texts() for one in wanted}
        texts = {key: text for unit_texts in by_document.values() for key, text in unit_texts.items()}
        if not texts:
            return {}
        vectors = {key: kept for key in texts if (kept := self._kept.get(key)) is not None}
        missing = [key for key in texts if key not in vectors]
        made = await self._embed([texts[key] for key in missing], deadline=deadline)
        if len(made) < len(missing):
            return {}
        asked = array("f", question)
        vectors.update((key, array("f", vector)) for key, vector in zip(missing, made, strict=True))
        for key, vector in vectors.items():  # another question may have evicted some meanwhile
            self._kept[key] = vector
            self._kept.move_to_end(key)
        while len(self._kept) > MOST_UNIT_VECTORS:
            self._kept.popitem(last=False)
        return {
            document_id: {key.ordinal: _product(asked, vectors[key]) for key in unit_texts}
            for document_id, unit_texts in by_document.items()
        }

    async def _embed(self, texts: Sequence[str], *, deadline: Deadline) -> list[list[float]]:
        """Return a vector for each text; an empty list when the endpoint fails or is late."""
        if not texts:
            return []
        limit_s = deadline.within_s(UNIT_VECTORS_LIMIT_S)
        try:
            return await call_within(
                limit_s,
                lambda step: self._embedder.embed(texts, deadline=step),
                deadline=deadline,
                late=lambda: EmbeddingUnavailableError("The embedding endpoint is late."),
            )
        except AssistantError as error:
            _log.info("units_without_vectors", code=error.code)
            return []


def _product(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the scalar product: 15 µs at 384 dimensions. (``math.sumprod`` needs Python 3.12.)"""
    return sum(map(mul, one, other))
