"""Everything that answering for one tenant needs. ``bootstrap`` builds one a tenant."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from assistant.answering.ports import (
    AnswerGenerator,
    AnswerRecords,
    DocumentLinks,
    DocumentTexts,
    LiveDocuments,
    PassageSearch,
    TextEmbedder,
    TokenCounter,
)
from assistant.domain.clock import Clock, Deadline
from assistant.domain.documents import HELD_STATES, DocumentState, DocumentStatus, PassageQuery, SearchFilters
from assistant.domain.errors import (
    AssistantError,
    DeadlineExceededError,
    DependencyError,
    SearchUnavailableError,
)
from assistant.settings.tenant import TenantConfig


def new_id() -> str:
    """Return an id that nobody can guess: 32 hexadecimal digits."""
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The model behind the generation endpoint, as its ``artifact.json`` describes it."""

    model_id: str
    digest: str | None
    """SHA-256 (hex) of the artifact; None when the endpoint's artifact is not known here."""
    template_tokens_per_message: int
    """Tokens that the chat template adds around each message."""
    template_tokens_per_prompt: int
    """Tokens that it adds once: what begins the prompt and what opens the model's turn."""
    writes_answers: bool = False
    """Whether the model may write an answer; otherwise answers are quoted."""
    prompt: str = "answer/1"
    """``<task>/<version>`` of the prompt file that the model is asked with."""
    passages: int = 2
    """How many of the sources the model reads."""
    history_turns: int = 2
    """How many earlier turns of the conversation the model reads."""


@dataclass(frozen=True, slots=True)
class TenantServices:
    """One tenant's adapters, each bound to that tenant when it was made. Use cases receive only this."""

    tenant: TenantConfig
    embedder: TextEmbedder
    search: PassageSearch
    index_watch: IndexWatch
    generator: AnswerGenerator
    token_counter: TokenCounter
    model: ServedModel
    records: AnswerRecords
    texts: DocumentTexts
    links: DocumentLinks
    clock: Clock
    new_id: Callable[[], str] = new_id
    """Makes answer and conversation ids; a test may make them countable."""

    @property
    def writes_answers(self) -> bool:
        """Whether a model writes this tenant's answers; otherwise they are quoted."""
        return self.model.writes_answers and self.tenant.answers.mode == "auto"


# Time and one span a step.


PROVIDER = "aws.sagemaker"
"""``gen_ai.provider.name``: every model is called through the SageMaker Runtime, locally too."""
tracer = trace.get_tracer(__name__)


class Steps:
    """The steps of one answer under its root span. Attributes never hold text."""

    def __init__(self, root: Span, *, clock: Clock) -> None:
        self.root = root
        self.timings_ms: dict[str, float] = {}
        self._clock = clock

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

    @contextmanager
    def step(
        self,
        name: str,
        *,
        span_name: str | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: dict[str, AttributeValue] | None = None,
    ) -> Generator[Span, None, None]:
        """Time one step as ``name`` with a span around it. No ``yield`` of a stream may stand inside."""
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


def begin_answer(answer_id: str, *, conversation_id: str, tenant: str, clock: Clock) -> Steps:
    """Start the root span of one answer, which its stream ends."""
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


# A limit on every wait of a step.


Result = TypeVar("Result")
_GRACE_S = 0.25
"""Beyond a step's limit: an adapter that keeps its deadline raises its own, better error first."""


async def within(
    work: Coroutine[Any, Any, Result], *, step: Deadline, whole: Deadline, late: DependencyError
) -> Result:
    """Await one step's work until shortly after the step's limit.

    When only the step's limit has passed, the step is to blame and ``late`` is raised; when the whole
    answer's deadline has, DeadlineExceededError.
    """
    try:
        async with asyncio.timeout(step.remaining_s() + _GRACE_S):
            return await work
    except (TimeoutError, DeadlineExceededError):
        whole.within_s(_GRACE_S)
        raise late from None


# Whether the passage index holds what the states of documents say is live.


_UNDER_WAY = (DocumentState.PARSED, DocumentState.EMBEDDED)
_MOST_UNDER_WAY = 1000
"""A worker has three batches of 64 under way."""
_EVERY_S = 10.0
_LOOK_LIMIT_S = 20.0
_ASKED_LIMIT_S = 4.0
_TRUSTED_S = 60.0
"""While the states cannot be read, the index counts as whole for so long after it was seen to be."""
_CANARIES = 3
"""Documents that are looked up in a round; each round takes the next ones."""
_SURE_WORD = 6
"""Letters of a word that no analyzer leaves out."""
_LOOKS = 4
_PAUSE_S = 0.4
"""Counts are read one after the other, and DynamoDB's by an index that lags behind by a moment: only what
lacks every time is damage."""
_REPAIR = "What it does not find may be lost: start the worker again, which writes what is missing."
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class IndexVerdict:
    """What a round has found."""

    problem: str | None = None
    """Why the index cannot be trusted to know what it does not find; None when it is whole."""
    is_foreign: bool = False
    """It holds documents, and none of those that were looked up: nothing of it may be shown."""


class IndexWatch:
    """Holds one tenant's index against the states of its documents."""

    def __init__(self, search: PassageSearch, live: LiveDocuments, *, dimensions: int, clock: Clock) -> None:
        self._search = search
        self._live = live
        self._dimensions = dimensions
        self._clock = clock
        self._looking: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None
        """A round that has not begun."""
        self._whole_s = float("-inf")
        self._after: str | None = None
        self.verdict = IndexVerdict()

    def require_own(self) -> None:
        """Raises SearchUnavailableError when the index was seen to be somebody else's."""
        if self.verdict.is_foreign:
            raise SearchUnavailableError(str(self.verdict.problem))

    async def require_whole(self, *, deadline: Deadline | None = None) -> None:
        """Return when the index holds as many documents as are live and finds those that are looked up now.

        Raises SearchUnavailableError, DeadlineExceededError. An index without documents is whole when no
        document is live.
        """
        limit_s = _ASKED_LIMIT_S if deadline is None else deadline.within_s(_ASKED_LIMIT_S)
        try:
            async with asyncio.timeout(limit_s):
                await self.look()
        except TimeoutError:
            pass  # the verdict of the last round counts
        if self.verdict.problem is not None:
            raise SearchUnavailableError(self.verdict.problem)
        if self._clock.monotonic_s() - self._whole_s > _TRUSTED_S:
            raise SearchUnavailableError(
                "The passage index cannot be held against the states of documents; ask again."
            )

    async def run(self) -> None:
        """Look on until cancelled, every 10 s."""
        while True:
            await self.look()
            await asyncio.sleep(_EVERY_S)

    async def look(self) -> IndexVerdict:
        """Return the verdict of a round that begins after this call: a count, and some documents looked up.

        Rounds run one at a time: calls during one share the next."""
        if self._next is None:
            self._next = asyncio.create_task(self._look_after(self._looking))
        await asyncio.shield(self._next)
        return self.verdict

    async def _look_after(self, running: asyncio.Task[None] | None) -> None:
        if running is not None and not running.done():
            await asyncio.wait([running])
        self._looking, self._next = self._next, None
        await self._look()

    async def _look(self) -> None:
        before = self.verdict
        try:
            async with asyncio.timeout(_LOOK_LIMIT_S):
                problem = await self._count()
                found = await self._canaries() if problem is None else IndexVerdict(problem)
        except SearchUnavailableError as error:
            found = IndexVerdict(error.message)
        except (AssistantError, TimeoutError) as error:
            _log.warning("index_not_judged", error=type(error).__name__)
            return
        self.verdict = found
        if found.problem is None:
            self._whole_s = self._clock.monotonic_s()
        if found != before:
            if found.problem is None:
                _log.info("index_whole")
            else:
                _log.error("index_damaged", problem=found.problem, is_foreign=found.is_foreign)

    async def _count(self) -> str | None:
        """Return what the index lacks, in words."""
        problem = None
        for look in range(_LOOKS):
            if look:
                await asyncio.sleep(_PAUSE_S)
            before = await self._expected()
            held = (await self._search.info()).document_count
            if held >= before or held >= (after := await self._expected()):
                return None
            problem = f"The passage index holds {held} of {min(before, after)} live documents. {_REPAIR}"
        return problem

    async def _expected(self) -> int:
        counts = await self._live.count_by_state()
        expected = sum(counts.get(state, 0) for state in HELD_STATES)
        if any(counts.get(state, 0) for state in _UNDER_WAY):
            # What answers now is in the index until its new content takes its place.
            under_way = await self._live.list(states=_UNDER_WAY, limit=_MOST_UNDER_WAY)
            expected += sum(status.live_content_hash is not None for status in under_way)
        return expected

    async def _canaries(self) -> IndexVerdict:
        """Ask for the titles of some live documents, and read them."""
        asked = await self._next_live()
        lost = [status for status in asked if not await self._is_found(status)]
        for _ in range(_LOOKS - 1):
            if not lost:
                break
            await asyncio.sleep(_PAUSE_S)
            now = await self._live.get_many([status.document_id for status in lost])
            # withdrawn or received anew meanwhile: then it is not live any more
            lost = [one for one in lost if now.get(one.document_id) == one and not await self._is_found(one)]
        if not lost:
            return IndexVerdict()
        name = lost[0].document_id
        return IndexVerdict(
            f"The passage index does not find the live document {name} by its title. {_REPAIR}",
            is_foreign=len(lost) == len(asked),
        )

    async def _next_live(self) -> Sequence[DocumentStatus]:
        found = await self._live.list(states=(DocumentState.LIVE,), after=self._after, limit=_CANARIES)
        self._after = found[-1].document_id if len(found) == _CANARIES else None
        # rows of older releases do not say who may see their document
        return [status for status in found if status.live_labels is not None]

    async def _is_found(self, status: DocumentStatus) -> bool:
        labels = frozenset(status.live_labels or ())
        deadline = Deadline.after(_LOOK_LIMIT_S, clock=self._clock)
        query = PassageQuery(
            text=status.title,
            vector=[1.0] + [0.0] * (self._dimensions - 1),  # only the words of the title count
            filters=SearchFilters(document_id=(status.document_id,)),
            labels=labels,
        )
        retrieved = await self._search.search(query, deadline=deadline)
        has_word = any(len(word) >= _SURE_WORD for word in status.title.split() if word.isalpha())
        by_words = any(hit.title_score is not None for hit in retrieved.documents)
        if retrieved.documents and (by_words or not has_word):
            read = await self._search.read_documents([status.document_id], labels=labels, deadline=deadline)
            stored = read.get(status.document_id)
            return stored is not None and len(stored.passages) >= status.passage_count
        return False
