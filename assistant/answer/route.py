"""Says how much each source of a tenant matters for a question, and what that adds to its documents' scores.

A source is an entry of the tenant file, such as the catalogue or the procedures; its *share* is between 0 and
1. A released router, which people at the desk publish, is a multinomial logistic model over the
question's vector and its words; without one, the words that are usual for a kind of source decide. Both read
"it" for each item that a question names: the name of an item does not say which source knows about it. A
document's score gets the logarithm of its source's share (docs/decisions/0058): a source that matters ten
times more moves its documents up by a fixed amount, however many documents it has.

``find.py`` calls ``route``, then ``SourceScores`` and ``spread_out``.
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
"""Factor of the logarithm of a source's share, beside the ranker's score, whose features have deviation 1."""
LEAST_SHARE = 0.02
"""A smaller share counts as this one, so that no source is shut out by the router alone."""
AGE_STRENGTH = 0.5
"""Factor of the logarithm of a document's freshness, which halves with each half-life."""
LONGEST_AGE_HALF_LIVES = 3.0
"""A document older than this many half-lives loses no more."""
_TOKEN = re.compile(r"[^\W_]+(?:-[^\W_]+)*")
_DIGIT = re.compile(r"\d")
_NUMBER, _CODE = "#number", "#code"


def question_words(question: str) -> frozenset[str]:
    """Return a question's words and pairs of neighbours, folded; numbers and codes by their form alone.

    Example: "Is HU-1011 late?" gives {"is", "#code", "late", "is #code", "#code late"}.
    """
    tokens: list[str] = []
    for token in _TOKEN.findall(question.casefold()):
        if token.isdecimal():
            tokens.append(_NUMBER)
        else:
            tokens += [_CODE] if _DIGIT.search(token) else token.split("-")
    return frozenset(tokens) | {f"{first} {second}" for first, second in pairwise(tokens)}


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
    """One router file, ready to score sources."""

    def __init__(self, content: RouterFile, *, sha256: str) -> None:
        self.content = content
        self.sha256 = sha256

    def scores(self, question: str, vector: Sequence[float]) -> dict[str, float]:
        """Return the raw score of each source: bias + vector · weights + Σ weights of the question's words.

        ``question``: with "it" for each item; ``vector``: of that text, unit length.
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
"""Words and pairs of words that are usual in questions for a kind of source, by kind. A line of the file:
"qa: what is, define, meaning"."""
_A_WORD = 0.5
"""Each word that is usual for a source's kind adds this to its raw score."""


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
    """SHA-256 of the router's file; None where the words of the kinds decided."""


def route(
    question: str, vector: Sequence[float], *, sources: Sequence[SourceEntry], router: Router | None
) -> Routing:
    """Return the share of each source: the softmax of its raw score, times its weight in the tenant file,
    scaled so that all add up to 1. ``question``, ``vector``: as ``Router.scores``. ``router`` None: none is
    released."""
    scores = keyword_scores(question, sources) if router is None else router.scores(question, vector)
    likely = softmax([scores[source.name] for source in sources])
    raw = {source.name: share * source.weight for source, share in zip(sources, likely, strict=True)}
    total = sum(raw.values())
    shares = {name: value / total for name, value in raw.items()}
    return Routing(shares, None if router is None else router.sha256)


class SourceScores:
    """What a question's routing adds to the scores of documents. A document's source is known by its id's
    prefix.

    Example: a source of share 0.6 adds 3.0 · log 0.6 = -1.5, one of share 0.06 adds -8.4.
    """

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
        """Return the documents with what their sources add to their scores, best first; ties by id."""
        return best_first(
            replace(candidate, score=candidate.score + self.of(candidate.document_id)) for candidate in ranked
        )


def spread_out(ranked: Sequence[RankedDocument], *, count: int, most: int) -> list[str]:
    """Return the ids of the best ``count`` documents, at most ``most`` of one source while others have any.

    Example: with count 3 and most 2, of [a1, a2, a3, b1] it returns [a1, a2, b1]. ``ranked``: best first.
    """
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
