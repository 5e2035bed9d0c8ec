"""Migrates documents of older releases, or after a change of the tenant file, to its sources and labels.

It finds documents without a source, ids with the separator (which could belong to another source), labels
outside the vocabulary, and statuses without labels.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import KW_ONLY, dataclass
from enum import StrEnum

from assistant.domain.clock import Clock
from assistant.domain.documents import ID_SEPARATOR, Document, DocumentState, DocumentStatus
from assistant.domain.errors import DocumentInvalidError
from assistant.knowledge.ports import KnowledgeStores
from assistant.knowledge.reading import pages_of
from assistant.knowledge.sources import KnowledgeSource, KnowledgeSources
from assistant.knowledge.withdrawal import NOTHING_LIVE, WithdrawDocuments, Withheld, WithholdDocuments


class Change(StrEnum):
    RENAME = "rename"
    """The document gets an id of its source: its text is stored under the new id, the old id is withdrawn."""
    WITHHOLD = "withhold"
    """It has a label outside the vocabulary, so it is unknown who may read it."""
    KEEP_LABELS = "keep labels"
    """Its status gets the labels of its stored text."""
    STUCK = "stuck"
    """It has no source and none was named, or its new id belongs to another document."""


@dataclass(frozen=True, slots=True)
class Migration:
    """The change that a document needs."""

    document_id: str
    change: Change
    detail: str
    new_id: str | None = None
    labels: tuple[str, ...] = ()
    """The labels that are not in the vocabulary."""


@dataclass(frozen=True, slots=True)
class MigrateKnowledge:
    """The use case behind ``assistant knowledge migrate``. ``into`` is the source for documents without
    one."""

    stores: KnowledgeStores
    _: KW_ONLY
    sources: KnowledgeSources
    clock: Clock
    into: KnowledgeSource | None = None

    async def plan(self) -> AsyncIterator[Migration]:
        """Yield the changes that documents need, in order of their ids. Change nothing."""
        async for page in pages_of(self.stores.states):
            for status in page:
                for migration in await self._changes(status):
                    yield migration

    async def apply(self) -> list[Migration]:
        """Make the planned changes and return them. The call may be repeated."""
        migrations = [migration async for migration in self.plan()]
        for migration in migrations:
            status = await self.stores.states.get(migration.document_id)
            if status is None:
                continue
            labelled = await self._with_labels(status)
            if migration.change is Change.KEEP_LABELS:
                await self.stores.states.advance_many([labelled])
            elif migration.change is Change.WITHHOLD:
                reason = f"{migration.detail}. Send it again with labels of the tenant file."
                unknown = Withheld(labelled, "label_unknown", reason)
                await WithholdDocuments(self.stores, clock=self.clock)([unknown])
            elif migration.new_id is not None:
                await self._rename(status, migration.new_id)
        return migrations

    async def _changes(self, status: DocumentStatus) -> Sequence[Migration]:
        if status.state is DocumentState.WITHDRAWN:
            return ()
        document_id = status.document_id
        found: list[Migration] = []
        source = self.sources.of_document(document_id)
        labels = await self._labels_of(status)
        own = source or self.into
        unknown = tuple(label for label in labels or () if own is not None and label not in own.labels)
        if unknown and status.state is not DocumentState.WITHHELD:
            detail = f"its labels {', '.join(unknown)} are not labels of the source {own.name if own else ''}"
            found.append(Migration(document_id, Change.WITHHOLD, detail, labels=unknown))
        elif (status.labels is None and labels is not None) or _lacks_live_labels(status):
            detail = f"labels: {', '.join(labels or ()) or 'none'}"
            found.append(Migration(document_id, Change.KEEP_LABELS, detail))
        if _is_misnamed(document_id, source):
            found.append(await self._rename_change(status, own))
        return found

    async def _rename_change(self, status: DocumentStatus, source: KnowledgeSource | None) -> Migration:
        document_id = status.document_id
        if source is None:
            return Migration(document_id, Change.STUCK, "it has no source; name one: --into NAME")
        new_id = source.document_id(document_id.replace(ID_SEPARATOR, "-"))
        taken = await self.stores.states.get(new_id)
        document = await self._document(document_id)
        if taken is not None and (document is None or taken.content_hash != _hash_as(document, new_id)):
            # With this content an interrupted migration stored it under the new id already.
            return Migration(document_id, Change.STUCK, f"its new id {new_id} belongs to another document")
        return Migration(document_id, Change.RENAME, f"becomes {new_id}", new_id=new_id)

    async def _labels_of(self, status: DocumentStatus) -> tuple[str, ...] | None:
        if status.labels is not None:
            return status.labels
        document = await self._document(status.document_id)
        return document.labels if document is not None else None

    async def _document(self, document_id: str) -> Document | None:
        try:
            return await self.stores.documents.get(document_id)
        except DocumentInvalidError:  # the stored document is damaged, and must be added again
            return None

    async def _with_labels(self, status: DocumentStatus) -> DocumentStatus:
        labels = await self._labels_of(status)
        live = labels if _lacks_live_labels(status) else status.live_labels
        return status.model_copy(update={"labels": labels, "live_labels": live})

    async def _rename(self, status: DocumentStatus, new_id: str) -> None:
        """Store the document under its new id, then withdraw the old id. After a crash in between, the next
        call continues."""
        document = await self._document(status.document_id)
        if document is not None:
            await self._store_as(status, document.model_copy(update={"document_id": new_id}))
        await WithdrawDocuments(self.stores, clock=self.clock)([status.document_id])

    async def _store_as(self, status: DocumentStatus, renamed: Document) -> None:
        now = self.clock.now()
        is_withheld = status.state is DocumentState.WITHHELD
        changed = NOTHING_LIVE | {"received_at": now, "updated_at": now, "labels": renamed.labels}
        changed |= {"document_id": renamed.document_id, "content_hash": renamed.content_hash()}
        if not is_withheld:
            changed |= {"state": DocumentState.RECEIVED, "failure_code": None, "failure_reason": None}
        await self.stores.documents.put(renamed)
        await self.stores.states.put_many([status.model_copy(update=changed)])
        if not is_withheld:
            await self.stores.queue.send_many([renamed.document_id])


def _is_misnamed(document_id: str, source: KnowledgeSource | None) -> bool:
    """Return whether an id has no source, or has the separator after its source's prefix."""
    return source is None or ID_SEPARATOR in document_id.removeprefix(source.id_prefix)


def _lacks_live_labels(status: DocumentStatus) -> bool:
    return status.live_labels is None and status.live_content_hash is not None


def _hash_as(document: Document, new_id: str) -> str:
    return document.model_copy(update={"document_id": new_id}).content_hash()
