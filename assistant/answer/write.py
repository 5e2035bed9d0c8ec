"""Streams the model's answer to a prompt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from opentelemetry import trace
from opentelemetry.trace import SpanKind

from assistant.answer.events import Cause
from assistant.answer.prompt import Prompt
from assistant.answer.read import PreparedAnswer
from assistant.answer.services import PROVIDER, TenantServices, elapsed_ms, fail_span
from assistant.domain.answers import FinishReason, Usage
from assistant.domain.errors import GenerationInterruptedError
from assistant.stores.ports import GenerationDelta, GenerationRequest, GenerationStream


@dataclass(slots=True)
class ModelCall:
    """One call of the model: ``begin``, ``open``, ``read`` until None, ``close``."""

    services: TenantServices
    prepared: PreparedAnswer
    inference_id: str | None = None
    variant: str | None = None
    """Production variant that answers."""
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    """As the endpoint counted; None when its stream broke off before it said so."""
    _span: trace.Span = trace.INVALID_SPAN
    _started_s: float = 0.0
    _connection: AsyncExitStack = field(default_factory=AsyncExitStack)
    _opening: asyncio.Task[GenerationStream] | None = None
    _deltas: AsyncIterator[GenerationDelta] | None = None
    _limits: tuple[asyncio.TimerHandle, ...] = ()
    """For the first text and for the whole answer."""
    _first_chunk_ms: float | None = None

    @property
    def is_accepted(self) -> bool:
        """Whether the endpoint accepted the request."""
        return self._deltas is not None

    def begin(self, prompt: Prompt) -> None:
        """Send the request. The caller can show the sources while it is under way."""
        temperature = self.services.tenant.generation.temperature
        request = GenerationRequest(prompt.messages, max_tokens=prompt.max_tokens, temperature=temperature)
        self._started_s = self.services.clock.monotonic_s()
        self._span = self._begin_span(request)
        context = self.services.writer.generator.stream(request, deadline=self.prepared.scope.deadline)
        with trace.use_span(self._span, record_exception=False, set_status_on_exception=False):
            self._opening = asyncio.create_task(self._connection.enter_async_context(context))

    async def open(self) -> None:
        """Return when the endpoint has accepted the request. The limits of the first text and of the answer
        run from here. Raises as ``read``."""
        if self._opening is None:
            raise RuntimeError("Begin the call before it is opened.")
        loop, interruption = asyncio.get_running_loop(), self.prepared.interruption
        limit_s = self.services.tenant.limits.first_token_timeout_s
        self._limits = (
            loop.call_later(limit_s, interruption.interrupt, Cause.LATE),
            loop.call_later(
                self.prepared.scope.deadline.remaining_s(), interruption.interrupt, Cause.DEADLINE
            ),
        )
        stream = await interruption.wait(self._opening)
        self.inference_id, self.variant = stream.inference_id, stream.variant
        self._deltas = aiter(stream)

    async def read(self) -> str | None:
        """Return the next text of the model; None at the end of its stream.

        Raises InterruptedAnswerError (the first text is late, the deadline passed, or somebody interrupted),
        GenerationUnavailableError, GenerationInterruptedError, OverloadedError, DeadlineExceededError.
        """
        if self._deltas is None:
            raise RuntimeError("Open the call before its text is read.")
        while (delta := await self.prepared.interruption.wait(anext(self._deltas, None))) is not None:
            if delta.finish_reason is not None:
                self.finish_reason = FinishReason(delta.finish_reason)
            self.usage = delta.usage or self.usage
            if delta.text:
                if self._first_chunk_ms is None:
                    self._first_chunk_ms = self._elapsed_ms()
                return delta.text
        if self.finish_reason is None:
            raise GenerationInterruptedError("The model's stream ended without its end; ask again.")
        return None

    def note_first_text(self) -> None:
        """Note that text of the answer was given out: from the first one on, it cannot be late."""
        timings_ms = self.prepared.scope.steps.timings_ms
        if self._limits and "first_token" not in timings_ms:
            self._limits[0].cancel()
            timings_ms["first_token"] = self._elapsed_ms()

    async def close(self, *, failure: str | None = None) -> None:
        """Close the endpoint's connection, or stop opening it. A second call does nothing.

        ``failure`` is a code for the span of the call.
        """
        opening, self._opening = self._opening, None
        if opening is None:
            return
        for limit in self._limits:
            limit.cancel()
        if failure is not None:
            fail_span(self._span, failure)
        if self._limits:
            self.prepared.scope.steps.timings_ms["generate"] = self._elapsed_ms()
            self._describe()
        if not opening.done():
            opening.cancel()
            await asyncio.wait([opening])
        if not opening.cancelled():
            opening.exception()  # ``open`` has raised it
        await self._connection.aclose()
        self._span.end()

    def _elapsed_ms(self) -> float:
        return elapsed_ms(self._started_s, clock=self.services.clock)

    def _begin_span(self, request: GenerationRequest) -> trace.Span:
        """Begin the call's span, by the GenAI conventions. It is never current while a reader reads."""
        model = self.services.tenant.generation.model
        return self.prepared.scope.steps.begin(
            f"chat {model}",
            kind=SpanKind.CLIENT,
            attributes={
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": PROVIDER,
                "gen_ai.request.model": model,
                "gen_ai.request.stream": True,
                "gen_ai.request.max_tokens": request.max_tokens,
                "gen_ai.request.temperature": request.temperature,
                "gen_ai.conversation.id": self.prepared.record.conversation_id,
                "gen_ai.output.type": "text",
            },
        )

    def _describe(self) -> None:
        """Put the outcome of the call into its span."""
        span = self._span
        if self.inference_id is not None:
            span.set_attribute("gen_ai.response.id", self.inference_id)
        if self.finish_reason is not None:
            span.set_attribute("gen_ai.response.finish_reasons", [self.finish_reason.value])
        if self.usage is not None:
            span.set_attribute("gen_ai.usage.input_tokens", self.usage.prompt_tokens)
            span.set_attribute("gen_ai.usage.output_tokens", self.usage.completion_tokens)
        if self._first_chunk_ms is not None:
            span.set_attribute("gen_ai.response.time_to_first_chunk", self._first_chunk_ms / 1000)
