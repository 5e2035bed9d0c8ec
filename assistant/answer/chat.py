"""Reads a chat: who speaks, and what the agent wants of it.

Trained heads (``heads.py``) give log-odds for each message of a pasted chat that a customer wrote it, and
that the agent asks what to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Literal

from assistant.answer.call import AnswerCall
from assistant.answer.conversation import Conversation, Turn
from assistant.answer.embed import EmbedTexts, Vectors
from assistant.answer.heads import MOST_READ, Heads, Said
from assistant.answer.pasted import Pasted, pasted_turns
from assistant.answer.services import TenantServices
from assistant.answer.vocabulary import Vocabulary
from assistant.domain.answers import MAX_QUESTION_CHARACTERS, ChatTurn
from assistant.domain.errors import InvalidRequestError

_SEARCHED_WORDS = 90
"""The customer's last words that are searched. Of 53 conversations by two writers the right document is among
five for 42, with 45 words for 36, with all words for 44; with open questions chosen by heads for 40."""
_MOST_LOG_ODDS = 3.0
"""Limit, both ways, of what one message says of its speaker, who is judged by all of their messages."""
_LEAST_NOTE = -2.0
"""Log-odds from which a paragraph below a chat is the agent's note to the assistant."""
_LONE = 1.5
"""Taken from the log-odds of a name with one message where others have several: a system's notice is one."""
_LEAST_ASKING, _MOST_TERMS = -1.0, 2
"""A message after an answer asks what to tell the person from these log-odds, with at most so many content
terms: "What do I tell him?"."""


@dataclass(frozen=True, slots=True)
class ChatRead:
    """A chat, and what the agent asks of it."""

    conversation: Conversation
    asks_reply: bool
    """Whether the agent asks what to say: "what do I tell her?"."""
    vectors: Vectors = field(default_factory=dict[str, Sequence[float]])
    """Of the texts that were embedded to read it."""

    @property
    def text(self) -> str:
        """What is searched: the customer's last words, then the agent's own question."""
        kept = [self.conversation.asked] if self.conversation.asked and not self.asks_reply else []
        words = 0
        for turn in reversed(self.conversation.turns):
            if turn.who == "customer":
                words += len(turn.text.split())
                if kept and words > _SEARCHED_WORDS:
                    break
                kept.append(turn.text)
        return "\n".join(reversed(kept))

    @property
    def said(self) -> str:
        """The agent's words and all of the customer's; only the last characters of a long chat."""
        customer = (turn.text for turn in self.conversation.turns if turn.who == "customer")
        return "\n".join((self.conversation.asked, *customer))[-MAX_QUESTION_CHARACTERS:].strip()


class ReadChat:
    """Reads the chats of one tenant: turns that the client sent, or a chat pasted into the question.

    Example: a pasted chat, and the agent's note below it::

        pasted = "Tom: hi!\\nEve: box came wet…\\n\\nwhat do I tell her?"
        chat = await read_chat.read(pasted, (), call)
        chat.text, chat.asks_reply  # "box came wet…", True
    """

    def __init__(self, services: TenantServices, embed: EmbedTexts) -> None:
        self._services, self._embed = services, embed
        self._vocabulary = Vocabulary.of(services.tenant)
        self._heads = Heads(self._vocabulary, embedding_model=services.tenant.embedding.model)

    async def read(self, question: str, turns: Sequence[ChatTurn], call: AnswerCall) -> ChatRead | None:
        """Return what is asked in a chat; None without one. ``question``: the agent's words, or a chat.

        Raises InvalidRequestError (turns without a customer's message), and as ``EmbedTexts.run``.
        """
        vectors: Vectors = {}
        if turns:
            spoken = tuple(Turn(turn.who, turn.text, turn.at) for turn in turns[-MOST_READ:])
            note = question
        else:
            pasted = pasted_turns(question)[-MOST_READ:]
            vectors = await self._embedded([turn.text for turn in pasted], vectors, call)
            said = self.roles(pasted, vectors) if pasted else []
            if not {"customer", "agent"} <= {message.who for message in said}:
                return None  # not a chat
            spoken = tuple(Turn(message.who, message.text) for message in said if message.who != "note")
            note = "\n".join(message.text for message in said if message.who == "note")
        if not any(turn.who == "customer" for turn in spoken):
            raise InvalidRequestError("turns has no message of the customer. Send one, or a question.")
        vectors = await self._embedded([note], vectors, call)
        asks_reply = bool(note) and self._heads.note_score(note, vectors) > _LEAST_NOTE
        return ChatRead(Conversation(spoken, asked=note), asks_reply, vectors)

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
