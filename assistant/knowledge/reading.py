"""Which documents may be read now, and their texts: the one rule for whoever shows a document's words."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from assistant.domain.documents import Document, DocumentState, DocumentStatus, ParsedDocument
from assistant.domain.errors import DocumentInvalidError
from assistant.knowledge.ports import DocumentStates, DocumentStore
from assistant.knowledge.sources import KnowledgeSource, KnowledgeSources


@dataclass(frozen=True, slots=True)
class ReadableDocument:
    """The newest content of a document that may be read, and its state."""

    document: Document
    status: DocumentStatus


class ReadableDocuments:
    """The documents of one tenant as readers may see them. A withdrawal and other labels take effect with the
    next call."""

    def __init__(self, documents: DocumentStore, *, states: DocumentStates) -> None:
        self._documents = documents
        self._states = states

    async def document(self, document_id: str, *, labels: frozenset[str]) -> ReadableDocument | None:
        """Return the newest content; None for one unknown, withdrawn, withheld, or not open to the labels."""
        status, document = await asyncio.gather(
            self._states.get(document_id), self._documents.get(document_id)
        )
        if document is None or status is None or not _opens(document.labels, labels):
            return None
        if status.state in (DocumentState.WITHDRAWN, DocumentState.WITHHELD):
            return None
        return ReadableDocument(document, status)

    async def is_readable(self, document_id: str, *, labels: frozenset[str]) -> bool:
        try:
            return await self.document(document_id, labels=labels) is not None
        except DocumentInvalidError:  # a damaged copy shows nothing to anybody
            return False

    async def read(
        self, document_id: str, content_hash: str, *, labels: frozenset[str]
    ) -> ParsedDocument | None:
        """Return the parsed text of one content, an older one too while it is kept."""
        try:
            found = await self.document(document_id, labels=labels)
            return None if found is None else await self.text_of(found, content_hash, labels=labels)
        except DocumentInvalidError:
            return None

    async def text_of(
        self, found: ReadableDocument, content_hash: str, *, labels: frozenset[str]
    ) -> ParsedDocument | None:
        """Return the parsed text of one content of a document that may be read.

        Of the content that answers its own labels count as well: a newer one, which is not live yet, may be
        readable to more. Raises DocumentInvalidError.
        """
        status = found.status
        if content_hash == status.live_content_hash and not _opens(status.live_labels or (), labels):
            return None
        return await self._documents.get_parsed(status.document_id, content_hash)


def _opens(labels: Sequence[str], held: frozenset[str]) -> bool:
    return not labels or not held.isdisjoint(labels)


# Lists the documents of some of a tenant's sources, as if there were no others.


class ListDocuments:
    """The use case behind ``GET /v1/documents`` and ``assistant knowledge list``."""

    def __init__(self, states: DocumentStates, *, sources: KnowledgeSources) -> None:
        self._states = states
        self._sources = sources

    async def page(
        self,
        of: Sequence[KnowledgeSource],
        *,
        states: Sequence[DocumentState] = (),
        after: str | None = None,
        limit: int,
    ) -> list[DocumentStatus]:
        """Return the next documents in order of their ids, each with the name of its source."""
        found: list[DocumentStatus] = []
        for ids in self._sources.ranges_of(of):
            if after is not None and ids.until is not None and after >= ids.until:
                continue
            found += await self._states.list(
                states=states,
                after=max(after or "", ids.after) or None,
                until=ids.until,
                limit=limit - len(found),
            )
            if len(found) >= limit:
                break
        return [self._sources.shown(status) for status in found]

    async def counts(self, of: Sequence[KnowledgeSource]) -> Mapping[DocumentState, int]:
        counts: Counter[DocumentState] = Counter()
        for ids in self._sources.ranges_of(of):
            counts.update(await self._states.count_by_state(after=ids.after or None, until=ids.until))
        return counts


PAGE = 1000


async def pages_of(
    states: DocumentStates, wanted: Sequence[DocumentState]
) -> AsyncIterator[Sequence[DocumentStatus]]:
    """Yield the documents in these states, some at a time, in order of their ids."""
    after: str | None = None
    while page := await states.list(states=wanted, after=after, limit=PAGE):
        yield page
        after = page[-1].document_id
