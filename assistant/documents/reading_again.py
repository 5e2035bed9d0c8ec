"""Has documents read again from what is kept of them, by the readers of this release.

Of a document that was converted that is its file, of any other its source text. It goes the way of an upload,
so what reads uploads reads it: the worker here, a function on AWS. The text before answers until the new one
is indexed.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass

from assistant.documents.files import is_converted
from assistant.documents.receive import is_read_again
from assistant.documents.sources import KnowledgeSource
from assistant.domain.clock import Clock
from assistant.domain.documents import ORIGINAL_PART_BYTES, DocumentStatus, OriginalFile
from assistant.domain.errors import ConflictError
from assistant.stores.documents import KnowledgeStores
from assistant.stores.uploads import PART_BYTES, StoredUploads, Upload


@dataclass(frozen=True, slots=True)
class BeginReadingAgain:
    """The use case behind ``POST /v1/documents/{id}/read-again`` and ``assistant knowledge read-again``."""

    stores: KnowledgeStores
    uploads: StoredUploads
    clock: Clock

    async def __call__(
        self, status: DocumentStatus, *, source: KnowledgeSource, by: str, labels: Iterable[str]
    ) -> Upload | None:
        """Have a document read again; return what tells its result. None where these readers read it, and
        where nothing of it may answer.

        ``labels``: those of who asks. Raises ConflictError where the file that it was converted from is not
        kept, DocumentInvalidError for one whose stored copy is damaged, DependencyError.
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
        held = bytearray()
        for start in range(0, original.size_bytes, ORIGINAL_PART_BYTES):
            part = await self.stores.documents.read_original(document_id, original, start=start)
            if part is None:
                raise _not_kept(document_id)
            held += part
            if len(held) >= PART_BYTES:
                yield bytes(held[:PART_BYTES])
                del held[:PART_BYTES]
        if held:
            yield bytes(held)


async def _parts_of(content: bytes) -> AsyncGenerator[bytes]:
    for start in range(0, len(content), PART_BYTES):
        yield content[start : start + PART_BYTES]


def _not_kept(document_id: str) -> ConflictError:
    return ConflictError(
        f"{document_id}: the file that it was converted from is not kept. Load it again from its source."
    )
