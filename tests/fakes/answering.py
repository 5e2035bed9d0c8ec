"""In-memory fakes of the answering ports, and one tenant made of them.

They keep the ports' promises: deadlines, filters, labels, append-only records, a closed connection. The
records pass the same contract tests as the real store (tests/unit/answering/test_fakes.py).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count

from assistant.answering.ports import (
    GenerationDelta,
    GenerationRequest,
    GenerationStream,
)
from assistant.answering.services import ServedModel, TenantServices
from assistant.domain.answers import (
    AccessEntry,
    AnswerRecord,
    Sent,
    StoredSent,
    StoredVerdict,
    Usage,
    Verdict,
)
from assistant.domain.clock import Clock, Deadline, SystemClock
from assistant.domain.documents import Passage, Span
from assistant.domain.errors import AssistantError, ConflictError, PassageTooLongError
from assistant.domain.identity import Identity, Role
from assistant.domain.retrieval import IndexInfo, PassageQuery, RankedPassage, Retrieved
from assistant.settings import TenantConfig

UPDATED_AT = datetime(2026, 3, 1, tzinfo=UTC)
DIMENSIONS = 2


class FakeEmbedder:
    """Gives every text the same vector; ``too_long_words`` is its input limit in words."""

    def __init__(self, *, error: AssistantError | None = None, hangs: bool = False) -> None:
        self.error = error
        self.hangs = hangs
        self.too_long_words = 10_000
        self.texts: list[list[str]] = []

    async def embed(self, texts: Sequence[str], *, deadline: Deadline) -> list[list[float]]:
        deadline.within_s(1.0)
        self.texts.append(list(texts))
        if self.error is not None:
            raise self.error
        if self.hangs:
            await asyncio.Event().wait()
        if any(len(text.split()) > self.too_long_words for text in texts):
            raise PassageTooLongError("A text is over the limit.")
        return [[1.0, 0.0] for _ in texts]


@dataclass
class FakeSearch:
    """Finds the passages that filters and labels let through, in the order in which they were given."""

    passages: list[tuple[Passage, float]] = field(default_factory=list[tuple[Passage, float]])
    """With the raw cosine that each has for every question."""
    error: AssistantError | None = None
    hangs: bool = False
    queries: list[PassageQuery] = field(default_factory=list[PassageQuery])

    async def search(self, query: PassageQuery, *, deadline: Deadline) -> Retrieved:
        deadline.within_s(1.0)
        self.queries.append(query)
        if self.error is not None:
            raise self.error
        if self.hangs:
            await asyncio.Event().wait()
        found = [(passage, cosine) for passage, cosine in self.passages if _lets_through(query, passage)]
        ranked = tuple(
            RankedPassage(
                passage=passage,
                rank=rank,
                fused_score=2 / (60 + rank),
                lexical_rank=rank,
                lexical_score=10.0 / rank,
                vector_rank=rank,
                cosine=cosine,
            )
            for rank, (passage, cosine) in enumerate(found[: query.size], start=1)
        )
        best = max((cosine for _, cosine in found), default=0.0)
        return Retrieved(passages=ranked, best_cosine=best, index_version="index-1")

    async def info(self) -> IndexInfo:
        return IndexInfo(
            index_version="index-1",
            embedding_model="fake",
            dimensions=DIMENSIONS,
            passage_count=len(self.passages),
            document_count=len({passage.document_id for passage, _ in self.passages}),
            updated_at=UPDATED_AT,
        )


def _lets_through(query: PassageQuery, passage: Passage) -> bool:
    filters = query.filters
    return (
        (not passage.labels or bool(query.labels & set(passage.labels)))
        and (not filters.source or passage.source in filters.source)
        and (not filters.type or passage.type in filters.type)
        and (not filters.document_id or passage.document_id in filters.document_id)
        and (filters.updated_after is None or passage.updated_at > filters.updated_after)
    )


class Gate:
    """A step of a script that waits until the test opens it, and tells when it is reached."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()


Step = str | Gate | AssistantError | Exception


class ScriptedGenerator:
    """Plays a script: text is a delta, a ``Gate`` waits, an error is raised. Then it stops, unless
    ``finish_reason`` is None. Like the real one it closes its connection when its context is left."""

    def __init__(self, *steps: Step, finish_reason: str | None = "stop") -> None:
        self.steps = list(steps)
        self.finish_reason = finish_reason
        self.opening: Gate | AssistantError | None = None
        self.usage: Usage | None = Usage(prompt_tokens=50, completion_tokens=7)
        self.requests: list[GenerationRequest] = []
        self.deadlines: list[Deadline] = []
        self.open_connections = 0
        self.log: list[str] = []
        """"opened" and "closed", in order; a test may add to it."""

    @asynccontextmanager
    async def stream(
        self, request: GenerationRequest, *, deadline: Deadline
    ) -> AsyncIterator[GenerationStream]:
        self.requests.append(request)
        self.deadlines.append(deadline)
        await _play(self.opening)
        self.open_connections += 1
        self.log.append("opened")
        try:
            yield _ScriptedStream(self)
        finally:
            self.open_connections -= 1
            self.log.append("closed")

    async def deltas(self) -> AsyncIterator[GenerationDelta]:
        for step in self.steps:
            if isinstance(step, str):
                yield GenerationDelta(step)
                await asyncio.sleep(0)  # a socket gives other tasks their turn between two parts
            else:
                await _play(step)
        if self.finish_reason is not None:
            yield GenerationDelta("", finish_reason=self.finish_reason, usage=self.usage)  # pyright: ignore[reportArgumentType]


class _ScriptedStream:
    def __init__(self, generator: ScriptedGenerator) -> None:
        self.inference_id: str | None = "inference-1"
        self._generator = generator

    def __aiter__(self) -> AsyncIterator[GenerationDelta]:
        return self._generator.deltas()


async def _play(step: Gate | Exception | None) -> None:
    if isinstance(step, Exception):
        raise step
    if step is not None:
        step.reached.set()
        await step.opened.wait()


class WordCounter:
    """Counts words as tokens."""

    def count(self, text: str) -> int:
        return len(re.findall(r"\S+", text))


class PlainLinks:
    """Links that say what they were made from."""

    def link(
        self, document_id: str, *, span: Span, identity: Identity, content_hash: str | None = None
    ) -> str:
        return f"/v1/documents/{document_id}?token={identity.agent}.{span.start}-{span.end}.{content_hash}"


class InMemoryRecords:
    """The append-only store of answers. ``error`` makes every call fail, ``gate`` makes writing wait."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        self.error: Exception | None = None
        self.gate: Gate | None = None
        self.answers: dict[str, AnswerRecord] = {}
        self.verdicts: list[StoredVerdict] = []
        self.sent: list[StoredSent] = []
        self.interrupted: dict[str, AnswerRecord] = {}
        self.accesses: list[AccessEntry] = []
        self.reads = 0
        """How many times answers were looked up."""
        self._clock = clock or SystemClock()

    async def put_answer(self, record: AnswerRecord) -> None:
        await _play(self.gate)
        self._check()
        if record.answer_id in self.answers:
            raise ConflictError("This answer is recorded.")
        self.answers[record.answer_id] = record

    async def put_interrupted(self, record: AnswerRecord) -> None:
        self._check()
        self.interrupted.setdefault(record.answer_id, record)

    async def get_answer(self, answer_id: str) -> AnswerRecord | None:
        self._check()
        self.reads += 1
        return (self.interrupted | self.answers).get(answer_id)

    async def list_conversation(self, conversation_id: str, *, limit: int = 50) -> list[AnswerRecord]:
        self._check()
        self.reads += 1
        known = (self.interrupted | self.answers).values()
        found = [record for record in known if record.conversation_id == conversation_id]
        return sorted(found, key=lambda record: record.asked_at)[-limit:]

    async def append_verdict(self, answer_id: str, verdict: Verdict, *, agent: str) -> StoredVerdict:
        self._check()
        new = StoredVerdict(answer_id=answer_id, agent=agent, at=self._clock.now(), verdict=verdict)
        for stored in self.verdicts:
            if stored.verdict.verdict_id == verdict.verdict_id:
                if stored.model_copy(update={"at": new.at}) != new:
                    raise ConflictError("This verdict_id was used with other content.")
                return stored
        self.verdicts.append(new)
        return new

    async def append_sent(self, answer_id: str, sent: Sent, *, agent: str) -> StoredSent:
        self._check()
        new = StoredSent(answer_id=answer_id, agent=agent, at=self._clock.now(), sent=sent)
        for stored in self.sent:
            if stored.sent.send_id == sent.send_id:
                if stored.model_copy(update={"at": new.at}) != new:
                    raise ConflictError("This send_id was used with other content.")
                return stored
        self.sent.append(new)
        return new

    async def list_verdicts(self, answer_id: str | None = None, *, limit: int = 1000) -> list[StoredVerdict]:
        self._check()
        return [each for each in self.verdicts if answer_id in (None, each.answer_id)][:limit]

    async def list_sent(self, answer_id: str) -> list[StoredSent]:
        self._check()
        return [each for each in self.sent if each.answer_id == answer_id]

    async def record_access(self, entry: AccessEntry) -> None:
        self._check()
        self.accesses.append(entry)

    def _check(self) -> None:
        if self.error is not None:
            raise self.error


def passage(
    document_id: str = "refill",
    *,
    text: str = "Retail refills are payable on day 23 of 30. Send other requests to the Claims Desk.",
    title: str = "Refill too soon",
    heading: str = "Steps",
    ordinal: int = 0,
    labels: tuple[str, ...] = (),
) -> Passage:
    return Passage(
        passage_id=f"{document_id}#{ordinal}",
        document_id=document_id,
        content_hash=f"hash-of-{document_id}",
        ordinal=ordinal,
        title=title,
        heading=heading,
        text=text,
        span=Span(10, 10 + len(text)),
        token_count=len(text.split()),
        source="procedures",
        type="procedure",
        url=f"https://procedures.example/{document_id}",
        updated_at=UPDATED_AT,
        labels=labels,
    )


def agent(name: str = "ana", *roles: Role, labels: frozenset[str] = frozenset()) -> Identity:
    return Identity(tenant="pharmacy", agent=name, roles=frozenset(roles or {Role.AGENT}), labels=labels)


def countable_ids() -> Callable[[], str]:
    numbers = count(1)
    return lambda: f"id-{next(numbers)}"


MODEL = ServedModel(
    model_id="model-1",
    digest="digest-1",
    template_tokens_per_message=4,
    template_tokens_per_prompt=3,
)


@dataclass
class FakeTenant:
    """One tenant's fakes, each within reach of a test, and the services that are made of them."""

    config: TenantConfig = field(
        default_factory=lambda: TenantConfig(schema_version=1, name="pharmacy", display_name="Pharmacy")
    )
    embedder: FakeEmbedder = field(default_factory=FakeEmbedder)
    search: FakeSearch = field(default_factory=lambda: FakeSearch([(passage(), 0.8)]))
    generator: ScriptedGenerator = field(
        default_factory=lambda: ScriptedGenerator("Retail refills are payable ", "on day 23 of 30.")
    )
    records: InMemoryRecords = field(default_factory=InMemoryRecords)
    model: ServedModel = MODEL
    clock: Clock = field(default_factory=SystemClock)
    new_id: Callable[[], str] = field(default_factory=countable_ids)

    def configure(self, **sections: dict[str, object] | str) -> None:
        """Change the tenant file: ``configure(limits={"first_token_timeout_s": 0.05})``."""
        data = self.config.model_dump()
        for name, section in sections.items():
            data[name] = {**data[name], **section} if isinstance(section, dict) else section
        self.config = TenantConfig.model_validate(data)

    @property
    def services(self) -> TenantServices:
        return TenantServices(
            tenant=self.config,
            embedder=self.embedder,
            search=self.search,
            generator=self.generator,
            token_counter=WordCounter(),
            model=self.model,
            records=self.records,
            links=PlainLinks(),
            clock=self.clock,
            new_id=self.new_id,
        )

    def with_passages(self, *passages: Passage, cosine: float = 0.8) -> FakeTenant:
        return replace(self, search=FakeSearch([(each, cosine) for each in passages]))
