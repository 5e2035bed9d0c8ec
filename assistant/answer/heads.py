"""Judges texts by trained heads: logistic models over a text's vector and a few counts of its form.

``weights/reading.json`` says whether a question leans on the one before it ("And by mail?"), and whether it
asks for live data; ``weights/chat.json`` whether a message asks for something. docs/decisions/0065 and 0151
have measurements. Vectors of another embedding model than the heads were fitted for tell nothing: then no
question leans, and each message asks.

The counts of a text have no names in the files: their order here is that of the weights. Whoever changes a
count fits its file again (``make fit``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib.resources import files
from math import log1p
from operator import mul

from pydantic import FiniteFloat

from assistant.answer.embed import Vectors
from assistant.answer.vocabulary import Vocabulary
from assistant.domain.public import PublicModel
from assistant.text.codes import codes_asked
from assistant.text.language import split_sentences

_LEAST_ASKED = -3.0
"""Log-odds from which a lone sentence asks for something. All 1,348 questions and messages of ``evaluation``
do, and 14 of 32 greetings, thanks and single words."""


class TextHead(PublicModel):
    """A logistic model over a text's vector and counts."""

    bias: FiniteFloat
    counts: tuple[FiniteFloat, ...] = ()
    vector: tuple[FiniteFloat, ...]

    def score(self, vector: Sequence[float] | None, counts: Iterable[float] = ()) -> float:
        """Return the log-odds. ``vector`` None: the counts alone decide."""
        return self.bias + sum(map(mul, self.counts, counts)) + sum(map(mul, self.vector, vector or ()))


class ReadingWeights(PublicModel):
    """``weights/reading.json``, as ``make fit`` writes it."""

    embedding_model: str
    fitted_on: str
    leans: TextHead
    """Whether a question makes sense only after the one before it; over ``question_counts``."""
    live: TextHead
    """Whether a question asks for live data."""


class ChatWeights(PublicModel):
    """``weights/chat.json``, as ``make fit ARGS=chat`` writes it."""

    embedding_model: str
    fitted_on: str
    asks: TextHead
    """Whether a message of one sentence asks for something; over ``asking_counts``."""


@lru_cache
def shipped_reading_weights() -> ReadingWeights:
    """Return the heads of questions that the repository ships."""
    resource = files("assistant.answer").joinpath("weights", "reading.json")
    return ReadingWeights.model_validate_json(resource.read_bytes())


@lru_cache
def shipped_chat_weights() -> ChatWeights:
    """Return the head of what asks that the repository ships."""
    resource = files("assistant.answer").joinpath("weights", "chat.json")
    return ChatWeights.model_validate_json(resource.read_bytes())


# Counts


def question_counts(question: str, vocabulary: Vocabulary) -> tuple[float, float, float]:
    """Return how many content terms a question has, how specific they are, and how many words, each divided
    by a usual value, so that the counts are near 1."""
    terms = vocabulary.terms(question)
    return len(terms) / 5, sum(term.weight for term in terms) / 3, len(question.split()) / 10


def asking_counts(sentence: str) -> tuple[float, ...]:
    """Return what a sentence's form says of whether it asks for something: a question mark, its length, and
    whether it is a number, such as an order's."""
    words = log1p(len(sentence.split()))
    is_number = 2 * sum(map(str.isdigit, sentence)) > len(sentence)
    return float("?" in sentence), words, words * words / 3, float(is_number)


class Heads:
    """The heads of one tenant. Each judges a text by its vector, where ``vectors`` has it, and its counts.

    Example::

        heads = Heads(vocabulary, embedding_model="all-MiniLM-L6-v2")
        heads.leans("And by mail?", vectors)  # True
    """

    def __init__(self, vocabulary: Vocabulary, *, embedding_model: str) -> None:
        self._vocabulary = vocabulary
        self._reading, self._chat = shipped_reading_weights(), shipped_chat_weights()
        self.know_vectors = embedding_model == self._reading.embedding_model == self._chat.embedding_model
        """Whether the heads were fitted for this model; else callers need not embed for them."""

    def _vector(self, text: str, vectors: Vectors) -> Sequence[float] | None:
        return vectors.get(text) if self.know_vectors else None

    # Questions

    def leans(self, question: str, vectors: Vectors) -> bool:
        """Return whether a question makes sense only after the one before it; False without a vector."""
        vector, counts = self._vector(question, vectors), question_counts(question, self._vocabulary)
        return vector is not None and self._reading.leans.score(vector, counts) > 0.0

    def live_score(self, vector: Sequence[float]) -> float | None:
        """Return the log-odds that a question asks for live data; None for vectors of another model."""
        return self._reading.live.score(vector) if self.know_vectors else None

    def asks_something(self, text: str, vectors: Vectors) -> bool:
        """Return whether a message is more than a greeting or thanks. One of several sentences is; so is one
        without a vector, or with a code."""
        is_one, vector = len(split_sentences(text)) < 2, self._vector(text, vectors)
        if vector is None or not is_one or codes_asked(text):
            return True
        return self._chat.asks.score(vector, asking_counts(text)) >= _LEAST_ASKED
