"""Documents as older readers left them, in real stores."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from assistant.documents.files import SourceDocument
from assistant.domain.documents import Document, OriginalFile

HASH = Document.content_hash


@contextmanager
def older_readers() -> Iterator[None]:
    """Let contents have the hash that releases gave them which did not count their readers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Document, "content_hash", lambda document: HASH(document, reading=0))
        yield


def converted_before(name: str, text: str, raw: bytes) -> SourceDocument:
    """Return the document that older readers made of a file: ``text``, whatever is in it."""
    original = OriginalFile(name=name, sha256=hashlib.sha256(raw).hexdigest(), size_bytes=len(raw))
    document = Document(
        document_id=name,
        title=name.partition(".")[0],
        content=text,
        media_type="text/markdown",
        original=original,
    )
    return SourceDocument(document, name)
