"""Files that come over the API (uploads) and the inbox: how they are read, how one is answered, and reading
again.

An upload that breaks off leaves nothing. When its file is stored whole, its key goes into a queue;
``ReceivingLoop`` takes it from there, and ``ReceiveUpload`` reads the file with its owner as the writer and
stores an ``UploadResult`` for them. ``ReceiveRawFiles`` does the same for a file of the inbox when the bucket
reports it. A document that is read again by newer readers (``BeginReadingAgain``) goes the way of an upload.
"""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import structlog

from assistant.documents.files import (
    SourceDocument,
    SourceFailure,
    SourceItem,
    SourceWithdrawal,
    invalid,
    is_converted,
    largest_bytes,
    read_kept,
    read_source,
)
from assistant.documents.page import Loss
from assistant.documents.parsing_process import Parsing
from assistant.documents.receive import AddDocuments, AddSummary, is_read_again
from assistant.documents.sources import KnowledgeSource, KnowledgeSources, Writer
from assistant.domain.clock import Clock
from assistant.domain.documents import (
    MOST_LISTED,
    ORIGINAL_PART_BYTES,
    DocumentStatus,
    NotePlace,
    OriginalFile,
    UploadRefusal,
    UploadResult,
)
from assistant.domain.errors import (
    AssistantError,
    ConflictError,
    DependencyError,
    DocumentInvalidError,
    TooLargeError,
)
from assistant.domain.paths import folder_of
from assistant.process.settings import PUSHED_PREFIX
from assistant.stores.blobs import Blobs
from assistant.stores.documents import KnowledgeStores
from assistant.stores.ports import IngestionQueue
from assistant.stores.uploads import PART_BYTES, StoredUploads, Upload

INBOX = Writer("inbox")
"""The writer of all files in the inbox. It has no labels, so it cannot widen those of a document."""
MOST_TRIES = 5
"""Deliveries after which an upload that cannot be read gets a result that says so: about 20 minutes, by the
timeout below."""
_VISIBILITY_TIMEOUT_S = 300.0
_WAIT_S = 1.0
"""Time to wait for a message, and before the next try after an error."""
_log = structlog.get_logger(__name__)


def checked_path(path: str, size_bytes: int) -> str:
    """Return a file's path below its source, normalized: "guides/./refunds.pdf" is "guides/refunds.pdf".

    Raises DocumentInvalidError for a file that would not be read, TooLargeError for one over the limit of its
    kind.
    """
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or not path.isprintable():
        raise DocumentInvalidError("path must name a file below the source, like guides/refunds.pdf.")
    if any(part.startswith(".") for part in parts):
        raise DocumentInvalidError(f"{path:.200}: hidden files are not read.")
    limit_bytes = largest_bytes(path)
    if size_bytes > limit_bytes:
        raise TooLargeError(
            f"{path:.200} has {size_bytes:,} bytes; the limit for its kind is {limit_bytes:,}."
        )
    if size_bytes == 0:
        raise DocumentInvalidError(f"{path:.200}: the file is empty.")
    return "/".join(parts)


def file_result(summary: AddSummary, ids: Sequence[str], losses: Sequence[tuple[str, Loss]]) -> UploadResult:
    """Return what became of a file, for its sender. ``losses``: with the ids of their documents; they and
    ``ids`` are cut to MOST_LISTED."""
    refusals = [
        UploadRefusal(origin=failure.origin, code=failure.code, reason=failure.reason)
        for failure in summary.failures[:MOST_LISTED]
    ]
    return UploadResult(
        added=summary.added,
        changed=summary.changed,
        unchanged=summary.unchanged,
        withdrawn=summary.withdrawn,
        waiting=sum(status.brought_by is not None for status in summary.withheld),
        document_ids=tuple(ids),
        refused=len(summary.failures),
        refusals=tuple(refusals),
        notes=tuple(loss.sentence for _, loss in losses),
        note_places=tuple(NotePlace(document_id=name, start=loss.at) for name, loss in losses),
        words=summary.words,
        words_changed=summary.words_changed,
    )


def refused_file(name: str, error: AssistantError) -> UploadResult:
    """Return the result of a file that could not be read at all."""
    refusal = UploadRefusal(origin=name, code=error.code, reason=error.message)
    return UploadResult(refused=1, refusals=(refusal,))


# The inbox


def pushed_result(key: str, version: str, *, bulk_prefix: str = "") -> str | None:
    """Return the key where the result of a file of the inbox is stored; None for a file in no folder, or
    without a version.

    "hr/leave.md" in version "v1" has "{PUSHED_PREFIX}hr/v1/result.json". The folder is the one that the
    pusher's tag permits, below the prefix of bulk loads if the file is: so no pusher can read another's
    results.
    """
    depth = 2 if bulk_prefix and key.startswith(bulk_prefix) else 1
    *folders, _ = key.split("/")
    if not version or len(folders) < depth:
        return None
    return f"{PUSHED_PREFIX}{'/'.join(folders[:depth])}/{version}/result.json"


@dataclass(frozen=True, slots=True)
class ReceiveRawFiles:
    """Adds the documents in files that other systems put into the inbox.

    Files whose key begins with ``bulk_prefix`` ("bulk/") are added by ``add_bulk``, which uses a queue of its
    own, so that a bulk load delays no other file.
    """

    files: Blobs
    sources: KnowledgeSources
    add: AddDocuments
    add_bulk: AddDocuments
    bulk_prefix: str
    parsing: Parsing | None = None
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while the parsing process reads a file."""

    async def __call__(self, key: str, version: str = "") -> UploadResult:
        """Add the documents of one file; return and store the result for whoever put ``version`` of it.

        The first folder of the key names the source. A document without an id of its own is named by the rest
        of the key. Invalid documents are logged by place and code, and do not stop the others. The newest
        content of the key is read, which may be a later version's. Raises SourceNeededError, DependencyError.
        """
        try:
            result = await self._read(key)
        except (TooLargeError, DocumentInvalidError) as error:
            _log.warning("raw_file_refused", key=key, code=error.code, reason=error.message)
            result = refused_file(key, error)
        if result_key := pushed_result(key, version, bulk_prefix=self.bulk_prefix):
            await self.files.put(result_key, result.model_dump_json().encode())
        return result

    async def _read(self, key: str) -> UploadResult:
        bulk_folder = folder_of(key, [self.bulk_prefix.rstrip("/")])
        add = self.add if bulk_folder is None else self.add_bulk
        source, name = self.sources.of_key(key.removeprefix(self.bulk_prefix))
        seen = _ReadItems(None, source.id_prefix, [], [])

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "raw"  # not the key, which may be too long for a name of a file
            if not await self.files.fetch(key, path):
                _log.info("raw_file_gone", key=key)
                return UploadResult()
            async with self.reading:  # files arrive concurrently; the parsing process reads one at a time
                items = read_source(path, name=name, parsing=self.parsing, ocr=source.entry.recognised)
                summary = await add(seen.of(items), source=source, writer=INBOX)
        for failure in summary.failures:
            _log.warning("raw_document_refused", origin=failure.origin, code=failure.code)
        counts = {"documents": summary.documents, "enqueued": len(summary.enqueued_ids)}
        _log.info("raw_file_received", key=key, source=source.name, refused=len(summary.failures), **counts)
        return file_result(summary, summary.enqueued_ids[:MOST_LISTED], seen.losses)


# Uploads


@dataclass(frozen=True, slots=True)
class ReceiveUpload:
    """Adds the documents of an uploaded file, and stores the result. A second call returns the stored
    result."""

    uploads: StoredUploads
    sources: KnowledgeSources
    add: AddDocuments
    parsing: Parsing | None = None
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while the parsing process reads a file."""

    async def __call__(self, key: str, *, attempt: int = 1) -> UploadResult | None:
        """Return the result; None for an upload that is gone. Raises DependencyError.

        ``attempt`` counts deliveries: above MOST_TRIES the file is not tried again, and the result says so.
        """
        upload = await self.uploads.get(key)
        if upload is None:
            return None
        if (before := await self.uploads.result(key)) is not None:
            return before
        if attempt > MOST_TRIES:
            reason = (
                f"The file could not be read in {MOST_TRIES} tries. Send it again; the log has the reason."
            )
            result = refused_file(upload.path, DependencyError(reason))
        else:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "raw"  # its own name may be too long here
                if not await self.uploads.fetch(upload, path):
                    return None
                result = await self._read(upload, path)
        await self.uploads.put_result(upload, result)
        _log.info("upload_received", source=upload.source, refused=result.refused, added=result.added)
        return result

    async def _read(self, upload: Upload, path: Path) -> UploadResult:
        """Read the file at ``path`` and add its documents. An error that a retry cannot solve becomes the
        result."""
        try:
            source = self.sources.named(upload.source)
            seen = _ReadItems(upload.replaces, source.id_prefix, [], [])
            writer = Writer(upload.agent, frozenset(upload.labels), sees_all=False)
            if upload.read_again is not None:
                return await self._read_again(upload, path, source=source, writer=writer)
            async with self.reading:  # the parsing process reads one file at a time
                read = read_source(path, name=upload.path, parsing=self.parsing, ocr=source.entry.recognised)
                items, is_first = seen.of(read), upload.first_load
                summary = await self.add(items, source=source, writer=writer, is_first=is_first)
        except AssistantError as error:
            if error.retryable:
                raise
            return refused_file(upload.path, error)
        return file_result(summary, seen.ids, seen.losses)

    async def _read_again(
        self, upload: Upload, path: Path, *, source: KnowledgeSource, writer: Writer
    ) -> UploadResult:
        """Read the kept file of one document again. The upload has the document's own id in ``replaces`` and
        its content hash in ``read_again`` (``BeginReadingAgain``)."""
        read = read_kept(path, name=upload.path, parsing=self.parsing, ocr=source.entry.recognised)
        async with self.reading:
            (item,) = await asyncio.to_thread(list, read)
        own_id, content_hash = upload.replaces or "", upload.read_again or ""
        summary = await self.add.again(
            item, source=source, writer=writer, own_id=own_id, content_hash=content_hash
        )
        document_id = source.id_prefix + own_id
        losses = item.losses[:MOST_LISTED] if isinstance(item, SourceDocument) else ()
        return file_result(summary, [document_id], [(document_id, loss) for loss in losses])


@dataclass(frozen=True, slots=True)
class _ReadItems:
    """Collects the first MOST_LISTED ids and losses of a file's items while they are read."""

    replaces: str | None
    """Own id of the document that the file replaces; None: its documents have their own ids."""
    id_prefix: str
    ids: list[str]
    losses: list[tuple[str, Loss]]

    def of(self, items: Iterable[SourceItem]) -> Iterator[SourceItem]:
        """Yield the items, as replacements if the file replaces a document."""
        for read in items:
            item = read if self.replaces is None else self._as_replaced(read, self.replaces)
            if isinstance(item, SourceDocument) and len(self.ids) < MOST_LISTED:
                self.ids.append(self.id_prefix + item.document.document_id)
                more = item.losses[: MOST_LISTED - len(self.losses)]
                self.losses.extend((self.ids[-1], loss) for loss in more)
            yield item

    def _as_replaced(self, item: SourceItem, own_id: str) -> SourceItem:
        """Return the item under the id of the document that it replaces; a failure for a withdrawal or a
        second document."""
        if isinstance(item, SourceWithdrawal) or self.ids:
            return invalid(item.origin, "a file that replaces a document must hold one document")
        if isinstance(item, SourceFailure):
            return replace(item, own_id=own_id, is_named_by_file=False)
        return replace(item, document=item.document.model_copy(update={"document_id": own_id}))


@dataclass(frozen=True, slots=True)
class ReceivingLoop:
    """Takes finished uploads of one tenant from its queue, one after the other, until ``stopping`` is set."""

    receive: ReceiveUpload
    queue: IngestionQueue
    """Its ``document_id`` is the key of an upload."""

    async def run(self, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            try:
                await self.turn()
            except AssistantError as error:
                _log.warning("upload_not_received", code=error.code, reason=error.message)
                await asyncio.sleep(_WAIT_S)

    async def turn(self) -> None:
        """Read the next upload, if one comes within a second. If that raises, the message stays and is
        delivered again."""
        for message in await self.queue.receive(
            limit=1, wait_s=_WAIT_S, visibility_timeout_s=_VISIBILITY_TIMEOUT_S
        ):
            await self.receive(message.document_id, attempt=message.attempt)
            await self.queue.delete_many([message.receipt])


# Reading again


@dataclass(frozen=True, slots=True)
class BeginReadingAgain:
    """The use case behind ``POST /v1/documents/{id}/read-again`` and ``assistant knowledge read-again``."""

    stores: KnowledgeStores
    uploads: StoredUploads
    clock: Clock

    async def __call__(
        self, status: DocumentStatus, *, source: KnowledgeSource, by: str, labels: Iterable[str]
    ) -> Upload | None:
        """Store an upload that has a document read again, and return it: its result tells what changed.
        Return None if the present readers read it already, or if nothing of it may answer
        (``is_read_again``).

        ``by`` and ``labels`` are the caller's. Raises ConflictError if the file that it was converted from is
        not kept, DocumentInvalidError for a damaged stored document, DependencyError.
        """
        document = await self.stores.documents.get(status.document_id)
        if document is None or not is_read_again(status, document):
            return None
        original = document.original
        if original is not None:
            size_bytes, parts = original.size_bytes, self._parts_of_file(document.document_id, original)
        elif document.media_type == "application/vnd.page+json" or is_converted(status.origin or ""):
            raise _not_kept(document.document_id)
        else:
            content = document.model_dump_json().encode()
            size_bytes, parts = len(content), _parts_of(content)
        upload = Upload(
            upload_id=secrets.token_hex(16),
            agent=by,
            labels=tuple(sorted(labels)),
            source=source.name,
            replaces=document.document_id.removeprefix(source.id_prefix),
            path=original.name if original else f"{document.document_id}.json",
            size_bytes=size_bytes,
            created_at=self.clock.now(),
            read_again=status.content_hash,
        )
        async with aclosing(parts):
            await self.uploads.store(upload, parts)
        return upload

    async def _parts_of_file(self, document_id: str, original: OriginalFile) -> AsyncGenerator[bytes]:
        """Yield the original file in parts of PART_BYTES, the last one shorter; it is read in
        ORIGINAL_PART_BYTES."""
        buffer = bytearray()
        for start in range(0, original.size_bytes, ORIGINAL_PART_BYTES):
            part = await self.stores.documents.read_original(document_id, original, start=start)
            if part is None:
                raise _not_kept(document_id)
            buffer += part
            if len(buffer) >= PART_BYTES:
                yield bytes(buffer[:PART_BYTES])
                del buffer[:PART_BYTES]
        if buffer:
            yield bytes(buffer)


async def _parts_of(content: bytes) -> AsyncGenerator[bytes]:
    for start in range(0, len(content), PART_BYTES):
        yield content[start : start + PART_BYTES]


def _not_kept(document_id: str) -> ConflictError:
    return ConflictError(
        f"{document_id}: the file that it was converted from is not kept. Load it again from its source."
    )
