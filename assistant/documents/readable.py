"""Reads documents and their states: which documents a reader may see now, and lists of documents.

A reader's ``labels`` are those that they have: a document without labels is open to everybody, one with
labels to a reader who has one of them (``_is_open``).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace

from assistant.documents.sources import ALL_IDS, IdRange, KnowledgeSource, KnowledgeSources
from assistant.domain.documents import Document, DocumentState, DocumentStatus, ParsedDocument
from assistant.domain.errors import DocumentInvalidError
from assistant.stores.documents import StoredDocuments, StoredStates
from assistant.text.language import fold

PAGE = 1000
"""Statuses that are read at once."""
_HIDDEN = (DocumentState.WITHDRAWN, DocumentState.WITHHELD)
MOST_SEARCHED = 10_000
"""Statuses that one search reads at most; the next page goes on after them."""


@dataclass(frozen=True, slots=True)
class ReadableDocument:
    """The newest content of a document that may be read, and its status."""

    document: Document
    status: DocumentStatus


class ReadableDocuments:
    """The documents of one tenant that a reader may see. Everything that shows a document's text asks here.

    A withdrawal and a change of labels take effect with the next call.
    """

    def __init__(self, documents: StoredDocuments, *, states: StoredStates) -> None:
        self._documents = documents
        self._states = states

    async def document(self, document_id: str, *, labels: frozenset[str]) -> ReadableDocument | None:
        """Return the newest content; None for a document that is unknown, withdrawn, withheld, or not open to
        the labels.

        Both are checked: labels change in the status before they change in the document.
        """
        reads = self._readable(document_id, labels), self._documents.get(document_id)
        status, document = await asyncio.gather(*reads)
        if status is None or document is None or not _is_open(document.labels, labels):
            return None
        return ReadableDocument(document, status)

    async def readable_ids(self, document_ids: Sequence[str], *, labels: frozenset[str]) -> frozenset[str]:
        """Return the ids of documents that a reader may see and that answer now (``answers_now``)."""
        statuses = (await self._states.get_many(document_ids)).values()
        live = [status for status in statuses if answers_now(status)]
        open_to = [await self.is_open(status, labels=labels) for status in live]
        return frozenset(status.document_id for status, is_open in zip(live, open_to, strict=True) if is_open)

    async def is_readable(self, document_id: str, *, labels: frozenset[str]) -> bool:
        """Return whether a reader may see the document, whether it answers already or not."""
        return await self._readable(document_id, labels) is not None

    async def read(
        self, document_id: str, content_hash: str, *, labels: frozenset[str]
    ) -> ParsedDocument | None:
        """Return the parsed text of one content of a document, which may be older than the newest; None if
        the reader may not see the document or this content, or if it is not stored."""
        reads = self._readable(document_id, labels), self._documents.get_parsed(document_id, content_hash)
        try:
            status, parsed = await asyncio.gather(*reads)
        except DocumentInvalidError:  # what is stored is damaged
            return None
        return (
            parsed if status is not None and _is_content_open(status, content_hash, parsed, labels) else None
        )

    async def text_of(
        self, found: ReadableDocument, content_hash: str, *, labels: frozenset[str]
    ) -> ParsedDocument | None:
        """Return the parsed text of one content of a document that ``document`` returned; None as in
        ``read``.

        Raises DocumentInvalidError for a damaged text.
        """
        parsed = await self._documents.get_parsed(found.status.document_id, content_hash)
        return parsed if _is_content_open(found.status, content_hash, parsed, labels) else None

    async def is_open(self, status: DocumentStatus, *, labels: frozenset[str]) -> bool:
        """Return whether the newest labels are open to a reader; the document's state does not matter."""
        newest = status.labels
        if newest is None:  # a row of an older release
            try:
                document = await self._documents.get(status.document_id)
            except DocumentInvalidError:
                return False
            newest = None if document is None else document.labels
        return newest is not None and _is_open(newest, labels)

    async def may_decide_on(self, status: DocumentStatus, *, labels: frozenset[str]) -> bool:
        """Return whether an owner with these labels may know of a document and change it: they open its
        newest content, and the one that answers or that a waiting one would replace."""
        return _is_open(status.live_labels or (), labels) and await self.is_open(status, labels=labels)

    async def waiting(
        self, status: DocumentStatus, *, labels: frozenset[str]
    ) -> tuple[Document, Document | None] | None:
        """Return the content that waits for a release, and the newest older one that was parsed: the one that
        answered before, None if there is none or it is not open to the labels.

        Return None alone if the waiting content is no longer stored, or if its decision is not of a holder of
        the labels (``may_decide_on``).
        """
        if not await self.may_decide_on(status, labels=labels):
            return None
        waiting: Document | None = None
        for content in await self._documents.contents(status.document_id):
            document, hashes = content.document, content.document.content_hashes()
            if status.content_hash in hashes:
                waiting = document
            elif waiting is not None and await self._is_parsed(status.document_id, hashes):
                return waiting, document if _is_open(document.labels, labels) else None
        return None if waiting is None else (waiting, None)

    async def _is_parsed(self, document_id: str, hashes: Sequence[str]) -> bool:
        """Return whether a text is stored for one of the hashes of a content."""
        texts = [await self._documents.get_parsed(document_id, content_hash) for content_hash in hashes]
        return any(text is not None for text in texts)

    async def _readable(self, document_id: str, labels: frozenset[str]) -> DocumentStatus | None:
        """Return the status of a document that a reader may see; None for any other. When labels are
        narrowed, the status has the new ones before the document has them."""
        status = await self._states.get(document_id)
        if status is None or status.state in _HIDDEN:
            return None
        return status if await self.is_open(status, labels=labels) else None


def answers_now(status: DocumentStatus) -> bool:
    """Return whether a content of the document answers questions: it is neither withdrawn nor withheld, and a
    content of it is live, perhaps an older one."""
    return status.state not in _HIDDEN and status.live_content_hash is not None


def _is_content_open(
    status: DocumentStatus, content_hash: str, parsed: ParsedDocument | None, labels: frozenset[str]
) -> bool:
    """Return whether one content is open by its own labels; the caller has checked the document's newest
    ones.

    Older content may have been open to fewer readers, and content that is not live yet to more. ``parsed``
    None: only the status tells labels.
    """
    live = status.live_labels if content_hash == status.live_content_hash else None
    return _is_open(live or (), labels) and (parsed is None or _is_open(parsed.labels, labels))


def _is_open(labels: Sequence[str], held: frozenset[str]) -> bool:
    """Return whether a reader who holds these labels may see what has ``labels``."""
    return not labels or not held.isdisjoint(labels)


class ListDocuments:
    """The use case behind ``GET /v1/documents`` and ``assistant knowledge list``."""

    def __init__(self, states: StoredStates, *, sources: KnowledgeSources) -> None:
        self._states = states
        self._sources = sources

    async def page(
        self,
        of: Sequence[KnowledgeSource],
        *,
        states: Sequence[DocumentState] = (),
        find: str = "",
        after: str | None = None,
        limit: int,
    ) -> tuple[list[DocumentStatus], str | None]:
        """Return the next documents of the sources ``of`` in order of their ids, each with its source's name,
        and the id to pass as ``after`` for the next page; None after the last page.

        ``states``: only these; () means all. ``find``: only documents with each of its words in their id or
        title. Such a page may be short, or empty, and yet have more after it.
        """
        words, budget = fold(find).split(), MOST_SEARCHED
        statuses: list[DocumentStatus] = []
        for ids in self._sources.ranges_of(of):
            rest = replace(ids, after=max(after or "", ids.after))
            if rest.until is not None and rest.after >= rest.until:
                continue
            async for page in pages_of(self._states, states, ids=rest, size=PAGE if words else limit + 1):
                statuses += [self._sources.with_source(status) for status in page if _has(status, words)]
                budget -= len(page)
                if len(statuses) > limit:
                    return statuses[:limit], statuses[limit - 1].document_id
                if budget <= 0:
                    return statuses, page[-1].document_id
        return statuses, None

    async def counts(self, of: Sequence[KnowledgeSource]) -> Mapping[DocumentState, int]:
        """Return the number of these sources' documents per state."""
        counts: Counter[DocumentState] = Counter()
        for ids in self._sources.ranges_of(of):
            counts.update(await self._states.count_by_state(after=ids.after or None, until=ids.until))
        return counts


def _has(status: DocumentStatus, words: Sequence[str]) -> bool:
    """Return whether all the folded words are in the document's id or title."""
    text = fold(f"{status.document_id} {status.title}")
    return all(word in text for word in words)


async def pages_of(
    states: StoredStates, wanted: Sequence[DocumentState] = (), *, ids: IdRange = ALL_IDS, size: int = PAGE
) -> AsyncIterator[Sequence[DocumentStatus]]:
    """Yield the documents in the wanted states, () meaning all, in pages of ``size`` in order of their
    ids."""
    after = ids.after or None
    while page := await states.list(states=wanted, after=after, until=ids.until, limit=size):
        yield page
        after = page[-1].document_id
