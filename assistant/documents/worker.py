"""The worker of one tenant: indexes documents from one queue, and removes withdrawn ones from another.

No message is lost, and a document that kills its worker does not stop others. A killed worker reports
nothing, and a delivery may fail for other reasons, so deliveries are not counted as failed tries: a message
that was delivered ALONE_FROM_ATTEMPT times is only a suspect, and handled alone in its process. Each try
alone is counted in the document's status before it begins. After MAX_TRIES_ALONE tries that did not end, the
document is given up.

``IngestionWorker`` is the process of a machine: ``prepare``, then ``run`` until ``stop``. On AWS Lambda
functions receive the batches, and ``PostponingBatches`` handles them. Both use ``BatchHandling``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import KW_ONLY, dataclass, field
from datetime import timedelta
from functools import partial
from typing import Protocol

import structlog

from assistant.documents.readable import pages_of
from assistant.documents.withdraw import remove_documents, resume_withdrawals
from assistant.documents.work import DocumentPipeline, TenantIngestion
from assistant.domain.clock import set_within
from assistant.domain.documents import HELD_STATES, INDEX_LOST, DocumentState, DocumentStatus
from assistant.domain.errors import AssistantError
from assistant.stores.documents import KnowledgeStores
from assistant.stores.ports import IngestionQueue, PassageIndex, QueuedDocument

ALONE_FROM_ATTEMPT = 3
"""Number of the delivery from which on a message is a suspect: two batches of it did not end."""
MAX_TRIES_ALONE = 3
GAVE_UP = "gave_up"
"""Failure code of a document that is not tried again until a worker starts."""
UNQUEUED_AFTER = timedelta(days=1)
"""On AWS a document that was received so long ago and not begun is given up; most have waited for minutes."""
PAUSED_DELAY_S = 900
"""The longest delay of SQS. Waiting messages are checked this often while the endpoints are paused."""
UNAVAILABLE_DELAY_S = 60
"""Delay of messages whose batch met an unavailable dependency, on AWS."""
_log = structlog.get_logger(__name__)

HandleBatch = Callable[[Sequence[str]], Awaitable[None]]
"""Handles documents by id, each once. An AssistantError from it means that a dependency is unavailable; any
other error, that a document of the batch is at fault."""
Done = Callable[[Sequence[QueuedDocument]], Awaitable[None]]
"""Called with messages that are done: they must not be delivered again."""


class GiveUp(Protocol):
    """Records in a document's status that it was given up, and why."""

    def __call__(self, document_id: str, *, code: str, reason: str) -> Awaitable[None]: ...


class TriesAloneCounter(Protocol):
    """Counts tries alone where the count outlives a killed worker (``DocumentPipeline``, in the status).
    Methods raise DependencyError."""

    async def tries_alone(self, document_ids: Sequence[str]) -> Mapping[str, int]:
        """Return for each known document the number of its tries alone that began and did not end."""
        ...

    async def count_alone(self, document_id: str, tries: int) -> None:
        """Add ``tries``: 1 before the document is handled alone, -1 after that was interrupted by no fault of
        its own.

        Does nothing for a document without work left. A document that becomes live has its count reset to 0.
        """
        ...


class SharedLock:
    """Lets several batches run together (``shared``), or one document alone (``exclusive``), in a process.

    A document that waits for ``exclusive`` keeps further batches from starting, and begins when those running
    end.
    """

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._shared = 0
        self._exclusive = False

    @asynccontextmanager
    async def shared(self) -> AsyncGenerator[None]:
        async with self._changed:
            await self._changed.wait_for(lambda: not self._exclusive)
            self._shared += 1
        try:
            yield
        finally:
            async with self._changed:
                self._shared -= 1
                self._changed.notify_all()

    @asynccontextmanager
    async def exclusive(self) -> AsyncGenerator[None]:
        async with self._changed:
            await self._changed.wait_for(lambda: not self._exclusive)
            self._exclusive = True  # from now on no other can begin
        try:
            async with self._changed:
                await self._changed.wait_for(lambda: self._shared == 0)
            yield
        finally:
            async with self._changed:
                self._exclusive = False
                self._changed.notify_all()


class BatchInterruptedError(Exception):
    """A dependency is unavailable: the messages that are not done must go back to their queue."""

    def __init__(self, cause: AssistantError) -> None:
        super().__init__(cause.message)
        self.cause = cause


@dataclass(frozen=True, slots=True)
class BatchHandling:
    """Handles batches of one queue. All consumers of the queue in a process share one, and so its ``lock``.

    ``handle`` does the work. ``counter`` None: tries are not counted, so no document is given up for killing
    its worker.
    """

    handle: HandleBatch
    _: KW_ONLY
    give_up: GiveUp
    counter: TriesAloneCounter | None = None
    lock: SharedLock = field(default_factory=SharedLock, init=False)

    async def run(self, messages: Sequence[QueuedDocument], *, done: Done) -> None:
        """Handle all messages, and call ``done`` for each part of them that is done: indexed, or given up.

        Suspects come last, each alone. Raises BatchInterruptedError: the messages not passed to ``done`` must
        return to their queue.
        """
        tries = await self._tries_of(messages)
        suspects = [m for m in messages if m.attempt >= ALONE_FROM_ATTEMPT or tries.get(m.document_id)]
        together = [m for m in messages if m not in suspects]
        if together:
            async with self.lock.shared():
                await self._handle_messages(together, done)
        # Documents with fewer tries first: one that stops the worker again delays no other.
        for message in sorted(suspects, key=lambda suspect: tries.get(suspect.document_id, 0)):
            if tries.get(message.document_id, 0) >= MAX_TRIES_ALONE:
                reason = (
                    f"The worker ended {MAX_TRIES_ALONE} times while it processed this document alone. "
                    "Change the document and add it again. The next start of the worker tries it once more."
                )
                await self._give_up(message, code=GAVE_UP, reason=reason)
                await done([message])
            else:
                async with self.lock.exclusive():
                    await self._handle_alone(message, done)

    async def _tries_of(self, messages: Sequence[QueuedDocument]) -> Mapping[str, int]:
        """Return the tries alone of the documents; an empty mapping without a counter."""
        if self.counter is None:
            return {}
        with _as_interruption():
            return await self.counter.tries_alone([message.document_id for message in messages])

    async def _handle_alone(self, message: QueuedDocument, done: Done) -> None:
        """Handle one suspect, counting the try. The caller holds the lock exclusively."""
        if self.counter is None:
            await self._handle_messages([message], done)
            return
        with _as_interruption():
            await self.counter.count_alone(message.document_id, 1)
        try:
            await self._handle_messages([message], done)
        except (BatchInterruptedError, asyncio.CancelledError):  # a dependency, or an orderly stop
            with suppress(AssistantError):
                await self.counter.count_alone(message.document_id, -1)
            raise

    async def _handle_messages(self, messages: Sequence[QueuedDocument], done: Done) -> None:
        """Handle messages together. If a document is at fault, handle each by itself and give up those that
        fail."""
        try:
            await self.handle(list(dict.fromkeys(message.document_id for message in messages)))
        except AssistantError as error:
            _log.warning("batch_returned", code=error.code, reason=error.message, documents=len(messages))
            raise BatchInterruptedError(error) from None
        except Exception:  # noqa: BLE001 (the edge of a batch: one bad document must not stop the worker)
            _log.exception("batch_failed", documents=len(messages))
            if len(messages) > 1:
                for message in messages:
                    await self._handle_messages([message], done)
                return
            reason = "The worker failed on this document. See the worker's log."
            await self._give_up(messages[0], code="internal", reason=reason)
        await done(messages)

    async def _give_up(self, message: QueuedDocument, *, code: str, reason: str) -> None:
        with _as_interruption():
            await self.give_up(message.document_id, code=code, reason=reason)


@contextmanager
def _as_interruption() -> Generator[None]:
    """Turn an error of a dependency into BatchInterruptedError."""
    try:
        yield
    except AssistantError as error:
        raise BatchInterruptedError(error) from None


class DelayedQueue(Protocol):
    """A queue of AWS. ``send_later`` sends new messages, which are delivered after ``delay_s``; ``put_back``
    makes received messages visible now, with their deliveries counted. Both raise DependencyError.
    """

    async def send_later(self, document_ids: Sequence[str], *, delay_s: int) -> None: ...

    async def put_back(self, receipts: Sequence[str]) -> None: ...


class PostponingBatches:
    """Handles batches that Lambda received from ``queue``, and deletes when its function returns without an
    error.

    Messages that cannot be handled now are sent again as new, delayed messages. So waiting for an endpoint,
    even through a night in which it is paused, uses up no deliveries, and no message becomes a dead letter.
    """

    def __init__(self, handling: BatchHandling, *, queue: DelayedQueue) -> None:
        self._handling = handling
        self._queue = queue

    async def handle(self, messages: Sequence[QueuedDocument]) -> int:
        """Handle all messages. Return how many are not done, and wait in the queue as new messages.

        Raises DependencyError if the queue is unavailable: then the old messages must stay.
        """
        left = list(messages)

        async def done(handled: Sequence[QueuedDocument]) -> None:
            for message in handled:
                left.remove(message)

        try:
            await self._handling.run(messages, done=done)
        except BatchInterruptedError:
            await self.postpone(left, delay_s=UNAVAILABLE_DELAY_S)
        return len(left)

    async def put_back(self, receipts: Sequence[str]) -> None:
        """Make invalid messages visible at once. So they use up their deliveries
        (``stores.ports.MAX_ATTEMPTS``) and become dead letters soon, without a visibility timeout for
        each."""
        await self._queue.put_back(receipts)

    async def postpone(self, messages: Sequence[QueuedDocument], *, delay_s: int) -> int:
        """Send all messages again with a delay, and return their number. Raises DependencyError. Lambda
        deletes the old ones."""
        document_ids = list(dict.fromkeys(message.document_id for message in messages))
        await self._queue.send_later(document_ids, delay_s=delay_s)
        _log.info("documents_postponed", documents=len(messages), delay_s=delay_s)
        return len(messages)


# The process that receives batches


@dataclass(frozen=True, slots=True)
class ConsumerLimits:
    """Limits of one ``QueueConsumer``."""

    documents_per_batch: int = 64
    receive_wait_s: float = 1.0
    visibility_timeout_s: float = 180.0
    """A killed worker's batch is delivered again after this time. A running worker extends it each time a
    third of it has passed."""
    longest_hold_s: float = 1800.0
    """Longer work counts as hung: its batch is not extended, so that another worker gets it."""
    pause_after_error_s: float = 2.0


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """Limits of one ``IngestionWorker``."""

    consumer: ConsumerLimits = field(default_factory=ConsumerLimits)
    lanes: int = 3
    """Batches at once: one is parsed while another is embedded and a third is written."""
    stop_within_s: float = 4.0
    """Time for batches in progress to finish after a stop."""
    check_every_s: float = 2.0
    """Time between two looks at whether the index must be optimized."""
    optimize_every_s: float = 60.0
    """The index is optimized, which purges replaced text, when the queue is empty, and at least this
    often."""
    optimize_again_after_s: float = 45.0
    """OpenSearch retains deletes for 30 s; a second purge runs after that."""


class QueueConsumer:
    """Receives and handles one batch after the other. Several consumers may share a queue."""

    def __init__(self, queue: IngestionQueue, handling: BatchHandling, *, limits: ConsumerLimits) -> None:
        self._queue = queue
        self._handling = handling
        self._limits = limits
        self._held: list[QueuedDocument] = []
        """Received messages that are not done."""

    async def run(self, stopping: asyncio.Event) -> None:
        """Consume until ``stopping`` is set. On cancellation, return the messages in work to the queue."""
        try:
            while not stopping.is_set():
                try:
                    is_handled = await self._handle_batch()
                except AssistantError as error:  # the queue itself
                    _log.warning("queue_unavailable", code=error.code)
                    is_handled = False
                if not is_handled:
                    await set_within(stopping, self._limits.pause_after_error_s)
        finally:
            await self._return_held()

    async def _handle_batch(self) -> bool:
        """Receive and handle one batch. Return False if a dependency was unavailable."""
        self._held = await self._queue.receive(
            limit=self._limits.documents_per_batch,
            wait_s=self._limits.receive_wait_s,
            visibility_timeout_s=self._limits.visibility_timeout_s,
        )
        if self._held:
            async with self._kept_hidden():
                try:
                    await self._handling.run(self._held, done=self._delete)
                except BatchInterruptedError:
                    await self._return_held()
                    return False
        return True

    @asynccontextmanager
    async def _kept_hidden(self) -> AsyncGenerator[None]:
        """Keep the held messages hidden from other receivers while the block runs."""
        extending = asyncio.create_task(self._extend_held(), name="extending visibility")
        try:
            yield
        finally:
            extending.cancel()
            await asyncio.wait([extending])

    async def _extend_held(self) -> None:
        """Extend the visibility timeout again and again, but not for longer than ``longest_hold_s``."""
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

    async def _delete(self, messages: Sequence[QueuedDocument]) -> None:
        """Delete messages that are done."""
        await self._queue.delete_many([message.receipt for message in messages])
        self._held = [message for message in self._held if message not in messages]

    async def _return_held(self) -> None:
        """Send the held messages again as new ones: waiting for an endpoint must not use up deliveries."""
        messages, self._held = self._held, []
        if not messages:
            return
        try:
            await self._queue.send_many([message.document_id for message in messages])
            await self._queue.delete_many([message.receipt for message in messages])
        except AssistantError as error:  # they become visible after their visibility timeout
            _log.warning("queue_unavailable", code=error.code)


class IngestionWorker:
    """Indexes and removes one tenant's documents until it is stopped. The only writer of the tenant's index.

    Call ``prepare`` once, then ``run``; ``stop`` may be called at any time, from the same event loop.
    """

    def __init__(self, ingestion: TenantIngestion, *, limits: WorkerLimits | None = None) -> None:
        self._ingestion = ingestion
        self._stores = ingestion.stores
        self._limits = limits or WorkerLimits()
        self._stopping = asyncio.Event()
        self.pipeline = DocumentPipeline(ingestion)

    @property
    def tenant(self) -> str:
        return self._ingestion.tenant

    def stop(self) -> None:
        """Receive no more messages; ``run`` returns shortly after ``stop_within_s`` at the latest."""
        self._stopping.set()

    async def prepare(self) -> None:
        """Open the index. Enqueue documents that it lost, interrupted removals, and documents that an earlier
        worker gave up.

        Opening deletes an index of an older format, or of a model that the settings do not name: all its
        documents count as lost. Raises LocalRuntimeError when another process writes the index.
        """
        async with self._ingestion.index_writes:
            await self._ingestion.index.optimize()
            # The live version; its model may be another than that of ``index``, until a reindex switches.
            live = (await self._ingestion.kept_versions())[0].index
            info = await live.info()
        counts = await self._stores.states.count_by_state()
        if info.document_count < sum(counts.get(state, 0) for state in HELD_STATES):
            lost, tenant = await enqueue_lost(self._stores, live), self._ingestion.tenant
            _log.warning("index_refilled", tenant=tenant, found=info.document_count, lost=lost)
        await resume_withdrawals(self._stores)
        if await self._stores.queue.depth() == 0:
            await give_up_unqueued(self._ingestion, after=timedelta())
        await retry_given_up(self._stores)

    async def run(self) -> None:
        """Handle messages until ``stop``; then finish the batches in progress or return them to their
        queue."""
        tasks = [asyncio.create_task(consumer.run(self._stopping)) for consumer in self._consumers()]
        tasks.append(asyncio.create_task(self._maintain()))
        try:
            await self._stopping.wait()
            await asyncio.wait(tasks, timeout=self._limits.stop_within_s)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _consumers(self) -> list[QueueConsumer]:
        """Return a consumer for each lane of the queue of documents, and one for the queue of withdrawals."""
        indexing, removing = indexing_batches(self.pipeline), removal_batches(self._ingestion)
        # All lanes share one BatchHandling, and so its lock: a suspect is handled alone in the process.
        queues = [(self._stores.queue, indexing)] * self._limits.lanes
        queues.append((self._stores.withdrawals, removing))
        return [QueueConsumer(queue, handling, limits=self._limits.consumer) for queue, handling in queues]

    async def _maintain(self) -> None:
        """Optimize the index, which purges replaced text, after writes: when the queue is empty, and at least
        every ``optimize_every_s``. Each time is repeated once, ``optimize_again_after_s`` later
        (``is_second``).
        """
        clock, limits = self._ingestion.clock, self._limits
        optimized_at_s = clock.monotonic_s()
        writes_at_last = writes_at_previous = 0  # ``pipeline.writes`` at the last two optimizations
        while not self._stopping.is_set():
            await set_within(self._stopping, limits.check_every_s)
            try:
                await self._ingestion.index.share()
                since_s = clock.monotonic_s() - optimized_at_s
                is_repeated_already = writes_at_last == writes_at_previous
                is_second = not is_repeated_already and since_s >= limits.optimize_again_after_s
                is_overdue = since_s >= limits.optimize_every_s
                if is_second or (
                    self.pipeline.writes != writes_at_last
                    and (is_overdue or await self._stores.queue.depth() == 0)
                ):
                    async with self._ingestion.index_writes:
                        writes_at_previous, writes_at_last = writes_at_last, self.pipeline.writes
                        await self._ingestion.index.optimize()
                    optimized_at_s = clock.monotonic_s()
            except AssistantError as error:
                _log.warning("index_not_optimized", code=error.code)


def indexing_batches(pipeline: DocumentPipeline) -> BatchHandling:
    """Return the handling of batches of documents to index, for the queue of documents."""
    return BatchHandling(pipeline.process, give_up=pipeline.fail, counter=pipeline)


def removal_batches(ingestion: TenantIngestion) -> BatchHandling:
    """Return the handling of batches of documents to remove, for the queue of withdrawals. Tries are not
    counted."""
    remove = partial(
        remove_documents,
        stores=ingestion.stores,
        index=ingestion.index,
        index_writes=ingestion.index_writes,
        clock=ingestion.clock,
        keys=ingestion.keys,
    )
    return BatchHandling(remove, give_up=_log_abandoned)


async def _log_abandoned(document_id: str, *, code: str, reason: str) -> None:
    """Log a removal that failed. The document's status still has ``live_content_hash``, so the next start of
    the worker, or the next purge, tries again."""
    _log.error("withdrawal_abandoned", document_id=document_id, code=code, reason=reason)


async def give_up_unqueued(ingestion: TenantIngestion, *, after: timedelta) -> None:
    """Mark each document as failed that was received so long ago and not begun since: its request was cut
    before it was queued. One that is still queued is indexed all the same."""
    pipeline, received_by = DocumentPipeline(ingestion), ingestion.clock.now() - after
    reason = "Its request ended before it was queued. Send it again, or start the worker again."
    async for page in pages_of(ingestion.stores.states, (DocumentState.RECEIVED,)):
        for status in page:
            if status.updated_at <= received_by:
                await pipeline.fail(status.document_id, code=GAVE_UP, reason=reason)


async def retry_given_up(stores: KnowledgeStores) -> int:
    """Enqueue each document that was given up, for one more try alone. Return their number.

    Called when a worker starts. A document that kills the worker does so once for each start: the next worker
    finds the try counted, and gives the document up again.
    """
    retried = 0
    update = {"failure_code": None, "failure_reason": None, "tried_alone": MAX_TRIES_ALONE - 1}
    async for page in pages_of(stores.states, (DocumentState.FAILED, DocumentState.STALE)):
        given_up = [status for status in page if status.failure_code == GAVE_UP]
        retried += await _enqueue_again(stores, given_up, update | {"state": DocumentState.RECEIVED})
    if retried:
        _log.warning("documents_retried", documents=retried)
    return retried


async def _enqueue_again(
    stores: KnowledgeStores, statuses: Sequence[DocumentStatus], update: Mapping[str, object]
) -> int:
    if statuses:
        await stores.states.advance_many([status.model_copy(update=update) for status in statuses])
        await stores.queue.send_many([status.document_id for status in statuses])
    return len(statuses)


async def enqueue_lost(stores: KnowledgeStores, index: PassageIndex) -> int:
    """Enqueue each live document that the index has lost. Return their number.

    A lost document is stale until it is written again: its owner sees why, and it counts as a document that
    the index must hold, so that no answer claims that the knowledge base lacks it. If the queue is not empty,
    documents that an earlier start enqueued are left out.
    """
    lost = 0
    is_waiting = await stores.queue.depth() > 0
    reason = "The index has lost this document; it is being written again."
    update = {"state": DocumentState.STALE, "failure_code": INDEX_LOST, "failure_reason": reason}
    async for page in pages_of(stores.states, HELD_STATES):
        in_index = await index.held([status.document_id for status in page])
        missing = [status for status in page if status.document_id not in in_index]
        if is_waiting:
            missing = [status for status in missing if status.failure_code != INDEX_LOST]
        lost += await _enqueue_again(stores, missing, update)
    return lost
