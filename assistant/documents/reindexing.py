"""Embeds a tenant's documents with another model into a version of the index beside the live one, and makes
that version live.

A version is filled from the live one: the same passages, with other vectors. So nothing is parsed again, and
what is left to do follows from comparing the two: a run that was killed goes on where it was. The worker
writes new documents into both, and a withdrawal removes from both. The last comparison and the switch share
one write turn, in which nobody else writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass

import structlog

from assistant.documents.work import OpenedVersions, WritableVersion
from assistant.domain.clock import Clock
from assistant.domain.documents import (
    DocumentState,
    DocumentStatus,
    HeldContent,
    IndexedDocument,
    IndexModel,
    StoredDocument,
)
from assistant.domain.errors import (
    ConflictError,
    DocumentInvalidError,
    NotFoundError,
    PassageTooLongError,
)
from assistant.stores.documents import KnowledgeStores
from assistant.stores.ports import IndexVersions, PassageIndex, WriteTurn

_DOCUMENTS_A_BATCH = 32
_DOCUMENTS_A_COMPARISON = 1_000
_IDLE_ROUNDS = 20
"""Rounds in which nothing could be written, before the run gives up."""
_IDLE_PAUSE_S = 0.5
_NAMED = 5
DROP_AFTER_S = 6.0
"""Serving processes follow the live index within this time; then no answer reads the former one."""
_REMOVED = (DocumentState.WITHDRAWN, DocumentState.WITHHELD)
_log = structlog.get_logger(__name__)


Progress = Callable[[int, int], None]
"""Receives how many documents the new version holds, and how many the live one does."""


@dataclass(frozen=True, slots=True)
class ReindexReport:
    live: str
    """The version that is live now."""
    before: str | None
    """The version that was live, and is kept; None where nothing was to be done."""
    documents: int
    """Documents that this run embedded."""
    passages: int
    seconds: float


@dataclass(slots=True)
class _Difference:
    missing: list[str]
    """Documents that the new version lacks, or holds with other content."""
    removed: list[str]
    """Documents that only the new version holds, although they are withdrawn or withheld."""
    held: int
    """Documents of the live version."""

    def __bool__(self) -> bool:
        return bool(self.missing or self.removed)


@dataclass(frozen=True, slots=True)
class Reindex:
    """One tenant's. The caller holds the lock that lets one reindex run at a time."""

    stores: KnowledgeStores
    _: KW_ONLY
    versions: IndexVersions
    writable: OpenedVersions
    index_writes: WriteTurn
    clock: Clock

    async def run(self, target: WritableVersion, model: IndexModel, *, progress: Progress) -> ReindexReport:
        """Fill ``target``, the version of ``model``, from the live version, and make it live.

        When it raises, the live version is unchanged and serves; a repeated call goes on. Raises
        ConflictError (a third version is kept; the live one changed meanwhile), DocumentInvalidError (the
        model cannot embed a document), EmbeddingUnavailableError, SearchUnavailableError.
        """
        began_s = self.clock.monotonic_s()
        live = (await self.writable.kept())[0]
        if live.name == target.name:
            return ReindexReport(live.name, None, 0, 0, 0.0)
        await self._refuse_third(live.name, target.name)
        await target.embedder.embed([["Does the endpoint answer?"]])
        async with self.index_writes:
            await self.versions.create(model)
        documents = passages = idle = 0
        while not await self._switched(live, target):
            difference = await self._difference(live.index, target.index)
            progress(difference.held - len(difference.missing), difference.held)
            written = 0
            for batch in _chunks(difference.missing, _DOCUMENTS_A_BATCH):
                copied_documents, copied_passages = await self._copy(batch, live, target)
                written, passages = written + copied_documents, passages + copied_passages
                progress(difference.held - len(difference.missing) + written, difference.held)
            await self._remove(difference.removed, live, target)
            documents += written
            idle = 0 if written else idle + 1
            if idle > _IDLE_ROUNDS:
                raise ConflictError(
                    f"{len(difference.missing)} documents cannot be copied ({_named(difference.missing)}): "
                    "the live index does not hold them whole, or they change all the time. Start again."
                )
            if idle:
                await asyncio.sleep(_IDLE_PAUSE_S)
        seconds = self.clock.monotonic_s() - began_s
        _log.info("reindexed", live=target.name, before=live.name, documents=documents, seconds=seconds)
        return ReindexReport(target.name, live.name, documents, passages, seconds)

    async def other(self) -> WritableVersion:
        """Return the kept version that is not live: the one before, or one that is not filled.

        Raises NotFoundError.
        """
        kept = await self.writable.kept()
        if len(kept) < 2:
            raise NotFoundError("There is no other version of the index. Reindex first: --model NAME.")
        return kept[1]

    async def drop_others(self) -> list[str]:
        """Delete every version that is not live, with its text; return their names."""
        await asyncio.sleep(DROP_AFTER_S)
        async with self.index_writes:
            _, *names = await self.versions.kept()
            for name in names:
                await self.versions.drop(name)
        return names

    async def _refuse_third(self, live: str, target: str) -> None:
        others = [name for name in await self.versions.kept() if name not in (live, target)]
        if others:
            raise ConflictError(
                f"The index version {others[0]} is kept beside the live one: the one before, or of a reindex "
                "that did not end. Go on with that one, or delete it: assistant knowledge reindex --drop-old."
            )

    async def _switched(self, live: WritableVersion, target: WritableVersion) -> bool:
        """Make the target live if it holds what the live version holds; return whether it is live."""
        async with self.index_writes:
            if await self._difference(live.index, target.index):
                return False
            await self.versions.switch(target.name, live=live.name)
            return True

    async def _difference(self, live: PassageIndex, target: PassageIndex) -> _Difference:
        live_ids = await live.document_ids()
        missing: list[str] = []
        held = 0
        for some in _chunks(live_ids, _DOCUMENTS_A_COMPARISON):
            ours, theirs = await live.contents(some), await target.contents(some)
            held += len(ours)
            missing += [name for name, content in ours.items() if theirs.get(name) != content]
        statuses = await self._statuses(missing)
        missing = [name for name in missing if is_served(statuses.get(name))]
        more = sorted(set(await target.document_ids()).difference(live_ids))
        statuses = await self._statuses(more)
        removed = [name for name in more if not is_served(statuses.get(name))]
        return _Difference(missing, removed, held)

    async def _statuses(self, document_ids: Sequence[str]) -> Mapping[str, DocumentStatus]:
        return await self.stores.states.get_many(document_ids) if document_ids else {}

    async def _copy(
        self, document_ids: Sequence[str], live: WritableVersion, target: WritableVersion
    ) -> tuple[int, int]:
        """Write the documents with the target's vectors; return the number of documents and of passages.

        What was withdrawn or changed since it was read is left out: the next comparison decides.
        """
        read = await live.index.read(document_ids)
        embedded = await self._embedded(read, target)
        async with self.index_writes:
            await self._require_live(live.name)
            statuses = await self._statuses(document_ids)
            now = await live.index.contents(document_ids)
            kept = [
                document
                for document, stored in zip(embedded, read, strict=True)
                if is_served(statuses.get(stored.card.document_id))
                and now.get(stored.card.document_id)
                == HeldContent(stored.card.content_hash, len(stored.passages))
            ]
            await target.index.replace_documents(kept)
        return len(kept), sum(len(document.passages) for document in kept)

    async def _remove(
        self, document_ids: Sequence[str], live: WritableVersion, target: WritableVersion
    ) -> None:
        if not document_ids:
            return
        async with self.index_writes:
            await self._require_live(live.name)
            statuses = await self._statuses(document_ids)
            gone = [name for name in document_ids if not is_served(statuses.get(name))]
            await target.index.discard(gone)

    async def _require_live(self, name: str) -> None:
        if await self.versions.live() != name:
            raise ConflictError("Another reindex made another index live. Start again.")

    async def _embedded(
        self, documents: Sequence[StoredDocument], target: WritableVersion
    ) -> list[IndexedDocument]:
        results = await target.embedder.embed([_texts(document) for document in documents])
        indexed: list[IndexedDocument] = []
        refused: list[str] = []
        for document, result in zip(documents, results, strict=True):
            is_whole = not isinstance(result, PassageTooLongError)
            vectors = result if is_whole else await self._with_short_titles(document, target)
            if vectors is None:
                refused.append(document.card.document_id)
                continue
            count = len(document.passages)
            passages = list(zip(document.passages, vectors[:count], strict=True))
            indexed.append(IndexedDocument(document.card, vectors[count:], passages))
        if refused:
            raise DocumentInvalidError(
                f"The model takes fewer tokens than the passages have: {_named(refused)} cannot be embedded. "
                "The live index is unchanged."
            )
        return indexed

    async def _with_short_titles(
        self, document: StoredDocument, target: WritableVersion
    ) -> list[list[float]] | None:
        """Return the vectors where a text was too long: a title that is gets the first passage's vector.

        None when it is a passage.
        """
        results = await target.embedder.embed([[text] for text in _texts(document)])
        first = results[0]
        if isinstance(first, PassageTooLongError):
            return None
        vectors: list[list[float]] = []
        for number, result in enumerate(results):
            is_long = isinstance(result, PassageTooLongError)
            if is_long and number < len(document.passages):
                return None
            vectors += first if is_long else result
        return vectors


def _texts(document: StoredDocument) -> list[str]:
    passages = [passage.embedding_input for passage in document.passages]
    return [*passages, document.card.title, *document.card.questions]


def is_served(status: DocumentStatus | None) -> bool:
    """Return whether the content in the index may answer: the document is known, and neither withdrawn nor
    withheld."""
    return status is not None and status.state not in _REMOVED and status.live_content_hash is not None


def _named(document_ids: Sequence[str]) -> str:
    more = f" and {len(document_ids) - _NAMED} more" if len(document_ids) > _NAMED else ""
    return f"{', '.join(document_ids[:_NAMED])}{more}"


def _chunks(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), size):
        yield names[start : start + size]
