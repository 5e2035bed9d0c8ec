"""The use case of the product: a question becomes a streamed answer with checked sources, and a record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime, timedelta

import structlog

from assistant.answer.elements import Hydration
from assistant.answer.events import AnswerEvent, Cause, ElementChanged, Token
from assistant.answer.read import RECORDS_TIMEOUT_S, PrepareAnswer, PreparedAnswer
from assistant.answer.record import RecordWriter, begun_record
from assistant.answer.services import InterruptedAnswerError, TenantServices
from assistant.answer.stream import AnswerStream
from assistant.answer.write import ModelCall
from assistant.domain.answers import FinishReason
from assistant.domain.errors import AssistantError, DeadlineExceededError
from assistant.text.language import language

_HEAD_START_S = 0.001
"""Lead of the request to the model over making the sources: making them would delay it by more than this, and
the model takes many times as long to begin."""
_log = structlog.get_logger(__name__)


class AnswerQuestion:
    """Answers questions of one tenant's agents. One instance serves all requests of a process.

    Two steps, so that an error before the first event can still be an HTTP status::

        prepared = await answer_question.prepare(request, identity=identity, deadline=deadline)
        async with aclosing(answer_question.stream(prepared)) as events:
            async for event in events: ...
    """

    def __init__(self, services: TenantServices) -> None:
        preparing = PrepareAnswer(services)
        self._services = services
        self._language = language(services.tenant.language)
        self._records = RecordWriter(services.records, timeout_s=RECORDS_TIMEOUT_S)
        self._make_quote = preparing.make_quote
        self.prepare = preparing.prepare
        """Understand, search, judge the evidence and build the prompt; see ``PrepareAnswer.prepare``."""
        self.adaptations = preparing.find_evidence.adaptations
        self.bounds = preparing.bounds
        self.as_asked = preparing.as_asked
        """Return a question as live systems are asked it, for an element that is read again."""
        self.begin = preparing.begin
        """Return the record to keep if the process dies while it answers."""

    async def stream(
        self, prepared: PreparedAnswer, *, resumable: bool = False
    ) -> AsyncGenerator[AnswerEvent, None]:
        """Yield started, sources, (token | sentence | element)*, done or error; once for each answer.

        Elements that end are sent between the texts, also while the model is silent. All have ended before
        ``done``.

        What is known when the answer begins is written between the sources and the text, so that whoever read
        any is on record, also if this process dies. The record is written before the last event, so a client
        that saw ``done`` can mark the answer; while the store fails ``done`` comes with ``recorded`` false
        and the record follows. After ``prepared.cancel(cause)`` the endpoint's connection is closed, the
        record is written, and the stream ends with an ``error`` event of code ``cancelled``, or without an
        event when the reader has left. Cancelling the task that reads, or closing the generator, does the
        same without an event and counts as disconnected. The reader must close the generator
        (``contextlib.aclosing``). A stream that was never begun leaves no record.
        """
        answer = AnswerStream(self._services, prepared, language=self._language)
        prompt, model = prepared.prompt, None
        try:
            if prompt is not None and prepared.interruption.cause is None:
                model = ModelCall(self._services, prepared)
                model.begin(prompt)
                await asyncio.sleep(_HEAD_START_S)
                prepared.quote = await self._make_quote.run(
                    prepared.quote.evidence,
                    prepared.numbers,
                    prepared.hydration,
                    prepared.scope,
                    is_written=True,
                )
            elif prompt is not None:
                prepared.quote = self._make_quote.of_prompt(
                    prepared.quote.evidence, prepared.numbers, prepared.hydration
                )
            for event in answer.begin(resumable=resumable):
                yield event
            prepared.quote = prepared.quote.without_scores()
            await self._records.begin(begun_record(prepared), until=self._ends_by(prepared))
            how: FinishReason | str | None = prepared.interruption.cause
            if model is not None:
                try:
                    await model.open()
                    async with aclosing(_texts(model, answer, prepared.hydration)) as texts:
                        async for text in texts:
                            if not isinstance(text, str):
                                yield text
                                continue
                            for event in answer.feed(text):
                                model.note_first_text()
                                yield event
                            if answer.is_over:
                                break
                    how = model.finish_reason or FinishReason.STOP
                except (InterruptedAnswerError, AssistantError) as error:
                    how = await _close_failed(model, error, answer_id=prepared.answer_id)
                await model.close()
            for event in answer.end(how):
                if model is not None:
                    model.note_first_text()
                yield event
            for event in answer.place_asked():
                yield event
            while prepared.hydration.is_waiting and prepared.hydration.left is None:
                await prepared.hydration.change()
                for event in answer.ended_elements():
                    yield event
            answer.end_elements()
            recorded = await self._records.write(answer.close(model))
            if last := answer.last_event(recorded=recorded):
                yield last
        except (asyncio.CancelledError, GeneratorExit):
            answer.abandon(prepared.interruption.cause)
            raise
        finally:
            if model is not None:
                await model.close()
            if not answer.is_closed:
                await self._records.write(answer.close(model))

    def _ends_by(self, prepared: PreparedAnswer) -> datetime:
        """Return when an answer without a record is an interrupted one."""
        return self._services.clock.now() + timedelta(
            seconds=prepared.scope.deadline.remaining_s() + RECORDS_TIMEOUT_S
        )

    async def settle(self, *, within_s: float) -> int:
        """Wait for record writes that outlived their reader; return how many are still not done."""
        return await self._records.settle(within_s=within_s)


async def _texts(
    model: ModelCall, answer: AnswerStream, hydration: Hydration
) -> AsyncGenerator[str | Token | ElementChanged, None]:
    """Yield the model's texts, and between them the elements that ended. Raises as ``ModelCall.read``."""
    while True:
        if not hydration.is_waiting:
            text = await model.read()
        else:
            reading = asyncio.create_task(model.read())
            try:
                while not reading.done():
                    await asyncio.wait((reading, hydration.change()), return_when=asyncio.FIRST_COMPLETED)
                    for event in answer.ended_elements():
                        yield event
            finally:
                if not reading.done():
                    reading.cancel()
                    await asyncio.wait([reading])
            text = reading.result()
        if text is None:
            return
        yield text


async def _close_failed(
    model: ModelCall, error: InterruptedAnswerError | AssistantError, *, answer_id: str
) -> str:
    """Close a call that raised, and return how it ended. Log the failure: the agent sees only the quote."""
    if isinstance(error, DeadlineExceededError):
        how, detail = Cause.DEADLINE, error.message  # the client's timer came before the interruption's
    elif isinstance(error, AssistantError):
        how, detail = error.code, error.message
    else:
        how, detail = error.cause, "The model took too long."
    await model.close(failure=str(how))
    if how not in (Cause.CANCELLED, Cause.DISCONNECTED):
        _log.warning("generation_failed", answer_id=answer_id, code=str(how), detail=detail)
    return how
