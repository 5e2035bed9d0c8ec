"""One tenant's services for answering: adapters, timed steps and time limits."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import partial
from secrets import token_bytes
from typing import Any, Generic, TypeVar
from zoneinfo import ZoneInfo

import structlog
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from assistant.answer.events import Cause
from assistant.answer.index_watch import IndexWatch
from assistant.domain.answers import AnswerRecord, source_kind
from assistant.domain.clock import Clock, Deadline
from assistant.domain.errors import (
    AssistantError,
    ConfigurationError,
    DeadlineExceededError,
    DependencyError,
)
from assistant.domain.identity import CareContext
from assistant.domain.live import LiveElements, ReplyDelivery
from assistant.models.artifacts import ServedModel
from assistant.stores.ports import (
    AnswerGenerator,
    ChatMessage,
    DocumentLinks,
    DocumentTexts,
    LiveDesk,
    LiveDocuments,
    PassageSearch,
    SentValues,
    TextEmbedder,
    TokenCounter,
)
from assistant.stores.records import StoredRecords
from assistant.tenant.tenant import TenantConfig
from assistant.text.language import language
from assistant.text.values import counted_days


def new_id() -> str:
    """Return an id that nobody can guess: 32 hexadecimal digits."""
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class AnswerWriter:
    """What writes a tenant's answers."""

    generator: AnswerGenerator
    model: ServedModel
    token_counter: TokenCounter
    answers: Callable[[Sequence[ChatMessage]], bool] = lambda _: True
    """Whether it can answer these messages: a model always can, a recording only its own prompts."""


@dataclass(frozen=True, slots=True)
class CitedDocuments:
    """The documents that answers cite."""

    texts: DocumentTexts
    states: LiveDocuments
    links: DocumentLinks


def _named_by_nobody(_customer: str) -> str:
    """Raise: the pseudonym of a tenant without live systems, which takes no context."""
    raise ConfigurationError("A context was taken, and nothing here reads a customer's data.")


@dataclass(frozen=True, slots=True)
class LiveData:
    """What a tenant's live systems offer."""

    elements: LiveElements | None = None
    """None where the tenant has no live system."""
    pseudonym: Callable[[str], str] = _named_by_nobody
    """Returns a customer's keyed pseudonym, as in the record of live reads."""
    sent_values: SentValues | None = None
    """Keeps the live values of sent texts; None: they are not kept."""
    replies: ReplyDelivery | None = None
    """None: what an agent sends is recorded, and not delivered."""
    mac_key: bytes = field(default_factory=partial(token_bytes, 32), repr=False)
    """Key of the codes of live values (``live_macs``), the same in all tasks. Made anew only where no system
    is read, so that nothing is signed."""


@dataclass(frozen=True, slots=True)
class TenantServices:
    """One tenant's adapters, each bound to that tenant when it was made. Use cases receive only this."""

    tenant: TenantConfig
    embedder: TextEmbedder
    search: PassageSearch
    index_watch: IndexWatch
    writer: AnswerWriter
    records: StoredRecords
    documents: CitedDocuments
    clock: Clock
    live: LiveData = LiveData()
    revisions: LiveDesk | None = None
    """The review desk: glossary entries, released routers, approved answers; None: there is none."""
    new_id: Callable[[], str] = new_id
    """Makes answer and conversation ids; a test may make them countable."""

    def subject_of(self, context: CareContext | None) -> str | None:
        """Return what a record keeps of whose conversation it was: a pseudonym; None without a context."""
        return None if context is None else self.live.pseudonym(context.customer)

    def sources_of(self, document_ids: Iterable[str]) -> frozenset[str]:
        """Return the names of the sources of these documents; approved answers have none."""
        ids = (document_id for document_id in document_ids if source_kind(document_id) != "approved")
        entries = (self.tenant.source_of(document_id) for document_id in ids)
        return frozenset(entry.name for entry in entries if entry is not None)

    def today(self, at: datetime | None) -> date | None:
        """Return the day on which a message was written, from which days are counted; None where ``at`` is
        None.

        The day is that of the time zone of ``at``; where this is UTC, of the tenant file's ``[power]``.
        """
        if at is None:
            return None
        if at.utcoffset() == timedelta(0) and (power := self.tenant.power) is not None:
            at = at.astimezone(ZoneInfo(power.time_zone))
        return at.date()

    def counted_days(self, text: str, lines: Sequence[str], *, at: datetime | None) -> tuple[str, ...]:
        """Return the days that ``values.counted_days`` counts for a message of ``at``, if any."""
        if (today := self.today(at)) is None:
            return ()
        days = counted_days(text, lines, today=today, language=language(self.tenant.language))
        return () if days is None else (days,)

    @property
    def writes_answers(self) -> bool:
        """Whether a model writes this tenant's answers; otherwise they are quoted."""
        return self.writer.model.writes_answers and self.tenant.answers.mode == "auto"


# Timed steps and their spans


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


def begin_answer(begun: AnswerRecord, *, tenant: str, clock: Clock) -> Steps:
    """Start the root span of one answer; ``Steps.end`` ends it."""
    root = tracer.start_span(
        "invoke_agent answering",
        attributes={
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": "answering",
            "gen_ai.conversation.id": begun.conversation_id,
            "assistant.answer_id": begun.answer_id,
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

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause)
        self.cause = cause


class Interruption:
    """Interrupts the awaits inside ``wait``, and no others: a limit around a loop that yields to a reader
    would also cancel the reader's own awaits. The first cause counts. A cause that comes between two waits
    is raised at the next one. Bound to one event loop.

    Example: the reader of an answer leaves while the model is silent::

        await interruption.wait(anext(deltas))  # in the answer's task
        interruption.interrupt(Cause.DISCONNECTED)  # in another one: wait raises InterruptedAnswerError
    """

    def __init__(self) -> None:
        self.cause: Cause | None = None
        """None until ``interrupt`` is called."""
        self._limit: asyncio.Timeout | None = None

    def interrupt(self, cause: Cause) -> None:
        """Interrupt the present wait, or the next one. A second cause changes nothing."""
        if self.cause is None:
            self.cause = cause
            if self._limit is not None:
                self._limit.reschedule(asyncio.get_running_loop().time())

    async def wait(self, work: Awaitable[Result]) -> Result:
        """Return the result. Raises InterruptedAnswerError."""
        if self.cause is not None:
            raise InterruptedAnswerError(self.cause)
        limit = self._limit = asyncio.timeout(None)
        try:
            async with limit:
                return await work
        except TimeoutError:
            if self.cause is None or not limit.expired():
                raise
            raise InterruptedAnswerError(self.cause) from None
        finally:
            self._limit = None
