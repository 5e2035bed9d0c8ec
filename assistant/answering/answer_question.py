"""The use case of the product: a question becomes a streamed answer with checked sources, and a record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from assistant.answering.ending import Ending, unfinished_record
from assistant.answering.events import AnswerEvent, Sources, Started
from assistant.answering.prepare import RECORDS_TIMEOUT_S, AnswerRequest, PrepareAnswer, PreparedAnswer
from assistant.answering.record_writing import RecordWriting
from assistant.answering.services import TenantServices
from assistant.answering.writing import AnswerWriting
from assistant.domain.answers import AnswerRecord
from assistant.domain.clock import Deadline
from assistant.domain.identity import Identity
from assistant.text.language import language

_HEAD_START_S = 0.001
"""For the request to the model, which takes a few turns of the loop: to make the sources ready would hold it
up for longer than this, and nobody misses it, for the model takes many times as long to begin."""


class AnswerQuestion:
    """Answers questions of one tenant's agents. One instance serves all requests of a process.

    Two steps, so that what goes wrong before the first event can still be an HTTP status::

        prepared = await answer_question.prepare(request, identity=identity, deadline=deadline)
        async with aclosing(answer_question.stream(prepared)) as events:
            async for event in events: ...
    """

    def __init__(self, services: TenantServices) -> None:
        self._services = services
        self._settings_hash = services.tenant.settings_hash()
        self._language = language(services.tenant.language)
        self._prepare = PrepareAnswer(services)
        self._records = RecordWriting(services.records, timeout_s=RECORDS_TIMEOUT_S)

    def unfinished_record(
        self, asking: AnswerRequest, *, identity: Identity, answer_id: str, conversation_id: str
    ) -> AnswerRecord:
        """Return what is to be kept of the answer if the process dies while it is written."""
        return unfinished_record(
            asking,
            identity=identity,
            answer_id=answer_id,
            conversation_id=conversation_id,
            services=self._services,
            settings_hash=self._settings_hash,
        )

    async def prepare(
        self,
        asking: AnswerRequest,
        *,
        identity: Identity,
        deadline: Deadline,
        answer_id: str | None = None,
        conversation_id: str | None = None,
    ) -> PreparedAnswer:
        """Look the conversation up, embed, search, judge the evidence and build the prompt.

        Ids that are not given are made; a given ``conversation_id`` is the request's own where it has one.

        Raises NotFoundError (no such conversation, or another agent's), TooLargeError (the question does
        not fit the model's context), EmbeddingUnavailableError, SearchUnavailableError,
        RecordsUnavailableError, OverloadedError, DeadlineExceededError. Nothing is recorded then.
        """
        return await self._prepare.prepare(
            asking,
            identity=identity,
            deadline=deadline,
            answer_id=answer_id,
            conversation_id=conversation_id,
        )

    async def stream(
        self, prepared: PreparedAnswer, *, resumable: bool = False
    ) -> AsyncGenerator[AnswerEvent, None]:
        """Yield started, sources, (token | sentence)*, done or error; once for each prepared answer.

        The record is written before the last event, so a client that saw ``done`` can mark the answer;
        while the store fails ``done`` comes with ``recorded`` false and the record follows. After
        ``prepared.cancel(cause)`` the endpoint's connection is closed, the record written, and the stream
        ends with an ``error`` event of code ``cancelled``, or with nothing when the reader is gone.
        Cancelling the task that reads, or closing the generator, does the same without an event and counts
        as disconnected. The reader must close the generator (``contextlib.aclosing``). A stream never begun
        leaves no record.
        """
        writing = AnswerWriting(
            self._services,
            prepared,
            language=self._language,
            settings_hash=self._settings_hash,
            weights=self._prepare.find_evidence.weights,
        )
        try:
            if prepared.prompt is not None and prepared.interruption.cause is None:
                writing.begin(prepared.prompt)
                await asyncio.sleep(_HEAD_START_S)
            yield self._started(prepared, resumable=resumable)
            yield Sources(sources=prepared.make_sources())
            async with aclosing(writing.events()) as events:
                async for event in events:
                    yield event
            recorded = await self._records.write(writing.close())
            if last := writing.last_event(recorded=recorded):
                yield last
        except (asyncio.CancelledError, GeneratorExit):
            writing.finish(Ending.abandoned(prepared.interruption.cause))
            raise
        finally:
            await writing.leave_model()
            if not writing.closed:
                await self._records.write(writing.close())

    async def settle(self, *, within_s: float) -> int:
        """Wait for record writes that outlived their reader; return how many are still not done."""
        return await self._records.settle(within_s=within_s)

    def _started(self, prepared: PreparedAnswer, *, resumable: bool) -> Started:
        return Started(
            answer_id=prepared.answer_id,
            conversation_id=prepared.conversation_id,
            model=self._services.model.model_id,
            index_version=prepared.evidence[0].retrieved.index_version,
            trace_id=prepared.steps.trace_id,
            resumable=resumable,
        )
