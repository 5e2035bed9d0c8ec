"""Streams the model's answer to a prompt, and interrupts the call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType

from opentelemetry import trace
from opentelemetry.trace import SpanKind

from assistant.answering.events import Cause
from assistant.answering.ports import GenerationDelta, GenerationRequest, GenerationStream
from assistant.answering.services import PROVIDER, Steps, TenantServices, elapsed_ms, fail_span
from assistant.domain.answers import FinishReason, Usage
from assistant.domain.clock import Deadline
from assistant.domain.errors import GenerationInterruptedError


class InterruptedAnswerError(Exception):
    """Raised inside ``with interruption:`` after an interruption. It never leaves answering."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause)
        self.cause = cause


class Interruption:
    """Interrupts the awaits inside ``with interruption:``, and no others.

    ``asyncio.timeout`` around a loop that yields to a reader would also cancel the reader's own awaits. Here
    only the wait itself is cancelled. The first cause counts. A cause that comes between two waits is raised
    at the next one. Bound to one event loop; a wait costs half a microsecond more.
    """

    __slots__ = ("_cancel_sent", "_cancelling_before", "_task", "cause")

    def __init__(self) -> None:
        self.cause: Cause | None = None
        self._task: asyncio.Task[object] | None = None
        self._cancelling_before = 0
        self._cancel_sent = False

    def interrupt(self, cause: Cause) -> None:
        """Interrupt the present wait, or the next one. A second cause changes nothing."""
        if self.cause is not None:
            return
        self.cause = cause
        if self._task is not None:
            self._cancel_sent = True
            self._task.cancel()

    def __enter__(self) -> None:
        if self.cause is not None:
            raise InterruptedAnswerError(self.cause)
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("An interruptible wait must run inside a task.")
        self._task = task
        self._cancelling_before = task.cancelling()

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        task, self._task = self._task, None
        if task is None or not self._cancel_sent:
            return
        # As in asyncio.timeout: a cancellation that something else requested meanwhile must go on.
        if task.uncancel() > self._cancelling_before or self.cause is None:
            return
        if exception_type is None or issubclass(exception_type, asyncio.CancelledError):
            raise InterruptedAnswerError(self.cause) from exception


@dataclass(slots=True, kw_only=True)
class ModelCall:
    """One call of the model: ``begin``, ``open``, ``read`` until None, ``close``."""

    services: TenantServices
    request: GenerationRequest
    conversation_id: str
    deadline: Deadline
    interruption: Interruption
    steps: Steps
    inference_id: str | None = None
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
    _has_reached_reader: bool = False
    _first_chunk_ms: float | None = None

    @property
    def is_accepted(self) -> bool:
        """Whether the endpoint accepted the request."""
        return self._deltas is not None

    def begin(self) -> None:
        """Send the request. The caller can show the sources while it is under way."""
        self._started_s = self.services.clock.monotonic_s()
        self._span = self._begin_span()
        context = self.services.generator.stream(self.request, deadline=self.deadline)
        with trace.use_span(self._span, record_exception=False, set_status_on_exception=False):
            self._opening = asyncio.create_task(self._connection.enter_async_context(context))

    async def open(self) -> None:
        """Return when the endpoint has accepted the request. The limits of the first text and of the answer
        run from here. Raises as ``read``."""
        if self._opening is None:
            raise RuntimeError("Begin the call before it is opened.")
        loop, interrupt = asyncio.get_running_loop(), self.interruption.interrupt
        limit_s = self.services.tenant.limits.first_token_timeout_s
        self._limits = (
            loop.call_later(limit_s, interrupt, Cause.LATE),
            loop.call_later(self.deadline.remaining_s(), interrupt, Cause.DEADLINE),
        )
        with self.interruption:
            stream = await self._opening
        self.inference_id = stream.inference_id
        self._deltas = aiter(stream)

    async def read(self) -> str | None:
        """Return the next text of the model; None at the end of its stream.

        Raises InterruptedAnswerError (the first text is late, the deadline passed, or somebody interrupted),
        GenerationUnavailableError, GenerationInterruptedError, OverloadedError, DeadlineExceededError.
        """
        if self._deltas is None:
            raise RuntimeError("Open the call before its text is read.")
        while (delta := await self._next(self._deltas)) is not None:
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

    async def _next(self, deltas: AsyncIterator[GenerationDelta]) -> GenerationDelta | None:
        with self.interruption:
            return await anext(deltas, None)

    def note_first_text(self) -> None:
        """Note that text of the answer was given out: from the first one on, it cannot be late."""
        if self._limits and not self._has_reached_reader:
            self._has_reached_reader = True
            self._limits[0].cancel()
            self.steps.timings_ms["first_token"] = self._elapsed_ms()

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
            self.steps.timings_ms["generate"] = self._elapsed_ms()
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

    def _begin_span(self) -> trace.Span:
        """Begin the call's span, by the GenAI conventions. It is never current while a reader reads."""
        model = self.services.tenant.generation.model
        return self.steps.begin(
            f"chat {model}",
            kind=SpanKind.CLIENT,
            attributes={
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": PROVIDER,
                "gen_ai.request.model": model,
                "gen_ai.request.stream": True,
                "gen_ai.request.max_tokens": self.request.max_tokens,
                "gen_ai.request.temperature": self.request.temperature,
                "gen_ai.conversation.id": self.conversation_id,
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
