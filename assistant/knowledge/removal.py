"""Takes withdrawn documents out of the index and out of the stores."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from opentelemetry import trace

from assistant.domain.clock import Clock
from assistant.domain.documents import DocumentState
from assistant.knowledge.ports import DocumentStates, DocumentStore, PassageIndex, WriteTurn

_log = structlog.get_logger(__name__)
_tracer = trace.get_tracer(__name__)


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
