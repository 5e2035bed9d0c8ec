"""Takes documents out: their text at once, their passages by the worker, the index's only writer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from opentelemetry import trace

from assistant.domain.clock import Clock
from assistant.domain.documents import DocumentState
from assistant.knowledge.stores import KnowledgeStores

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
