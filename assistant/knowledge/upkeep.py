"""What is looked after beside single messages: withdrawals that were interrupted, documents given up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import structlog

from assistant.domain.documents import HELD_STATES, INDEX_LOST, DocumentState, DocumentStatus
from assistant.knowledge.batch_handling import GAVE_UP, MOST_TRIES_ALONE
from assistant.knowledge.ports import DocumentStates, PassageIndex
from assistant.knowledge.stores import KnowledgeStores

PAGE = 1000
_log = structlog.get_logger(__name__)


async def resume_withdrawals(stores: KnowledgeStores) -> int:
    """Enqueue again each withdrawn or withheld document whose passages are not known to be out; return how
    many."""
    resumed = 0
    async for page in pages_of(stores.states, (DocumentState.WITHDRAWN, DocumentState.WITHHELD)):
        unfinished = [status.document_id for status in page if status.live_content_hash is not None]
        if unfinished:
            await stores.withdrawals.send_many(unfinished)
            resumed += len(unfinished)
    if resumed:
        _log.warning("withdrawals_resumed", documents=resumed)
    return resumed


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


async def pages_of(
    states: DocumentStates, wanted: Sequence[DocumentState]
) -> AsyncIterator[Sequence[DocumentStatus]]:
    """Yield the documents in these states, some at a time, in order of their ids."""
    after: str | None = None
    while page := await states.list(states=wanted, after=after, limit=PAGE):
        yield page
        after = page[-1].document_id
