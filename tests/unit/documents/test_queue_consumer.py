"""A batch stays hidden from other workers for as long as it is worked on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from assistant.documents.worker import BatchHandling, ConsumerLimits, QueueConsumer
from assistant.domain.errors import DependencyError
from assistant.stores.ports import QueuedDocument
from assistant.stores.sqlite_queue import SqliteIngestionQueue
from tests.fakes.clock import SteppedClock
from tests.unit.documents.knowledge import until

VISIBILITY_S = 0.3
LIMITS = ConsumerLimits(receive_wait_s=0.0, visibility_timeout_s=VISIBILITY_S, pause_after_error_s=0.01)


class ObservedQueue(SqliteIngestionQueue):
    """Counts extensions; fails for ``failures_left`` calls."""

    extensions = 0
    failures_left = 0

    async def extend_many(self, receipts: Sequence[str], *, visibility_timeout_s: float) -> None:
        self.extensions += 1
        if self.failures_left:
            self.failures_left -= 1
            raise DependencyError("The queue is down.")
        await super().extend_many(receipts, visibility_timeout_s=visibility_timeout_s)


@dataclass
class Working:
    """A consumer in the middle of a batch, on a clock that stands still."""

    queue: ObservedQueue
    other: SqliteIngestionQueue
    clock: SteppedClock
    limits: ConsumerLimits = LIMITS
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    may_end: asyncio.Event = field(default_factory=asyncio.Event)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        consumer = QueueConsumer(
            self.queue, BatchHandling(self.handle, give_up=self.give_up), limits=self.limits
        )
        self.running = asyncio.create_task(consumer.run(self.stopping))

    async def handle(self, document_ids: Sequence[str]) -> None:
        self.begun.set()
        await self.may_end.wait()

    async def give_up(self, document_id: str, *, code: str, reason: str) -> None:
        raise AssertionError(code)

    async def next_extension(self) -> None:
        seen = self.queue.extensions
        await until(lambda: self._is_extended_after(seen))

    async def _is_extended_after(self, seen: int) -> bool:
        return self.queue.extensions > seen

    async def other_receives(self) -> list[QueuedDocument]:
        return await self.other.receive(limit=9, wait_s=0.0, visibility_timeout_s=VISIBILITY_S)


@asynccontextmanager
async def working(folder: Path, limits: ConsumerLimits = LIMITS) -> AsyncIterator[Working]:
    clock = SteppedClock()
    queue = ObservedQueue(folder / "queue.sqlite", clock=clock)
    await queue.send_many(["a", "b"])
    work = Working(queue, SqliteIngestionQueue(folder / "queue.sqlite", clock=clock), clock, limits)
    try:
        async with asyncio.timeout(30):
            await work.begun.wait()
            yield work
    finally:
        work.stopping.set()
        work.may_end.set()
        await asyncio.wait([work.running])
        await queue.close()
        await work.other.close()


async def test_a_long_job_is_delivered_to_no_other_worker(tmp_path: Path) -> None:
    async with working(tmp_path) as work:
        for _ in range(4):
            work.clock.step(0.9 * VISIBILITY_S)
            await work.next_extension()
            await work.next_extension()  # the one before may have begun before the step
            assert await work.other_receives() == []


async def test_a_failed_extension_is_made_up_for(tmp_path: Path) -> None:
    async with working(tmp_path) as work:
        work.queue.failures_left = 1
        await work.next_extension()
        assert work.queue.failures_left == 0
        work.clock.step(0.6 * VISIBILITY_S)
        await work.next_extension()
        await work.next_extension()
        work.clock.step(0.6 * VISIBILITY_S)
        assert await work.other_receives() == []


async def test_extending_ends_with_the_work(tmp_path: Path) -> None:
    async with working(tmp_path) as work:
        await work.next_extension()
        work.may_end.set()
        await until(lambda: _is_empty(work.queue))
        await until(_nobody_extends)


async def test_work_that_hangs_is_let_go_of(tmp_path: Path) -> None:
    limits = ConsumerLimits(receive_wait_s=0.0, visibility_timeout_s=VISIBILITY_S, longest_hold_s=0.2)
    async with working(tmp_path, limits) as work:
        await until(_nobody_extends)
        work.clock.step(VISIBILITY_S)
        assert {message.document_id for message in await work.other_receives()} == {"a", "b"}


async def test_a_cancelled_consumer_extends_nothing_more(tmp_path: Path) -> None:
    async with working(tmp_path) as work:
        work.running.cancel()
        await asyncio.wait([work.running])
        assert await _nobody_extends()
        assert {message.document_id for message in await work.other_receives()} == {"a", "b"}


async def _nobody_extends() -> bool:
    return all(task.get_name() != "extending visibility" for task in asyncio.all_tasks())


async def _is_empty(queue: SqliteIngestionQueue) -> bool:
    return await queue.depth() == 0
