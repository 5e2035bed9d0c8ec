"""One answer while it is written: the model's text becomes events, and every way to end becomes an ending."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import structlog

from assistant.answering.asking import PreparedAnswer
from assistant.answering.ending import Ending, answer_record, last_event
from assistant.answering.events import Done, Problem, SentenceEnded, Token
from assistant.answering.generating import Generation
from assistant.answering.interruption import Cause, InterruptedAnswerError
from assistant.answering.language import Language, fold
from assistant.answering.prompting import Prompt
from assistant.answering.services import TenantServices
from assistant.answering.steps import elapsed_ms, fail_span
from assistant.answering.written_text import WrittenText
from assistant.domain.answers import AnswerRecord, FinishReason, Usage
from assistant.domain.errors import AssistantError

_NO_ROOM = "no_room_for_passages"
_EMPTY = "empty_answer"
_log = structlog.get_logger(__name__)


class AnswerWriting:
    """The state of one streamed answer."""

    def __init__(
        self, services: TenantServices, prepared: PreparedAnswer, *, language: Language, settings_hash: str
    ) -> None:
        self._settings_hash = settings_hash
        self._services = services
        self._prepared = prepared
        self._written = WrittenText(prepared.texts, language=language)
        self._generation = Generation(services, prepared)
        self._ending: Ending | None = None
        self.closed = False

    def begin(self, prompt: Prompt) -> None:
        """Call the model, unless there is nothing that it could read."""
        if prompt.numbers:
            self._generation.begin(prompt)

    async def events(self, prompt: Prompt) -> AsyncGenerator[Token | SentenceEnded, None]:
        """Yield the model's text as it comes. The endpoint's connection is closed on return, and there is
        an ending, unless the reader left."""
        if not prompt.numbers:
            self.finish(Ending.sources_only(_NO_ROOM))
            return
        written, generation = self._written, self._generation
        if not generation.begun:  # cancelled before it could be called
            cause = self._prepared.interruption.cause or Cause.CANCELLED
            self.finish(Ending.interrupted(cause, begun=False))
            return
        try:
            async with aclosing(generation.texts()) as texts:
                async for text in texts:
                    for event in written.write(text):
                        generation.reached_reader()
                        yield event
            for event in written.end():
                yield event
            self.finish(self._natural_ending(prompt))
        except InterruptedAnswerError as interrupted:
            if interrupted.cause in (Cause.LATE, Cause.DEADLINE):
                self._log_failure(interrupted.cause.value, "The model took too long.")
            self.finish(Ending.interrupted(interrupted.cause, begun=written.begun))
        except AssistantError as error:
            self._log_failure(error.code, error.message)
            self.finish(Ending.failed(error) if written.begun else Ending.sources_only(error.code))

    def _log_failure(self, code: str, detail: str) -> None:
        """Tell the operator what the agent, who still gets the sources, is not bothered with."""
        _log.warning("generation_failed", answer_id=self._prepared.answer_id, code=code, detail=detail)

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
            self._written,
            services=self._services,
            settings_hash=self._settings_hash,
            usage=self._usage(),
            inference_id=self._generation.inference_id,
        )

    def last_event(self, *, recorded: bool) -> Done | Problem | None:
        """Return the event that ends the stream; none when nobody is there to read it."""
        return last_event(
            self._ending or Ending.defect(),
            self._written,
            usage=self._usage(),
            timings_ms=self._prepared.steps.timings_ms,
            recorded=recorded,
        )

    def _natural_ending(self, prompt: Prompt) -> Ending:
        text = fold(self._written.text).strip()
        if not text:
            return Ending.sources_only(_EMPTY)
        if prompt.refusal and text.startswith(fold(prompt.refusal)):
            return Ending.done(FinishReason.REFUSED)
        return Ending.done(self._generation.finish_reason or FinishReason.STOP)

    def _usage(self) -> Usage:
        """Return what the endpoint counted; counted here when it was called and broke off before it said."""
        prompt = self._prepared.prompt
        if self._generation.usage is None and prompt and self._generation.answered:
            completion_tokens = self._services.token_counter.count(self._written.text)
            self._generation.usage = Usage(
                prompt_tokens=prompt.prompt_tokens, completion_tokens=completion_tokens
            )
        return self._generation.usage or Usage()
