"""Reads a chat: who speaks, which of the customer's words are still to be answered, and what the agent wants.

``weights/chat.json`` judges each message by its vector and a few counts: whether a customer wrote it, whether
it is part of an open question, whether the agent asks what to say. docs/decisions/0122 has the measurements.
Of what is not part of a question nothing is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files
from math import log1p, sqrt
from operator import mul
from typing import Literal

from pydantic import FiniteFloat

from assistant.answer.pasted import Pasted, pasted_turns
from assistant.answer.readers import LONG_MESSAGE_WORDS
from assistant.answer.services import TenantServices
from assistant.answer.sources import SearchScope, SourceSearch
from assistant.answer.take import AnswerRequest, Question
from assistant.answer.vocabulary import Vocabulary
from assistant.domain.answers import MAX_QUESTION_CHARACTERS
from assistant.domain.errors import InvalidRequestError
from assistant.domain.public import PublicModel
from assistant.text.language import split_sentences

MOST_READ = 40
"""Messages, and sentences of the customer, that are judged: the last ones."""
_MOST_LOG_ODDS = 3.0
"""Of one message: a speaker is judged by all of theirs."""
_LEAST_OPEN, _BELOW_BEST = -0.5, 1.0
"""Log-odds from which a sentence is part of an open question, and how far below the likeliest one."""
_LEAST_NOTE = -2.0
"""Log-odds from which a paragraph below a chat is the agent's."""
_LONE = 1.5
"""Less for a name with one message, where others have several: a notice of the system is no customer."""
_LEAST_ASKING, _MOST_TERMS = -1.0, 2
"""Log-odds and content terms of "What do I tell him?" as a message of its own."""
_LEAST_SEVERAL = -1.2
"""Log-odds from which a sentence goes on with several things that were named above it."""
_LEAST_SPECIFIC = 0.5
"""Weight of the terms of a sentence that may name a thing."""
_LEAST_ASKED = -3.0
"""Log-odds from which a lone sentence asks for something. All 1,348 questions and messages of ``evaluation``
do, and 14 of 32 greetings, thanks and single words."""
Vectors = Mapping[str, Sequence[float]]


class ChatHead(PublicModel):
    """A logistic model over a text's vector and counts."""

    bias: FiniteFloat
    counts: tuple[FiniteFloat, ...] = ()
    vector: tuple[FiniteFloat, ...]

    def score(self, vector: Sequence[float] | None, counts: Iterable[float] = ()) -> float:
        """Return the log-odds. ``vector`` None: the counts alone decide."""
        return self.bias + sum(map(mul, self.counts, counts)) + sum(map(mul, self.vector, vector or ()))


class ChatWeights(PublicModel):
    """``weights/chat.json``, as ``make fit ARGS=chat`` writes it."""

    embedding_model: str
    fitted_on: str
    customer: ChatHead
    """Whether a customer wrote a message."""
    note: ChatHead
    """Whether an agent asks what to say."""
    open: ChatHead
    """Whether a sentence of the customer is part of an open question."""
    several: ChatHead
    """Whether a sentence goes on with several things that were named above it."""


@lru_cache
def shipped_chat_weights() -> ChatWeights:
    """Return the weights that the repository ships."""
    resource = files("assistant.answer").joinpath("weights", "chat.json")
    return ChatWeights.model_validate_json(resource.read_bytes())


@dataclass(frozen=True, slots=True)
class Said:
    """A message and who wrote it."""

    who: Literal["customer", "agent", "system", "note"]
    """``note``: the agent, to the assistant."""
    text: str


@dataclass(frozen=True, slots=True)
class SaidSentence:
    """A sentence of the customer."""

    text: str
    counts: tuple[float, ...]
    """Its form, and where it stands in the chat."""
    message: int
    """Index of its message in the chat."""


@dataclass(frozen=True, slots=True)
class ChatRead:
    """What a chat asks."""

    text: str
    """The open questions, in the customer's words, below the agent's own."""
    asks_reply: bool
    """Whether the agent asks what to say."""
    said: str
    """The end of all that customer and agent's line say."""


def message_counts(text: str) -> tuple[float, ...]:
    """Return what a message's form says of its writer."""
    upper = sum(map(str.isupper, text))
    return (
        float("?" in text),
        log1p(len(text.split())),
        float(text[:1].isupper()),
        float(text.rstrip()[-1:] in (".", "!", "?")),
        float(2 * upper > len(text)),
    )


def said_sentences(said: Sequence[Said]) -> list[SaidSentence]:
    """Return the customer's sentences in order, the last MOST_READ."""
    found: list[SaidSentence] = []
    own = [at for at, each in enumerate(said) if each.who == "customer"]
    agent = [at for at, each in enumerate(said) if each.who == "agent"]
    for at in own:
        before = max((each for each in (*own, *agent) if each < at), default=None)
        after = min((each for each in (*own, *agent) if each > at), default=None)
        sentences = [one for span in split_sentences(said[at].text) if (one := span.text.strip())]
        for sentence in sentences or [said[at].text]:
            words, answers = log1p(len(sentence.split())), sum(each > at for each in agent)
            counts = (
                "?" in sentence,
                words,
                words * words / 3,
                sum(each > at for each in own) / 5,
                at == own[0],
                answers / 3,
                after in agent,
                before in agent,
                2 * sum(map(str.isdigit, sentence)) > len(sentence),
                answers > 0,
                after is None,
                at == own[-1] and sentence == (sentences or [""])[-1],
            )
            found.append(SaidSentence(sentence, tuple(map(float, counts)), at))
    return found[-MOST_READ:]


def asks_something(text: str, vector: Sequence[float] | None, *, embedding_model: str) -> bool:
    """Return whether a message is more than a greeting or thanks; a message of several sentences is.

    ``vector``: of ``text``, by ``embedding_model``; other models' vectors tell nothing.
    """
    weights, (first, *more) = shipped_chat_weights(), said_sentences([Said("customer", text)])
    is_unknown = vector is None or embedding_model != weights.embedding_model
    return bool(more) or is_unknown or weights.open.score(vector, first.counts) >= _LEAST_ASKED


def goes_on_with_several(vector: Sequence[float] | None, *, embedding_model: str) -> bool:
    """Return whether a message asks about several things named above it: "And which one is cheaper?"."""
    weights = shipped_chat_weights()
    is_known = vector is not None and embedding_model == weights.embedding_model
    return is_known and weights.several.score(vector) >= _LEAST_SEVERAL


def named_above(
    earlier: Sequence[str], asked: Sequence[str], *, vocabulary: Vocabulary, names: str = ""
) -> list[str]:
    """Return what the last messages name and the questions do not, in order: of each its heaviest sentence,
    without a question mark, for it is not asked again. ``names``: of speakers, which name nothing else."""
    said = frozenset[str]().union(*(term.forms for term in vocabulary.terms(" ".join((*asked, names)))))

    def weight(sentence: str) -> float:
        terms = vocabulary.terms(sentence)
        return sum(term.weight for term in terms if said.isdisjoint(term.forms)) * (sentence not in asked)

    kept: list[str] = []
    words = 0
    for text in reversed(earlier):
        best = max((span.text.strip() for span in split_sentences(text)), key=weight, default="")
        length = len(best.split())
        if weight(best) >= _LEAST_SPECIFIC and words + length <= LONG_MESSAGE_WORDS:
            kept.append(best.rstrip("?"))
            words += length
    return kept[::-1]


class ReadChat:
    """Reads the chats of one tenant.

    Example::

        question = await chat.run(question, scope)  # "Tom: hi!\\nEve: box came wet…\\n\\nwhat do I tell her?"
        question.request.question  # "box came wet"
        question.asks_reply  # True
    """

    def __init__(self, services: TenantServices, sources: SourceSearch) -> None:
        self._services, self._sources = services, sources
        self._weights = shipped_chat_weights()
        self._knows_vectors = self._weights.embedding_model == services.tenant.embedding.model
        self._vocabulary = Vocabulary.of(services.tenant)

    async def run(self, question: Question, scope: SearchScope) -> Question:
        """Return the question with what is open of its chat as its words; as it is where it has no chat.

        Raises InvalidRequestError (turns without a customer's message), and as ``SourceSearch.embed``.
        """
        read = await self.read(question.request, scope)
        if read is None:
            return await self._after_an_answer(question, scope)
        return question.asking(read.text, asks_reply=read.asks_reply, said=read.said)

    async def read(self, request: AnswerRequest, scope: SearchScope) -> ChatRead | None:
        """Return what is asked in a chat; None without one. Raises as ``run``."""
        if request.turns:
            said: Sequence[Said] = [Said(turn.who, turn.text) for turn in request.turns[-MOST_READ:]]
            note, names = request.question, ""
        else:
            pasted = pasted_turns(request.question)[-MOST_READ:]
            await self._embed([each.text for each in pasted], scope)
            said = self.roles(pasted, scope.embedded) if pasted else []
            if not {"customer", "agent"} <= {each.who for each in said}:
                return None
            note = "\n".join(each.text for each in said if each.who == "note")
            names = " ".join(each.name for each in pasted if each.name)
        sentences = said_sentences(said)
        await self._embed([note, *(each.text for each in sentences)], scope)
        asks_reply = bool(note) and self._note_score(note, scope.embedded) > _LEAST_NOTE
        own = [note] if note and not asks_reply else []
        at = request.written_at or self._services.clock.now()
        dated = [n for n, each in enumerate(sentences) if self._services.counted_days(each.text, at=at)]
        end = sentences[-1].message if sentences and not own else len(said)
        last = own or [each.text for each in sentences if each.message == end]
        if any(self._goes_on(each, scope.embedded) for each in last):
            above = [each.text for each in said[:end] if each.who in ("customer", "agent")]
            asked = [*named_above(above, last, vocabulary=self._vocabulary, names=names), *last]
        else:
            asked = [*own, *self.open(sentences, scope.embedded, more=dated)]
        text = "\n".join(asked)
        if not text:
            raise InvalidRequestError("turns has no message of the customer. Send one, or a question.")
        customer = "\n".join(each.text for each in said if each.who == "customer")
        return ChatRead(text, asks_reply, "\n".join((note, customer))[-MAX_QUESTION_CHARACTERS:].strip())

    def _goes_on(self, text: str, vectors: Vectors) -> bool:
        model = self._weights.embedding_model if self._knows_vectors else ""
        return goes_on_with_several(vectors.get(text), embedding_model=model)

    async def _after_an_answer(self, question: Question, scope: SearchScope) -> Question:
        """Return the question before this one where the agent asks what to say of its answer."""
        text = question.request.question
        if not question.history or len(self._vocabulary.terms(text)) > _MOST_TERMS:
            return question
        await self._embed([text], scope)
        if self._note_score(text, scope.embedded) < _LEAST_ASKING:
            return question
        before = replace(question, history=question.history[:-1])
        return before.asking(question.history[-1].question, asks_reply=True)

    async def _embed(self, texts: Sequence[str], scope: SearchScope) -> None:
        wanted = [text for text in dict.fromkeys(texts) if text and text not in scope.embedded]
        if wanted and self._knows_vectors:
            await self._sources.embed(wanted, scope)

    def _note_score(self, text: str, vectors: Vectors) -> float:
        return self._weights.note.score(vectors.get(text))

    def roles(self, pasted: Sequence[Pasted], vectors: Vectors) -> list[Said]:
        """Return who wrote each message of a pasted chat. Where speakers have names one of them is the
        customer, whom other names may share the first word with."""
        weights = self._weights
        by_customer = [
            max(-_MOST_LOG_ODDS, min(_MOST_LOG_ODDS, score))
            for each in pasted
            for score in (weights.customer.score(vectors.get(each.text), message_counts(each.text)),)
        ]
        scores = _by_name(pasted, by_customer)
        customer = max(scores, key=scores.__getitem__, default=None)

        def who(each: Pasted, score: float) -> Literal["customer", "agent", "system", "note"]:
            if each.is_apart and self._note_score(each.text, vectors) > _LEAST_NOTE:
                return "note"
            if customer is None:
                return "customer" if score > 0 else "agent"
            if each.name is None:
                return "note" if each.is_apart else "system"
            is_alike = "" in scores or each.name.split()[:1] == customer.split()[:1]
            is_customer = each.name == customer or (is_alike and scores[each.name] > 0)
            return "customer" if is_customer else "agent"

        return [Said(who(each, score), each.text) for each, score in zip(pasted, by_customer, strict=True)]

    def open(
        self, sentences: Sequence[SaidSentence], vectors: Vectors, *, more: Sequence[int] = ()
    ) -> list[str]:
        """Return the sentences that are open questions or belong to them, in order: the likeliest, then other
        likely ones, then those at ``more``, then the rest of their messages, as many as a message has that is
        searched whole."""
        scores = [self._weights.open.score(vectors.get(each.text), each.counts) for each in sentences]
        least = min(max(scores, default=0.0) - _BELOW_BEST, _LEAST_OPEN)
        likeliest = sorted(range(len(scores)), key=lambda at: -scores[at])
        likely = [at for at in likeliest if scores[at] >= least]
        kept: list[int] = []
        words = 0
        sure = (*likely, *more)
        for at in (*sure, *likeliest):
            length = len(sentences[at].text.split())
            is_near = at in sure or sentences[at].message in {sentences[each].message for each in kept}
            if at not in kept and is_near and (not kept or words + length <= LONG_MESSAGE_WORDS):
                kept.append(at)
                words += length
        return [sentences[at].text for at in sorted(kept)]


def _by_name(pasted: Sequence[Pasted], by_customer: Sequence[float]) -> dict[str, float]:
    """Return how likely each name is a customer's."""
    grouped: dict[str, list[float]] = {}
    for each, score in zip(pasted, by_customer, strict=True):
        if each.name is not None:
            grouped.setdefault(each.name, []).append(score)
    most = max(map(len, grouped.values()), default=0)
    scores: dict[str, float] = {}
    for name, of_name in grouped.items():
        is_lone = len(of_name) == 1 < most and "" not in grouped
        scores[name] = sum(of_name) / sqrt(len(of_name)) - _LONE * is_lone
    first = next((each.name for each in pasted if each.name), None)
    if pasted[0].name == "" and first is not None:
        scores[""] = -scores[first]  # the newest mail answers the one that it quotes
    return scores
