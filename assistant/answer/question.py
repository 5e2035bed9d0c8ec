"""Opens a question: the conversation that it belongs to, and what is asked where it is a chat."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from assistant.answer.call import NO_FILTERS, AnswerCall, begin_steps, call_within
from assistant.answer.chat import ReadChat
from assistant.answer.conversation import Conversation
from assistant.answer.embed import EmbedTexts, Vectors
from assistant.answer.excerpts import fill_record, gone_from, marks_in, read_excerpts
from assistant.answer.request import AnswerRequest
from assistant.answer.services import TenantServices
from assistant.domain.answers import AnswerRecord, OfConversation
from assistant.domain.clock import Deadline
from assistant.domain.documents import SearchFilters
from assistant.domain.errors import DependencyError, NotFoundError, RecordsUnavailableError
from assistant.domain.identity import CareContext, Identity

RECORDS_TIMEOUT_S = 3.0
"""Limit of one read from or write to the store of answers."""


@dataclass(frozen=True, slots=True)
class AnswerIds:
    """Ids of an answer, which its caller may need before it is prepared."""

    answer_id: str
    conversation_id: str
    asked_at: datetime

    @classmethod
    def of(cls, request: AnswerRequest, services: TenantServices) -> AnswerIds:
        """Return new ids, in the request's conversation where it names one."""
        answer_id = services.new_id()
        conversation_id = request.conversation_id or services.new_id()
        return cls(answer_id, conversation_id, services.clock.now())


def begin_call(
    services: TenantServices,
    ids: AnswerIds,
    *,
    labels: frozenset[str],
    deadline: Deadline,
    filters: SearchFilters = NO_FILTERS,
) -> AnswerCall:
    """Return the call of an answer, whose root span begins; ``Steps.end`` ends it."""
    steps = begin_steps(ids.answer_id, ids.conversation_id, tenant=services.tenant.name, clock=services.clock)
    return AnswerCall(labels, deadline, steps, filters)


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its conversation. ``OpenQuestion`` makes it."""

    request: AnswerRequest
    identity: Identity
    context: CareContext | None
    """Verified: whose live data may be read."""
    ids: AnswerIds
    turns: tuple[AnswerRecord, ...]
    """The last turns of the conversation, oldest first, without the texts of documents."""
    history: tuple[AnswerRecord, ...]
    """Those before what is asked: without the last one where its question is asked again."""
    conversation: Conversation
    """What prompts read, without the last answer."""
    text: str
    """What is searched: the request's words; of a chat the agent's question, or the customer's last words:
    all that is recorded of it."""
    asks_reply: bool = False
    """Whether the agent asks what to tell the person."""
    chat_text: str = ""
    """Of a chat: the words of the customer and the agent's note (``ChatRead.said``), where an order's number
    may stand. It is not recorded."""
    vectors: Vectors = field(default_factory=dict[str, Sequence[float]])
    """Of the texts that were embedded to read a chat."""

    @property
    def is_chat(self) -> bool:
        """Whether it belongs to a conversation of several turns."""
        return len(self.conversation.turns) > 1

    @property
    def red_flag_text(self) -> str:
        """The text in which red flags are looked for. Of a pasted chat all of it, because who wrote what is a
        guess; of turns ``chat_text``; else what is asked. It is not recorded."""
        if self.chat_text:
            return self.chat_text if self.request.turns else self.request.question
        return self.text

    @property
    def written(self) -> datetime:
        """When the words of the question were written, as far as it is known."""
        return self.request.written_at or self.ids.asked_at

    @property
    def two_before(self) -> tuple[str, ...]:
        """The questions before this one, at most two, oldest first: of the records, else of the request."""
        return tuple(turn.question for turn in self.history[-2:]) or self.request.questions_before

    @property
    def before(self) -> str | None:
        """The question before this one; None where it is the first."""
        return self.two_before[-1] if self.two_before else None


class OpenQuestion:
    """Opens the questions of one tenant.

    Example::

        request = AnswerRequest(question="And by mail?", conversation_id="c1")
        ids = AnswerIds.of(request, services)
        question = await open_question.run(request, identity=ada, ids=ids, call=call)
        question.before  # "On which day are refills payable?"
    """

    def __init__(self, services: TenantServices, embed: EmbedTexts) -> None:
        self._services = services
        self._chat = ReadChat(services, embed)

    async def run(
        self,
        request: AnswerRequest,
        *,
        identity: Identity,
        ids: AnswerIds,
        call: AnswerCall,
        context: CareContext | None = None,
    ) -> Question:
        """Return the question, with what is searched of its chat in place of its words. Where it asks what
        to say of the answer before it ("What do I tell him?"), that answer's question is asked again.

        Raises NotFoundError (no such conversation, or another agent's), InvalidRequestError (turns without a
        customer's message), RecordsUnavailableError, EmbeddingUnavailableError, OverloadedError,
        DeadlineExceededError.
        """
        turns = tuple(await self._turns(request, call, agent=identity.agent))
        chat = await self._chat.read(request.question, request.turns, call)
        history, said, vectors = turns, "", dict[str, Sequence[float]]()
        if chat is not None:
            conversation, text, asks_reply = chat.conversation, chat.text, chat.asks_reply
            said, vectors = chat.said, {**chat.vectors}
        else:
            # "What do I tell him?" of an answer: its question is searched again
            asks_reply = bool(turns) and await self._chat.asks_reply(request.question, call)
            earlier = tuple(turn.question for turn in turns) or request.questions_before
            conversation = Conversation((), asked=request.question, asked_before=earlier)
            text = turns[-1].question if asks_reply else request.question
            history = turns[:-1] if asks_reply else turns
        return Question(
            request=request,
            identity=identity,
            context=context,
            ids=ids,
            turns=turns,
            history=history,
            conversation=conversation,
            text=text,
            asks_reply=asks_reply,
            chat_text=said,
            vectors=vectors,
        )

    async def conversation(
        self, asked: OfConversation | AnswerRequest, record: AnswerRecord, call: AnswerCall
    ) -> Conversation:
        """Return the conversation of a recorded answer, as ``asked`` says it again: a chat, else the record's
        question below the one before it.

        Raises InvalidRequestError (turns without a customer's message), RecordsUnavailableError."""
        chat = await self._chat.read(asked.question, asked.turns, call)
        if chat is not None:
            return chat.conversation
        earlier = None if record.follows is None else await self._services.records.get_answer(record.follows)
        is_own = earlier is not None and earlier.agent == record.agent
        before = (earlier.question,) if earlier is not None and is_own else ()
        return Conversation((), asked=asked.question or record.question, asked_before=before)

    async def _turns(self, request: AnswerRequest, call: AnswerCall, *, agent: str) -> list[AnswerRecord]:
        """Return the conversation's last turns, oldest first; none for a new conversation.

        No such conversation and another agent's take the same path: one query, one error.
        """
        conversation_id = request.conversation_id
        if conversation_id is None:
            return []
        limit = max(2, self._services.writer.model.history_turns)
        with call.steps.step("conversation"):
            turns = await call_within(
                RECORDS_TIMEOUT_S,
                lambda _: self._services.records.list_conversation(conversation_id, limit=limit),
                deadline=call.deadline,
                late=RecordsUnavailableError("The store of answers does not answer; ask again."),
            )
        if not turns or any(turn.agent != agent for turn in turns):
            raise NotFoundError("There is no such conversation; leave conversation_id out to begin one.")
        return turns

    async def last_answer(self, question: Question, call: AnswerCall) -> str:
        """Return the text of the last turn, for the model; empty where no model writes, where a document that
        it showed was withdrawn since or may not be read by the agent now, and where it was not read within
        the limit. Only excerpts of the answer's text are read: no model gets what else the turn showed."""
        if not (question.turns and self._services.writes_answers):
            return ""
        kept = question.turns[-1]
        marks = marks_in(kept.text)
        turn = kept.model_copy(
            update={"excerpts": tuple(excerpt for excerpt in kept.excerpts if excerpt.mark in marks)}
        )
        texts = self._services.documents.texts
        with suppress(DependencyError):
            shown = await call_within(
                RECORDS_TIMEOUT_S,
                lambda _: read_excerpts(turn.excerpts, texts, labels=call.labels),
                deadline=call.deadline,
                late=DependencyError("The last answer took too long to read."),
            )
            return "" if gone_from(turn, shown) else fill_record(turn, shown).text
        return ""
