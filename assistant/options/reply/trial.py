"""Writes and checks the replies to the answers of an evaluation."""

from __future__ import annotations

from contextlib import aclosing

from assistant.answer.answer import AnswerQuestion
from assistant.answer.events import Done, Token
from assistant.answer.request import AnswerRequest
from assistant.answer.services import TenantServices
from assistant.domain.clock import Deadline
from assistant.domain.errors import ConflictError, GenerationUnavailableError
from assistant.evaluation.judging import WRITTEN_DEADLINE_S, WrittenReply, identity_of
from assistant.options.reply.write import ReplyRequest, WriteReply


class RepliesOfAnswers:
    """``AfterWritten``: the reply to the patient, with its check."""

    def __init__(self, services: TenantServices, answers: AnswerQuestion) -> None:
        self._services, self._reply = services, WriteReply(services, answers)
        self._identity = identity_of(services)

    async def run(self, answer_id: str, request: AnswerRequest) -> WrittenReply | None:
        """Return None where nothing was written. Raises AssistantError."""
        deadline = Deadline.after(WRITTEN_DEADLINE_S, clock=self._services.clock)
        asked = ReplyRequest(
            reply_to=answer_id, conversation_id=answer_id, question=request.question, turns=request.turns
        )
        try:
            plan = await self._reply.prepare(asked, identity=self._identity, deadline=deadline)
            async with aclosing(self._reply.stream(plan)) as stream:
                events = [event async for event in stream]
        except (ConflictError, GenerationUnavailableError):
            return None
        text = "".join(event.text for event in events if isinstance(event, Token))
        done = next((event for event in events if isinstance(event, Done)), None)
        return None if done is None else WrittenReply(text, done.checks, done.degraded)
