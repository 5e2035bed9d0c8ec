"""Documents into a tenant's knowledge base, followed until each answers or failed."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice

from assistant.domain.clock import Clock
from assistant.domain.documents import DocumentState, DocumentStatus
from assistant.domain.errors import LocalRuntimeError
from assistant.ingesting.add_documents import AddDocuments, AddSummary
from assistant.ingesting.sources.items import SourceItem
from assistant.ingesting.stores import KnowledgeStores

_POLL_S = 0.2
_WINDOW = 64
"""Documents whose state is asked for at once. Few, for the worker needs the processor more."""
_STALLED_S = 120.0
_FINAL = frozenset({DocumentState.LIVE, DocumentState.FAILED, DocumentState.STALE, DocumentState.WITHDRAWN})


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What became of everything that was brought."""

    summary: AddSummary
    failed: tuple[DocumentStatus, ...]
    """Documents that were taken in and then could not be brought into the index."""
    seconds: float

    @property
    def live(self) -> int:
        """Documents of this load that answer with their newest content."""
        return self.summary.documents - len(self.failed)

    @property
    def has_failures(self) -> bool:
        return bool(self.summary.failures or self.failed)


@dataclass(slots=True)
class KnowledgeLoad:
    """One load into one tenant's stores. The worker must be running."""

    stores: KnowledgeStores
    clock: Clock
    worker_is_alive: Callable[[], bool]
    show: Callable[[int, int], None]
    """Called with the documents that are done and those that are to do, often."""
    _summary: AddSummary = field(default_factory=AddSummary)
    _pending: deque[str] = field(default_factory=deque[str])
    _taken: int = 0
    _done: int = 0
    _failed: list[DocumentStatus] = field(default_factory=list[DocumentStatus])

    async def run(self, items: Iterable[SourceItem]) -> LoadReport:
        """Take in all items and return when the last is live or failed.

        Raises LocalRuntimeError when the worker ended or nothing moved for two minutes; what is in the
        queue then stays there for the next load.
        """
        began_s = time.monotonic()
        adding = asyncio.create_task(AddDocuments(self.stores, clock=self.clock)(items, progress=self._note))
        try:
            await self._follow(adding)
            return LoadReport(await adding, tuple(self._failed), time.monotonic() - began_s)
        finally:
            adding.cancel()

    def _note(self, summary: AddSummary) -> None:
        self._summary = summary

    async def _follow(self, adding: asyncio.Task[AddSummary]) -> None:
        moved_s = time.monotonic()
        while True:
            all_taken = adding.done()
            if all_taken:
                self._summary = adding.result()
            self._pending.extend(self._summary.enqueued_ids[self._taken :])
            self._taken = len(self._summary.enqueued_ids)
            moved = await self._look()
            self.show(self._done, self._taken)
            if all_taken and not self._pending:
                return
            if moved:
                moved_s = time.monotonic()
                continue
            self._refuse_to_wait(still_s=time.monotonic() - moved_s)
            await asyncio.sleep(_POLL_S)

    async def _look(self) -> bool:
        """Take the finished among the next few out of the pending ones; return whether there were any.

        The worker takes documents about in the order they came. Where the first few stay unfinished (they
        are tried again later), the next look is at those behind them.
        """
        window = list(islice(self._pending, _WINDOW))
        if not window:
            return False
        found = await self.stores.states.get_many(window)
        finished = [status for status in found.values() if status.state in _FINAL]
        if not finished:
            self._pending.rotate(-len(window))
            return False
        ids = {status.document_id for status in finished}
        left = [document_id for document_id in window if document_id not in ids]
        for _ in window:
            self._pending.popleft()
        self._pending.extendleft(reversed(left))
        self._done += len(finished)
        self._failed += [one for one in finished if one.state in (DocumentState.FAILED, DocumentState.STALE)]
        return True

    def _refuse_to_wait(self, *, still_s: float) -> None:
        if not self._pending:
            return
        if not self.worker_is_alive():
            raise LocalRuntimeError(
                f"The ingestion worker ended with {len(self._pending)} documents to do; "
                "they stay queued: run the command again."
            )
        if still_s > _STALLED_S:
            raise LocalRuntimeError(
                f"No document was finished for {_STALLED_S:.0f} s, {len(self._pending)} are to do; see the "
                "worker's log. They stay queued: run the command again."
            )
