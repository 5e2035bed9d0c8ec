"""Text → vector → hits: the one way to search, for answers, the command line and evaluation."""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files
from math import exp, fsum, sqrt
from operator import mul
from typing import Literal, NamedTuple

import structlog
from opentelemetry import trace
from opentelemetry.trace import SpanKind
from pydantic import Field, FiniteFloat, ValidationError

from assistant.answering.ports import TextEmbedder
from assistant.answering.services import PROVIDER, Steps, TenantServices, within
from assistant.domain.clock import Clock, Deadline
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


class RetrievePassages:
    """Embeds a question and searches the tenant's index, each under its own limit and the deadline."""

    def __init__(self, services: TenantServices) -> None:
        self._services = services

    async def retrieve(
        self,
        searched: str,
        *,
        vector: Sequence[float],
        labels: frozenset[str],
        deadline: Deadline,
        filters: SearchFilters | None = None,
        size: int | None = None,
        with_codes: Sequence[str] = (),
        steps: Steps | None = None,
    ) -> Retrieved:
        """Return what the index has for a text and its vector, with the best ``size`` passages (by default
        as many as the tenant's answers show; all of both legs where the question names codes).

        Raises SearchUnavailableError, DeadlineExceededError.
        """
        steps = steps or Steps(trace.INVALID_SPAN, clock=self._services.clock)
        retrieval = self._services.tenant.retrieval
        wanted = size or retrieval.passages
        leg_size = max(retrieval.leg_size, wanted)
        query = PassageQuery(
            text=searched,
            vector=vector,
            filters=filters or SearchFilters(),
            labels=labels,
            leg_size=leg_size,
            size=2 * leg_size if with_codes else wanted,
        )
        return await self._search(query, deadline=deadline, steps=steps)

    async def read(
        self, document_ids: Sequence[str], *, labels: frozenset[str], deadline: Deadline, steps: Steps
    ) -> Mapping[str, StoredDocument]:
        """Return documents with their units. Raises SearchUnavailableError, DeadlineExceededError."""
        if not document_ids:
            return {}
        with steps.step("read", kind=SpanKind.CLIENT):
            limit_s = self._services.tenant.limits.search_timeout_s
            step = Deadline.after(deadline.within_s(limit_s), clock=self._services.clock)
            late = SearchUnavailableError(f"The passage index took over {limit_s:g} s; ask again.")
            reading = self._services.search.read_documents(document_ids, labels=labels, deadline=step)
            return await within(reading, step=step, whole=deadline, late=late)

    async def embed(
        self, texts: Sequence[str], *, deadline: Deadline, steps: Steps | None = None
    ) -> list[list[float]]:
        """Return a vector for each text, by one call. A text over the model's token limit is embedded in
        pieces, whose mean stands for it: nothing is cut.

        Raises EmbeddingUnavailableError, OverloadedError, DeadlineExceededError.
        """
        steps = steps or Steps(trace.INVALID_SPAN, clock=self._services.clock)
        embedding = self._services.tenant.embedding
        with steps.step(
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
            limit_s = self._services.tenant.limits.embedding_timeout_s
            step = Deadline.after(deadline.within_s(limit_s), clock=self._services.clock)
            late = EmbeddingUnavailableError(f"The embedding endpoint took over {limit_s:g} s; ask again.")
            return await within(self._vectors(texts, deadline=step), step=step, whole=deadline, late=late)

    async def _vectors(self, texts: Sequence[str], *, deadline: Deadline) -> list[list[float]]:
        try:
            return await self._services.embedder.embed(texts, deadline=deadline)
        except PassageTooLongError:
            return [_mean(await self._of_pieces(text, deadline=deadline)) for text in texts]

    async def _of_pieces(self, text: str, *, deadline: Deadline) -> list[list[float]]:
        pieces = [text]
        while True:
            try:
                return await self._services.embedder.embed(pieces, deadline=deadline)
            except PassageTooLongError:
                if len(pieces) >= _MOST_PIECES:
                    raise
                pieces = [half for piece in pieces for half in _halves(piece)]

    async def _search(self, query: PassageQuery, *, deadline: Deadline, steps: Steps) -> Retrieved:
        with steps.step(
            "search",
            span_name="retrieval passages",
            kind=SpanKind.CLIENT,
            attributes={"gen_ai.operation.name": "retrieval", "gen_ai.data_source.id": "passages"},
        ) as span:
            limit_s = self._services.tenant.limits.search_timeout_s
            step = Deadline.after(deadline.within_s(limit_s), clock=self._services.clock)
            late = SearchUnavailableError(f"The passage index took over {limit_s:g} s; ask again.")
            search = self._services.search.search(query, deadline=step)
            retrieved = await within(search, step=step, whole=deadline, late=late)
            span.set_attribute("assistant.index_version", retrieved.index_version)
            span.set_attribute("assistant.passages", len(retrieved.passages))
            return retrieved


def _halves(text: str) -> list[str]:
    """Cut a text in two at the white space nearest to its middle; a text without any in its middle."""
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


# Weights files: what ranking, quoting and the gate learned from questions with known answers.


Kind = Literal["ranker", "reranker", "quoter", "gate"]


class WeightsFile(PublicModel):
    """The content of a weights file."""

    schema_version: Literal[1] = 1
    kind: Kind
    features: dict[str, FiniteFloat] = Field(min_length=1)
    """Weight by feature name. A feature that is computed and not named here counts nothing."""
    bias: FiniteFloat = 0.0
    fitted_on: str
    """What it was fitted on, in words."""


class Weights:
    """One weights file, ready to score."""

    __slots__ = ("bias", "features", "kind", "sha256")

    def __init__(self, content: WeightsFile, *, sha256: str) -> None:
        self.kind = content.kind
        self.features = content.features
        self.bias = content.bias
        self.sha256 = sha256

    def score(self, values: Mapping[str, float]) -> float:
        """Return bias + Σ weight · value; a feature without a value counts as 0."""
        get = values.get
        return self.bias + sum(weight * get(name, 0.0) for name, weight in self.features.items())

    def probability(self, values: Mapping[str, float]) -> float:
        """Return the logistic function of the score."""
        score = max(-40.0, min(40.0, self.score(values)))
        return 1.0 / (1.0 + exp(-score))


def read_weights(raw: bytes, *, name: str, kind: Kind) -> Weights:
    """Return the weights of a file's bytes. Raises ConfigurationError naming the file and what is wrong."""
    try:
        content = WeightsFile.model_validate_json(raw)
    except ValidationError as error:
        raise ConfigurationError(f"{name}: not a weights file: {error.errors()[0]['msg']}.") from None
    if content.kind != kind:
        raise ConfigurationError(f'{name}: kind is "{content.kind}"; it must be "{kind}" here.')
    return Weights(content, sha256=hashlib.sha256(raw).hexdigest())


@lru_cache
def shipped_weights(kind: Kind) -> Weights:
    """Return the repository's own weights of a kind."""
    resource = files("assistant.answering").joinpath("weights", f"{kind}.json")
    return read_weights(resource.read_bytes(), name=f"weights/{kind}.json", kind=kind)


# Which document answers the question: a weighted sum of standardised raw scores.


INDEX_FEATURES = (
    "title_cosine",
    "passage_cosine",
    "passage_cosine_2",
    "passage_score",
    "text_score",
    "title_score",
)
"""Raw features of a candidate that the index alone gives."""


@dataclass(frozen=True, slots=True)
class RankedDocument:
    """A candidate with its score; the best has the highest."""

    document_id: str
    score: float
    features: Mapping[str, float]
    """Raw; a feature that no leg gave is absent."""


def candidates(retrieved: Retrieved) -> dict[str, dict[str, float]]:
    """Return the raw features of every document that any leg found, by document id."""
    found: dict[str, dict[str, float]] = {
        hit.document_id: {
            name: value
            for name, value in (
                ("title_cosine", hit.title_cosine),
                ("title_score", hit.title_score),
                ("text_score", hit.text_score),
            )
            if value is not None
        }
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
        values.sort(reverse=True)
        best = values[:2]
        found[document_id]["passage_cosine"] = best[0]
        found[document_id]["passage_cosine_2"] = sum(best) / len(best)
    return found


def rank(
    found: Mapping[str, Mapping[str, float]], *, weights: Weights, names: Sequence[str] = INDEX_FEATURES
) -> list[RankedDocument]:
    """Return the candidates, best first; ties by document id."""
    standard = standardised(found, names)
    ranked = [
        RankedDocument(document_id, weights.score(standard[document_id]), features)
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


# One scale for the cosines of any embedding model.


_FITTED_ON = EmbeddingSection()
"""The packaged model's means."""


@dataclass(frozen=True, slots=True)
class CosineScale:
    """Cosines of a tenant's embedding model as the weights expect them."""

    unrelated: float
    related: float

    @classmethod
    def of(cls, embedding: EmbeddingSection) -> CosineScale:
        return cls(embedding.cosine_unrelated, embedding.cosine_related)

    @property
    def is_fitted(self) -> bool:
        """Whether the weights were fitted on this very scale: then nothing is changed, to the last bit."""
        fitted = (_FITTED_ON.cosine_unrelated, _FITTED_ON.cosine_related)
        return (self.unrelated, self.related) == fitted

    def value(self, cosine: float) -> float:
        if self.is_fitted:
            return cosine
        steepness = (_FITTED_ON.cosine_related - _FITTED_ON.cosine_unrelated) / (
            self.related - self.unrelated
        )
        return _FITTED_ON.cosine_unrelated + (cosine - self.unrelated) * steepness

    def values(self, cosines: Mapping[int, float]) -> Mapping[int, float]:
        return {at: self.value(cosine) for at, cosine in cosines.items()}

    def retrieved(self, found: Retrieved) -> Retrieved:
        """Return what the index has, its hits' cosines on the scale of the weights."""
        if self.is_fitted:
            return found
        return replace(
            found,
            hits=tuple(
                hit if hit.cosine is None else replace(hit, cosine=self.value(hit.cosine))
                for hit in found.hits
            ),
            documents=tuple(
                replace(hit, title_cosine=self.value(hit.title_cosine))
                if hit.title_cosine is not None
                else hit
                for hit in found.documents
            ),
        )


# Vectors of single units, made when a question needs them and kept for the next one.


MOST_KEPT = 4_000
"""Vectors in one process: 6 MiB at 384 dimensions."""
TIMEOUT_S = 0.25
"""A quote without these vectors is worse by some points; one that comes late is worse than that."""
LONGEST_CHARACTERS = 700
"""A longer text is over the model's limit, or nearly: a unit goes without a vector."""
_log = structlog.get_logger(__name__)


class Key(NamedTuple):
    """What names the text that a vector is of."""

    content_hash: str
    title: str
    ordinal: int


@dataclass(frozen=True, slots=True)
class Candidates:
    """Units of one document that may be quoted."""

    card: DocumentCard
    units: Sequence[Unit]

    def texts(self) -> Iterator[tuple[Key, str]]:
        """Yield each unit's key, and its text under the document's title and the unit's heading."""
        title = self.card.title
        for unit in self.units:
            text = embedding_input(title=title, heading=unit.heading, text=unit.text)
            yield Key(self.card.content_hash, title, unit.ordinal), text


class UnitVectors:
    """One tenant's units, the least recently used forgotten first. For one event loop."""

    def __init__(self, embedder: TextEmbedder, *, clock: Clock) -> None:
        self._embedder = embedder
        self._clock = clock
        self._kept: OrderedDict[Key, array[float]] = OrderedDict()

    async def cosines(
        self, question: Sequence[float], wanted: Sequence[Candidates], *, deadline: Deadline
    ) -> Mapping[str, Mapping[int, float]]:
        """Return the cosine of the question's unit-length vector with each unit: by document id, by ordinal.

        Empty when the endpoint fails or is late: a quote does not depend on it. Raises DeadlineExceededError.
        """
        short = {
            one.card.document_id: {key: text for key, text in one.texts() if len(text) <= LONGEST_CHARACTERS}
            for one in wanted
        }
        texts = {key: text for placed in short.values() for key, text in placed.items()}
        if not texts:
            return {}
        vectors = {key: kept for key in texts if (kept := self._kept.get(key)) is not None}
        missing = [key for key in texts if key not in vectors]
        made = await self._embed([texts[key] for key in missing], deadline=deadline)
        if len(made) < len(missing):
            return {}
        asked = array("f", question)
        vectors.update((key, array("f", vector)) for key, vector in zip(missing, made, strict=True))
        for key, vector in vectors.items():  # another question may have forgotten some meanwhile
            self._kept[key] = vector
            self._kept.move_to_end(key)
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return {
            document_id: {key.ordinal: _product(asked, vectors[key]) for key in placed}
            for document_id, placed in short.items()
        }

    async def _embed(self, texts: Sequence[str], *, deadline: Deadline) -> list[list[float]]:
        """Return a vector for each text; none at all when the endpoint fails or is late."""
        if not texts:
            return []
        step = Deadline.after(deadline.within_s(TIMEOUT_S), clock=self._clock)
        try:
            return await within(
                self._embedder.embed(texts, deadline=step),
                step=step,
                whole=deadline,
                late=EmbeddingUnavailableError("The embedding endpoint is late."),
            )
        except AssistantError as error:
            _log.info("units_without_vectors", code=error.code)
            return []


def _product(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the scalar product: 15 µs at 384 dimensions. (``math.sumprod`` is of Python 3.12.)"""
    return sum(map(mul, one, other))
