"""Embeds a tenant's documents with another model into a version of the index beside the live one, and makes
that version live.

A version is filled from the live one: the same passages, with other vectors. So nothing is parsed again, and
comparing the two tells what is left to do: a run that was killed continues where it was. Meanwhile the worker
writes new documents into both, and a withdrawal removes from both. The last comparison and the switch share
one write turn, in which nobody else writes.

    reindex = Reindex(stores, versions=…, writable=…, index_writes=…, clock=…)
    report = await reindex.run(target, model, progress=print)  # report.before is kept, for the way back
    await reindex.drop_others()  # later: there is no way back then
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
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
"""Documents that are read, embedded and written together."""
_DOCUMENTS_A_COMPARISON = 1_000
"""Documents whose contents are compared by one query of each version."""
_IDLE_ROUNDS = 20
"""Consecutive rounds that copied no document; one more, and the run gives up."""
_IDLE_PAUSE_S = 0.5
_MOST_NAMED = 5
"""Documents that an error names."""
DROP_AFTER_S = 6.0
"""Serving processes change to the new live version within this time; then no answer reads the former one."""
_REMOVED = (DocumentState.WITHDRAWN, DocumentState.WITHHELD)
_log = structlog.get_logger(__name__)


Progress = Callable[[int, int], None]
"""Receives how many documents the new version holds, and how many the live one does."""


@dataclass(frozen=True, slots=True)
class ReindexReport:
    """The result of a reindex."""

    live: str
    """The version that is live now."""
    before: str | None
    """The version that was live before, and is kept; None if ``live`` was live already."""
    documents: int
    """Documents that this run embedded."""
    passages: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Difference:
    """What the new version must still get and lose to equal the live one."""

    missing: Sequence[str]
    """Served documents (``is_served``) that the new version lacks, or holds with other content."""
    to_remove: Sequence[str]
    """Documents that only the new version holds, and that are no longer served."""
    held: int
    """Number of documents of the live version."""


@dataclass(frozen=True, slots=True)
class Reindex:
    """Reindexes one tenant. The caller holds the lock that lets one reindex run at a time.

    ``versions`` creates, switches and deletes versions by name; ``writable`` opens them for writing.
    """

    stores: KnowledgeStores
    _: KW_ONLY
    versions: IndexVersions
    writable: OpenedVersions
    index_writes: WriteTurn
    clock: Clock

    async def run(self, target: WritableVersion, model: IndexModel, *, progress: Progress) -> ReindexReport:
        """Fill ``target``, the version of ``model``, from the live version, and make it live.

        If it raises, the live version is unchanged and serves; a repeated call continues. Raises
        ConflictError (a third version is kept, the live one changed meanwhile, or documents cannot be
        copied), DocumentInvalidError (the model cannot embed a document), EmbeddingUnavailableError,
        SearchUnavailableError.
        """
        began_s = self.clock.monotonic_s()
        live, *_ = await self.writable.kept()
        if live.name == target.name:
            return ReindexReport(live.name, None, 0, 0, 0.0)
        await self._refuse_third(live.name, target.name)
        await target.embedder.embed([["Does the endpoint answer?"]])  # before a version is created for it
        async with self.index_writes:
            await self.versions.create(model)
        documents, passages = await self._fill(live, target, progress)
        seconds = self.clock.monotonic_s() - began_s
        _log.info("reindexed", live=target.name, before=live.name, documents=documents, seconds=seconds)
        return ReindexReport(target.name, live.name, documents, passages, seconds)

    async def other(self) -> WritableVersion:
        """Return the kept version that is not live: the former one, or one that a reindex has not filled yet.

        Raises NotFoundError.
        """
        kept = await self.writable.kept()
        if len(kept) < 2:
            raise NotFoundError("There is no other version of the index. Reindex first.")
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
        """Raise ConflictError if a version beside these two is kept."""
        others = [name for name in await self.versions.kept() if name not in (live, target)]
        if others:
            raise ConflictError(
                f"The index version {others[0]} is kept beside the live one: the one before, or of a reindex "
                "that did not end. Go on with that one, or delete it: assistant aws reindex --drop-old."
            )

    async def _fill(
        self, live: WritableVersion, target: WritableVersion, progress: Progress
    ) -> tuple[int, int]:
        """Copy and remove documents, round by round, until the target equals the live version and is live in
        its place. Return the number of documents and of passages that were copied.

        A round copies what the comparison before it found missing. Raises ConflictError after too many rounds
        that copied nothing.
        """
        documents = passages = idle_rounds = 0
        while (difference := await self._switch_if_equal(live, target)) is not None:
            equal = equal_before = difference.held - len(difference.missing)
            progress(equal, difference.held)
            for batch in _chunks(difference.missing, _DOCUMENTS_A_BATCH):
                copied = await self._copy(batch, live, target)
                equal += len(copied)
                passages += sum(len(document.passages) for document in copied)
                progress(equal, difference.held)
            documents += equal - equal_before
            if difference.to_remove:
                await self._remove(difference.to_remove, live, target)
            idle_rounds = 0 if equal > equal_before else idle_rounds + 1
            if idle_rounds > _IDLE_ROUNDS:
                raise ConflictError(
                    f"{len(difference.missing)} documents cannot be copied ({_named(difference.missing)}): "
                    "the live index does not hold them whole, or they change all the time. Start again."
                )
            if idle_rounds:
                await asyncio.sleep(_IDLE_PAUSE_S)
        return documents, passages

    async def _switch_if_equal(self, live: WritableVersion, target: WritableVersion) -> _Difference | None:
        """Compare the versions. If they are equal, make the target live and return None; if not, change
        nothing and return the difference."""
        async with self.index_writes:
            difference = await self._compare(live.index, target.index)
            if difference.missing or difference.to_remove:
                return difference
            await self.versions.switch(target.name, live=live.name)
            return None

    async def _compare(self, live: PassageIndex, target: PassageIndex) -> _Difference:
        """Return in what the target differs from the live version, as far as documents may be served."""
        live_ids = await live.document_ids()
        unequal: list[str] = []
        held = 0
        for batch in _chunks(live_ids, _DOCUMENTS_A_COMPARISON):
            in_live, in_target = await live.contents(batch), await target.contents(batch)
            held += len(in_live)
            unequal += [name for name, content in in_live.items() if in_target.get(name) != content]
        served = await self._served(unequal)
        missing = [name for name in unequal if name in served]
        extra = sorted(set(await target.document_ids()).difference(live_ids))
        extra_served = await self._served(extra)
        return _Difference(missing, [name for name in extra if name not in extra_served], held)

    async def _served(self, document_ids: Sequence[str]) -> Collection[str]:
        """Return those of the documents that may answer (``is_served``)."""
        statuses = await self.stores.states.get_many(document_ids)
        return {name for name, status in statuses.items() if is_served(status)}

    async def _copy(
        self, document_ids: Sequence[str], live: WritableVersion, target: WritableVersion
    ) -> Sequence[IndexedDocument]:
        """Write the documents into the target, with its vectors; return those that were written.

        Documents that were withdrawn or changed while they were embedded are left out: the next comparison
        finds them.
        """
        embedded = await self._embed(await live.index.read(document_ids), target)
        async with self.index_writes:
            await self._require_live(live.name)
            served = await self._served(document_ids)
            in_live = await live.index.contents(document_ids)
            unchanged = [
                document
                for document in embedded
                if document.card.document_id in served
                and in_live.get(document.card.document_id)
                == HeldContent(document.card.content_hash, len(document.passages))
            ]
            await target.index.replace_documents(unchanged)
        return unchanged

    async def _remove(self, ids: Sequence[str], live: WritableVersion, target: WritableVersion) -> None:
        """Remove documents from the target that still may not be served."""
        async with self.index_writes:
            await self._require_live(live.name)
            served = await self._served(ids)
            await target.index.discard([name for name in ids if name not in served])

    async def _require_live(self, name: str) -> None:
        """Raise ConflictError unless this version is live. ``index_writes`` must be held."""
        if await self.versions.live() != name:
            raise ConflictError("Another reindex made another index live. Start again.")

    async def _embed(
        self, documents: Sequence[StoredDocument], target: WritableVersion
    ) -> list[IndexedDocument]:
        """Return the documents with the target's vectors. Raises DocumentInvalidError for passages too long
        for it."""
        results = await target.embedder.embed([_texts(document) for document in documents])
        indexed: list[IndexedDocument] = []
        refused: list[str] = []
        for document, result in zip(documents, results, strict=True):
            is_too_long = isinstance(result, PassageTooLongError)
            vectors = await self._embed_each_text(document, target) if is_too_long else result
            if vectors is None:
                refused.append(document.card.document_id)
                continue
            passage_count = len(document.passages)
            passages = list(zip(document.passages, vectors[:passage_count], strict=True))
            indexed.append(IndexedDocument(document.card, vectors[passage_count:], passages))
        if refused:
            raise DocumentInvalidError(
                f"The model takes fewer tokens than the passages have: {_named(refused)} cannot be embedded. "
                "The live index is unchanged."
            )
        return indexed

    async def _embed_each_text(
        self, document: StoredDocument, target: WritableVersion
    ) -> list[list[float]] | None:
        """Embed each text of a document by itself, because one is too long. Return their vectors in the order
        of ``_texts``; a title or question that is too long gets the vector of the first passage. Return None
        if a passage is too long.
        """
        # A result is a list of one vector, or the error of that text.
        first, *others = await target.embedder.embed([[text] for text in _texts(document)])
        if isinstance(first, PassageTooLongError):
            return None
        vectors = list(first)
        for number, result in enumerate(others, start=1):
            is_too_long = isinstance(result, PassageTooLongError)
            if is_too_long and number < len(document.passages):
                return None
            vectors += first if is_too_long else result
        return vectors


def _texts(document: StoredDocument) -> list[str]:
    """Return the texts to embed: passages, then title and questions."""
    passages = [passage.embedding_input for passage in document.passages]
    return [*passages, document.card.title, *document.card.questions]


def is_served(status: DocumentStatus | None) -> bool:
    """Return whether the document's content in the index may answer: it is known, live, and neither withdrawn
    nor withheld."""
    return status is not None and status.state not in _REMOVED and status.live_content_hash is not None


def _named(document_ids: Sequence[str]) -> str:
    """Return the first ids for an error: "a, b, c, d, e and 3 more"."""
    more = f" and {len(document_ids) - _MOST_NAMED} more" if len(document_ids) > _MOST_NAMED else ""
    return f"{', '.join(document_ids[:_MOST_NAMED])}{more}"


def _chunks(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), size):
        yield names[start : start + size]
