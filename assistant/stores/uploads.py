"""Files that knowledge owners upload, over blobs: the upload, its file, and its result.

The service calls ``store``; the worker or a function calls ``get`` and ``fetch``, loads the documents, and
calls ``put_result``; the owner then reads ``result``.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from pydantic import Field

from assistant.domain.documents import UploadResult
from assistant.domain.errors import ConflictError
from assistant.domain.public import PublicModel
from assistant.process.settings import UPLOADS_PREFIX
from assistant.stores.blobs import Blobs
from assistant.stores.store import BlobsOf, QueueOf, Store

PART_BYTES = 5 * 1024 * 1024
"""Size of each part but the last: the least that S3 takes. Memory holds one part of an upload."""
KEPT_FOR = timedelta(days=1)
"""How long an unfinished upload and a result are kept."""
COUNTED_FOR = timedelta(minutes=30)
"""How long ``unread_first`` counts an unfinished upload: as long as ``knowledge add`` waits for it."""
LARGEST_RAW_FILE_BYTES = 256 * 1024 * 1024
"""A file of about twenty thousand documents of common size. Senders must cut a larger one."""
_FIRST = "first/"
"""Begins the keys of files of a source's first load, in a bucket."""
Kept = TypeVar("Kept", bound=PublicModel)


class Upload(PublicModel):
    """An upload, as its owner sent it."""

    upload_id: str
    agent: str
    labels: tuple[str, ...]
    """Access labels of the owner: what comes is stored with their permissions."""
    source: str
    path: str
    """The file's path below the source's root."""
    replaces: str | None = None
    """The document that the file replaces, by its id within the source, whatever the file is called."""
    size_bytes: int
    created_at: datetime
    first_load: bool = False
    """Whether its source loaded for the first time when it was begun (docs/decisions/0070)."""
    read_again: str | None = Field(default=None, exclude_if=lambda content: content is None)
    """For a document that is read again: the content hash that the document ``replaces`` must still have."""

    @property
    def key(self) -> str:
        return upload_key(self.agent, self.upload_id)

    async def whole(self, parts: AsyncIterable[bytes | bytearray]) -> AsyncIterator[bytes | bytearray]:
        """Yield the parts. Raises ConflictError at the end unless they are ``size_bytes`` together."""
        size_bytes = 0
        async for part in parts:
            yield part
            size_bytes += len(part)
        if size_bytes != self.size_bytes:
            raise ConflictError(f"{size_bytes:,} bytes of {self.size_bytes:,} came. Send the file again.")


def upload_key(agent: str, upload_id: str) -> str:
    """Return the key of a person's upload, ``<32 digits of the SHA-256 of agent>/<upload_id>``: keys stand in
    access logs, and this one has no name of a person."""
    return f"{hashlib.sha256(agent.encode()).hexdigest()[:32]}/{upload_id}"


class StoredUploads:
    """The uploads of one tenant, by key. All methods raise DependencyError.

    ``<key>/upload.json`` is the upload as it was begun, ``…/content`` the file, ``…/result.json`` its result.

    In a bucket the event of a complete file starts the function that reads it, and a lifecycle deletes old
    uploads. The file of a source's first load is at ``first/<source>/<key>/content`` instead, so that one
    listing counts those that are not read yet.

    In a folder ``FolderBlobs`` sends the key to UPLOADS_QUEUE, which the worker reads; then the empty
    ``…/complete`` is written. The next upload of a person deletes their old ones.
    """

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    async def store(self, upload: Upload, parts: AsyncIterable[bytes | bytearray]) -> None:
        """Store the file and have the worker read it. Each part but the last is PART_BYTES long. When
        ``parts`` raises, or its bytes are not ``size_bytes`` (ConflictError), nothing of it is kept."""
        if not self._blobs.in_bucket:
            await self._delete_old(upload.key.partition("/")[0])
        await self._put(upload.key, "upload.json", upload)
        try:
            await self._blobs.store(self._content(upload), upload.whole(parts))
        except BaseException:
            if not self._blobs.in_bucket:
                await self._blobs.purge(f"{upload.key}/")
            raise
        if not self._blobs.in_bucket:
            await self._blobs.put(f"{upload.key}/complete", b"")

    async def get(self, key: str) -> Upload | None:
        """Return an upload by its key; None where there is none. It is kept for at least KEPT_FOR."""
        return await self._read(key, "upload.json", Upload)

    async def unread_first(self) -> Mapping[str, int]:
        """Return by source how many uploads of its first load are not read yet: all that are complete, and
        those that were begun in the last COUNTED_FOR."""
        first = _FIRST if self._blobs.in_bucket else ""
        begun_after = datetime.now(UTC) - COUNTED_FOR
        begun = {blob.key async for blob in self._blobs.begun(first) if blob.written_at > begun_after}
        whole = {
            blob.key
            async for blob in self._blobs.list(first)
            if blob.key.endswith("/content")
            and (blob.written_at > begun_after or await self._is_complete(blob.key))
        }
        return Counter([source for key in begun | whole if (source := await self._first_source(key))])

    async def _is_complete(self, content: str) -> bool:
        """Return whether a stored file will be read. In a folder a process may be killed between the file and
        the queue's message: then nobody reads the file, and its owner got no response."""
        complete = f"{content.removesuffix('/content')}/complete"
        return self._blobs.in_bucket or await self._blobs.get(complete) is not None

    async def _first_source(self, content: str) -> str | None:
        """Return the source that a file belongs to where that source loads for the first time, else None.
        ``content`` is the key of the file."""
        if self._blobs.in_bucket:
            return content.removeprefix(_FIRST).partition("/")[0]
        upload = await self.get(content.removesuffix("/content"))
        return upload.source if upload is not None and upload.first_load else None

    async def fetch(self, upload: Upload, into: Path) -> bool:
        """Write the whole file to ``into``. Return False if it is gone."""
        return await self._blobs.fetch(self._content(upload), into)

    async def put_result(self, upload: Upload, result: UploadResult) -> None:
        """Keep the result, and delete the file's bytes."""
        await self._put(upload.key, "result.json", result)
        await self._blobs.remove(self._content(upload))

    async def result(self, key: str) -> UploadResult | None:
        """Return the result of an upload; None while there is none."""
        return await self._read(key, "result.json", UploadResult)

    async def _delete_old(self, person: str) -> None:
        """Delete uploads that are older than KEPT_FOR: read ones, and those that a killed process left."""
        # kept: by upload, when each of its files was written, by the file's name.
        kept, now = defaultdict[str, dict[str, datetime]](dict), await self._blobs.now("")
        async for blob in self._blobs.list(f"{person}/"):
            key, _, name = blob.key.rpartition("/")
            kept[key][name] = blob.written_at
        for key, names in kept.items():
            is_unread = "complete" in names and "result.json" not in names
            if not is_unread and max(names.values()) < now - KEPT_FOR:
                await self._blobs.purge(f"{key}/")

    async def _read(self, key: str, name: str, kind: type[Kept]) -> Kept | None:
        content = await self._blobs.get(f"{key}/{name}")
        return None if content is None else kind.model_validate_json(content)

    async def _put(self, key: str, name: str, kept: PublicModel) -> None:
        await self._blobs.put(f"{key}/{name}", kept.model_dump_json().encode())

    def _content(self, upload: Upload) -> str:
        """Return the key of an upload's file."""
        is_first = self._blobs.in_bucket and upload.first_load
        return f"{_FIRST}{upload.source}/{upload.key}/content" if is_first else f"{upload.key}/content"


UPLOADS_QUEUE = QueueOf("uploads", "")
"""Keys of uploads on this machine; on AWS the event of a whole object is what has it read."""
UPLOAD_BLOBS = BlobsOf(
    "The store of uploads",
    folder="uploads",
    setting="inbox_bucket",
    key_setting="documents_key_id",
    prefix=UPLOADS_PREFIX,
    longest_bytes=LARGEST_RAW_FILE_BYTES,
    events=UPLOADS_QUEUE,
)
UPLOADS = Store(UPLOAD_BLOBS, lambda blobs, _: StoredUploads(blobs))
