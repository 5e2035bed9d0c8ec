"""Takes a question: begins its record, and reads the conversation that it belongs to."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from assistant.answer.excerpts import fill_record, gone_from, marks_in, read_excerpts
from assistant.answer.services import TenantServices, call_within
from assistant.answer.sources import SearchScope
from assistant.domain.answers import MAX_QUESTION_CHARACTERS, AnswerRecord, ChatTurn, Outcome, Usage
from assistant.domain.clock import Deadline
from assistant.domain.documents import SearchFilters
from assistant.domain.errors import (
    AnswerInterruptedError,
    DependencyError,
    NotFoundError,
    RecordsUnavailableError,
)
from assistant.domain.identity import CareContext, ContextToken, Identity, PlainContext
from assistant.domain.public import PublicModel, RecordId

MAX_TURNS = 200
MAX_EARLIER_CHARACTERS = 1_000
"""Longest earlier question that a client may send: it takes space in the prompt from the documents."""


_Text = Annotated[str, StringConstraints(strip_whitespace=True, max_length=MAX_QUESTION_CHARACTERS)]


class AnswerRequest(PublicModel):
    """A question of a care agent: the body of ``POST /v1/answers``."""

    question: _Text = ""
    """The agent's words, or a pasted chat. Beside ``turns`` it may be absent: then the customer's open
    questions are asked."""
    turns: tuple[ChatTurn, ...] = Field(default=(), max_length=MAX_TURNS, repr=False)
    """The chat that the question is about, oldest first; the last 40 messages are read. The record keeps its
    open questions alone."""
    conversation_id: RecordId | None = None
    """A conversation of the same agent; absent: a new conversation."""
    filters: SearchFilters = SearchFilters()
    mode: Literal["auto", "quoted"] = "auto"
    """``quoted``: no model is asked, whatever the tenant's file says."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Longest answer in tokens, at most the tenant's own limit."""
    resume_window_s: int = Field(default=0, ge=0, le=30)
    """How long the answer continues without a reader, so that one can come back; 0: it ends at once."""
    context: ContextToken | PlainContext | None = Field(default=None, repr=False)
    """Whose live data the answer may show: a short-lived token that the care application signed for this
    conversation. Each question needs its own. It is neither logged nor recorded."""

    @model_validator(mode="after")
    def _asks(self) -> Self:
        if not (self.question or self.turns):
            raise ValueError("send a question, or the turns of a chat")
        return self

    @property
    def written_at(self) -> datetime | None:
        """When the last message of the chat was written that says when."""
        return next((turn.at for turn in reversed(self.turns) if turn.at is not None), None)

    @property
    def questions_before(self) -> tuple[str, ...]:
        """The questions before this one, at most two, oldest first, where no record has them."""
        return ()

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts before which a model's text ends; of a quote, lines that have one are left out."""
        return ()


class ChatQuestion(AnswerRequest):
    """A question of a conversation that only the client keeps, as in OpenAI's chat API."""

    earlier_questions: tuple[
        Annotated[str, StringConstraints(min_length=1, max_length=MAX_EARLIER_CHARACTERS)], ...
    ] = Field(default=(), max_length=2)
    stop: tuple[str, ...] = ()

    @property
    def questions_before(self) -> tuple[str, ...]:
        return self.earlier_questions

    @property
    def stops(self) -> tuple[str, ...]:
        return self.stop


RECORDS_TIMEOUT_S = 3.0
"""Limit of one read from or write to the store of answers."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its conversation. ``TakeQuestion`` makes it; ``ReadChat`` may replace its words by the
    open questions of a chat (``asking``)."""

    request: AnswerRequest
    identity: Identity
    context: CareContext | None
    """Verified: whose live data may be read."""
    begun: AnswerRecord
    """The record as it is kept if the process dies while it answers."""
    history: tuple[AnswerRecord, ...]
    """The last turns of the conversation, oldest first, without the texts of documents."""
    turns: asyncio.Task[Sequence[AnswerRecord]]
    """Reads those of them that a model may read, with their texts; ``BuildPrompt`` awaits it."""
    asks_reply: bool = False
    """Whether the agent asks what to tell the person."""
    said: str = ""
    """Of a chat: the words of the customer and the agent's note (``ChatRead.said``), where an order's number
    may stand. It is not recorded."""
    whole: str = ""
    """Of a chat: the text in which red flags are looked for. Of a pasted chat all of it, because who wrote
    what is a guess; else ``said``. It is not recorded."""

    def asking(self, text: str, *, asks_reply: bool, said: str = "") -> Question:
        """Return the question with ``text`` in place of its words and chat, in the request and the record, so
        that nothing else of the chat is recorded."""
        request = self.request.model_copy(update={"question": text, "turns": ()})
        update = {"question": text, "retrieval_question": text, "written_at": self.request.written_at}
        begun = self.begun.model_copy(update=update)
        whole = self.request.question if said and not self.request.turns else said
        return replace(self, request=request, begun=begun, asks_reply=asks_reply, said=said, whole=whole)

    @property
    def two_before(self) -> tuple[str, ...]:
        """The questions before this one, at most two, oldest first: of the records, else of the request."""
        return tuple(turn.question for turn in self.history[-2:]) or self.request.questions_before

    @property
    def before(self) -> str | None:
        """The question before this one; None where it is the first."""
        return self.two_before[-1] if self.two_before else None


class TakeQuestion:
    """Takes the questions of one tenant: ``begin``, then ``run``.

    Example::

        begun = take.begin(AnswerRequest(question="And by mail?", conversation_id="c1"), identity=ada)
        question = await take.run(request, identity=ada, begun=begun, scope=scope)
        question.before  # "On which day are refills payable?"
    """

    def __init__(self, services: TenantServices) -> None:
        self._services = services
        self._settings_hash = services.tenant.settings_hash()

    def begin(
        self, asking: AnswerRequest, *, identity: Identity, context: CareContext | None = None
    ) -> AnswerRecord:
        """Return the record of an answer that is begun, with new ids: failed as interrupted, which stays true
        only if the process dies before it writes the end."""
        services, now = self._services, self._services.clock.now()
        return AnswerRecord(
            answer_id=services.new_id(),
            conversation_id=asking.conversation_id or services.new_id(),
            agent=identity.agent,
            context_id=context and context.token_id,
            asked_at=now,
            finished_at=now,
            question=asking.question,
            retrieval_question=asking.question,
            filters=asking.filters,
            labels=tuple(sorted(identity.labels)),
            outcome=Outcome.FAILED,
            finish_reason=None,
            error_code=AnswerInterruptedError.code,
            text="",
            sentences=(),
            passages=(),
            gate=None,
            prompt_id=services.tenant.answers.prompt,
            prompt_hash=None,
            model_id=services.writer.model.model_id,
            model_digest=services.writer.model.digest,
            parameters={},
            settings_hash=self._settings_hash,
            index_version="",
            usage=Usage(),
            timings_ms={},
        )

    async def run(
        self,
        request: AnswerRequest,
        *,
        identity: Identity,
        begun: AnswerRecord,
        scope: SearchScope,
        context: CareContext | None = None,
    ) -> Question:
        """Return the question. Where a model writes, begin to read the texts of the earlier turns beside the
        next steps (``Question.turns``). ``begun``: by ``begin``.

        Raises NotFoundError (no such conversation, or another agent's), RecordsUnavailableError,
        DeadlineExceededError.
        """
        history = await self._history(request, scope, agent=identity.agent)
        readable = history if self._services.writes_answers else ()
        turns = scope.beside(self._readable_turns(readable, scope))
        return Question(request, identity, context, begun, tuple(history), turns)

    async def _history(self, asking: AnswerRequest, scope: SearchScope, *, agent: str) -> list[AnswerRecord]:
        """Return the conversation's last turns, oldest first; none for a new conversation.

        No such conversation and another agent's take the same path: one query, one error.
        """
        conversation_id = asking.conversation_id
        if conversation_id is None:
            return []
        limit = max(2, self._services.writer.model.history_turns)
        with scope.steps.step("conversation"):
            turns = await call_within(
                RECORDS_TIMEOUT_S,
                lambda _: self._services.records.list_conversation(conversation_id, limit=limit),
                deadline=scope.deadline,
                late=RecordsUnavailableError("The store of answers does not answer; ask again."),
            )
        if not turns or any(turn.agent != agent for turn in turns):
            raise NotFoundError("There is no such conversation; leave conversation_id out to begin one.")
        return turns

    async def _readable_turns(
        self, history: Sequence[AnswerRecord], scope: SearchScope
    ) -> list[AnswerRecord]:
        """Return the last turns with their texts, for the model, oldest first.

        They begin after the last turn whose text showed a document that was withdrawn since, or that the
        agent may not read now, so that there is no gap. Only excerpts of the answers' texts are read: no
        model gets what else a turn showed. Turns that were not read within the limit are left out.
        """
        readable: list[AnswerRecord] = []

        async def read(_: Deadline) -> None:
            for kept in reversed(history):
                marks = marks_in(kept.text)
                turn = kept.model_copy(
                    update={"excerpts": tuple(excerpt for excerpt in kept.excerpts if excerpt.mark in marks)}
                )
                shown = await read_excerpts(
                    turn.excerpts, self._services.documents.texts, labels=scope.labels
                )
                if gone_from(turn, shown):
                    return
                readable.insert(0, fill_record(turn, shown))

        with suppress(DependencyError):
            await call_within(
                RECORDS_TIMEOUT_S,
                read,
                deadline=scope.deadline,
                late=DependencyError("Earlier answers took too long to read."),
            )
        return readable
