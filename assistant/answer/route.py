"""How much each source of a tenant matters for a question, and what that adds to its documents' scores.

A released router is a multinomial logistic model over the question's vector and its words; without one, the
words that are usual for a kind of source decide. Both read "it" for each item that a question names: how a
thing is called says nothing about who knows of it. A document's score gets the logarithm of its source's
share (docs/decisions/0058): a source that matters ten times more moves its documents up by a fixed amount,
however many documents it has.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import pairwise
from math import log
from operator import mul
from typing import Literal

from pydantic import Field, FiniteFloat, ValidationError, model_validator

from assistant.answer.scores import RankedDocument, best_first, softmax
from assistant.domain.documents import DocumentCard, id_prefix_of
from assistant.domain.errors import ConfigurationError
from assistant.domain.public import PublicModel
from assistant.tenant.tenant import SourceEntry
from assistant.text.language import word_file

STRENGTH = 3.0
"""Of the logarithm of a source's share beside the ranker's score, whose features have deviation 1."""
LEAST_SHARE = 0.02
"""No source is shut out by the router alone."""
AGE_STRENGTH = 0.5
"""Of the logarithm of a document's freshness."""
LONGEST_AGE_HALF_LIVES = 3.0
"""A document older than this many half-lives loses no more."""
_TOKEN = re.compile(r"[^\W_]+(?:-[^\W_]+)*")
_DIGIT = re.compile(r"\d")
_NUMBER, _CODE = "#number", "#code"


def question_words(question: str) -> frozenset[str]:
    """Return a question's words and pairs of neighbours, folded; numbers and codes by their form alone."""
    tokens: list[str] = []
    for token in _TOKEN.findall(question.casefold()):
        if token.isdecimal():
            tokens.append(_NUMBER)
        else:
            tokens += [_CODE] if _DIGIT.search(token) else token.split("-")
    return frozenset(tokens) | {f"{one} {other}" for one, other in pairwise(tokens)}


# The learned router


class RouterFile(PublicModel):
    """A learned router. The SHA-256 of the file is in every record that it shaped."""

    schema_version: Literal[2] = 2
    """1 read questions with the names of their items."""
    kind: Literal["router"] = "router"
    sources: tuple[str, ...] = Field(min_length=2, max_length=50)
    """Names of the tenant's sources; the order of all rows below."""
    embedding_model: str
    bias: tuple[FiniteFloat, ...]
    vector: tuple[tuple[FiniteFloat, ...], ...]
    """A weight for each dimension of the question's unit-length vector, shape (sources, dimensions)."""
    words: dict[str, tuple[FiniteFloat, ...]] = Field(max_length=5_000)
    """A weight for each source, by word or pair of words."""
    fitted_on: str
    """What it was fitted on, in words."""

    @model_validator(mode="after")
    def _rows_fit_the_sources(self) -> RouterFile:
        count, rows = len(self.sources), [self.bias, *self.words.values()]
        if any(len(row) != count for row in rows) or len(self.vector) != count:
            raise ValueError(f"a row is not of {count} sources")
        if len({len(row) for row in self.vector}) != 1:
            raise ValueError("the rows of vector differ in length")
        return self


class Router:
    """One router file, ready to weigh."""

    def __init__(self, content: RouterFile, *, sha256: str) -> None:
        self.content = content
        self.sha256 = sha256

    def scores(self, question: str, vector: Sequence[float]) -> dict[str, float]:
        """Return the raw score of each source: bias + vector · weights + Σ of its words.

        ``question``: with "it" for each item; ``vector``: of it, unit length.
        """
        content = self.content
        rows = [content.words[word] for word in question_words(question) if word in content.words]
        return {
            name: content.bias[at] + sum(map(mul, content.vector[at], vector)) + sum(row[at] for row in rows)
            for at, name in enumerate(content.sources)
        }

    def fits(self, *, sources: Sequence[str], embedding_model: str, dimensions: int) -> bool:
        """Return whether it was fitted on this tenant's sources and embedding model."""
        content = self.content
        is_same_model = content.embedding_model == embedding_model and len(content.vector[0]) == dimensions
        return is_same_model and set(content.sources) == set(sources)


def read_router(raw: bytes) -> Router:
    """Return the router of a file's bytes. Raises ConfigurationError saying what is wrong."""
    try:
        content = RouterFile.model_validate_json(raw)
    except ValidationError as error:
        raise ConfigurationError(f"router_json: not a router: {error.errors()[0]['msg']}.") from None
    return Router(content, sha256=hashlib.sha256(raw).hexdigest())


# Without a learned router


KIND_WORDS = {
    kind: frozenset(words.split(", "))
    for kind, _, words in (line.partition(": ") for line in word_file("en_source_kinds"))
}
"""Words and pairs of words that are usual in questions for a kind of source, by kind."""
_A_WORD = 0.5
"""Added to a source's raw score by each word that is usual for its kind."""


def keyword_scores(question: str, sources: Sequence[SourceEntry]) -> dict[str, float]:
    """Return the raw score of each source, by the words that are usual for its kind."""
    words = question_words(question)
    return {source.name: _A_WORD * len(words & KIND_WORDS[source.kind]) for source in sources}


# Shares and scores


@dataclass(frozen=True, slots=True)
class Routing:
    """How much each source matters for one question."""

    shares: Mapping[str, float]
    """By name of the source; all of them add up to 1."""
    router: str | None = None
    """SHA-256 of the router; None where the words of the kinds decided."""


def route(
    question: str, vector: Sequence[float], *, sources: Sequence[SourceEntry], router: Router | None
) -> Routing:
    """Return the share of each source: the softmax of its raw score, times the weight of the tenant file."""
    scores = keyword_scores(question, sources) if router is None else router.scores(question, vector)
    likely = softmax([scores[source.name] for source in sources])
    raw = {source.name: share * source.weight for source, share in zip(sources, likely, strict=True)}
    total = sum(raw.values())
    shares = {name: value / total for name, value in raw.items()}
    return Routing(shares, None if router is None else router.sha256)


class SourceScores:
    """What a question's routing adds to the scores of documents."""

    def __init__(self, routing: Routing, *, sources: Sequence[SourceEntry], today: date) -> None:
        self._added = {
            source.id_prefix: STRENGTH * log(max(LEAST_SHARE, routing.shares[source.name]))
            for source in sources
        }
        self._half_lives = {source.id_prefix: source.freshness_days for source in sources}
        self._today = today

    def of(self, document_id: str) -> float:
        """Return what is added to the score of a document for its source."""
        return self._added.get(id_prefix_of(document_id), 0.0)

    def of_age(self, card: DocumentCard) -> float:
        """Return what is taken from the score of a document for its age: 0 or less."""
        half_life = self._half_lives.get(id_prefix_of(card.document_id))
        if half_life is None:
            return 0.0
        written = card.effective_date or card.updated_at.date()
        half_lives = max(0, (self._today - written).days) / half_life
        return AGE_STRENGTH * log(0.5) * min(LONGEST_AGE_HALF_LIVES, half_lives)

    def added(self, ranked: Sequence[RankedDocument]) -> list[RankedDocument]:
        """Return the documents with what their sources add, best first; ties by id."""
        return best_first(
            replace(candidate, score=candidate.score + self.of(candidate.document_id)) for candidate in ranked
        )


def spread_out(ranked: Sequence[RankedDocument], *, count: int, most: int) -> list[str]:
    """Return the ids of the best ``count``, at most ``most`` of one source while others have any."""
    taken: list[str] = []
    waiting: list[str] = []
    of_source: dict[str, int] = {}
    for candidate in ranked:
        prefix = id_prefix_of(candidate.document_id)
        if of_source.get(prefix, 0) < most:
            of_source[prefix] = of_source.get(prefix, 0) + 1
            taken.append(candidate.document_id)
        else:
            waiting.append(candidate.document_id)
        if len(taken) == count:
            return taken
    return [*taken, *waiting][:count]
