"""What is looked after beside single messages: withdrawals that were interrupted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import structlog

from assistant.domain.documents import DocumentState, DocumentStatus
from assistant.ingesting.ports import DocumentStates
from assistant.ingesting.stores import KnowledgeStores

PAGE = 1000
_log = structlog.get_logger(__name__)


async def resume_withdrawals(stores: KnowledgeStores) -> int:
    """Enqueue again each withdrawn document whose passages are not known to be out; return how many."""
    resumed = 0
    async for page in pages_of(stores.states, (DocumentState.WITHDRAWN,)):
        unfinished = [status.document_id for status in page if status.live_content_hash is not None]
        if unfinished:
            await stores.withdrawals.send_many(unfinished)
            resumed += len(unfinished)
    if resumed:
        _log.warning("withdrawals_resumed", documents=resumed)
    return resumed


async def pages_of(
    states: DocumentStates, wanted: Sequence[DocumentState]
) -> AsyncIterator[Sequence[DocumentStatus]]:
    """Yield the documents in these states, some at a time, in order of their ids."""
    after: str | None = None
    while page := await states.list(states=wanted, after=after, limit=PAGE):
        yield page
        after = page[-1].document_id
