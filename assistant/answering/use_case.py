"""The use case of the product: a question becomes a streamed answer with checked sources, and a record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import structlog

from assistant.answering.answer_text import AnswerText
from assistant.answering.events import AnswerEvent, Done, Problem, SentenceEnded, Sources, Started, Token
from assistant.answering.excerpts import shown_title
from assistant.answering.gate import explain
from assistant.answering.generate import Generation
from assistant.answering.interruption import Cause, InterruptedAnswerError
from assistant.answering.prepare import RECORDS_TIMEOUT_S, AnswerRequest, PrepareAnswer, PreparedAnswer
from assistant.answering.prompt import Prompt
from assistant.answering.record import Ending, RecordWriting, answer_record, last_event, unfinished_record
from assistant.answering.services import TenantServices, elapsed_ms, fail_span
from assistant.answering.support import SupportChecker
from assistant.domain.answers import AnswerRecord, Certainty, FinishReason, Mode, Usage
from assistant.domain.clock import Deadline
from assistant.domain.errors import AssistantError
from assistant.domain.identity import Identity
from assistant.text.language import Language, fold, language

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
        writing = AnswerStream(
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


# One answer while it is made: written or quoted text becomes events, and every way to end an ending.


_NO_ROOM = "no_room_for_passages"
_EMPTY = "empty_answer"
_REFUSED = "refused"
_CUT_SHORT = "length"
_NO_UNITS = "nothing_to_quote"
FAILED_CHECKS = frozenset(
    {"unsupported", "repetition", "debris", "echo", _NO_ROOM, _EMPTY, _REFUSED, _CUT_SHORT, _NO_UNITS}
)
"""Codes of ``done.fallback`` for text that failed its checks. Every other code is a model that failed."""
_log = structlog.get_logger(__name__)


class AnswerStream:
    """The state of one streamed answer."""

    def __init__(
        self,
        services: TenantServices,
        prepared: PreparedAnswer,
        *,
        language: Language,
        settings_hash: str,
        weights: dict[str, str],
    ) -> None:
        self._settings_hash = settings_hash
        self._weights = weights
        self._services = services
        self._prepared = prepared
        passages = [ranked.passage for ranked in prepared.shown]
        self._text = AnswerText(
            checker=SupportChecker(passages, language=language),
            question=prepared.request.question,
            sources=len(passages),
            allowed_urls={passage.url for passage in passages if passage.url},
            language=language,
        )
        self._generation = Generation(services, prepared)
        self._ending: Ending | None = None
        self.closed = False

    def begin(self, prompt: Prompt) -> None:
        """Call the model, unless there is nothing that it could read."""
        if prompt.numbers:
            self._generation.begin(prompt)

    async def events(self) -> AsyncGenerator[Token | SentenceEnded, None]:
        """Yield the answer's text. The endpoint's connection is closed on return, and there is an ending,
        unless the reader left."""
        prepared, cause = self._prepared, self._prepared.interruption.cause
        if cause is Cause.CANCELLED or cause is Cause.DISCONNECTED:
            self.finish(Ending.interrupted(cause))
        elif prepared.certainty is None:
            best = prepared.evidence[0]
            title = shown_title(best.best.card.title) if best.best else None
            self.finish(Ending.done(FinishReason.NO_EVIDENCE, reason=explain(best.gate, title=title)))
        elif prepared.prompt is None:
            for event in self._quote(None):
                yield event
        else:
            async with aclosing(self._written(prepared.prompt)) as events:
                async for event in events:
                    yield event

    async def leave_model(self) -> None:
        """Close the endpoint's connection, where the reader left before its text was read."""
        await self._generation.close()

    def finish(self, ending: Ending) -> None:
        """Say how the answer ended."""
        self._ending = ending

    def close(self) -> AnswerRecord:
        """End the answer's trace and return its record. Nothing is written to the answer after it."""
        self.closed = True
        ending, steps = self._ending or Ending.defect(), self._prepared.steps
        steps.timings_ms["total"] = elapsed_ms(self._prepared.started_s, clock=self._services.clock)
        steps.root.set_attribute("assistant.outcome", ending.outcome.value)
        if ending.error_code:
            fail_span(steps.root, ending.error_code)
        steps.root.end()
        return answer_record(
            ending,
            self._prepared,
            self._text,
            services=self._services,
            settings_hash=self._settings_hash,
            weights=self._weights,
            usage=self._usage(),
            inference_id=self._generation.inference_id,
        )

    def last_event(self, *, recorded: bool) -> Done | Problem | None:
        """Return the event that ends the stream; none when nobody is there to read it."""
        return last_event(
            self._ending or Ending.defect(),
            self._prepared,
            self._text,
            usage=self._usage(),
            recorded=recorded,
        )

    async def _written(self, prompt: Prompt) -> AsyncGenerator[Token | SentenceEnded, None]:
        """Yield what the model writes and passes its checks; where it fails, the quote."""
        if not prompt.numbers:
            for event in self._quote(_NO_ROOM):
                yield event
            return
        text, generation = self._text, self._generation
        failed: str | None = None
        try:
            async with aclosing(generation.texts()) as texts:
                async for piece in texts:
                    for event in text.write(piece):
                        generation.reached_reader()
                        yield event
                    if text.failure is not None:
                        break
            for event in text.end(cut_short=generation.finish_reason is FinishReason.LENGTH):
                generation.reached_reader()
                yield event
            failed = self._not_an_answer(prompt)
        except InterruptedAnswerError as interrupted:
            if interrupted.cause in (Cause.CANCELLED, Cause.DISCONNECTED):
                self.finish(Ending.interrupted(interrupted.cause))
                return
            self._log_failure(interrupted.cause.value, "The model took too long.")
            failed = interrupted.cause.value
        except AssistantError as error:
            self._log_failure(error.code, error.message)
            failed = error.code
        if failed is None:
            finish_reason = generation.finish_reason or FinishReason.STOP
            self.finish(Ending.done(finish_reason, mode=Mode.WRITTEN, certainty=self._prepared.certainty))
            return
        await generation.close()
        for event in self._quote(failed):
            yield event

    def _quote(self, fallback: str | None) -> list[Token | SentenceEnded]:
        """Return the quote's events, and end the answer with it."""
        events = list(self._text.quote(self._prepared.quoted.blocks))
        if not events:
            self.finish(Ending.sources_only(fallback or _NO_UNITS))
            return []
        self._generation.reached_reader()
        certainty = Certainty.POSSIBLY if fallback == _REFUSED else self._prepared.certainty
        ending = Ending.done(FinishReason.STOP, mode=Mode.QUOTED, certainty=certainty, fallback=fallback)
        self.finish(ending)
        return events

    def _not_an_answer(self, prompt: Prompt) -> str | None:
        """Return why what the model wrote is no answer, or only the beginning of one, as a code; None if it
        is one. A refusal is tested first: no source supports it."""
        text = self._text
        written = fold(self._generation.written).strip()
        if not text.begun and prompt.refusal and written.startswith(fold(prompt.refusal)):
            return _REFUSED
        if text.begun or text.failure is not None:
            return text.failure
        return _CUT_SHORT if self._generation.finish_reason is FinishReason.LENGTH else _EMPTY

    def _log_failure(self, code: str, detail: str) -> None:
        """Tell the operator what the agent, who gets the quote, is not bothered with."""
        _log.warning("generation_failed", answer_id=self._prepared.answer_id, code=code, detail=detail)

    def _usage(self) -> Usage:
        """Return what the endpoint counted; counted here when it was called and broke off before it said."""
        prompt = self._prepared.prompt
        if self._generation.usage is None and prompt and self._generation.answered:
            completion_tokens = self._services.token_counter.count(self._generation.written)
            self._generation.usage = Usage(
                prompt_tokens=prompt.prompt_tokens, completion_tokens=completion_tokens
            )
        return self._generation.usage or Usage()
