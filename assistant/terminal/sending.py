"""Documents for a service elsewhere: what ``knowledge sync --into`` sends, and how documents there are
followed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

from assistant.client import AssistantClient, NotThereError, RefusedByServiceError, RejectedError
from assistant.documents.files import SourceDocument, SourceFailure, SourceItem, SourceWithdrawal, file_of
from assistant.documents.receive import AddSummary
from assistant.documents.sources import KnowledgeSource
from assistant.domain import errors
from assistant.domain.clock import all_or_cancel
from assistant.domain.documents import ID_SEPARATOR, DocumentState, DocumentStatus
from assistant.service.streams import DOCUMENT_LIMIT_BYTES
from assistant.terminal.loading import Looks

OWNER = "a knowledge owner's"
"""Whose token the service asks for documents."""
_AT_ONCE = 8
"""Requests at a time of one target."""
_PAGE = 500
_LOOKED_AT_ONCE = 8
"""Documents whose states are asked for at a time."""
_LOOK_EVERY_S = 0.5
_MOST_REASON = 1000
"""Characters of a reason to withhold that the service takes."""
_BEYOND_THE_TOKEN = (errors.LabelsWidenedError.code, errors.NotFoundError.code)
"""Codes of the refusals of a document that has labels there, and the token has not: it stays as it is."""


class ServiceTarget:
    """``KnowledgeTarget`` of a source of a service elsewhere, with eight requests at a time.

    Call ``read_known`` first. It sends each document that, as far as it knows, does not answer there with the
    same content. Raises what the client raises.

    For one event loop. Requests run at the same time, but each document's has its own key of ``_known``, and
    nothing is awaited while a summary is changed.
    """

    def __init__(self, client: AssistantClient, source: KnowledgeSource) -> None:
        self._client = client
        self._source = source
        self._free = asyncio.Semaphore(_AT_ONCE)
        self._known: dict[str, DocumentStatus] = {}
        """What the service last said of each document, by the source's own id; without withdrawn ones."""

    async def read_known(self) -> None:
        """Read the ids of all documents. Raises ConfigurationError where the service puts another namespace
        before them."""
        source, after = self._source, ""
        while after is not None:
            page = await self._client.list_documents(after=after, limit=_PAGE)
            after = page.next_after
            for status in page.documents:
                if status.knowledge_source != source.name or status.state is DocumentState.WITHDRAWN:
                    continue
                own_id = status.document_id.removeprefix(source.id_prefix)
                # Another prefix than ours ("wiki:a" for "handbook:a"), or one where we have none.
                if not status.document_id.startswith(source.id_prefix) or ID_SEPARATOR in own_id:
                    raise errors.ConfigurationError(
                        f"The service calls a document of {source.name} {status.document_id}. Write the "
                        "namespace of its tenant file into the source here."
                    )
                self._known[own_id] = status

    async def known_ids(self) -> frozenset[str]:
        return frozenset(self._known)

    async def add(self, items: Sequence[SourceItem], /) -> AddSummary:
        """Withhold and withdraw first, one after the other; then send the documents at the same time."""
        summary = AddSummary(lines=len(items))
        for item in items:
            if isinstance(item, SourceFailure):
                await self._refuse(item, summary)
            elif isinstance(item, SourceWithdrawal):
                summary.withdrawn += 1
                await self._withdraw(item.own_id)
        documents = [item for item in items if isinstance(item, SourceDocument)]
        await all_or_cancel(self._send(item, summary) for item in documents)
        return summary

    async def withdraw(self, item_ids: Sequence[str], /) -> None:
        await all_or_cancel(map(self._withdraw, item_ids))

    async def _withdraw(self, own_id: str) -> None:
        async with self._free:
            with suppress(NotThereError):
                await self._client.withdraw_document(self._source.document_id(own_id))
        self._known.pop(own_id, None)

    async def _send(self, item: SourceDocument, summary: AddSummary) -> None:
        """Send a document, unless it answers there with the same content, and count it; one that is refused
        is a failure in the summary."""
        own_id = item.document.document_id
        before = self._known.get(own_id)
        async with self._free:
            try:
                unchanged = (DocumentState.LIVE, self._checked_hash(item))
                if before is None or (before.state, before.content_hash) != unchanged:
                    self._known[own_id] = await self._client.bring_document(
                        item.document, knowledge_source=self._source.name, path=file_of(item.origin)
                    )
            except (errors.DocumentInvalidError, RejectedError) as error:  # the document is wrong
                await self._refuse(_failure(item, error), summary)
            except RefusedByServiceError as error:  # it is not: RejectedError, a subclass, is handled above
                if error.problem.code not in _BEYOND_THE_TOKEN:
                    raise
                summary.failures.append(_failure(item, error))
            else:
                now = self._known[own_id]
                summary.count(before, now.content_hash)
                if now.state is not DocumentState.LIVE:
                    summary.enqueued_ids.append(now.document_id)

    def _checked_hash(self, item: SourceDocument) -> str:
        """Return the hash that the service gives the document's content. Raises DocumentInvalidError for one
        that the service would refuse by its size."""
        if len(item.document.model_dump_json(exclude_unset=True).encode()) > DOCUMENT_LIMIT_BYTES:
            raise errors.DocumentInvalidError(f"it has over {DOCUMENT_LIMIT_BYTES:,} bytes as JSON")
        return self._source.as_tenant_document(item).content_hash()

    async def _refuse(self, failure: SourceFailure, summary: AddSummary) -> None:
        """Add the failure to the summary, and withhold the service's document that the invalid item was meant
        to replace, if there is one: the service itself does so only for a body that it has read."""
        summary.failures.append(failure)
        if failure.own_id is None:
            return
        with suppress(errors.DocumentInvalidError, NotThereError):
            document_id = self._source.document_id(failure.own_id)
            reason = f"{failure.origin}: {failure.reason}"[:_MOST_REASON]
            status = await self._client.withhold_document(document_id, reason=reason)
            self._known[failure.own_id] = status
            summary.withheld.append(status)


def _failure(item: SourceDocument, error: errors.AssistantError) -> SourceFailure:
    code = error.problem.code if isinstance(error, RefusedByServiceError) else error.code
    return SourceFailure(item.origin, code, error.message, item.document.document_id)


@asynccontextmanager
async def open_target(
    client: AssistantClient, source: KnowledgeSource, *, tenant: str
) -> AsyncGenerator[ServiceTarget]:
    """Yield the target of a source with a connector, which knows the documents that the service has.

    Raises ConfigurationError for a token that could not keep all of the source up to date, before anything is
    sent.
    """
    async with client:
        may = await client.list_sources()
        names = [writable.name for writable in may.sources]
        if may.tenant != tenant or source.name not in names:
            raise errors.ConfigurationError(
                f"The token may write {', '.join(names) or 'no source'} of the tenant {may.tenant}, and not "
                f"{source.name} of {tenant}. Write that source into the service's tenant file, without the "
                "connector, or take another token."
            )
        if missing := sorted(source.entry.labels_of_its_system - set(may.labels)):
            raise errors.ConfigurationError(
                f"The connector gives the labels {', '.join(missing)}, and the token has none of these: such "
                "documents could be sent, but never replaced or withdrawn. Give the labels to the token's "
                "holder, or take them out of the connector."
            )
        target = ServiceTarget(client, source)
        await target.read_known()
        yield target


def looks_there(client: AssistantClient) -> Looks:
    """Return how ``follow`` looks at documents of a service elsewhere."""

    async def read(window: Sequence[str]) -> Iterable[DocumentStatus]:
        return await asyncio.gather(*(client.document_status(document_id) for document_id in window))

    async def counts() -> Mapping[DocumentState, int]:
        return (await client.list_documents(limit=1)).counts

    return Looks(read, counts, window=_LOOKED_AT_ONCE, poll_s=_LOOK_EVERY_S)
