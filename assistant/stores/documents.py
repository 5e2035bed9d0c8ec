"""Documents of one tenant over blobs: canonical documents, parsed texts and original files by id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from hashlib import sha256
from typing import TypeVar
from urllib.parse import quote

import orjson
import structlog
from pydantic import BaseModel, TypeAdapter, ValidationError

from assistant.domain.documents import ORIGINAL_PART_BYTES, Document, OriginalFile, ParsedDocument
from assistant.domain.errors import DocumentInvalidError, TooLargeError
from assistant.process.settings import StoreSettings
from assistant.stores.blobs import Blobs, DamagedBlobError
from assistant.stores.ports import IngestionQueue
from assistant.stores.states import StoredStates
from assistant.stores.store import BlobsOf, Store

_log = structlog.get_logger(__name__)

MOST_CONTENTS = 6
"""Of one document: the newest, and those before it that can be restored."""
READABLE_NAME_CHARS = 100
"""A file name has at most 255 bytes; the hash after the readable part makes names unique."""
_DIGEST_DIGITS = 32
_LONGEST_BYTES = 64 * 1024 * 1024
"""A document has at most 5 million characters, which JSON may write as twelve bytes each."""
Kept = TypeVar("Kept")
_document, _parsed = TypeAdapter(Document), TypeAdapter(ParsedDocument)


@dataclass(frozen=True, slots=True)
class StoredContent:
    document: Document
    stored_at: datetime


class StoredDocuments:
    """The documents of one tenant: of the newest content, and of the content that answers.

    In a folder ``<2 hex>/<name>.json`` is the canonical document, ``<name>.<content hash>.parsed.json`` the
    parsed text of one content, ``<name>.<SHA-256>.original`` a file that a content was converted from. In a
    bucket these are ``<SHA-256 of the id>/document.json``, ``…/parsed/<SHA-256 of the content hash>.json``
    and ``…/originals/<SHA-256>``: no id is part of a key, so no access log contains a document's name.

    Raises DependencyError, and DocumentInvalidError where what is stored is damaged.
    """

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    async def put(self, document: Document) -> None:
        """Store the canonical document in place of older content."""
        content = orjson.dumps(document.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)
        await self._blobs.put(self._document_key(document.document_id), content, most=MOST_CONTENTS)

    async def get(self, document_id: str) -> Document | None:
        return await self._document(document_id)

    async def contents(self, document_id: str) -> Sequence[StoredContent]:
        """Return the kept contents, the newest first, at most MOST_CONTENTS."""
        versions = [each async for each in self._blobs.versions(self._document_key(document_id))]
        kept = list[StoredContent]()
        for version in [each for each in versions if not each.deleted][:MOST_CONTENTS]:
            document = await self._document(document_id, version=version.version)
            if document is not None:
                kept.append(StoredContent(document, version.written_at))
        return kept

    async def put_parsed(self, document_id: str, content_hash: str, parsed: ParsedDocument) -> None:
        content = orjson.dumps(asdict(parsed), default=BaseModel.model_dump)
        await self._blobs.put(self._parsed_key(document_id, content_hash), content)

    async def get_parsed(self, document_id: str, content_hash: str) -> ParsedDocument | None:
        return await self._get(self._parsed_key(document_id, content_hash), _parsed, document_id=document_id)

    async def put_original(self, document_id: str, original: OriginalFile, content: bytes) -> None:
        """Store the bytes of a file that the document was converted from, beside those of older contents."""
        await self._blobs.put(self._original_key(document_id, original), content)

    async def read_original(self, document_id: str, original: OriginalFile, *, start: int) -> bytes | None:
        """Return at most ORIGINAL_PART_BYTES from ``start``, which is below the file's size; None for a file
        that is not stored."""
        key = self._original_key(document_id, original)
        return await self._blobs.read(key, start=start, most_bytes=ORIGINAL_PART_BYTES)

    async def delete(self, document_id: str) -> None:
        """Delete every stored content, parsed text and original of a document. An unknown one is no error."""
        await self._blobs.purge(self._prefix(document_id))

    async def holdings(self, document_id: str) -> int:
        """Return how many things are stored of the document, replaced versions and what killed writers left
        included; 0 after ``delete``. At most 1,000 are counted."""
        return await self._blobs.held(self._prefix(document_id))

    async def _document(self, document_id: str, *, version: str = "") -> Document | None:
        key = self._document_key(document_id)
        document = await self._get(key, _document, document_id=document_id, version=version)
        if document is not None and document.document_id != document_id:
            raise _damaged(document_id)
        return document

    async def _get(
        self, key: str, kind: TypeAdapter[Kept], *, document_id: str, version: str = ""
    ) -> Kept | None:
        try:
            content = await self._blobs.get(key, version=version)
            return None if content is None else kind.validate_json(content)
        except (DamagedBlobError, TooLargeError, ValidationError) as error:
            _log.warning("document_damaged", reason=type(error).__name__)
            raise _damaged(document_id) from None

    def _prefix(self, document_id: str) -> str:
        """Return what the keys of a document begin with, and no other's."""
        digest = sha256(document_id.encode()).hexdigest()
        if self._blobs.in_bucket:
            return f"{digest}/"
        readable = quote(document_id, safe="")[:READABLE_NAME_CHARS]
        return f"{digest[:2]}/{readable}-{digest[:_DIGEST_DIGITS]}."

    def _document_key(self, document_id: str) -> str:
        return f"{self._prefix(document_id)}{'document.' if self._blobs.in_bucket else ''}json"

    def _parsed_key(self, document_id: str, content_hash: str) -> str:
        if self._blobs.in_bucket:
            return f"{self._prefix(document_id)}parsed/{sha256(content_hash.encode()).hexdigest()}.json"
        return f"{self._prefix(document_id)}{quote(content_hash, safe='')}.parsed.json"

    def _original_key(self, document_id: str, original: OriginalFile) -> str:
        name = f"originals/{original.sha256}" if self._blobs.in_bucket else f"{original.sha256}.original"
        return f"{self._prefix(document_id)}{name}"


def _damaged(document_id: str) -> DocumentInvalidError:
    return DocumentInvalidError(f"{document_id}: the stored copy is damaged; add the document again.")


DOCUMENT_BLOBS = BlobsOf(
    "The document store",
    folder="documents",
    setting="documents_bucket",
    key_setting="documents_key_id",
    prefix=StoreSettings.documents_prefix,
    # A document can be added again from its source, and one fsync a document would make a load of 16,000 take
    # minutes on a laptop's disk. A file that a power cut damaged does not parse, which is reported.
    synced=False,
    checked=True,
    longest_bytes=_LONGEST_BYTES,
)
DOCUMENTS = Store(DOCUMENT_BLOBS, lambda blobs, _: StoredDocuments(blobs))


@dataclass(frozen=True, slots=True)
class KnowledgeStores:
    """The stores and queues of one tenant's documents."""

    documents: StoredDocuments
    states: StoredStates
    queue: IngestionQueue
    """Ids of documents to index."""
    withdrawals: IngestionQueue
    """Ids of documents to remove: a queue of its own, so that a backlog of documents delays no withdrawal."""
