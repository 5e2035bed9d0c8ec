"""A batch of documents from the store into the index: load, parse, embed, index, one span a step."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import structlog
from opentelemetry import trace

from assistant.domain.clock import Clock, Deadline
from assistant.domain.documents import (
    INDEX_LOST,
    Document,
    DocumentCard,
    DocumentState,
    DocumentStatus,
    IndexedDocument,
    ParsedDocument,
    Passage,
)
from assistant.domain.errors import AssistantError, DocumentInvalidError, NotFoundError, PassageTooLongError
from assistant.knowledge.passages import DocumentParser, Received
from assistant.knowledge.ports import DocumentStates, DocumentStore, PassageEmbedder, PassageIndex, WriteTurn

_log = structlog.get_logger(__name__)
_tracer = trace.get_tracer(__name__)
_OUT = (DocumentState.WITHDRAWN, DocumentState.WITHHELD)
_ENDED = (DocumentState.LIVE, *_OUT)
"""Nothing is left to do with the newest content."""


@dataclass(slots=True)
class _Work:
    """One document on its way."""

    status: DocumentStatus
    document: Document
    parsed: ParsedDocument | None = None
    passages: tuple[Passage, ...] = ()
    card: DocumentCard | None = None
    titles: tuple[str | None, ...] = ()
    """The title and each question; None where the embedding model cannot read it whole."""
    vectors: list[list[float]] = field(default_factory=list[list[float]])
    """Of ``texts``."""

    @property
    def document_id(self) -> str:
        return self.status.document_id

    @property
    def texts(self) -> list[str]:
        """What is embedded: passages, then titles."""
        return [
            *(passage.embedding_input for passage in self.passages),
            *(title for title in self.titles if title is not None),
        ]

    def indexed(self) -> IndexedDocument:
        """A title over the model's limit gets the vector of the first passage, which begins with it."""
        assert self.card is not None  # noqa: S101 (for the type checker)
        passages = list(zip(self.passages, self.vectors, strict=False))
        rest = iter(self.vectors[len(passages) :])
        vectors = [self.vectors[0] if title is None else next(rest) for title in self.titles]
        return IndexedDocument(card=self.card, title_vectors=vectors, passages=passages)


class DocumentPipeline:
    """Brings documents of one tenant into its index. Several batches may run at once.

    ``index_writes`` is held over each write of the index together with the states that say so, by this
    pipeline and by withdrawals, in every process: so the index never holds what its state does not admit.
    """

    def __init__(
        self,
        *,
        documents: DocumentStore,
        states: DocumentStates,
        index: PassageIndex,
        embedder: BatchEmbedder,
        parser: DocumentParser,
        index_writes: WriteTurn,
        clock: Clock,
    ) -> None:
        self._documents = documents
        self._states = states
        self._index = index
        self._embedder = embedder
        self._parser = parser
        self._clock = clock
        self._parsing = asyncio.Lock()
        self._index_writes = index_writes
        self.writes = 0
        """How often the index was written."""

    async def process(self, document_ids: Sequence[str]) -> None:
        """Make each document live, or failed (stale when older content answers) with code and reason.

        What is live already, withdrawn, withheld or unknown is passed over. Raises the error of a dependency
        that did not answer: then nothing is lost and the same call may be made again.
        """
        with _tracer.start_as_current_span("ingest.batch") as span:
            span.set_attribute("ingest.documents", len(document_ids))
            works = await self._load(document_ids)
            works = await self._parse(works)
            works = await self._embed(works)
            await self._write(works)

    async def fail(self, document_id: str, *, code: str, reason: str) -> None:
        """Mark one document as failed, unless it is live, withdrawn or withheld by now."""
        status = await self._states.get(document_id)
        if status is not None and status.state not in _ENDED:
            await self._states.advance_many([self._failed(status, code, reason)])

    async def tries_alone(self, document_ids: Sequence[str]) -> Mapping[str, int]:
        known = await self._states.get_many(document_ids)
        return {document_id: status.tried_alone for document_id, status in known.items()}

    async def begin_alone(self, document_id: str) -> None:
        await self._count_alone(document_id, 1)

    async def end_alone(self, document_id: str) -> None:
        await self._count_alone(document_id, -1)

    async def _count_alone(self, document_id: str, tries: int) -> None:
        status = await self._states.get(document_id)
        if status is not None and status.state not in _ENDED:
            tried = {"tried_alone": max(0, status.tried_alone + tries)}
            await self._states.advance_many([status.model_copy(update=tried)])

    async def _load(self, document_ids: Sequence[str]) -> list[_Work]:
        with _tracer.start_as_current_span("ingest.load"):
            known = await self._states.get_many(document_ids)
            works: list[_Work] = []
            failed: list[DocumentStatus] = []
            for status in known.values():
                if status.state == DocumentState.WITHDRAWN:
                    await self._documents.delete(status.document_id)
                if status.state in _ENDED:
                    continue
                try:
                    works.append(_Work(status=status, document=await self._stored(status)))
                except (NotFoundError, DocumentInvalidError) as error:
                    failed.append(self._failed(status, error.code, error.message))
            await self._advance(failed)
            return works

    async def _stored(self, status: DocumentStatus) -> Document:
        document = await self._documents.get(status.document_id)
        if document is None:
            raise NotFoundError("The stored document is missing; add it again.")
        if document.content_hash() != status.content_hash:
            raise DocumentInvalidError("Adding the document was interrupted; add it again.")
        return document

    async def _parse(self, works: Sequence[_Work]) -> list[_Work]:
        with _tracer.start_as_current_span("ingest.parse"):
            async with self._parsing:  # one at a time: it is work for one core
                failed = await asyncio.to_thread(self._parse_all, works)
            parsed = [work for work in works if work.parsed is not None]
            for work in parsed:
                assert work.parsed is not None  # noqa: S101 (for the type checker)
                await self._documents.put_parsed(work.document_id, work.status.content_hash, work.parsed)
            accepted = await self._advance(
                [*failed, *(self._at(work, DocumentState.PARSED) for work in parsed)]
            )
            await self._forget_withdrawn([w.document_id for w in parsed if w.document_id not in accepted])
            return [work for work in parsed if work.document_id in accepted]

    async def _forget_withdrawn(self, document_ids: Sequence[str]) -> None:
        """Remove the parsed text that was written after a withdrawal had removed the document."""
        for status in (await self._states.get_many(document_ids)).values():
            if status.state == DocumentState.WITHDRAWN:
                await self._documents.delete(status.document_id)

    def _parse_all(self, works: Sequence[_Work]) -> list[DocumentStatus]:
        """Fill in parsed text, passages and card; return the statuses of those that have none."""
        failed: list[DocumentStatus] = []
        received = [
            Received(work.document, work.status.content_hash, work.status.received_at) for work in works
        ]
        for work, parts in zip(works, self._parser.parse(received), strict=True):
            if isinstance(parts, AssistantError):
                failed.append(self._failed(work.status, parts.code, parts.message))
            else:
                work.parsed, work.passages, work.card = parts.parsed, parts.passages, parts.card
                work.titles = parts.titles
        return failed

    async def _embed(self, works: Sequence[_Work]) -> list[_Work]:
        with _tracer.start_as_current_span("ingest.embed") as span:
            span.set_attribute("ingest.passages", sum(len(work.passages) for work in works))
            results = await self._embedder.embed([work.texts for work in works])
            embedded: list[_Work] = []
            failed: list[DocumentStatus] = []
            for work, result in zip(works, results, strict=True):
                if isinstance(result, PassageTooLongError):
                    failed.append(self._failed(work.status, result.code, result.message))
                else:
                    work.vectors = result
                    embedded.append(work)
            await self._advance(failed)
            return embedded

    async def _write(self, works: Sequence[_Work]) -> None:
        with _tracer.start_as_current_span("ingest.index"):
            async with self._index_writes:
                # Documents that were withdrawn or received anew while this batch ran are refused here.
                accepted = await self._advance([self._at(work, DocumentState.EMBEDDED) for work in works])
                kept = [work for work in works if work.document_id in accepted]
                self.writes += 1
                await self._index.replace_documents([work.indexed() for work in kept])
                await self._advance([self._live(work) for work in kept])
            _log.info("documents_live", documents=len(kept), passages=sum(len(w.passages) for w in kept))

    async def _advance(self, statuses: Sequence[DocumentStatus]) -> frozenset[str]:
        for status in statuses:
            if status.failure_code not in (None, INDEX_LOST):
                _log.warning("document_failed", document_id=status.document_id, code=status.failure_code)
        return await self._states.advance_many(statuses) if statuses else frozenset()

    def _at(self, work: _Work, state: DocumentState) -> DocumentStatus:
        update: dict[str, object] = {"state": state, "updated_at": self._clock.now()}
        if state is DocumentState.LIVE or work.status.failure_code != INDEX_LOST:
            update |= {"failure_code": None, "failure_reason": None}
        work.status = work.status.model_copy(update=update)
        return work.status

    def _live(self, work: _Work) -> DocumentStatus:
        return self._at(work, DocumentState.LIVE).model_copy(
            update={
                "live_content_hash": work.status.content_hash,
                "live_labels": work.document.labels,
                "tried_alone": 0,
                "passage_count": len(work.passages),
                "token_count": sum(passage.token_count for passage in work.passages),
            }
        )

    def _failed(self, status: DocumentStatus, code: str, reason: str) -> DocumentStatus:
        is_lost = status.failure_code == INDEX_LOST  # then no older content answers
        return status.model_copy(
            update={
                "state": DocumentState.STALE
                if status.live_content_hash and not is_lost
                else DocumentState.FAILED,
                "live_content_hash": None if is_lost else status.live_content_hash,
                "updated_at": self._clock.now(),
                "failure_code": code,
                "failure_reason": reason,
            }
        )


# Embeds the texts of a batch of documents: several requests in flight, retried with back-off.


Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class EmbeddingLimits:
    passages_per_request: int = 32
    """Text Embeddings Inference's default bound of a client's batch."""
    requests_in_flight: int = 4
    """Two embedding workers busy, and for each the next request waiting."""
    request_timeout_s: float = 60.0
    retry_for_s: float = 60.0
    """How long a request is tried again before its documents go back to the queue."""
    first_pause_s: float = 0.2
    longest_pause_s: float = 5.0


class BatchEmbedder:
    """Shared by all batches in progress of a tenant: the bound on requests holds over all of them."""

    def __init__(
        self, embedder: PassageEmbedder, *, clock: Clock, limits: EmbeddingLimits | None = None
    ) -> None:
        self._embedder = embedder
        self._clock = clock
        self._limits = limits or EmbeddingLimits()
        self._free = asyncio.Semaphore(self._limits.requests_in_flight)

    async def embed(
        self, documents: Sequence[Sequence[str]]
    ) -> list[list[list[float]] | PassageTooLongError]:
        """Return for each document the vectors of its texts, or why the endpoint refused one of them.

        Raises the endpoint's last error when it did not answer for ``retry_for_s``.
        """
        inputs = [text for texts in documents for text in texts]
        try:
            vectors = await self._embed_all(inputs)
        except PassageTooLongError:
            # One text is refused: ask for each document alone, so that only that one fails.
            return [await self._embed_one(texts) for texts in documents]
        remaining = iter(vectors)
        return [[next(remaining) for _ in texts] for texts in documents]

    async def _embed_one(self, texts: Sequence[str]) -> list[list[float]] | PassageTooLongError:
        try:
            return await self._embed_all(texts)
        except PassageTooLongError as error:
            return error

    async def _embed_all(self, inputs: Sequence[str]) -> list[list[float]]:
        size = self._limits.passages_per_request
        requests = [self._request(inputs[start : start + size]) for start in range(0, len(inputs), size)]
        return [vector for vectors in await _all_or_cancel(requests) for vector in vectors]

    async def _request(self, texts: Sequence[str]) -> list[list[float]]:
        give_up = Deadline.after(self._limits.retry_for_s, clock=self._clock)
        pause_s = self._limits.first_pause_s
        while True:
            try:
                async with self._free:
                    deadline = Deadline.after(self._limits.request_timeout_s, clock=self._clock)
                    return await self._embedder.embed(texts, deadline=deadline)
            except AssistantError as error:
                if not error.retryable or give_up.remaining_s() <= pause_s:
                    raise
                if pause_s == self._limits.first_pause_s:  # once a request: an outage shall not fill the log
                    _log.warning("embedding_retried", code=error.code, reason=error.message)
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 (jitter)
            pause_s = min(2 * pause_s, self._limits.longest_pause_s)


async def _all_or_cancel(requests: Sequence[Awaitable[Result]]) -> list[Result]:
    """Return all results in order; when one fails, cancel the others and raise its error alone."""
    tasks = [asyncio.ensure_future(request) for request in requests]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
