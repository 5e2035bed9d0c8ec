"""Brings documents of older releases, and of a changed tenant file, under its sources and labels.

It finds documents without a source, ids that hold the separator and so could be another source's, labels
outside of the vocabulary, and states that do not know their labels.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from assistant.domain.clock import Clock
from assistant.domain.documents import ID_SEPARATOR, Document, DocumentState, DocumentStatus
from assistant.domain.errors import DocumentInvalidError
from assistant.knowledge.ports import KnowledgeStores
from assistant.knowledge.reading import pages_of
from assistant.knowledge.sources import KnowledgeSource, KnowledgeSources
from assistant.knowledge.withdrawal import WithdrawDocuments, Withheld, WithholdDocuments


class Change(StrEnum):
    RENAME = "rename"
    """The document gets the id of its source; the text comes again under it, the old id is withdrawn."""
    WITHHOLD = "withhold"
    """It carries a label that nobody's vocabulary has: who may read it nobody can say."""
    KEEP_LABELS = "keep labels"
    """Its state learns the labels that its text has."""
    STUCK = "stuck"
    """It has no source, and none was named for it; or its new id is taken."""


@dataclass(frozen=True, slots=True)
class Migration:
    """What a document needs."""

    document_id: str
    change: Change
    detail: str
    new_id: str | None = None
    labels: tuple[str, ...] = ()
    """That are not in the vocabulary."""


class MigrateKnowledge:
    """The use case behind ``assistant knowledge migrate``. ``into`` is for documents without a source."""

    def __init__(
        self,
        stores: KnowledgeStores,
        *,
        sources: KnowledgeSources,
        into: KnowledgeSource | None = None,
        clock: Clock,
    ) -> None:
        self._stores = stores
        self._sources = sources
        self._into = into
        self._clock = clock
        self._withhold = WithholdDocuments(stores, clock=clock)
        self._withdraw = WithdrawDocuments(stores, clock=clock)

    async def plan(self) -> AsyncIterator[Migration]:
        """Yield what each document needs, in order of their ids, and change nothing."""
        async for page in pages_of(self._stores.states, ()):
            for status in page:
                for migration in await self._needs(status):
                    yield migration

    async def apply(self) -> list[Migration]:
        """Do what ``plan`` says, and return it. May be done any number of times."""
        migrations = [migration async for migration in self.plan()]
        for migration in migrations:
            status = await self._stores.states.get(migration.document_id)
            if status is None:
                continue
            told = await self._with_labels(status)
            if migration.change is Change.KEEP_LABELS:
                await self._stores.states.advance_many([told])
            elif migration.change is Change.WITHHOLD:
                reason = f"{migration.detail}. Send it again with labels of the tenant file."
                await self._withhold([Withheld(told, "label_unknown", reason)])
            elif migration.new_id is not None:
                await self._rename(status, migration.new_id)
        return migrations

    async def _needs(self, status: DocumentStatus) -> Sequence[Migration]:
        if status.state is DocumentState.WITHDRAWN:
            return ()
        document_id = status.document_id
        found: list[Migration] = []
        source = self._sources.of_document(document_id)
        labels = await self._labels_of(status)
        own = source or self._into
        unknown = tuple(label for label in labels or () if own is not None and label not in own.labels)
        if unknown and status.state is not DocumentState.WITHHELD:
            said = f"its labels {', '.join(unknown)} are none of the source {own.name if own else ''}"
            found.append(Migration(document_id, Change.WITHHOLD, said, labels=unknown))
        elif (status.labels is None and labels is not None) or _lacks_live_labels(status):
            said = f"labels: {', '.join(labels or ()) or 'none'}"
            found.append(Migration(document_id, Change.KEEP_LABELS, said))
        if _is_misnamed(document_id, source):
            found.append(await self._renaming(status, own))
        return found

    async def _renaming(self, status: DocumentStatus, source: KnowledgeSource | None) -> Migration:
        document_id = status.document_id
        if source is None:
            return Migration(document_id, Change.STUCK, "it has no source; say which: --into NAME")
        new_id = source.document_id(document_id.replace(ID_SEPARATOR, "-"))
        taken = await self._stores.states.get(new_id)
        document = await self._document(document_id)
        # An interrupted migration has brought it there already.
        is_it = (
            taken is not None and document is not None and taken.content_hash == _hash_as(document, new_id)
        )
        if taken is not None and not is_it:
            return Migration(document_id, Change.STUCK, f"its new id {new_id} is another document's already")
        return Migration(document_id, Change.RENAME, f"becomes {new_id}", new_id=new_id)

    async def _labels_of(self, status: DocumentStatus) -> tuple[str, ...] | None:
        if status.labels is not None:
            return status.labels
        document = await self._document(status.document_id)
        return document.labels if document is not None else None

    async def _document(self, document_id: str) -> Document | None:
        try:
            return await self._stores.documents.get(document_id)
        except DocumentInvalidError:  # damaged: it has to be sent again
            return None

    async def _with_labels(self, status: DocumentStatus) -> DocumentStatus:
        labels = await self._labels_of(status)
        live = labels if _lacks_live_labels(status) else status.live_labels
        return status.model_copy(update={"labels": labels, "live_labels": live})

    async def _rename(self, status: DocumentStatus, new_id: str) -> None:
        """Bring the document under its new id, then withdraw the old one. A crash in between leaves both: the
        next time goes on."""
        document = await self._document(status.document_id)
        if document is not None:
            await self._bring(status, document.model_copy(update={"document_id": new_id}))
        await self._withdraw([status.document_id])

    async def _bring(self, status: DocumentStatus, renamed: Document) -> None:
        now = self._clock.now()
        is_withheld = status.state is DocumentState.WITHHELD
        changed = {
            "document_id": renamed.document_id,
            "state": DocumentState.WITHHELD if is_withheld else DocumentState.RECEIVED,
            "content_hash": renamed.content_hash(),
            "live_content_hash": None,
            "labels": renamed.labels,
            "live_labels": None,
            "passage_count": 0,
            "token_count": 0,
            "received_at": now,
            "updated_at": now,
        }
        if not is_withheld:
            changed |= {"failure_code": None, "failure_reason": None}
        await self._stores.documents.put(renamed)
        await self._stores.states.put_many([status.model_copy(update=changed)])
        if not is_withheld:
            await self._stores.queue.send_many([renamed.document_id])


def _is_misnamed(document_id: str, source: KnowledgeSource | None) -> bool:
    """Return whether an id has no source, or holds the separator outside of its source's prefix."""
    return source is None or ID_SEPARATOR in document_id.removeprefix(source.entry.id_prefix)


def _lacks_live_labels(status: DocumentStatus) -> bool:
    return status.live_labels is None and status.live_content_hash is not None


def _hash_as(document: Document, new_id: str) -> str:
    return document.model_copy(update={"document_id": new_id}).content_hash()
