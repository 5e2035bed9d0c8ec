"""Opens a question: the conversation that it belongs to."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from assistant.answer.call import NO_FILTERS, AnswerCall, begin_steps, call_within
from assistant.answer.conversation import Conversation, Turn
from assistant.answer.excerpts import fill_record, gone_from, marks_in, read_excerpts
from assistant.answer.request import AnswerRequest, ChatQuestion
from assistant.answer.services import TenantServices
from assistant.domain.answers import AnswerRecord, OfConversation
from assistant.domain.clock import Deadline
from assistant.domain.documents import SearchFilters
from assistant.domain.errors import (
    DependencyError,
    InvalidRequestError,
    NotFoundError,
    RecordsUnavailableError,
)
from assistant.domain.identity import CareContext, Identity

RECORDS_TIMEOUT_S = 3.0
"""Limit of one read from or write to the store of answers."""
_MOST_READ = 40
"""Messages of a chat that are read: the last ones."""
_TURNS_READ = 2
"""Of a conversation, the last ones: ``ChatQuestion.earlier_questions`` has as many."""


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
    conversation: Conversation
    """What prompts read, without the last answer."""

    @property
    def text(self) -> str:
        """What is searched: the request's words; of turns the customer's last words, and the agent's: all
        that is recorded of them."""
        return self.conversation.searched

    @property
    def said(self) -> str:
        """The words of customer and agent, where red flags and an order's number may stand. Those of turns
        are not recorded."""
        return self.conversation.said

    @property
    def is_chat(self) -> bool:
        """Whether a model's reading of it is waited for: it belongs to a conversation of several turns, or
        has several lines. Those may be a pasted chat, a conversation that nobody cut into turns: who says
        what in it, and what is open, only the model reads."""
        turns, asked = self.conversation.turns, self.conversation.asked
        return len(turns) > 1 or bool(self.conversation.asked_before) or (not turns and "\n" in asked)

    @property
    def written(self) -> datetime:
        """When the words of the question were written, as far as it is known."""
        return self.request.written_at or self.ids.asked_at


class OpenQuestion:
    """Opens the questions of one tenant.

    Example::

        request = AnswerRequest(question="And by mail?", conversation_id="c1")
        ids = AnswerIds.of(request, services)
        question = await open_question.run(request, identity=ada, ids=ids, call=call)
        question.conversation.asked_before  # ("On which day are refills payable?",)
    """

    def __init__(self, services: TenantServices) -> None:
        self._services = services

    async def run(
        self,
        request: AnswerRequest,
        *,
        identity: Identity,
        ids: AnswerIds,
        call: AnswerCall,
        context: CareContext | None = None,
    ) -> Question:
        """Return the question.

        Raises NotFoundError (no such conversation, or another agent's), InvalidRequestError (turns without a
        customer's message), RecordsUnavailableError, DeadlineExceededError.
        """
        turns = tuple(await self._turns(request, call, agent=identity.agent))
        earlier = tuple(turn.question for turn in turns)
        if isinstance(request, ChatQuestion):
            earlier = earlier or request.earlier_questions
        alone = Conversation((), asked=request.question, asked_before=earlier)
        conversation = _chat(request) if request.turns else alone
        return Question(request, identity, context, ids, turns, conversation)

    async def conversation(self, asked: OfConversation | AnswerRequest, record: AnswerRecord) -> Conversation:
        """Return the conversation of a recorded answer, as ``asked`` says it again: a chat, else the record's
        question below the one before it.

        Raises InvalidRequestError (turns without a customer's message), RecordsUnavailableError."""
        if asked.turns:
            return _chat(asked)
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
        with call.steps.step("conversation"):
            turns = await call_within(
                RECORDS_TIMEOUT_S,
                lambda _: self._services.records.list_conversation(conversation_id, limit=_TURNS_READ),
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


def _chat(asked: OfConversation | AnswerRequest) -> Conversation:
    """Return the conversation of turns. Raises InvalidRequestError: none is of the customer."""
    turns = tuple(Turn(turn.who, turn.text, turn.at) for turn in asked.turns[-_MOST_READ:])
    if not any(turn.who == "customer" for turn in turns):
        raise InvalidRequestError("turns has no message of the customer. Send one, or a question.")
    return Conversation(turns, asked=asked.question)
