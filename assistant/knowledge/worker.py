"""The worker of one tenant: documents into the index, withdrawn ones out of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog

from assistant.domain.clock import Clock
from assistant.domain.documents import HELD_STATES, INDEX_LOST, DocumentState
from assistant.domain.errors import AssistantError
from assistant.knowledge.batches import (
    GAVE_UP,
    MOST_TRIES_ALONE,
    BatchHandling,
    BatchInterruptedError,
    Company,
)
from assistant.knowledge.passages import DocumentParser
from assistant.knowledge.pipeline import BatchEmbedder, DocumentPipeline
from assistant.knowledge.ports import (
    IngestionQueue,
    KnowledgeStores,
    PassageIndex,
    QueuedDocument,
    WriteTurn,
)
from assistant.knowledge.reading import pages_of
from assistant.knowledge.withdrawal import DocumentRemoval, resume_withdrawals

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ConsumerLimits:
    documents_per_batch: int = 64
    receive_wait_s: float = 1.0
    visibility_timeout_s: float = 180.0
    """How long a killed worker's batch is missing. A living one's is extended every third of it."""
    longest_hold_s: float = 1800.0
    """Work that takes longer hangs: its batch is extended no more, so that another worker gets it."""
    pause_after_error_s: float = 2.0


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


# Takes messages from a queue in batches and has them handled; loses none, and lets none stop the rest.


class QueueConsumer:
    """One lane: one batch at a time. Several lanes may share a queue."""

    def __init__(self, queue: IngestionQueue, handling: BatchHandling, *, limits: ConsumerLimits) -> None:
        self._queue = queue
        self._handling = handling
        self._limits = limits
        self._held: list[QueuedDocument] = []

    async def run(self, stopping: asyncio.Event) -> None:
        """Consume until ``stopping`` is set. When cancelled, what is held goes back to the queue."""
        try:
            while not stopping.is_set():
                try:
                    await self._take_batch()
                except AssistantError as error:  # the queue itself
                    _log.warning("queue_unavailable", code=error.code)
                    await stopped_within(stopping, self._limits.pause_after_error_s)
                except _BatchReturned:
                    await stopped_within(stopping, self._limits.pause_after_error_s)
        finally:
            if self._held:
                await self._return(self._held)

    async def _take_batch(self) -> None:
        self._held = await self._queue.receive(
            limit=self._limits.documents_per_batch,
            wait_s=self._limits.receive_wait_s,
            visibility_timeout_s=self._limits.visibility_timeout_s,
        )
        if self._held:
            async with self._holding():
                await self._handle_held()

    async def _handle_held(self) -> None:
        try:
            await self._handling.run(self._held, done=self._done_with)
        except BatchInterruptedError:
            await self._return(self._held)
            raise _BatchReturned from None

    @asynccontextmanager
    async def _holding(self) -> AsyncGenerator[None]:
        """Keep what is held hidden from other receivers while it is worked on."""
        extending = asyncio.create_task(self._extend_held(), name="extending visibility")
        try:
            yield
        finally:
            extending.cancel()
            await asyncio.wait([extending])

    async def _extend_held(self) -> None:
        visibility_s = self._limits.visibility_timeout_s
        for _ in range(int(3 * self._limits.longest_hold_s / visibility_s)):
            await asyncio.sleep(visibility_s / 3)
            receipts = [message.receipt for message in self._held]
            if not receipts:
                return
            try:
                await self._queue.extend_many(receipts, visibility_timeout_s=visibility_s)
            except AssistantError as error:  # two more tries before the messages become visible
                _log.warning("visibility_not_extended", code=error.code, messages=len(receipts))
        _log.error("batch_held_too_long", messages=len(self._held))

    async def _done_with(self, messages: Sequence[QueuedDocument]) -> None:
        await self._queue.delete_many([message.receipt for message in messages])
        self._held = [message for message in self._held if message not in messages]

    async def _return(self, messages: Sequence[QueuedDocument]) -> None:
        """Put messages back as new ones: waiting for an endpoint shall not use up their attempts."""
        self._held = []
        try:
            await self._queue.send_many([message.document_id for message in messages])
            await self._queue.delete_many([message.receipt for message in messages])
        except AssistantError as error:  # then they come back after their visibility time-out
            _log.warning("queue_unavailable", code=error.code)


async def stopped_within(stopping: asyncio.Event, seconds: float) -> bool:
    """Wait so long at most; say whether the stop was asked for."""
    try:
        await asyncio.wait_for(stopping.wait(), seconds)
    except TimeoutError:
        return False
    return True


class _BatchReturned(Exception):
    """The batch went back to the queue; wait before taking the next."""


# What is looked after beside single messages: withdrawals that were interrupted, documents given up.


PAGE = 1000


async def retry_given_up(stores: KnowledgeStores) -> int:
    """Enqueue each document that was given up, for one more try alone; return how many.

    For a worker that starts. A document that stops the worker stops each start once: the worker after that
    one finds the try counted, and gives the document up again.
    """
    retried = 0
    again = {
        "state": DocumentState.RECEIVED,
        "failure_code": None,
        "failure_reason": None,
        "tried_alone": MOST_TRIES_ALONE - 1,
    }
    async for page in pages_of(stores.states, (DocumentState.FAILED, DocumentState.STALE)):
        given_up = [status for status in page if status.failure_code == GAVE_UP]
        if given_up:
            await stores.states.advance_many([status.model_copy(update=again) for status in given_up])
            await stores.queue.send_many([status.document_id for status in given_up])
            retried += len(given_up)
    if retried:
        _log.warning("documents_retried", documents=retried)
    return retried


async def write_again(stores: KnowledgeStores, index: PassageIndex) -> int:
    """Enqueue each live document that the index has lost; return how many.

    Until it is written it is stale: its owner sees why, and it counts as one that the index must hold, so
    that nobody is told meanwhile that the knowledge base does not have it. One that waits already, since an
    earlier start, is not enqueued twice.
    """
    lost = 0
    is_waited_for = await stores.queue.depth() > 0
    again = {
        "state": DocumentState.STALE,
        "failure_code": INDEX_LOST,
        "failure_reason": "The index has lost this document; it is being written again.",
    }
    async for page in pages_of(stores.states, HELD_STATES):
        held = await index.held([status.document_id for status in page])
        missing = [
            status
            for status in page
            if status.document_id not in held and not (is_waited_for and status.failure_code == INDEX_LOST)
        ]
        if missing:
            await stores.states.advance_many([status.model_copy(update=again) for status in missing])
            await stores.queue.send_many([status.document_id for status in missing])
            lost += len(missing)
    return lost
