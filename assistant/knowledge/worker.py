"""The worker of one tenant: documents into the index, withdrawn ones out of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import structlog

from assistant.domain.clock import Clock
from assistant.domain.documents import HELD_STATES
from assistant.domain.errors import AssistantError
from assistant.knowledge.batch_handling import BatchHandling, Company
from assistant.knowledge.consuming import ConsumerLimits, QueueConsumer, stopped_within
from assistant.knowledge.embedding import BatchEmbedder
from assistant.knowledge.parsed_documents import DocumentParser
from assistant.knowledge.pipeline import DocumentPipeline
from assistant.knowledge.ports import PassageIndex, WriteTurn
from assistant.knowledge.removal import DocumentRemoval
from assistant.knowledge.stores import KnowledgeStores
from assistant.knowledge.upkeep import resume_withdrawals, retry_given_up, write_again

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    consumer: ConsumerLimits = field(default_factory=ConsumerLimits)
    lanes: int = 3
    """Batches at once: while one is embedded the next is parsed and the one before is indexed."""
    stop_within_s: float = 4.0
    """How long batches in progress may finish after a stop is asked for."""
    check_every_s: float = 1.0
    optimize_every_s: float = 60.0
    optimize_again_after_s: float = 45.0
    """OpenSearch keeps deletions of the last 30 s for copies that catch up: what went then goes now."""
    """Replaced text is purged from the index when the queue is empty, and at least so often."""


@dataclass(frozen=True, slots=True)
class TenantIngestion:
    """What the worker of one tenant works with."""

    tenant: str
    stores: KnowledgeStores
    index: PassageIndex
    embedder: BatchEmbedder
    parser: DocumentParser
    clock: Clock
    index_writes: WriteTurn = field(default_factory=asyncio.Lock)

    def pipeline(self) -> DocumentPipeline:
        return DocumentPipeline(
            documents=self.stores.documents,
            states=self.stores.states,
            index=self.index,
            embedder=self.embedder,
            parser=self.parser,
            index_writes=self.index_writes,
            clock=self.clock,
        )

    def removal(self) -> DocumentRemoval:
        return DocumentRemoval(
            documents=self.stores.documents,
            states=self.stores.states,
            index=self.index,
            index_writes=self.index_writes,
            clock=self.clock,
        )


class IngestionWorker:
    """Runs until it is stopped. The only writer of its tenant's index."""

    def __init__(self, ingestion: TenantIngestion, *, limits: WorkerLimits | None = None) -> None:
        self._ingestion = ingestion
        self._stores = ingestion.stores
        self._limits = limits or WorkerLimits()
        self._stopping = asyncio.Event()
        self.pipeline = ingestion.pipeline()
        self._removal = ingestion.removal()
        self._company = Company()

    def stop(self) -> None:
        """Take no more; ``run`` returns within ``stop_within_s`` and a little."""
        self._stopping.set()

    async def prepare(self) -> None:
        """Open the index; enqueue what a new or lost index or an interrupted withdrawal lacks, and what an
        earlier worker gave up.

        An index of an older format or of another model counts as lost: opening the new one removed it.

        Raises LocalRuntimeError when another process writes the index.
        """
        await self._ingestion.index.optimize()
        info = await self._ingestion.index.info()
        counts = await self._stores.states.count_by_state()
        if info.document_count < sum(counts.get(state, 0) for state in HELD_STATES):
            lost = await write_again(self._stores, self._ingestion.index)
            _log.warning(
                "index_refilled", tenant=self._ingestion.tenant, found=info.document_count, lost=lost
            )
        await resume_withdrawals(self._stores)
        await retry_given_up(self._stores)

    async def run(self) -> None:
        """Process messages until ``stop``; finish what is in progress, or give it back to its queue."""
        consumers = [self._consumer_of_documents() for _ in range(self._limits.lanes)]
        consumers.append(self._consumer_of_withdrawals())
        tasks = [asyncio.create_task(consumer.run(self._stopping)) for consumer in consumers]
        tasks.append(asyncio.create_task(self._maintain()))
        try:
            await self._stopping.wait()
            await asyncio.wait(tasks, timeout=self._limits.stop_within_s)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _consumer_of_documents(self) -> QueueConsumer:
        handling = BatchHandling(
            self.pipeline.process,
            give_up=self.pipeline.fail,
            tries=self.pipeline,
            company=self._company,
        )
        return QueueConsumer(self._stores.queue, handling, limits=self._limits.consumer)

    def _consumer_of_withdrawals(self) -> QueueConsumer:
        handling = BatchHandling(self._removal.remove, give_up=self._log_abandoned)
        return QueueConsumer(self._stores.withdrawals, handling, limits=self._limits.consumer)

    async def _log_abandoned(self, document_id: str, *, code: str, reason: str) -> None:
        # Its state still says that it is not out; the next start of the worker tries again.
        _log.error("withdrawal_abandoned", document_id=document_id, code=code, reason=reason)

    async def _maintain(self) -> None:
        """Purge replaced text when there is nothing else to do, and at least every minute; then once more."""
        clock = self._ingestion.clock
        optimized_at_s = clock.monotonic_s()
        seen = purged = 0
        while not self._stopping.is_set():
            await stopped_within(self._stopping, self._limits.check_every_s)
            try:
                since_s = clock.monotonic_s() - optimized_at_s
                again = purged != seen and since_s >= self._limits.optimize_again_after_s
                late = since_s >= self._limits.optimize_every_s
                if again or (
                    self.pipeline.writes != seen and (late or await self._stores.queue.depth() == 0)
                ):
                    async with self._ingestion.index_writes:
                        # what was written since the last time is gone for good only with the next one
                        seen, purged = self.pipeline.writes, seen
                        await self._ingestion.index.optimize()
                    optimized_at_s = clock.monotonic_s()
            except AssistantError as error:
                _log.warning("index_not_optimized", code=error.code)
