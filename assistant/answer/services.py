"""One tenant's services for answering: adapters, timed steps, time limits and the check of the index."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar
from zoneinfo import ZoneInfo

import structlog
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from assistant.answer.events import Cause
from assistant.domain.answers import AnswerRecord, source_kind
from assistant.domain.clock import Clock, Deadline
from assistant.domain.context import CareContext
from assistant.domain.documents import (
    HELD_STATES,
    DocumentState,
    DocumentStatus,
    Loading,
    PassageQuery,
    SearchFilters,
    SourceLoads,
)
from assistant.domain.errors import (
    AssistantError,
    ConfigurationError,
    DeadlineExceededError,
    DependencyError,
    SearchUnavailableError,
)
from assistant.domain.filling import LiveElements, ReplyDelivery
from assistant.models.artifacts import ServedModel
from assistant.stores.ports import (
    AnswerGenerator,
    ChatMessage,
    DocumentLinks,
    DocumentTexts,
    LiveDesk,
    LiveDocuments,
    LoadsOfSources,
    PassageSearch,
    SentValues,
    TextEmbedder,
    TokenCounter,
)
from assistant.stores.records import StoredRecords
from assistant.tenant.tenant import TenantConfig
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
    """Whether it can answer a prompt: a recording answers its own alone."""


@dataclass(frozen=True, slots=True)
class CitedDocuments:
    """The documents that answers cite."""

    texts: DocumentTexts
    states: LiveDocuments
    links: DocumentLinks


def _named_by_nobody(_customer: str) -> str:
    raise ConfigurationError("A context was taken, and nothing here reads a customer's data.")


@dataclass(frozen=True, slots=True)
class LiveData:
    """What a tenant's live systems offer."""

    elements: LiveElements | None = None
    """None where the tenant has no live system."""
    pseudonym: Callable[[str], str] = _named_by_nobody
    """Returns a customer's keyed pseudonym, as in the record of live reads."""
    sent_values: SentValues | None = None
    """Keeps the live values of sent texts."""
    replies: ReplyDelivery | None = None
    """None: what an agent sends is recorded, and not delivered."""


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
    """What people decided: the glossary, released routers, approved answers; None: nothing is adapted."""
    counts_days: bool = True
    """False where answers are recorded or played: a prompt that says today's date plays today alone."""
    new_id: Callable[[], str] = new_id
    """Makes answer and conversation ids; a test may make them countable."""

    def subject_of(self, context: CareContext | None) -> str | None:
        """Return what a record keeps of whose conversation it was."""
        return None if context is None else self.live.pseudonym(context.customer)

    def sources_of(self, document_ids: Iterable[str]) -> frozenset[str]:
        """Return the names of the sources of these documents; approved answers have none."""
        ids = (each for each in document_ids if source_kind(each) != "approved")
        entries = (self.tenant.source_of(each) for each in ids)
        return frozenset(entry.name for entry in entries if entry is not None)

    def counted_days(self, text: str, *, at: datetime | None) -> tuple[str, ...]:
        """Return the days between the dates of a message and the day on which it was written: of its own time
        zone; where it says none, of the tenant file's ``[power]``, or UTC."""
        if at is None or not self.counts_days:
            return ()
        if at.utcoffset() == timedelta(0) and (power := self.tenant.power) is not None:
            at = at.astimezone(ZoneInfo(power.time_zone))
        return counted_days(text, today=at.date())

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
    """Times the steps of one answer, each with a span under the root span. Attributes never hold text."""

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
    """Start the root span of one answer. The answer's stream ends it."""
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
    """Await ``call(step_deadline)``; the step's deadline is ``limit_s`` from now, ``deadline`` at the latest.

    Raises ``late`` when the step took too long, DeadlineExceededError when ``deadline`` itself has passed.
    """
    step = Deadline.after(deadline.within_s(limit_s), clock=deadline.clock)
    try:
        async with asyncio.timeout(step.remaining_s() + _GRACE_S):
            return await call(step)
    except (TimeoutError, DeadlineExceededError):
        deadline.within_s(_GRACE_S)
        raise late from None


class Loaded(Generic[Result]):
    """A value that is made in the background when it is first asked for, and again once it is ``fresh_for_s``
    old. After a failure it is tried again ``retry_after_s`` later. For one event loop."""

    def __init__(
        self,
        make: Callable[[], Coroutine[Any, Any, Result]],
        *,
        clock: Clock,
        failure: str,
        fresh_for_s: float = float("inf"),
        retry_after_s: float = 15.0,
    ) -> None:
        """``failure``: event of the log."""
        self.value: Result | None = None
        self._make, self._clock, self._failure = make, clock, failure
        self._fresh_for_s, self._retry_after_s = fresh_for_s, retry_after_s
        self._due_s = float("-inf")
        self._making: asyncio.Task[None] | None = None

    async def get(self, *, within_s: float | None = None) -> Result | None:
        """Return the value, or the last one while a new one is made. Wait for the first one: None where it is
        late, or cannot be made. Raises nothing."""
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
    is raised at the next one. Bound to one event loop."""

    def __init__(self) -> None:
        self.cause: Cause | None = None
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


# The check of the index


_CHECK_EVERY_S = 10.0
_CHECK_LIMIT_S = 20.0
_REQUEST_LIMIT_S = 4.0
"""How long a request waits for a check."""
_TRUSTED_S = 60.0
"""While the document states cannot be read, the index is trusted for this long after the last good check."""
_PENDING = (DocumentState.PARSED, DocumentState.EMBEDDED)
_MOST_PENDING = 1000
"""A worker processes at most three batches of 64 at once."""
_SAMPLE_SIZE = 3
"""Live documents that one check looks up; each check takes the next ones."""
_LONG_WORD = 6
"""Letters of a word that every analyzer indexes."""
_ATTEMPTS = 4
_PAUSE_S = 0.4
"""Between attempts. The counts are not read at one instant, and DynamoDB's secondary index lags: only what is
missing in every attempt is damage."""
_REPAIR = "Documents may be missing from it. Restart the worker: it writes the missing ones again."


@dataclass(frozen=True, slots=True)
class IndexState:
    """The result of one check."""

    problem: str | None = None
    """Why the index may be missing documents; None when it is complete."""
    is_foreign: bool = False
    """The index has documents, but none of those that were looked up: show nothing of it."""
    lost: Loading | None = None
    """How many documents the index lost, where it was counted."""
    loads: SourceLoads = field(default_factory=SourceLoads)
    """How far the sources are. Before the first check no source is complete."""

    @property
    def loading(self) -> tuple[Loading, ...]:
        """What an answer says that it lacks."""
        return (*self.loads.loading, *([self.lost] if self.lost is not None else []))

    def is_whole(self, sources: Set[str]) -> bool:
        """Return whether an answer from these sources may be certain."""
        return self.lost is None and sources <= self.loads.complete


class IndexWatch:
    """Compares one tenant's index with the states of its documents.

    A search cannot tell "nothing is known about this" from "the index has lost it". So an answer says that
    the knowledge base has nothing only after this check; ``run`` repeats it in the background.
    """

    def __init__(
        self,
        search: PassageSearch,
        live: LiveDocuments,
        *,
        loads: LoadsOfSources,
        dimensions: int,
        clock: Clock,
    ) -> None:
        self._search = search
        self._live = live
        self._loads = loads
        self._dimensions = dimensions
        self._clock = clock
        self._running: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None
        """A check that has not begun."""
        self._complete_s = float("-inf")
        """When the last check found the index complete."""
        self._after: str | None = None
        self.state = IndexState()

    def require_own(self) -> None:
        """Raise SearchUnavailableError when the last check found another tenant's index."""
        if self.state.is_foreign:
            raise SearchUnavailableError(str(self.state.problem))

    async def state_for(self, sources: Set[str], *, deadline: Deadline) -> IndexState:
        """Return the state for an answer from these sources. Where the last check did not find them loaded,
        a check is made now: documents may have arrived since. An index that lost documents waits for the
        next check in the background. Raises DeadlineExceededError."""
        if self.state.problem is None and not self.state.is_whole(sources):
            with suppress(TimeoutError):
                async with asyncio.timeout(deadline.within_s(_REQUEST_LIMIT_S)):
                    await self.check()
        return self.state

    async def require_complete(self, *, deadline: Deadline | None = None) -> None:
        """Check now; return when the index has as many documents as are live and finds the sampled ones.

        Raises SearchUnavailableError, DeadlineExceededError. An empty index is complete when no document is
        live.
        """
        limit_s = _REQUEST_LIMIT_S if deadline is None else deadline.within_s(_REQUEST_LIMIT_S)
        try:
            async with asyncio.timeout(limit_s):
                await self.check()
        except TimeoutError:
            pass  # use the result of the last check
        if self.state.problem is not None:
            raise SearchUnavailableError(self.state.problem)
        if self._clock.monotonic_s() - self._complete_s > _TRUSTED_S:
            raise SearchUnavailableError(
                "Cannot compare the passage index with the document states. Retry shortly."
            )

    async def run(self) -> None:
        """Check every 10 s until cancelled."""
        while True:
            await self.check()
            await asyncio.sleep(_CHECK_EVERY_S)

    async def check(self) -> IndexState:
        """Return the result of a check that begins after this call.

        Checks run one at a time: calls during one share the next."""
        if self._next is None:
            self._next = asyncio.create_task(self._check_after(self._running))
        await asyncio.shield(self._next)
        return self.state

    async def _check_after(self, running: asyncio.Task[None] | None) -> None:
        if running is not None and not running.done():
            await asyncio.wait([running])
        self._running, self._next = self._next, None
        await self._check()

    async def _check(self) -> None:
        try:
            async with asyncio.timeout(_CHECK_LIMIT_S):
                lost = await self._missing_count()
                state = IndexState(_lost_words(lost), lost=lost) if lost else await self._check_sample()
                state = replace(state, loads=await self._loads())
        except SearchUnavailableError as error:
            state = IndexState(error.message, lost=self.state.lost, loads=self.state.loads)
        except (AssistantError, TimeoutError) as error:
            _log.warning("index_not_checked", error=type(error).__name__)
            return
        before, self.state = self.state, state
        if state.problem is None:
            self._complete_s = self._clock.monotonic_s()
        if (state.problem, state.is_foreign) == (before.problem, before.is_foreign):
            return
        if state.problem is None:
            _log.info("index_complete")
        else:
            _log.error("index_damaged", problem=state.problem, is_foreign=state.is_foreign)

    async def _missing_count(self) -> Loading | None:
        """Return the counts when the index has fewer documents than are live."""
        lost = None
        for attempt in range(_ATTEMPTS):
            if attempt:
                await asyncio.sleep(_PAUSE_S)
            before = await self._expected_count()
            held = (await self._search.info()).document_count
            if held >= before or held >= (after := await self._expected_count()):
                return None
            lost = Loading(reason="lost", source="", live=held, expected=min(before, after))
        return lost

    async def _expected_count(self) -> int:
        counts = await self._live.count_by_state()
        expected = sum(counts.get(state, 0) for state in HELD_STATES)
        if any(counts.get(state, 0) for state in _PENDING):
            # The index holds a document's live content until its new content replaces it.
            pending = await self._live.list(states=_PENDING, limit=_MOST_PENDING)
            expected += sum(status.live_content_hash is not None for status in pending)
        return expected

    async def _check_sample(self) -> IndexState:
        """Search for some live documents by their titles, and read them."""
        sample = await self._next_sample()
        lost = [status for status in sample if not await self._is_found(status)]
        for _ in range(_ATTEMPTS - 1):
            if not lost:
                break
            await asyncio.sleep(_PAUSE_S)
            now = await self._live.get_many([status.document_id for status in lost])
            # a document that was withdrawn or received again meanwhile is not live any more
            lost = [
                status
                for status in lost
                if now.get(status.document_id) == status and not await self._is_found(status)
            ]
        if not lost:
            return IndexState()
        name, expected = lost[0].document_id, await self._expected_count()
        live = max(0, expected - len(lost))
        return IndexState(
            f"The passage index does not find the live document {name} by its title. {_REPAIR}",
            is_foreign=len(lost) == len(sample),
            lost=Loading(reason="lost", source="", live=live, expected=expected),
        )

    async def _next_sample(self) -> Sequence[DocumentStatus]:
        statuses = await self._live.list(states=(DocumentState.LIVE,), after=self._after, limit=_SAMPLE_SIZE)
        self._after = statuses[-1].document_id if len(statuses) == _SAMPLE_SIZE else None
        # rows of older releases have no labels of the live content
        return [status for status in statuses if status.live_labels is not None]

    async def _is_found(self, status: DocumentStatus) -> bool:
        labels = frozenset(status.live_labels or ())
        deadline = Deadline.after(_CHECK_LIMIT_S, clock=self._clock)
        query = PassageQuery(
            text=status.title,
            vector=[1.0] + [0.0] * (self._dimensions - 1),  # any unit vector: the title's words decide
            filters=SearchFilters(document_id=(status.document_id,)),
            labels=labels,
        )
        documents = (await self._search.search(query, deadline=deadline)).documents
        has_long_word = any(len(word) >= _LONG_WORD for word in status.title.split() if word.isalpha())
        if not documents or (has_long_word and all(hit.title_score is None for hit in documents)):
            return False
        read = await self._search.read_documents([status.document_id], labels=labels, deadline=deadline)
        stored = read.get(status.document_id)
        return stored is not None and len(stored.passages) >= status.passage_count


def _lost_words(lost: Loading) -> str:
    return f"The passage index holds {lost.live} of {lost.expected} live documents. {_REPAIR}"
