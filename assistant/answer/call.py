"""One call of the use cases: whose it is, how long it may take, its timed steps, and what ends it early."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, Self, TypeVar

import structlog
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from assistant.answer.text_end import TextEnd
from assistant.domain.clock import Clock, Deadline
from assistant.domain.documents import SearchFilters
from assistant.domain.errors import AssistantError, DeadlineExceededError, DependencyError

PROVIDER = "aws.sagemaker"
"""``gen_ai.provider.name``: every model is called through the SageMaker Runtime, locally too."""
tracer = trace.get_tracer(__name__)
_log = structlog.get_logger(__name__)


class Steps:
    """Times the steps of one answer, each with a span under the root span. Attributes never have text of a
    question or document.

    Example::

        with steps.step("search", kind=SpanKind.CLIENT) as span:
            span.set_attribute("assistant.passages", 12)
        steps.timings_ms  # {"search": 31.4}
    """

    def __init__(self, root: Span, *, clock: Clock) -> None:
        self.root = root
        self.timings_ms: dict[str, float] = {}
        self._clock = clock
        self._began_s = clock.monotonic_s()

    @property
    def trace_id(self) -> str | None:
        """32 hexadecimal digits; None when nothing is traced."""
        context = self.root.get_span_context()
        return trace.format_trace_id(context.trace_id) if context.is_valid else None

    def begin(self, span_name: str, *, kind: SpanKind, attributes: dict[str, AttributeValue]) -> Span:
        """Start a span under the root without making it current; the caller ends it."""
        return tracer.start_span(
            span_name, context=trace.set_span_in_context(self.root), kind=kind, attributes=attributes
        )

    def end(self, outcome: str, *, error_code: str | None) -> None:
        """Time the whole answer and end its root span."""
        self.timings_ms["total"] = elapsed_ms(self._began_s, clock=self._clock)
        self.root.set_attribute("assistant.outcome", outcome)
        if error_code:
            fail_span(self.root, error_code)
        self.root.end()

    @contextmanager
    def step(
        self,
        name: str,
        *,
        span_name: str | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: dict[str, AttributeValue] | None = None,
    ) -> Generator[Span, None, None]:
        """Time one step as ``name`` with a current span around it. Do not ``yield`` to a reader inside."""
        started_s = self._clock.monotonic_s()
        span = self.begin(span_name or name, kind=kind, attributes=attributes or {})
        try:
            with trace.use_span(span, record_exception=False, set_status_on_exception=False):
                yield span
        except AssistantError as error:
            fail_span(span, error.code)
            raise
        finally:
            self.timings_ms[name] = elapsed_ms(started_s, clock=self._clock)
            span.end()


def begin_steps(answer_id: str, conversation_id: str, *, tenant: str, clock: Clock) -> Steps:
    """Start the root span of one answer; ``Steps.end`` ends it."""
    root = tracer.start_span(
        "invoke_agent answering",
        attributes={
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": "answering",
            "gen_ai.conversation.id": conversation_id,
            "assistant.answer_id": answer_id,
            "assistant.tenant": tenant,
        },
    )
    return Steps(root, clock=clock)


def elapsed_ms(since_s: float, *, clock: Clock) -> float:
    """Return the milliseconds since an instant of the monotonic clock."""
    return round((clock.monotonic_s() - since_s) * 1000, 3)


def fail_span(span: Span, code: str) -> None:
    """Mark a span as failed with a stable code; messages stay out of traces."""
    span.set_attribute("error.type", code)
    span.set_status(Status(StatusCode.ERROR))


# Time limits


Result = TypeVar("Result")
_GRACE_S = 0.25
"""Added to a step's limit: an adapter that respects its deadline raises its own, better error first."""


async def call_within(
    limit_s: float,
    call: Callable[[Deadline], Coroutine[Any, Any, Result]],
    *,
    deadline: Deadline,
    late: DependencyError,
) -> Result:
    """Return the result of ``call(step_deadline)``; the step's deadline is ``limit_s`` from now, ``deadline``
    at the latest.

    Raises ``late`` when the step took too long, DeadlineExceededError when ``deadline`` itself has passed.
    """
    step = Deadline.after(deadline.within_s(limit_s), clock=deadline.clock)
    try:
        async with asyncio.timeout(step.remaining_s() + _GRACE_S):
            return await call(step)
    except (TimeoutError, DeadlineExceededError):
        deadline.within_s(_GRACE_S)  # raises DeadlineExceededError where the deadline has passed
        raise late from None


class Loaded(Generic[Result]):
    """A value that is made in the background when it is first asked for, and again at the first ``get`` after
    it is ``fresh_for_s`` old. After a failure the next attempt is at the first ``get`` ``retry_after_s``
    later. For one event loop."""

    def __init__(
        self,
        make: Callable[[], Coroutine[Any, Any, Result]],
        *,
        clock: Clock,
        failure: str,
        fresh_for_s: float = float("inf"),
        retry_after_s: float = 15.0,
    ) -> None:
        """``make``: makes the value. ``failure``: the event that is logged where that raises an
        AssistantError or TimeoutError; other errors are not handled."""
        self.value: Result | None = None
        self._make, self._clock, self._failure = make, clock, failure
        self._fresh_for_s, self._retry_after_s = fresh_for_s, retry_after_s
        self._due_s = float("-inf")
        """When a new value is due: an instant of the monotonic clock."""
        self._making: asyncio.Task[None] | None = None

    async def get(self, *, within_s: float | None = None) -> Result | None:
        """Return the value; the last one while a new one is made. Only the first one is waited for: None
        where it is not there after ``within_s``, or cannot be made. Raises nothing."""
        if self._making is None and self._clock.monotonic_s() >= self._due_s:
            self._making = asyncio.create_task(self._run())
        if self.value is None and self._making is not None:
            await asyncio.wait([self._making], timeout=within_s)
        return self.value

    async def _run(self) -> None:
        after_s = self._retry_after_s
        try:
            self.value = await self._make()
            after_s = self._fresh_for_s
        except (AssistantError, TimeoutError) as error:
            code = error.code if isinstance(error, AssistantError) else "timeout"
            _log.warning(self._failure, code=code)
        finally:
            self._due_s, self._making = self._clock.monotonic_s() + after_s, None


class InterruptedAnswerError(Exception):
    """An interruption ended a wait. It never leaves answering."""

    def __init__(self, end: TextEnd) -> None:
        super().__init__(end)
        self.end = end


class Interruption:
    """Interrupts the awaits inside ``wait``, and no others: a limit around a loop that yields to a reader
    would also cancel the reader's own awaits. The first end counts. One that comes between two waits
    is raised at the next one. Bound to one event loop.

    Example: the reader of an answer leaves while the model is silent::

        await interruption.wait(anext(deltas))  # in the answer's task
        interruption.interrupt(DISCONNECTED)  # in another one: wait raises InterruptedAnswerError
    """

    def __init__(self) -> None:
        self.end: TextEnd | None = None
        """None until ``interrupt`` is called."""
        self._limit: asyncio.Timeout | None = None
        self._when_left: list[Callable[[], None]] = []

    def when_left(self, end_reads: Callable[[], None]) -> None:
        """Have something else end too when nobody reads the answer any more: its reads of live systems."""
        self._when_left.append(end_reads)

    def leave(self, end: TextEnd) -> None:
        """Interrupt, and end the rest (``when_left``). ``end``: CANCELLED or DISCONNECTED."""
        self.interrupt(end)
        for end_reads in self._when_left:
            end_reads()

    def interrupt(self, end: TextEnd) -> None:
        """Interrupt the present wait, or the next one. A second end changes nothing."""
        if self.end is None:
            self.end = end
            if self._limit is not None:
                self._limit.reschedule(asyncio.get_running_loop().time())

    async def wait(self, work: Awaitable[Result]) -> Result:
        """Return the result. Raises InterruptedAnswerError."""
        if self.end is not None:
            raise InterruptedAnswerError(self.end)
        limit = self._limit = asyncio.timeout(None)
        try:
            async with limit:
                return await work
        except TimeoutError:
            if self.end is None or not limit.expired():
                raise
            raise InterruptedAnswerError(self.end) from None
        finally:
            self._limit = None


# The call


NO_FILTERS = SearchFilters()


@dataclass(frozen=True, slots=True)
class AnswerCall:
    """Whose answer it is, what may be found for it, how long it may take, and where its steps are timed. One
    for each answer, from its first step to its last."""

    labels: frozenset[str]
    """The agent's access labels."""
    deadline: Deadline
    steps: Steps
    filters: SearchFilters = NO_FILTERS
    interruption: Interruption = field(default_factory=Interruption)

    def cancel(self, end: TextEnd) -> None:
        """End the answer at once, from any task of the same event loop; a second call changes nothing.
        ``end``: CANCELLED or DISCONNECTED."""
        self.interruption.leave(end)


class SideTasks:
    """Tasks that run beside the steps of a preparation, and are cancelled at its end: the steps have awaited
    what they need.

    Example::

        with SideTasks() as beside:
            flags = beside.begin(read.raise_flags(question, reading, call))
            findings = await find.run(reading.parts, call)
            await flags
    """

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[Any]] = []

    def begin(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Begin a task, which may be awaited or not."""
        task = asyncio.create_task(work)
        # Reads the error of a task that nobody awaits: asyncio would log it as never retrieved.
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        self._tasks.append(task)
        return task

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        for task in self._tasks:
            task.cancel()
