"""Judges texts by trained heads: logistic models over a text's vector and a few counts of its form.

``weights/reading.json`` says whether a question leans on the one before it ("And by mail?"), and what kind it
is; ``weights/chat.json`` who wrote a message of a chat, which sentences are still to be answered, and what
the agent wants. docs/decisions/0065 and 0122 have the measurements. Vectors of another embedding model than
the heads were fitted for tell nothing: then counts alone decide.

The counts of a text have no names in the files: their order here is that of the weights. Whoever changes a
count fits its file again (``make fit``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from math import log1p
from operator import mul
from typing import Literal

from pydantic import FiniteFloat

from assistant.answer.embed import Vectors
from assistant.answer.message import Message
from assistant.answer.vocabulary import Vocabulary
from assistant.domain.answers import QuestionKind
from assistant.domain.public import PublicModel
from assistant.text.language import split_sentences

MOST_READ = 40
"""Messages, and sentences of the customer, that are judged: the last ones."""
_LEAST_SEVERAL = -1.2
"""Log-odds from which a sentence asks about several things that were named above it: "Which is cheaper?"."""
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
    kinds: Mapping[QuestionKind, TextHead]


class ChatWeights(PublicModel):
    """``weights/chat.json``, as ``make fit ARGS=chat`` writes it."""

    embedding_model: str
    fitted_on: str
    customer: TextHead
    """Whether a customer wrote a message; over ``message_counts``."""
    note: TextHead
    """Whether an agent asks what to say."""
    open: TextHead
    """Whether a sentence of the customer is part of an open question; over ``SaidSentence.counts``."""
    several: TextHead
    """Whether a sentence goes on with several things that were named above it."""


@lru_cache
def shipped_reading_weights() -> ReadingWeights:
    """Return the heads of questions that the repository ships."""
    resource = files("assistant.answer").joinpath("weights", "reading.json")
    return ReadingWeights.model_validate_json(resource.read_bytes())


@lru_cache
def shipped_chat_weights() -> ChatWeights:
    """Return the heads of chats that the repository ships."""
    resource = files("assistant.answer").joinpath("weights", "chat.json")
    return ChatWeights.model_validate_json(resource.read_bytes())


# Counts


def question_counts(question: str, vocabulary: Vocabulary) -> tuple[float, float, float]:
    """Return how many content terms a question has, how specific they are, and how many words, each divided
    by a usual value, so that the counts are near 1."""
    terms = vocabulary.terms(question)
    return len(terms) / 5, sum(term.weight for term in terms) / 3, len(question.split()) / 10


def message_counts(text: str) -> tuple[float, ...]:
    """Return what a message's form says of its writer: whether it asks, its length, whether it begins with a
    capital letter and ends with a mark, as agents write, and whether most of it is in capitals."""
    upper = sum(map(str.isupper, text))
    return (
        float("?" in text),
        log1p(len(text.split())),
        float(text[:1].isupper()),
        float(text.rstrip()[-1:] in (".", "!", "?")),
        float(2 * upper > len(text)),
    )


@dataclass(frozen=True, slots=True)
class Said:
    """A message of a chat and who wrote it."""

    who: Literal["customer", "agent", "system", "note"]
    """``note``: the agent, to the assistant."""
    text: str


@dataclass(frozen=True, slots=True)
class SaidSentence:
    """A sentence of the customer in a chat."""

    text: str
    counts: tuple[float, ...]
    """Its form and its place in the chat, in the order of ``ChatWeights.open.counts``."""
    message: int
    """Index of its message among all messages of the chat."""


def said_sentences(said: Sequence[Said]) -> list[SaidSentence]:
    """Return the customer's sentences in order, the last MOST_READ. ``said``: the messages of a chat."""
    sentences: list[SaidSentence] = []
    by_customer = [at for at, message in enumerate(said) if message.who == "customer"]
    by_agent = [at for at, message in enumerate(said) if message.who == "agent"]
    for at in by_customer:
        before = max((other for other in (*by_customer, *by_agent) if other < at), default=None)
        after = min((other for other in (*by_customer, *by_agent) if other > at), default=None)
        texts = [text for span in split_sentences(said[at].text) if (text := span.text.strip())]
        for text in texts or [said[at].text]:
            words, answers = log1p(len(text.split())), sum(other > at for other in by_agent)
            # the order is that of the weights; logical values count as 0 and 1
            counts = (
                "?" in text,
                words,
                words * words / 3,
                sum(other > at for other in by_customer) / 5,  # messages of the customer after it
                at == by_customer[0],
                answers / 3,  # messages of the agent after it
                after in by_agent,
                before in by_agent,
                2 * sum(map(str.isdigit, text)) > len(text),  # a number, such as an order's
                answers > 0,
                after is None,
                at == by_customer[-1] and text == (texts or [""])[-1],  # the customer's last sentence
            )
            sentences.append(SaidSentence(text, tuple(map(float, counts)), at))
    return sentences[-MOST_READ:]


@dataclass(frozen=True, slots=True)
class Judged:
    """What the heads say of a message."""

    earlier: tuple[str | None, ...]
    """For each of ``Message.questions`` the text that it makes no sense without; None: it makes sense
    alone."""
    kind: QuestionKind
    asks: bool
    """Whether it is more than a greeting or thanks."""


class Heads:
    """The heads of one tenant. Each judges a text by its vector, where ``vectors`` has it, and its counts.

    Example::

        heads = Heads(vocabulary, embedding_model="all-MiniLM-L6-v2")
        message = Message.after(["Are refills payable?"], "And by mail?", vocabulary=vocabulary)
        heads.judge(message, vectors)  # Judged(earlier=("Are refills payable?",), kind="rule", asks=True)
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
        """Return whether a question makes sense only after the one before it."""
        counts = question_counts(question, self._vocabulary)
        return self._reading.leans.score(self._vector(question, vectors), counts) > 0.0

    def judge(self, message: Message, vectors: Vectors) -> Judged:
        """Return what a message is. Its first question leans on what was named above it where it goes on with
        several things, else on the question before it; a later one leans on the first."""
        first, *more = message.questions
        earlier = message.before if message.before is not None and self.leans(first, vectors) else None
        if message.named_above and self.goes_on_with_several(first, vectors):
            earlier = message.named_above
        later = [first if self.leans(question, vectors) else None for question in more]
        return Judged(
            (earlier, *later), self.kind(first, vectors), self.asks_something(message.text, vectors)
        )

    def kind(self, question: str, vectors: Vectors) -> QuestionKind:
        """Return the likeliest kind; ``rule`` without a vector."""
        vector = self._vector(question, vectors)
        if vector is None:
            return "rule"
        kinds = self._reading.kinds
        return max(kinds, key=lambda kind: kinds[kind].score(vector))

    def live_score(self, vector: Sequence[float]) -> float | None:
        """Return the log-odds that a question asks for live data; None for vectors of another model."""
        return self._reading.kinds["live"].score(vector) if self.know_vectors else None

    def asks_something(self, text: str, vectors: Vectors) -> bool:
        """Return whether a message is more than a greeting or thanks. One of several sentences is; so is one
        without a vector."""
        first, *more = said_sentences([Said("customer", text)])
        vector = self._vector(text, vectors)
        return bool(more) or vector is None or self._chat.open.score(vector, first.counts) >= _LEAST_ASKED

    def goes_on_with_several(self, text: str, vectors: Vectors) -> bool:
        """Return whether a text asks about several things named above it: "And which one is cheaper?"."""
        vector = self._vector(text, vectors)
        return vector is not None and self._chat.several.score(vector) >= _LEAST_SEVERAL

    # Chats

    def customer_score(self, message: str, vectors: Vectors) -> float:
        """Return the log-odds that a customer wrote a message."""
        return self._chat.customer.score(self._vector(message, vectors), message_counts(message))

    def note_score(self, text: str, vectors: Vectors) -> float:
        """Return the log-odds that the agent asks with this text what to say."""
        return self._chat.note.score(self._vector(text, vectors))

    def open_score(self, sentence: SaidSentence, vectors: Vectors) -> float:
        """Return the log-odds that a sentence is part of an open question."""
        return self._chat.open.score(self._vector(sentence.text, vectors), sentence.counts)
