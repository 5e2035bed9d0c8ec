"""Lets the model write an answer, and gives its text part by part, under the limits of the answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import structlog
from opentelemetry import trace
from opentelemetry.trace import SpanKind

from assistant.answer.call import PROVIDER, AnswerCall, InterruptedAnswerError, elapsed_ms, fail_span
from assistant.answer.prompt import Prompt
from assistant.answer.question import AnswerIds
from assistant.answer.services import TenantServices
from assistant.answer.text_end import LATE, OVERDUE, TextEnd
from assistant.domain.answers import FinishReason, Usage
from assistant.domain.errors import AssistantError, DeadlineExceededError, GenerationInterruptedError
from assistant.stores.ports import GenerationDelta, GenerationRequest, GenerationStream

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class ModelText:
    """The text of the model while it is written: ``begin``, ``read`` until None, ``close``.

    Whoever shows some of it calls ``note_first_text``. After its end ``end``, ``usage``, ``inference_id`` and
    ``variant`` go into the record.

    | state                             | ``_opening`` | ``_limits`` | ``_deltas`` |
    | before ``begin``                  | None         | empty       | None        |
    | ``begin``: the request is sent    | the task     | empty       | None        |
    | first ``read``: waits for a stream| the task     | running     | None        |
    | the stream is open                | the task     | running     | the stream  |
    | closed, in any state              | None         | cancelled   | unchanged   |

    Example::

        text = ModelText(services, prompt, ids, call)
        text.begin()  # the request is under way
        await text.read()  # "Retail refills are payable on "
        await text.read()  # "day 23 [1.1]. Send other"
    """

    services: TenantServices
    prompt: Prompt
    ids: AnswerIds
    """For the span and the log."""
    call: AnswerCall
    inference_id: str | None = None
    """The endpoint's id of the call; None until it answered."""
    variant: str | None = None
    """Production variant that answers."""
    finish_reason: FinishReason | None = None
    """Set by the model's end."""
    failure: TextEnd | None = None
    """The failure or interruption that ended it."""
    _counted: Usage | None = None
    """As the endpoint counted; None when its stream broke off before it said so."""
    _received: list[str] = field(default_factory=list[str])
    """All text that was read."""
    _span: trace.Span = trace.INVALID_SPAN
    _started_s: float = 0.0
    """When the request began: an instant of the monotonic clock."""
    _connection: AsyncExitStack = field(default_factory=AsyncExitStack)
    """Closes the endpoint's stream."""
    _opening: asyncio.Task[GenerationStream] | None = None
    """Opens the stream; None before ``begin`` and after ``close``."""
    _deltas: AsyncIterator[GenerationDelta] | None = None
    """The stream, once the endpoint has opened it: None also where that failed."""
    _limits: tuple[asyncio.TimerHandle, ...] = ()
    """Timers for the first text and for the whole answer, from the first ``read`` on; each interrupts the
    run."""
    _first_chunk_ms: float | None = None
    """From the request to the first text of the endpoint."""

    def begin(self) -> None:
        """Send the request. The caller can show the sources while it is under way."""
        temperature = self.services.tenant.generation.temperature
        request = GenerationRequest(
            self.prompt.messages, max_tokens=self.prompt.max_tokens, temperature=temperature
        )
        self._started_s = self.services.clock.monotonic_s()
        self._span = self._begin_span(request)
        context = self.services.writer.generator.stream(request, deadline=self.call.deadline)
        # The task copies the current context, with this span: what it logs has the answer's trace id.
        with trace.use_span(self._span, record_exception=False, set_status_on_exception=False):
            self._opening = asyncio.create_task(self._connection.enter_async_context(context))

    @property
    def end(self) -> TextEnd:
        """How it ended: by a failure, else with the model's finish reason, STOP where it gave none."""
        return self.failure or TextEnd(self.finish_reason or FinishReason.STOP)

    @property
    def usage(self) -> Usage:
        """What the endpoint counted; counted here when its stream broke off before it said so; zero where no
        stream was opened."""
        if self._counted is not None or self._deltas is None:
            return self._counted or Usage()
        written = self.services.writer.token_counter.count("".join(self._received))
        return Usage(prompt_tokens=self.prompt.prompt_tokens, completion_tokens=written)

    async def read(self) -> str | None:
        """Return the next text of the model; None at its end. A model that fails, or is late, ends there: its
        connection is closed, and ``failure`` says why. The limits of the first text and of the answer run
        from the first call. Do not call it after None, nor after ``close``: then RuntimeError may come."""
        try:
            if self._deltas is None:
                self._deltas = aiter(await self._open())
            return await self._next(self._deltas)
        except DeadlineExceededError as error:  # the client's timer came before the interruption's
            await self._fail(OVERDUE, error.message)
        except AssistantError as error:
            await self._fail(TextEnd(code=error.code), error.message)
        except InterruptedAnswerError as error:
            await self._fail(error.end, "The model took too long.")
        return None

    async def _fail(self, end: TextEnd, detail: str) -> None:
        """Close the call, and log its failure, which the agent does not see: a quote takes the text's place.
        A cancelled answer is not logged. ``detail``: for the log."""
        self.failure = end
        await self.close()
        if not end.is_left:
            _log.warning("generation_failed", answer_id=self.ids.answer_id, code=end.code, detail=detail)

    async def _open(self) -> GenerationStream:
        """Return the stream that the endpoint opens, and start the limits. An interruption during the wait
        cancels the task that opens it. Called once. Raises as ``_next``."""
        if self._opening is None:
            raise RuntimeError("The call was closed before its text was read.")
        loop, interruption = asyncio.get_running_loop(), self.call.interruption
        limit_s = self.services.tenant.limits.first_token_timeout_s
        self._limits = (
            loop.call_later(limit_s, interruption.interrupt, LATE),
            loop.call_later(self.call.deadline.remaining_s(), interruption.interrupt, OVERDUE),
        )
        stream = await interruption.wait(self._opening)
        self.inference_id, self.variant = stream.inference_id, stream.variant
        return stream

    async def _next(self, deltas: AsyncIterator[GenerationDelta]) -> str | None:
        """Return the next text; None at the end of the stream.

        Raises InterruptedAnswerError (the first text is late, the deadline passed, or somebody interrupted),
        GenerationUnavailableError, GenerationInterruptedError, OverloadedError, DeadlineExceededError.
        """
        while (delta := await self.call.interruption.wait(anext(deltas, None))) is not None:
            if delta.finish_reason is not None:
                self.finish_reason = FinishReason(delta.finish_reason)
            self._counted = delta.usage or self._counted
            if delta.text:
                if self._first_chunk_ms is None:
                    self._first_chunk_ms = self._elapsed_ms()
                self._received.append(delta.text)
                return delta.text
        if self.finish_reason is None:
            raise GenerationInterruptedError("The model's stream ended without its end; ask again.")
        return None

    def note_first_text(self) -> None:
        """Note that text of the answer was shown. The first time this ends the limit of the first text, and
        times it as "first_token"."""
        timings_ms = self.call.steps.timings_ms
        if self._limits and "first_token" not in timings_ms:
            self._limits[0].cancel()
            timings_ms["first_token"] = self._elapsed_ms()

    async def close(self) -> None:
        """Close the endpoint's connection, or stop opening it. A second call does nothing."""
        opening, self._opening = self._opening, None
        if opening is None:
            return
        for limit in self._limits:
            limit.cancel()
        if self.failure is not None:
            fail_span(self._span, str(self.failure))
        if self._limits:
            self.call.steps.timings_ms["generate"] = self._elapsed_ms()
            self._describe()
        if not opening.done():
            opening.cancel()
            await asyncio.wait([opening])
        if not opening.cancelled():
            # ``read`` has raised it, or nobody read: marks it as retrieved, so that asyncio does not warn.
            opening.exception()
        await self._connection.aclose()
        self._span.end()

    def _elapsed_ms(self) -> float:
        return elapsed_ms(self._started_s, clock=self.services.clock)

    def _begin_span(self, request: GenerationRequest) -> trace.Span:
        """Begin the call's span, by the GenAI conventions. It is never current while a reader reads."""
        model = self.services.tenant.generation.model
        return self.call.steps.begin(
            f"chat {model}",
            kind=SpanKind.CLIENT,
            attributes={
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": PROVIDER,
                "gen_ai.request.model": model,
                "gen_ai.request.stream": True,
                "gen_ai.request.max_tokens": request.max_tokens,
                "gen_ai.request.temperature": request.temperature,
                "gen_ai.conversation.id": self.ids.conversation_id,
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
        if (usage := self._counted) is not None:
            span.set_attribute("gen_ai.usage.input_tokens", usage.prompt_tokens)
            span.set_attribute("gen_ai.usage.output_tokens", usage.completion_tokens)
        if self._first_chunk_ms is not None:
            span.set_attribute("gen_ai.response.time_to_first_chunk", self._first_chunk_ms / 1000)
