"""Reads a message once, before the search: its questions, whether it leans on the conversation, its names.

Nothing below a reading parses the message again. It needs no model: a trained head over the vector that is
computed anyway, exact keys for items and ids, the examples of live elements. A reading may widen what is
found, never what is allowed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from operator import mul
from textwrap import wrap

import orjson
from pydantic import FiniteFloat

from assistant.answer.vocabulary import Vocabulary
from assistant.domain.answers import QuestionKind, Reading
from assistant.domain.public import PublicModel
from assistant.text.language import split_sentences

LONG_MESSAGE_WORDS = 45
"""A longer message is searched by its questions and its most specific sentences."""
_LONG_MESSAGE_CHARACTERS = 1_000
"""The same for text with few spaces."""
_MOST_WORDS = 4 * LONG_MESSAGE_WORDS
"""What is searched of a message, so that it costs no more than four that are just not long. Sentences of more
words are searched by runs of their words."""
_MOST_RUN_CHARACTERS = 240
"""About 45 words."""
MOST_QUESTIONS = 3
_SENTENCES_KEPT = 3
_LEAST_TERMS = 2
"""Content terms of a question; one with fewer belongs to the sentence before it."""
_CODE = re.compile(r"[^\W_]+(?:-[^\W_]+)*")


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it was typed, with what is known of it before it is read."""

    text: str
    questions: tuple[str, ...]
    """``questions_of`` the text."""
    before: str | None
    """The question before it in its conversation."""
    vectors: Mapping[str, Sequence[float]]
    """Unit-length vectors, by text, of each question."""
    items: tuple[str, ...] = ()
    """Ids of the catalogue's items that the message names."""
    goes_on: bool = False
    """Whether it goes on with several things, which ``before`` names."""


def questions_of(text: str, *, vocabulary: Vocabulary) -> tuple[str, ...]:
    """Return the questions of a message, at most MOST_QUESTIONS, in the agent's words; the whole message
    where it asks one. A sentence belongs to the first question mark after it."""
    sentences = [span.text for span in split_sentences(text)]
    if is_long(text):
        kept = _most_specific(sentences, vocabulary)
        if len(" ".join(kept).split()) > _MOST_WORDS or len(" ".join(kept)) > _LONG_MESSAGE_CHARACTERS:
            kept = _most_specific([run for sentence in sentences for run in _runs(sentence)], vocabulary)
        sentences = kept
    parts: list[str] = []
    begun: list[str] = []
    for sentence in sentences:
        begun.append(sentence)
        if sentence.rstrip().endswith("?") and len(vocabulary.terms(" ".join(begun))) >= _LEAST_TERMS:
            parts.append(" ".join(begun))
            begun = []
    if begun:
        rest = " ".join(begun)
        parts = [*parts[:-1], f"{parts[-1]} {rest}"] if parts else [rest]
    if len(parts) > MOST_QUESTIONS:
        parts = [*parts[: MOST_QUESTIONS - 1], " ".join(parts[MOST_QUESTIONS - 1 :])]
    if len(parts) < 2:
        return (" ".join(parts) or text,) if is_long(text) else (text,)
    return tuple(parts)


def is_long(text: str) -> bool:
    """Return whether a message is searched by parts of it."""
    return len(text.split()) > LONG_MESSAGE_WORDS or len(text) > _LONG_MESSAGE_CHARACTERS


def _runs(sentence: str) -> Iterator[str]:
    """Yield a sentence, or its runs of words where it is long."""
    words = sentence.split()
    for start in range(0, len(words), LONG_MESSAGE_WORDS):
        run = " ".join(words[start : start + LONG_MESSAGE_WORDS])
        yield from wrap(run, _MOST_RUN_CHARACTERS, break_on_hyphens=False)


def _most_specific(sentences: Sequence[str], vocabulary: Vocabulary) -> list[str]:
    """Return the sentences that ask, and the heaviest others, in their order."""
    weights = [sum(term.weight for term in vocabulary.terms(text)) for text in sentences]
    order = sorted(range(len(sentences)), key=lambda at: (not sentences[at].endswith("?"), -weights[at], at))
    asking = sum(sentence.endswith("?") for sentence in sentences)
    kept = sorted(order[: max(_SENTENCES_KEPT, min(asking + 1, _SENTENCES_KEPT + 1))])
    return [sentences[at] for at in kept]


def _ids(text: str) -> Iterator[str]:
    """Yield the words with a digit: numbers and codes."""
    return (word for word in _CODE.findall(text) if any(map(str.isdigit, word)))


def numbers_of(text: str) -> tuple[str, ...]:
    """Return the numbers and codes that stand alone, each once: "10045", not the parts of "3/4/71"."""
    words = (word.strip(".,;:!?()#") for word in text.split())
    return tuple(
        dict.fromkeys(word for word in words if _CODE.fullmatch(word) and any(map(str.isdigit, word)))
    )


# The trained head


class HeadFile(PublicModel):
    """Weights of the head, fitted by ``make fit`` on the tuning halves of evaluation/."""

    embedding_model: str
    """The model whose vectors ``leans_vector`` and ``kind_vectors`` weigh."""
    leans_bias: FiniteFloat
    leans_counts: tuple[FiniteFloat, FiniteFloat, FiniteFloat]
    """Of the content terms, their weight, and the words of a question."""
    leans_vector: tuple[FiniteFloat, ...]
    kinds: tuple[QuestionKind, ...]
    kind_bias: tuple[FiniteFloat, ...]
    kind_vectors: tuple[tuple[FiniteFloat, ...], ...]
    """Shape (kinds, dimensions)."""
    fitted_on: str


@lru_cache
def shipped_head() -> HeadFile:
    """Return the head that the repository ships."""
    resource = files("assistant.answer").joinpath("weights", "reading.json")
    return HeadFile.model_validate(orjson.loads(resource.read_bytes()))


def head_counts(question: str, vocabulary: Vocabulary) -> tuple[float, float, float]:
    """Return how many content terms a question has, how specific they are, and how many words."""
    terms = vocabulary.terms(question)
    return len(terms) / 5, sum(term.weight for term in terms) / 3, len(question.split()) / 10


class PlainReading:
    """Reads messages without a model. With another embedding model than the head's, counts alone decide
    whether a question leans, and its kind is ``rule``."""

    def __init__(self, vocabulary: Vocabulary, *, embedding_model: str) -> None:
        self._vocabulary = vocabulary
        self._head = shipped_head()
        self._knows_vectors = self._head.embedding_model == embedding_model

    def run(self, message: Message) -> Reading:
        first = message.questions[0]
        leans = message.before is not None and (
            message.goes_on or self.leans(first, message.vectors.get(first))
        )
        search_text = " ".join(message.questions)
        return Reading(
            questions=message.questions,
            search_text=f"{message.before}\n{search_text}" if leans else search_text,
            leans=leans,
            kind=self.kind(message.vectors.get(first)),
            items=message.items,
            ids=tuple(dict.fromkeys(_ids(message.text)))[:20],
        )

    def leans(self, question: str, vector: Sequence[float] | None) -> bool:
        """Return whether a question makes sense only after the one before it."""
        head = self._head
        counts = head_counts(question, self._vocabulary)
        score = head.leans_bias + sum(map(mul, head.leans_counts, counts))
        if vector is not None and self._knows_vectors:
            score += sum(map(mul, head.leans_vector, vector))
        return score > 0.0

    def kind(self, vector: Sequence[float] | None) -> QuestionKind:
        if vector is None or not self._knows_vectors:
            return "rule"
        scores = self._kind_scores(vector)
        return max(scores, key=scores.__getitem__)

    def live_score(self, vector: Sequence[float]) -> float | None:
        """Return the log-odds that a question asks for live data; None for vectors of another model."""
        return self._kind_scores(vector)["live"] if self._knows_vectors else None

    def _kind_scores(self, vector: Sequence[float]) -> dict[QuestionKind, float]:
        head = self._head
        rows = zip(head.kinds, head.kind_bias, head.kind_vectors, strict=True)
        return {kind: bias + sum(map(mul, weights, vector)) for kind, bias, weights in rows}
