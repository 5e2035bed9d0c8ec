"""Takes documents out: their text at once, their passages by the worker, the index's only writer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import structlog
from opentelemetry import trace

from assistant.domain.clock import Clock
from assistant.domain.documents import DocumentState, DocumentStatus
from assistant.knowledge.ports import DocumentStates, DocumentStore, KnowledgeStores, PassageIndex, WriteTurn
from assistant.knowledge.reading import pages_of

_tracer = trace.get_tracer(__name__)


@dataclass(frozen=True, slots=True)
class WithdrawSummary:
    withdrawn: tuple[str, ...]
    unknown: tuple[str, ...]
    """Ids that no document ever had."""


class WithdrawDocuments:
    """The use case behind ``DELETE /v1/documents/{id}`` and ``assistant knowledge withdraw``.

    On return the states say withdrawn and no text is left in the document store. Searches miss the
    passages when the worker has taken them out: with the worker running within two seconds (it waits at
    most a fifth of a second for the withdrawals' queue, which no backlog of documents delays, and at most
    for one write of the index in progress); else as soon as it starts. A status whose
    ``live_content_hash`` is None again says that it is done.
    """

    def __init__(self, stores: KnowledgeStores, *, clock: Clock) -> None:
        self._stores = stores
        self._clock = clock

    async def __call__(self, document_ids: Sequence[str]) -> WithdrawSummary:
        """Withdraw the documents. To withdraw again what is withdrawn is no error."""
        wanted = list(dict.fromkeys(document_ids))
        with _tracer.start_as_current_span("knowledge.withdraw") as span:
            known = await self._stores.states.get_many(wanted)
            now = self._clock.now()
            statuses = [
                status.model_copy(
                    update={
                        "state": DocumentState.WITHDRAWN,
                        # The worker may be making the newest content live just now.
                        "live_content_hash": status.live_content_hash or status.content_hash,
                        "updated_at": now,
                        "failure_code": None,
                        "failure_reason": None,
                    }
                )
                for status in known.values()
            ]
            await self._stores.states.put_many(statuses)
            for document_id in known:
                await self._stores.documents.delete(document_id)
            await self._stores.withdrawals.send_many(list(known))
            span.set_attribute("knowledge.withdrawn", len(known))
        return WithdrawSummary(
            withdrawn=tuple(document_id for document_id in wanted if document_id in known),
            unknown=tuple(document_id for document_id in wanted if document_id not in known),
        )


# Takes documents out of the answers at once, until they are sent again.


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


# Takes withdrawn documents out of the index and out of the stores.


class DocumentRemoval:
    """The worker's half of a withdrawal. ``index_writes`` is the pipeline's lock."""

    def __init__(
        self,
        *,
        documents: DocumentStore,
        states: DocumentStates,
        index: PassageIndex,
        index_writes: WriteTurn,
        clock: Clock,
    ) -> None:
        self._documents = documents
        self._states = states
        self._index = index
        self._index_writes = index_writes
        self._clock = clock

    async def remove(self, document_ids: Sequence[str]) -> None:
        """Leave nothing in the index of those documents that are withdrawn or withheld, or were before they
        were added again; of withdrawn ones nothing in the document store either.

        May be done any number of times.
        """
        with _tracer.start_as_current_span("ingest.remove") as span:
            span.set_attribute("ingest.documents", len(document_ids))
            async with self._index_writes:
                known = await self._states.get_many(document_ids)
                withdrawn = [s for s in known.values() if s.state == DocumentState.WITHDRAWN]
                withheld = [s for s in known.values() if s.state == DocumentState.WITHHELD]
                # Added again since, and not live yet: what the index still has is the former content.
                out = [*withdrawn, *withheld]
                readded = [s for s in known.values() if s not in out and s.live_content_hash is None]
                await self._index.delete_documents([s.document_id for s in (*out, *readded)])
                for status in withdrawn:
                    # Again: the worker may have written parsed text after the withdrawal removed it.
                    await self._documents.delete(status.document_id)
                now = self._clock.now()
                emptied = {
                    "live_content_hash": None,
                    "live_labels": None,
                    "passage_count": 0,
                    "token_count": 0,
                    "updated_at": now,
                }
                await self._states.advance_many([s.model_copy(update=emptied) for s in out])
            _log.info("documents_removed", documents=len(out))


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
