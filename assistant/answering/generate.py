"""One call of the model, under the first token's limit and the answer's deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, contextmanager

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind

from assistant.answering.interruption import Cause, InterruptedAnswerError
from assistant.answering.ports import GenerationDelta, GenerationRequest, GenerationStream
from assistant.answering.prepare import PreparedAnswer
from assistant.answering.prompt import Prompt
from assistant.answering.services import PROVIDER, TenantServices, elapsed_ms, fail_span
from assistant.domain.answers import FinishReason, Usage
from assistant.domain.errors import AssistantError, GenerationInterruptedError


class Generation:
    """The model's text as it comes, and what is known of the call when it has ended."""

    def __init__(self, services: TenantServices, prepared: PreparedAnswer) -> None:
        self._services = services
        self._prepared = prepared
        self._started_s = 0.0
        self._connection = AsyncExitStack()
        self._opening: asyncio.Task[GenerationStream] | None = None
        self._span: Span = trace.INVALID_SPAN
        self._late: asyncio.TimerHandle | None = None
        self.finish_reason: FinishReason | None = None
        self.usage: Usage | None = None
        """As the endpoint counted; None when it broke off before it said."""
        self.inference_id: str | None = None
        self.answered = False
        """Whether the endpoint took the request."""
        self._pieces: list[str] = []
        self._first_chunk_ms: float | None = None

    @property
    def written(self) -> str:
        """The model's own text so far, unchecked: for counting and for its refusal, never for a reader."""
        return "".join(self._pieces)

    def begin(self, prompt: Prompt) -> None:
        """Send the request: what is shown of the sources meanwhile costs the answer no time."""
        self._started_s = self._services.clock.monotonic_s()
        self._span = self._begin_span()
        context = self._services.generator.stream(self._request(prompt), deadline=self._prepared.deadline)
        with trace.use_span(self._span, record_exception=False, set_status_on_exception=False):
            self._opening = asyncio.create_task(self._connection.enter_async_context(context))

    async def texts(self) -> AsyncGenerator[str, None]:
        """Yield the model's text, once begun. Leaving the generator closes the endpoint's connection.

        Raises InterruptedAnswerError (the first token is late, the deadline passed, or somebody
        interrupted), GenerationUnavailableError, GenerationInterruptedError, OverloadedError,
        DeadlineExceededError.
        """
        if self._opening is None:
            raise RuntimeError("Begin the generation before its text is read.")
        interruption = self._prepared.interruption
        try:
            with self._described(), self._timers():
                with interruption:
                    stream = await self._opening
                self.inference_id, self.answered = stream.inference_id, True
                deltas = aiter(stream)
                while True:
                    with interruption:
                        delta = await anext(deltas, None)
                    if delta is None:
                        break
                    self._note(delta)
                    if delta.text:
                        if not self._pieces:
                            self._first_chunk_ms = elapsed_ms(self._started_s, clock=self._services.clock)
                        self._pieces.append(delta.text)
                        yield delta.text
                if self.finish_reason is None:
                    raise GenerationInterruptedError("The model's stream ended without its end; ask again.")
        finally:
            await self.close()

    async def close(self) -> None:
        """Close the endpoint's connection, or give up opening it. A second call does nothing."""
        opening, self._opening = self._opening, None
        if opening is None:
            return
        if not opening.done():
            opening.cancel()
            await asyncio.wait([opening])
        if not opening.cancelled():
            opening.exception()  # whoever waited for it has seen it
        await self._connection.aclose()
        self._span.end()

    def reached_reader(self) -> None:
        """Note that the answer's first text was given out: from now on it cannot be late."""
        if self._late is not None:
            self._late.cancel()
            self._late = None
            timings_ms = self._prepared.steps.timings_ms
            timings_ms["first_token"] = elapsed_ms(self._started_s, clock=self._services.clock)

    def _request(self, prompt: Prompt) -> GenerationRequest:
        return GenerationRequest(
            messages=prompt.messages,
            max_tokens=self._prepared.max_tokens,
            temperature=self._services.tenant.generation.temperature,
        )

    def _note(self, delta: GenerationDelta) -> None:
        if delta.finish_reason is not None:
            self.finish_reason = FinishReason(delta.finish_reason)
        if delta.usage is not None:
            self.usage = delta.usage

    @contextmanager
    def _timers(self) -> Generator[None, None, None]:
        loop, interrupt = asyncio.get_running_loop(), self._prepared.interruption.interrupt
        limit_s = self._services.tenant.limits.first_token_timeout_s
        late = self._late = loop.call_later(limit_s, interrupt, Cause.LATE)
        deadline = loop.call_later(self._prepared.deadline.remaining_s(), interrupt, Cause.DEADLINE)
        try:
            yield
        finally:
            late.cancel()
            deadline.cancel()

    def _begin_span(self) -> Span:
        """Begin the call's span, by the GenAI conventions. It is never current while a reader reads."""
        model = self._services.tenant.generation.model
        return self._prepared.steps.begin(
            f"chat {model}",
            kind=SpanKind.CLIENT,
            attributes={
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": PROVIDER,
                "gen_ai.request.model": model,
                "gen_ai.request.stream": True,
                "gen_ai.request.max_tokens": self._prepared.max_tokens,
                "gen_ai.request.temperature": self._services.tenant.generation.temperature,
                "gen_ai.conversation.id": self._prepared.conversation_id,
                "gen_ai.output.type": "text",
            },
        )

    @contextmanager
    def _described(self) -> Generator[None, None, None]:
        """Time the call, and say in its span how it went."""
        span = self._span
        try:
            yield
        except InterruptedAnswerError as interrupted:
            fail_span(span, interrupted.cause.value)
            raise
        except AssistantError as error:
            fail_span(span, error.code)
            raise
        finally:
            elapsed = elapsed_ms(self._started_s, clock=self._services.clock)
            self._prepared.steps.timings_ms["generate"] = elapsed
            self._describe(span)

    def _describe(self, span: Span) -> None:
        if self.inference_id is not None:
            span.set_attribute("gen_ai.response.id", self.inference_id)
        if self.finish_reason is not None:
            span.set_attribute("gen_ai.response.finish_reasons", [self.finish_reason.value])
        if self.usage is not None:
            span.set_attribute("gen_ai.usage.input_tokens", self.usage.prompt_tokens)
            span.set_attribute("gen_ai.usage.output_tokens", self.usage.completion_tokens)
        if self._first_chunk_ms is not None:
            span.set_attribute("gen_ai.response.time_to_first_chunk", self._first_chunk_ms / 1000)
