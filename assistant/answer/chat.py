"""Reads a chat: who speaks, which of the customer's words are still to be answered, and what the agent wants.

Trained heads (``heads.py``) give log-odds for each message: that a customer wrote it, that a sentence is part
of an open question, that the agent asks what to say. Words that are no part of a question are not kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Literal

from assistant.answer.call import AnswerCall
from assistant.answer.embed import EmbedTexts, Vectors
from assistant.answer.heads import MOST_READ, Heads, Said, SaidSentence, said_sentences
from assistant.answer.message import LONG_MESSAGE_WORDS, named_above
from assistant.answer.pasted import Pasted, pasted_turns
from assistant.answer.request import AnswerRequest
from assistant.answer.services import TenantServices
from assistant.answer.vocabulary import Vocabulary
from assistant.domain.answers import MAX_QUESTION_CHARACTERS
from assistant.domain.errors import InvalidRequestError
from assistant.text.values import has_date

_MOST_LOG_ODDS = 3.0
"""Limit, both ways, of what one message says of its speaker, who is judged by all of their messages."""
_LEAST_OPEN, _BELOW_BEST = -0.5, 1.0
"""A sentence is part of an open question from these log-odds, or at most this far below the likeliest one."""
_LEAST_NOTE = -2.0
"""Log-odds from which a paragraph below a chat is the agent's note to the assistant."""
_LONE = 1.5
"""Taken from the log-odds of a name with one message where others have several: a system's notice is one."""
_LEAST_ASKING, _MOST_TERMS = -1.0, 2
"""A message after an answer asks what to tell the person from these log-odds, with at most so many content
terms: "What do I tell him?"."""


@dataclass(frozen=True, slots=True)
class ChatRead:
    """What a chat asks."""

    text: str
    """The agent's note where it is a question itself, then the open questions, in the customer's words."""
    asks_reply: bool = False
    """Whether the agent's note asks what to say: "what do I tell her?"."""
    said: str = ""
    """The agent's note and all of the customer's messages; only the last characters of a long chat."""
    vectors: Vectors = field(default_factory=dict[str, Sequence[float]])
    """Of the texts that were embedded to read it."""


class ReadChat:
    """Reads the chats of one tenant: turns that the client sent, or a chat pasted into the question.

    Example: a pasted chat, and the agent's note below it::

        request = AnswerRequest(question="Tom: hi!\\nEve: box came wet…\\n\\nwhat do I tell her?")
        chat = await read_chat.read(request, call)
        chat.text, chat.asks_reply  # "box came wet", True
    """

    def __init__(self, services: TenantServices, embed: EmbedTexts) -> None:
        self._services, self._embed = services, embed
        self._vocabulary = Vocabulary.of(services.tenant)
        self._heads = Heads(self._vocabulary, embedding_model=services.tenant.embedding.model)

    async def read(self, request: AnswerRequest, call: AnswerCall) -> ChatRead | None:
        """Return what is asked in a chat; None without one.

        Raises InvalidRequestError (turns without a customer's message), and as ``EmbedTexts.run``.
        """
        vectors: Vectors = {}
        if request.turns:
            messages: Sequence[Said] = [Said(turn.who, turn.text) for turn in request.turns[-MOST_READ:]]
            note, names = request.question, ""
        else:
            pasted = pasted_turns(request.question)[-MOST_READ:]
            vectors = await self._embedded([turn.text for turn in pasted], vectors, call)
            messages = self.roles(pasted, vectors) if pasted else []
            if not {"customer", "agent"} <= {message.who for message in messages}:
                return None  # not a chat
            note = "\n".join(message.text for message in messages if message.who == "note")
            names = " ".join(turn.name for turn in pasted if turn.name)
        sentences = said_sentences(messages)
        vectors = await self._embedded([note, *(sentence.text for sentence in sentences)], vectors, call)
        asks_reply = bool(note) and self._heads.note_score(note, vectors) > _LEAST_NOTE
        asked_note = [note] if note and not asks_reply else []
        today = self._services.today(request.written_at or self._services.clock.now())
        # sentences with a date, from which days are counted: ``open`` keeps them
        dated = [n for n, line in enumerate(sentences) if today and has_date(line.text, today=today)]
        # what asks last: the agent's note, else the customer's last message; ``last_at`` is its index
        last_at = sentences[-1].message if sentences and not asked_note else len(messages)
        last = asked_note or [sentence.text for sentence in sentences if sentence.message == last_at]
        if any(self._heads.goes_on_with_several(text, vectors) for text in last):
            above = [message.text for message in messages[:last_at] if message.who in ("customer", "agent")]
            asked = [*named_above(above, last, vocabulary=self._vocabulary, names=names), *last]
        else:
            asked = [*asked_note, *self.open(sentences, vectors, more=dated)]
        answered_at = max((at for at, message in enumerate(messages) if message.who == "agent"), default=-1)
        newest = [sentence.text for sentence in sentences if sentence.message > answered_at]
        is_asked_back = answered_at >= 0 and "?" in messages[answered_at].text  # "yes" answers the agent
        if not (asked_note or is_asked_back) and not any(
            self._heads.asks_something(each, vectors) for each in newest
        ):
            asked = newest[-1:] or asked  # thanks: what was asked before it is answered
        text = "\n".join(asked)
        if not text:
            raise InvalidRequestError("turns has no message of the customer. Send one, or a question.")
        customer = "\n".join(message.text for message in messages if message.who == "customer")
        said = "\n".join((note, customer))[-MAX_QUESTION_CHARACTERS:].strip()
        return ChatRead(text, asks_reply, said, vectors)

    async def asks_reply(self, text: str, call: AnswerCall) -> bool:
        """Return whether a message after an answer asks what to tell the person: "What do I tell him?"."""
        if len(self._vocabulary.terms(text)) > _MOST_TERMS:
            return False
        vectors = await self._embedded([text], {}, call)
        return self._heads.note_score(text, vectors) >= _LEAST_ASKING

    async def _embedded(self, texts: Sequence[str], vectors: Vectors, call: AnswerCall) -> Vectors:
        """Return ``vectors`` with those of the texts, which the heads read."""
        wanted = [text for text in dict.fromkeys(texts) if text and text not in vectors]
        if not wanted or not self._heads.know_vectors:
            return vectors
        return {**vectors, **await self._embed.run(wanted, call)}

    def roles(self, pasted: Sequence[Pasted], vectors: Vectors) -> list[Said]:
        """Return each message of a pasted chat with who wrote it.

        | the message                                         | written by                               |
        | the last paragraph, and it asks what to say         | note                                     |
        | of a chat that names nobody                         | customer above log-odds 0, else agent    |
        | without a name in a chat with names, last paragraph | note                                     |
        | without a name in a chat with names, elsewhere      | system                                   |
        | of the name with the highest log-odds               | customer                                 |
        | of a name like it ("eve", "eve miller"), or in mail | customer above log-odds 0 of that name   |
        | of another name                                     | agent                                    |
        """
        likely = [self._heads.customer_score(turn.text, vectors) for turn in pasted]
        clipped = [max(-_MOST_LOG_ODDS, min(_MOST_LOG_ODDS, score)) for score in likely]
        scores = _by_name(pasted, clipped)
        customer = max(scores, key=scores.__getitem__, default=None)

        def who(turn: Pasted, score: float) -> Literal["customer", "agent", "system", "note"]:
            if turn.is_apart and self._heads.note_score(turn.text, vectors) > _LEAST_NOTE:
                return "note"
            if customer is None:
                return "customer" if score > 0 else "agent"
            if turn.name is None:
                return "note" if turn.is_apart else "system"
            is_alike = "" in scores or turn.name.split()[:1] == customer.split()[:1]
            is_customer = turn.name == customer or (is_alike and scores[turn.name] > 0)
            return "customer" if is_customer else "agent"

        return [Said(who(turn, score), turn.text) for turn, score in zip(pasted, clipped, strict=True)]

    def open(
        self, sentences: Sequence[SaidSentence], vectors: Vectors, *, more: Sequence[int] = ()
    ) -> list[str]:
        """Return the sentences that are open questions or belong to them, in the order of the chat.

        They are taken until LONG_MESSAGE_WORDS words are reached, the first one always: the likely ones, the
        likeliest first; then those at the places ``more``; then others of a message of which one was taken.
        """
        scores = [self._heads.open_score(sentence, vectors) for sentence in sentences]
        least = min(max(scores, default=0.0) - _BELOW_BEST, _LEAST_OPEN)
        likeliest_first = sorted(range(len(scores)), key=lambda at: -scores[at])
        likely = [at for at in likeliest_first if scores[at] >= least]
        kept: list[int] = []
        words = 0
        wanted = (*likely, *more)
        for at in (*wanted, *likeliest_first):
            length = len(sentences[at].text.split())
            is_near = at in wanted or sentences[at].message in {sentences[place].message for place in kept}
            if at not in kept and is_near and (not kept or words + length <= LONG_MESSAGE_WORDS):
                kept.append(at)
                words += length
        return [sentences[at].text for at in sorted(kept)]


def _by_name(pasted: Sequence[Pasted], message_scores: Sequence[float]) -> dict[str, float]:
    """Return the log-odds that each name is a customer's, by its messages' ``message_scores``. In mail the
    name "" stands for the writers whom no head names."""
    grouped: dict[str, list[float]] = {}
    for turn, score in zip(pasted, message_scores, strict=True):
        if turn.name is not None:
            grouped.setdefault(turn.name, []).append(score)
    most = max(map(len, grouped.values()), default=0)
    scores: dict[str, float] = {}
    for name, name_scores in grouped.items():
        is_lone = len(name_scores) == 1 < most and "" not in grouped
        scores[name] = sum(name_scores) / sqrt(len(name_scores)) - _LONE * is_lone
    first = next((turn.name for turn in pasted if turn.name), None)
    if pasted[0].name == "" and first is not None:
        scores[""] = -scores[first]  # the newest mail answers the one that it quotes
    return scores
