"""Brings a batch of documents into the index: load, parse, embed, write. Each step is a span.

``DocumentPipeline.process`` does the steps. The status of a document goes received → parsed → embedded →
live; between the steps it may be withdrawn or received again, and then ``advance_many`` does not write it:
its id is not among the ``accepted`` ones, and the document leaves the batch. "Beside" are kept versions of
the index that are not live.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog
from opentelemetry import trace

from assistant.documents.passages import DocumentParser, ParsedParts, Received
from assistant.domain.clock import Clock, Deadline, all_or_cancel
from assistant.domain.documents import INDEX_LOST, Document, DocumentState, DocumentStatus, IndexedDocument
from assistant.domain.errors import (
    AssistantError,
    DeadlineExceededError,
    DocumentInvalidError,
    NotFoundError,
    PassageTooLongError,
    SearchUnavailableError,
)
from assistant.stores.documents import KnowledgeStores
from assistant.stores.events import StoredErasureKeys
from assistant.stores.ports import IndexVersions, PassageIndex, TextEmbedder, WriteTurn

_log = structlog.get_logger(__name__)
_tracer = trace.get_tracer(__name__)
_FINAL = (DocumentState.LIVE, DocumentState.WITHDRAWN, DocumentState.WITHHELD)
"""States in which the worker has nothing to index."""
_TEXTS_AT_ONCE = 256
"""Texts that are embedded before their documents are written; a larger document goes alone. That takes
seconds, so an interruption repeats little, and documents of a large batch become live one after the other."""


@dataclass(frozen=True, slots=True)
class EmbeddingLimits:
    """Limits of one tenant's calls of its embedding endpoint."""

    passages_per_request: int = 32
    """Text Embeddings Inference's default limit of a client's batch."""
    requests_in_flight: int = 4
    """Two embedding workers, each with one request in progress and one waiting."""
    request_timeout_s: float = 50.0
    """Less than the 60 s of a SageMaker endpoint, whose own timeout looks like a failure."""
    retry_for_s: float = 60.0
    """Time from a request's first failure in which it is retried; after it the documents go back to their
    queue."""
    first_pause_s: float = 0.2
    longest_pause_s: float = 5.0
    """Each pause between tries is twice the one before, up to this, less a random part of at most half."""


class BatchEmbedder:
    """Embeds the texts of documents, with retries. All batches of a tenant share its limit of requests.

    Tenants that share an endpoint share its limit too (``endpoint``), and take turns: at most one request of
    each tenant waits for it (``_next``), so a tenant with many documents delays another's request by one
    request only.
    """

    def __init__(
        self,
        embedder: TextEmbedder,
        *,
        clock: Clock,
        limits: EmbeddingLimits | None = None,
        endpoint: asyncio.Semaphore | None = None,
    ):
        """``endpoint``: free requests of an endpoint that several tenants use, shared by them; None: no other
        uses it."""
        self._embedder = embedder
        self._clock = clock
        self._limits = limits or EmbeddingLimits()
        self._free = endpoint or asyncio.Semaphore(self._limits.requests_in_flight)
        self._next = asyncio.Lock()

    async def embed(
        self, documents: Sequence[Sequence[str]]
    ) -> list[list[list[float]] | PassageTooLongError]:
        """Return for each document the vectors of its texts, or the error if one of its texts is too long.

        Raises the endpoint's last error if it was unavailable for ``retry_for_s``.
        """
        try:
            vectors = iter(await self._embed_all([text for texts in documents for text in texts]))
        except PassageTooLongError:  # embed each document separately: only the one with that text fails
            return [await self._embed_one(texts) for texts in documents]
        return [[next(vectors) for _ in texts] for texts in documents]

    async def _embed_one(self, texts: Sequence[str]) -> list[list[float]] | PassageTooLongError:
        try:
            return await self._embed_all(texts)
        except PassageTooLongError as error:
            return error

    async def _embed_all(self, inputs: Sequence[str]) -> list[list[float]]:
        size = self._limits.passages_per_request
        requests = [self._request(inputs[start : start + size]) for start in range(0, len(inputs), size)]
        return [vector for vectors in await all_or_cancel(requests) for vector in vectors]

    @asynccontextmanager
    async def _turn(self) -> AsyncGenerator[None]:
        """Wait for a free request of the endpoint, and hold it."""
        async with self._next:  # a semaphore serves those who wait in their order
            await self._free.acquire()
        try:
            yield
        finally:
            self._free.release()

    async def _request(self, texts: Sequence[str]) -> list[list[float]]:
        """Embed texts in one call, with retries; in two halves if the call exceeded ``request_timeout_s``."""
        retry_until: Deadline | None = None
        pause_s = self._limits.first_pause_s
        while True:
            try:
                async with self._turn():
                    deadline = Deadline.after(self._limits.request_timeout_s, clock=self._clock)
                    return await self._embedder.embed(texts, deadline=deadline)
            except AssistantError as error:
                if isinstance(error, DeadlineExceededError) and len(texts) > 1:
                    break
                if retry_until is None:
                    _log.warning("embedding_retried", code=error.code, reason=error.message)
                    retry_until = Deadline.after(self._limits.retry_for_s, clock=self._clock)
                if not error.retryable or retry_until.remaining_s() <= pause_s:
                    raise
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 (jitter)
            pause_s = min(2 * pause_s, self._limits.longest_pause_s)
        _log.warning("embedding_slow", texts=len(texts), timeout_s=self._limits.request_timeout_s)
        middle = len(texts) // 2
        return [*await self._request(texts[:middle]), *await self._request(texts[middle:])]


@dataclass(frozen=True, slots=True)
class WritableVersion:
    """A version of the index, with the embedder of its model."""

    name: str
    index: PassageIndex
    embedder: BatchEmbedder


class OpenedVersions:
    """Opens the kept versions of a tenant's index for writing, each once, when ``kept`` first sees it.

    ``open_one`` returns None for a version whose model this process does not know. Such a version is left
    out, and gets its documents by a later reindex or the way back; if it is the live one, nothing can be
    written.
    """

    def __init__(
        self, versions: IndexVersions, open_one: Callable[[str], Awaitable[WritableVersion | None]]
    ) -> None:
        self._versions = versions
        self._open_one = open_one
        self._opened: dict[str, WritableVersion] = {}
        self._unknown: set[str] = set()

    async def live(self) -> str:
        """Return the name of the live version. Raises SearchUnavailableError."""
        return await self._versions.live()

    async def kept(self) -> Sequence[WritableVersion]:
        """Return the versions to write, the live one first.

        Raises SearchUnavailableError, also if this process does not know the live version's model.
        """
        live, *others = await self._versions.kept()
        opened = await self._open(live)
        if opened is None:
            raise SearchUnavailableError(
                f"The live index {live} is of an embedding model that this process does not know. Add the "
                "model, or name it in the tenant file ([embedding_next])."
            )
        beside = [await self._open(name) for name in others]
        return [opened, *(version for version in beside if version is not None)]

    async def _open(self, name: str) -> WritableVersion | None:
        """Return a version; None for an unknown model, which is logged once but asked for again each time."""
        if name not in self._opened:
            opened = await self._open_one(name)
            if opened is None:
                if name not in self._unknown:
                    _log.warning("version_of_unknown_model", version=name)
                self._unknown.add(name)
                return None
            self._opened[name] = opened
        return self._opened[name]


@dataclass(frozen=True, slots=True)
class TenantIngestion:
    """The services that bring one tenant's documents into its index and remove them from it."""

    tenant: str
    stores: KnowledgeStores
    index: PassageIndex
    """Index of the model that the settings name. It removes documents from every version."""
    embedder: BatchEmbedder
    parser: DocumentParser
    clock: Clock
    index_writes: WriteTurn = field(default_factory=asyncio.Lock)
    """Lock of all processes. Each holds it while it writes the index and the states that record the write, so
    that the index never has a document that its state excludes."""
    keys: StoredErasureKeys | None = None
    """Keys that encrypt texts about documents, such as feedback; a withdrawal destroys them. None: no such
    texts."""
    versions: OpenedVersions | None = None
    """None: ``index`` is the only version."""

    async def kept_versions(self) -> Sequence[WritableVersion]:
        """Return the versions to write, the live one first. Raises SearchUnavailableError."""
        if self.versions is None:
            return [WritableVersion("", self.index, self.embedder)]
        return await self.versions.kept()

    async def require_live(self, name: str) -> None:
        """Raise SearchUnavailableError unless the version is live. Call it with ``index_writes`` held."""
        if self.versions is not None and await self.versions.live() != name:
            raise SearchUnavailableError("Another index became live while documents were embedded. Retry.")


@dataclass(slots=True)
class _Work:
    """One parsed document of a batch."""

    status: DocumentStatus
    """Its newest status; ``_with_state`` replaces it."""
    labels: tuple[str, ...]
    """Labels of the stored document, and not those in ``parts``: the parsing process is not trusted."""
    parts: ParsedParts
    vectors: dict[str, list[list[float]]] = field(default_factory=dict[str, list[list[float]]])
    """By version of the index: the vectors of ``parts.texts``, passages first. A version whose model failed
    is missing."""

    @property
    def document_id(self) -> str:
        return self.status.document_id

    def indexed(self, version: str) -> IndexedDocument:
        """Return what a version of the index stores. A title that is too long for the model has no vector: it
        gets that of the first passage, which begins with the title."""
        vectors = self.vectors[version]
        passages = list(zip(self.parts.passages, vectors, strict=False))
        title_vectors = iter(vectors[len(passages) :])
        titles = [vectors[0] if title is None else next(title_vectors) for title in self.parts.titles]
        return IndexedDocument(card=self.parts.card, title_vectors=titles, passages=passages)


def _groups_of(works: Sequence[_Work]) -> Generator[Sequence[_Work]]:
    """Yield the documents in groups of at most ``_TEXTS_AT_ONCE`` texts, a larger document alone."""
    group: list[_Work] = []
    texts = 0
    for work in works:
        if group and texts + len(work.parts.texts) > _TEXTS_AT_ONCE:
            yield group
            group, texts = [], 0
        group.append(work)
        texts += len(work.parts.texts)
    if group:
        yield group


class DocumentPipeline:
    """Brings documents of one tenant into its index. Several batches may run at once."""

    def __init__(self, ingestion: TenantIngestion) -> None:
        self._ingestion = ingestion
        self._documents = ingestion.stores.documents
        self._states = ingestion.stores.states
        self._parsing = asyncio.Lock()
        self.writes = 0
        """Number of writes of the index so far, by which the worker decides when to optimize it."""

    async def process(self, document_ids: Sequence[str]) -> None:
        """Make each document live, or failed (stale when older content answers) with code and reason.

        Documents that are live, withdrawn, withheld or unknown are skipped. Raises the error of an
        unavailable dependency: then nothing is lost, and the call may be repeated.
        """
        with _tracer.start_as_current_span("ingest.batch") as span:
            span.set_attribute("ingest.documents", len(document_ids))
            works = await self._parse(await self._load(document_ids))
            live, *beside = await self._ingestion.kept_versions()
            for group in _groups_of(works):
                embedded = await self._embed(group, live)
                for version in beside:
                    await self._embed_beside(embedded, version)
                await self._write(embedded, live, beside)

    async def fail(self, document_id: str, *, code: str, reason: str) -> None:
        """Mark one document as failed, unless it is live, withdrawn or withheld."""
        status = await self._states.get(document_id)
        if status is not None and status.state not in _FINAL:
            await self._states.advance_many([self._failed(status, code, reason)])

    async def tries_alone(self, document_ids: Sequence[str]) -> Mapping[str, int]:
        """As in ``worker.TriesAloneCounter``."""
        known = await self._states.get_many(document_ids)
        return {document_id: status.tried_alone for document_id, status in known.items()}

    async def count_alone(self, document_id: str, tries: int) -> None:
        """As in ``worker.TriesAloneCounter``."""
        status = await self._states.get(document_id)
        if status is not None and status.state not in _FINAL:
            tried = {"tried_alone": max(0, status.tried_alone + tries)}
            await self._states.advance_many([status.model_copy(update=tried)])

    async def _load(self, document_ids: Sequence[str]) -> list[tuple[DocumentStatus, Document]]:
        """Return the documents that have work left; those whose stored document is unusable become failed."""
        with _tracer.start_as_current_span("ingest.load"):
            loaded: list[tuple[DocumentStatus, Document]] = []
            failed: list[DocumentStatus] = []
            for status in (await self._states.get_many(document_ids)).values():
                if status.state == DocumentState.WITHDRAWN:
                    await self._documents.delete(status.document_id)
                if status.state in _FINAL:
                    continue
                try:
                    loaded.append((status, await self._document_of(status)))
                except (NotFoundError, DocumentInvalidError) as error:
                    failed.append(self._failed(status, error.code, error.message))
            await self._advance(failed)
            return loaded

    async def _document_of(self, status: DocumentStatus) -> Document:
        """Return the stored document. Raises NotFoundError; DocumentInvalidError if it is not the status's
        content."""
        document = await self._documents.get(status.document_id)
        if document is None:
            raise NotFoundError("The stored document is missing; add it again.")
        if status.content_hash not in document.content_hashes():
            raise DocumentInvalidError("Adding the document was interrupted; add it again.")
        return document

    async def _parse(self, loaded: Sequence[tuple[DocumentStatus, Document]]) -> list[_Work]:
        """Parse the documents and store their texts; return the accepted ones. Invalid ones become failed."""
        with _tracer.start_as_current_span("ingest.parse"):
            async with self._parsing:  # one batch at a time: parsing uses one core
                received = [
                    Received(document, status.content_hash, status.received_at) for status, document in loaded
                ]
                parsed = await asyncio.to_thread(lambda: list(self._ingestion.parser.parse(received)))
            works: list[_Work] = []
            advanced: list[DocumentStatus] = []
            for (status, document), parts in zip(loaded, parsed, strict=True):
                if isinstance(parts, AssistantError):
                    advanced.append(self._failed(status, parts.code, parts.message))
                    continue
                works.append(work := _Work(status, document.labels, parts))
                await self._documents.put_parsed(work.document_id, status.content_hash, parts.parsed)
                advanced.append(self._with_state(work, DocumentState.PARSED))
            accepted = await self._advance(advanced)
            await self._delete_withdrawn([w.document_id for w in works if w.document_id not in accepted])
            return [work for work in works if work.document_id in accepted]

    async def _delete_withdrawn(self, document_ids: Sequence[str]) -> None:
        """Delete parsed text that was stored after a withdrawal had deleted the document."""
        for status in (await self._states.get_many(document_ids)).values():
            if status.state == DocumentState.WITHDRAWN:
                await self._documents.delete(status.document_id)

    async def _embed(self, works: Sequence[_Work], live: WritableVersion) -> list[_Work]:
        """Add the live version's vectors; return the documents that have them. One with too long a text
        becomes failed."""
        with _tracer.start_as_current_span("ingest.embed") as span:
            span.set_attribute("ingest.passages", sum(len(work.parts.passages) for work in works))
            results = await live.embedder.embed([work.parts.texts for work in works])
            embedded: list[_Work] = []
            failed: list[DocumentStatus] = []
            for work, result in zip(works, results, strict=True):
                if isinstance(result, PassageTooLongError):
                    failed.append(self._failed(work.status, result.code, result.message))
                else:
                    work.vectors[live.name] = result
                    embedded.append(work)
            await self._advance(failed)
            return embedded

    async def _embed_beside(self, works: Sequence[_Work], version: WritableVersion) -> None:
        """Embed the documents for a version that is not live. Documents that fail are missing in it until a
        reindex or the way back copies them: the live version does not wait for another model."""
        try:
            results = await version.embedder.embed([work.parts.texts for work in works])
        except AssistantError as error:
            _log.warning("version_behind", version=version.name, code=error.code, documents=len(works))
            return
        for work, result in zip(works, results, strict=True):
            if isinstance(result, PassageTooLongError):
                _log.warning("version_behind", version=version.name, code=result.code, documents=1)
            else:
                work.vectors[version.name] = result

    async def _write(
        self, works: Sequence[_Work], live: WritableVersion, beside: Sequence[WritableVersion]
    ) -> None:
        """Write the accepted documents into all versions, then make them live. Raises
        SearchUnavailableError."""
        with _tracer.start_as_current_span("ingest.index"):
            async with self._ingestion.index_writes:
                await self._ingestion.require_live(live.name)
                # This refuses documents that were withdrawn or received again while the batch was processed.
                embedded = [self._with_state(work, DocumentState.EMBEDDED) for work in works]
                accepted = await self._advance(embedded)
                kept = [work for work in works if work.document_id in accepted]
                self.writes += 1
                await live.index.replace_documents([work.indexed(live.name) for work in kept])
                for version in beside:
                    await self._write_beside(kept, version)
                # The states last: after a switch, some processes serve the former version for a second or
                # two.
                await self._advance([self._live(work) for work in kept])
            passages = sum(len(work.parts.passages) for work in kept)
            _log.info("documents_live", documents=len(kept), passages=passages)

    async def _write_beside(self, works: Sequence[_Work], version: WritableVersion) -> None:
        """Write the documents that have vectors for it into a version that is not live; an error is only
        logged."""
        written = [work.indexed(version.name) for work in works if version.name in work.vectors]
        try:
            await version.index.replace_documents(written)
        except AssistantError as error:
            _log.warning("version_behind", version=version.name, code=error.code, documents=len(written))

    async def _advance(self, statuses: Sequence[DocumentStatus]) -> frozenset[str]:
        """Write the statuses; return the accepted ids: those not withdrawn or received again meanwhile."""
        for status in statuses:
            if status.failure_code not in (None, INDEX_LOST):
                _log.warning("document_failed", document_id=status.document_id, code=status.failure_code)
        return await self._states.advance_many(statuses) if statuses else frozenset()

    def _with_state(self, work: _Work, state: DocumentState) -> DocumentStatus:
        """Set the state in the work's status, and return that. Code and reason of an earlier failure are
        cleared; those of a document that the index lost stay until it is live again."""
        update: dict[str, object] = {"state": state, "updated_at": self._ingestion.clock.now()}
        if state is DocumentState.LIVE or work.status.failure_code != INDEX_LOST:
            update |= {"failure_code": None, "failure_reason": None}
        work.status = work.status.model_copy(update=update)
        return work.status

    def _live(self, work: _Work) -> DocumentStatus:
        """Return the status of a document whose content is in the index."""
        passages, live = work.parts.passages, self._with_state(work, DocumentState.LIVE)
        update = {
            "passage_count": len(passages),
            "token_count": sum(passage.token_count for passage in passages),
            "tried_alone": 0,
            "first_load": False,
            "live_content_hash": live.content_hash,
            "live_labels": work.labels,
        }
        return live.model_copy(update=update)

    def _failed(self, status: DocumentStatus, code: str, reason: str) -> DocumentStatus:
        """Return the status as failed, or as stale if older content of it is still in the index and
        answers."""
        live_hash = None if status.failure_code == INDEX_LOST else status.live_content_hash
        state, now = DocumentState.STALE if live_hash else DocumentState.FAILED, self._ingestion.clock.now()
        update = {"state": state, "live_content_hash": live_hash, "updated_at": now, "first_load": False}
        return status.model_copy(update=update | {"failure_code": code, "failure_reason": reason})
