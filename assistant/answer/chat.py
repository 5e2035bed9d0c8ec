"""Reads a chat: who speaks, which of the customer's words are still to be answered, and what the agent wants.

Trained heads judge each message (``heads``): whether a customer wrote it, whether it is part of an open
question, whether the agent asks what to say. Of what is not part of a question nothing is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Literal

from assistant.answer.heads import MOST_READ, Heads, Said, SaidSentence, Vectors, said_sentences
from assistant.answer.message import LONG_MESSAGE_WORDS, named_above
from assistant.answer.pasted import Pasted, pasted_turns
from assistant.answer.services import TenantServices
from assistant.answer.sources import SearchScope, SourceSearch
from assistant.answer.take import AnswerRequest, Question
from assistant.answer.vocabulary import Vocabulary
from assistant.domain.answers import MAX_QUESTION_CHARACTERS
from assistant.domain.errors import InvalidRequestError

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


@dataclass(frozen=True, slots=True)
class ChatRead:
    """What a chat asks."""

    text: str
    """The open questions, in the customer's words, below the agent's own."""
    asks_reply: bool
    """Whether the agent asks what to say."""
    said: str
    """The end of all that customer and agent's line say."""


class ReadChat:
    """Reads the chats of one tenant.

    Example::

        question = await chat.run(question, scope)  # "Tom: hi!\\nEve: box came wet…\\n\\nwhat do I tell her?"
        question.request.question  # "box came wet"
        question.asks_reply  # True
    """

    def __init__(self, services: TenantServices, sources: SourceSearch) -> None:
        self._services, self._sources = services, sources
        self._vocabulary = Vocabulary.of(services.tenant)
        self._heads = Heads(self._vocabulary, embedding_model=services.tenant.embedding.model)

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
        asks_reply = bool(note) and self._heads.note_score(note, scope.embedded) > _LEAST_NOTE
        own = [note] if note and not asks_reply else []
        at = request.written_at or self._services.clock.now()
        dated = [n for n, each in enumerate(sentences) if self._services.counted_days(each.text, at=at)]
        end = sentences[-1].message if sentences and not own else len(said)
        last = own or [each.text for each in sentences if each.message == end]
        if any(self._heads.goes_on_with_several(each, scope.embedded) for each in last):
            above = [each.text for each in said[:end] if each.who in ("customer", "agent")]
            asked = [*named_above(above, last, vocabulary=self._vocabulary, names=names), *last]
        else:
            asked = [*own, *self.open(sentences, scope.embedded, more=dated)]
        text = "\n".join(asked)
        if not text:
            raise InvalidRequestError("turns has no message of the customer. Send one, or a question.")
        customer = "\n".join(each.text for each in said if each.who == "customer")
        return ChatRead(text, asks_reply, "\n".join((note, customer))[-MAX_QUESTION_CHARACTERS:].strip())

    async def _after_an_answer(self, question: Question, scope: SearchScope) -> Question:
        """Return the question before this one where the agent asks what to say of its answer."""
        text = question.request.question
        if not question.history or len(self._vocabulary.terms(text)) > _MOST_TERMS:
            return question
        await self._embed([text], scope)
        if self._heads.note_score(text, scope.embedded) < _LEAST_ASKING:
            return question
        before = replace(question, history=question.history[:-1])
        return before.asking(question.history[-1].question, asks_reply=True)

    async def _embed(self, texts: Sequence[str], scope: SearchScope) -> None:
        wanted = [text for text in dict.fromkeys(texts) if text and text not in scope.embedded]
        if wanted and self._heads.know_vectors:
            await self._sources.embed(wanted, scope)

    def roles(self, pasted: Sequence[Pasted], vectors: Vectors) -> list[Said]:
        """Return who wrote each message of a pasted chat. Where speakers have names one of them is the
        customer, whom other names may share the first word with."""
        likely = [self._heads.customer_score(each.text, vectors) for each in pasted]
        by_customer = [max(-_MOST_LOG_ODDS, min(_MOST_LOG_ODDS, score)) for score in likely]
        scores = _by_name(pasted, by_customer)
        customer = max(scores, key=scores.__getitem__, default=None)

        def who(each: Pasted, score: float) -> Literal["customer", "agent", "system", "note"]:
            if each.is_apart and self._heads.note_score(each.text, vectors) > _LEAST_NOTE:
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
        scores = [self._heads.open_score(sentence, vectors) for sentence in sentences]
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
