"""Takes documents out of the answers at once, until they are sent again.

A file that was refused may have been meant to restrict its document, and one with narrower labels does: what
answers now must not wait for a body to be parsed, or for a backlog. The queue of withdrawals does not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from assistant.domain.clock import Clock
from assistant.domain.documents import DocumentState, DocumentStatus
from assistant.knowledge.stores import KnowledgeStores

LABELS_NARROWED = "labels_narrowed"
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Withheld:
    """A document to withhold, and why: its owner reads that in its state."""

    status: DocumentStatus
    code: str
    reason: str


class WithholdDocuments:
    """On return nobody reads the documents, and the worker takes them out of the index as it does withdrawn
    ones, within two seconds. Their text stays in the document store."""

    def __init__(self, stores: KnowledgeStores, *, clock: Clock) -> None:
        self._stores = stores
        self._clock = clock

    async def __call__(self, documents: Iterable[Withheld]) -> list[DocumentStatus]:
        """Withhold them and return their new states; withdrawn ones stay as they are."""
        statuses = [
            self._withheld(one) for one in documents if one.status.state is not DocumentState.WITHDRAWN
        ]
        if not statuses:
            return []
        await self._stores.states.put_many(statuses)
        in_index = [one.document_id for one in statuses if one.live_content_hash is not None]
        if in_index:
            await self._stores.withdrawals.send_many(in_index)
        for status in statuses:
            _log.warning("document_withheld", document_id=status.document_id, code=status.failure_code)
        return statuses

    def _withheld(self, one: Withheld) -> DocumentStatus:
        status, now = one.status, self._clock.now()
        is_out = status.state is DocumentState.WITHHELD and status.live_content_hash is None
        return status.model_copy(
            update={
                "state": DocumentState.WITHHELD,
                # The worker may be making the newest content live just now.
                "live_content_hash": None if is_out else status.live_content_hash or status.content_hash,
                # What it has begun is then refused: it belongs to what was received before.
                "received_at": now,
                "updated_at": now,
                "failure_code": one.code,
                "failure_reason": one.reason,
            }
        )
